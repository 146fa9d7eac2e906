//! Splits received bytes into lines of limited length.
//!
//! Stateless: the caller keeps the buffer and removes the bytes of each line. Therefore the
//! fragmentation of the stream cannot change the lines.

use crate::limits::LINE_BYTES_MAX;

/// The result of [`split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSplit<'a> {
    /// A complete line.
    Line {
        /// The line without its end (`\n` or `\r\n`).
        line: &'a [u8],
        /// Length of the line with its end, which the caller removes.
        used: usize,
    },
    /// No line end yet; more bytes are needed.
    Incomplete,
    /// No line end within the first [`LINE_BYTES_MAX`] bytes, and more bytes than these.
    TooLong,
}

/// Splits the first line off a buffer.
pub fn split(buffer: &[u8]) -> LineSplit<'_> {
    let limited = &buffer[..buffer.len().min(LINE_BYTES_MAX)];
    match limited.iter().position(|&byte| byte == b'\n') {
        Some(end) => LineSplit::Line {
            line: strip_return(&buffer[..end]),
            used: end + 1,
        },
        None if buffer.len() > LINE_BYTES_MAX => LineSplit::TooLong,
        None => LineSplit::Incomplete,
    }
}

/// Splits the first line off a buffer; at the end of input the rest is a line.
pub fn split_until_end(buffer: &[u8], has_ended: bool) -> LineSplit<'_> {
    match (split(buffer), last(buffer)) {
        (LineSplit::Incomplete, Some(line)) if has_ended => LineSplit::Line {
            line,
            used: buffer.len(),
        },
        (split, _) => split,
    }
}

/// Returns the last line at the end of input, which has no line end: the rest that [`split`] left.
/// `None` if the rest is empty.
pub fn last(buffer: &[u8]) -> Option<&[u8]> {
    (!buffer.is_empty()).then(|| strip_return(buffer))
}

/// Returns the lines at hand up to the first that is incomplete or too long. `has_ended`: no more
/// input follows.
pub fn lines(buffer: &[u8], has_ended: bool) -> impl Iterator<Item = &[u8]> {
    let mut rest = buffer;
    std::iter::from_fn(move || match split_until_end(rest, has_ended) {
        LineSplit::Line { line, used } => {
            rest = &rest[used..];
            Some(line)
        }
        LineSplit::Incomplete | LineSplit::TooLong => None,
    })
}

fn strip_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_with_lf_or_crlf() {
        assert_eq!(
            split(b"QUIT\r\nx"),
            LineSplit::Line {
                line: b"QUIT",
                used: 6
            }
        );
        assert_eq!(
            split(b"QUIT\nx"),
            LineSplit::Line {
                line: b"QUIT",
                used: 5
            }
        );
        assert_eq!(split(b"\n"), LineSplit::Line { line: b"", used: 1 });
        assert_eq!(
            split(b"a\rb\r\r\n"),
            LineSplit::Line {
                line: b"a\rb\r",
                used: 6
            }
        );
        assert_eq!(split(b""), LineSplit::Incomplete);
        assert_eq!(split(b"QUIT\r"), LineSplit::Incomplete);
    }

    #[test]
    fn limit_includes_the_line_end() {
        let mut bytes = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(
            split(&bytes),
            LineSplit::Incomplete,
            "an end cannot help any more, but may come"
        );
        bytes.push(b'\n');
        assert_eq!(split(&bytes), LineSplit::TooLong, "complete, but too long");
        bytes[LINE_BYTES_MAX - 1] = b'\n';
        assert_eq!(
            split(&bytes),
            LineSplit::Line {
                line: &bytes[..LINE_BYTES_MAX - 1],
                used: LINE_BYTES_MAX
            }
        );
    }

    #[test]
    fn last_line_needs_no_end() {
        assert_eq!(last(b""), None);
        assert_eq!(last(b"QUIT"), Some(&b"QUIT"[..]));
        assert_eq!(last(b"QUIT\r"), Some(&b"QUIT"[..]));
        assert_eq!(last(b"\r"), Some(&b""[..]));
    }

    #[test]
    fn lines_at_hand_end_at_an_incomplete_one() {
        let at_hand = |buffer, has_ended| lines(buffer, has_ended).collect::<Vec<_>>();
        assert_eq!(at_hand(b"a\r\n\nb", false), [&b"a"[..], b""]);
        assert_eq!(at_hand(b"a\r\n\nb", true), [&b"a"[..], b"", b"b"]);
        let long = [&b"a\n"[..], &[b'x'; LINE_BYTES_MAX + 1], b"\nb\n"].concat();
        assert_eq!(at_hand(&long, true), [b"a"]);
    }

    /// Returns the lines, and whether one was too long.
    fn lines_of_fragments<'a>(fragments: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
        let (mut buffer, mut lines) = (Vec::new(), Vec::new());
        for fragment in fragments {
            buffer.extend_from_slice(fragment);
            loop {
                match split(&buffer) {
                    LineSplit::Line { line, used } => {
                        lines.push(line.to_vec());
                        buffer.drain(..used);
                    }
                    LineSplit::Incomplete => break,
                    LineSplit::TooLong => return (lines, true),
                }
            }
        }
        lines.extend(last(&buffer).map(<[u8]>::to_vec));
        (lines, false)
    }

    /// Bytes with many line ends, and runs with lengths close to the limit.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let run = prop_oneof![
            8 => prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..40),
            1 => (LINE_BYTES_MAX - 3..LINE_BYTES_MAX + 3).prop_map(|count| vec![b'x'; count]),
        ];
        prop::collection::vec(run, 0..6).prop_map(|runs| runs.concat())
    }

    proptest! {
        // Splitting long lines byte by byte takes quadratic time.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn fragmentation_does_not_change_the_lines(
            bytes in input(),
            sizes in prop::collection::vec(1_usize..5000, 1..50),
        ) {
            let whole = lines_of_fragments([&bytes[..]].into_iter());
            prop_assert_eq!(&lines_of_fragments(bytes.chunks(1)), &whole);
            let mut rest = &bytes[..];
            let cut = sizes.into_iter().cycle().map_while(|size| {
                let (fragment, tail) = rest.split_at_checked(size).unwrap_or((rest, &[]));
                rest = tail;
                (!fragment.is_empty()).then_some(fragment)
            });
            prop_assert_eq!(&lines_of_fragments(cut), &whole);
        }

        #[test]
        fn lines_and_rest_are_the_input(bytes in input()) {
            let mut rest = &bytes[..];
            while let LineSplit::Line { line, used } = split(rest) {
                prop_assert!(used <= LINE_BYTES_MAX);
                prop_assert!(!line.contains(&b'\n'));
                let end = &rest[line.len()..used];
                prop_assert!(end == b"\n" || end == b"\r\n");
                prop_assert_eq!(line, &rest[..line.len()]);
                rest = &rest[used..];
            }
            prop_assert!(!rest[..rest.len().min(LINE_BYTES_MAX)].contains(&b'\n'));
            prop_assert_eq!(split(rest) == LineSplit::TooLong, rest.len() > LINE_BYTES_MAX);
        }
    }
}

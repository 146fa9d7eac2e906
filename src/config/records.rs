//! The common format of a home's files: a record per line, `#` comments and blank lines.
//!
//! Parses records with their line numbers, and edits single lines without touching the others.

use std::path::Path;

use zeroize::Zeroizing;

use crate::config::error::HomeError;
use crate::domain::name::BYTE_ORDER_MARK;
use crate::limits::RECORD_BYTES_MAX;

/// Why a line is not a record. Contains no password and no hash.
pub(super) struct RecordError {
    found: String,
    expected: &'static str,
}

impl RecordError {
    pub(super) fn new(found: impl Into<String>, expected: &'static str) -> RecordError {
        RecordError {
            found: found.into(),
            expected,
        }
    }
}

/// Parses every record of `text` with `parse_record`, which gets the number of the line, from 1,
/// and its text. Returns all faults.
///
/// Lines end with `\n` or `\r\n`. Blank lines and comments are skipped; a comment may contain any
/// bytes. Every other line must be UTF-8 of at most [`RECORD_BYTES_MAX`] bytes without control
/// characters other than tabs.
pub(super) fn parse<T>(
    file: &Path,
    text: &[u8],
    mut parse_record: impl FnMut(usize, &str) -> Result<T, RecordError>,
) -> Result<Vec<T>, Vec<HomeError>> {
    let mut records = Vec::new();
    let mut faults = Vec::new();
    for (at, line) in without_mark(text).split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') || line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            continue;
        }
        match record_text(line).and_then(|line| parse_record(at + 1, line)) {
            Ok(record) => records.push(record),
            Err(RecordError { found, expected }) => faults.push(HomeError::Record {
                file: file.to_path_buf(),
                line: at + 1,
                found,
                expected,
            }),
        }
    }
    match faults.is_empty() {
        true => Ok(records),
        false => Err(faults),
    }
}

/// Returns `text` with each line of `changes` (by number, ascending) replaced, or removed if the
/// new text is `None`, and with `added` after the last line. All other bytes are unchanged.
pub(super) fn edit(
    text: &[u8],
    changes: &[(usize, Option<&str>)],
    added: Option<&str>,
) -> Zeroizing<Vec<u8>> {
    let body = without_mark(text);
    let mark = &text[..text.len() - body.len()];
    // Room for everything: the buffer never grows and leaves no copy of a password in memory.
    let new_lines = changes.iter().filter_map(|(_, line)| *line).chain(added);
    let longer: usize = new_lines.map(|line| line.len() + 4).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + longer));
    out.extend_from_slice(mark);
    let mut changes = changes.iter().peekable();
    for (at, line) in body.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match changes.next_if(|(number, _)| *number == at + 1) {
            None => out.extend_from_slice(line),
            Some((_, None)) => {}
            Some((_, Some(new))) => {
                out.extend_from_slice(new.as_bytes());
                out.extend_from_slice(line_end(line));
            }
        }
    }
    assert!(changes.next().is_none(), "every changed line exists");
    if let Some(added) = added {
        let end: &[u8] = match body.split_inclusive(|&byte| byte == b'\n').next() {
            Some(first) if first.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        match out.last() {
            _ if out.len() == mark.len() => {}
            None | Some(b'\n') => {}
            // The first half of a line end is there already.
            Some(b'\r') => out.push(b'\n'),
            Some(_) => out.extend_from_slice(end),
        }
        out.extend_from_slice(added.as_bytes());
        out.extend_from_slice(end);
    }
    out
}

/// The text after its byte order mark.
fn without_mark(text: &[u8]) -> &[u8] {
    let mut mark = [0; 3];
    let mark = BYTE_ORDER_MARK.encode_utf8(&mut mark).as_bytes();
    text.strip_prefix(mark).unwrap_or(text)
}

/// Checks that a line can be a record.
fn record_text(line: &[u8]) -> Result<&str, RecordError> {
    if line.len() > RECORD_BYTES_MAX {
        return Err(RecordError::new(
            format!("the line has {} bytes", line.len()),
            "at most 8,192 bytes",
        ));
    }
    if line.contains(&0) {
        return Err(RecordError::new("the line contains NUL", "UTF-8 text"));
    }
    let line = std::str::from_utf8(line)
        .map_err(|_| RecordError::new("the line is not valid UTF-8", "UTF-8 text"))?;
    match line.chars().find(|c| c.is_control() && *c != '\t') {
        None => Ok(line),
        Some('\r') => Err(RecordError::new(
            "the line contains a carriage return",
            "lines that end with LF or CR LF",
        )),
        Some(c) => Err(RecordError::new(
            format!(
                "the line contains the control character U+{:04X}",
                u32::from(c)
            ),
            "a record without control characters",
        )),
    }
}

/// The line end of a line; empty if it has none.
fn line_end(line: &[u8]) -> &[u8] {
    if line.ends_with(b"\r\n") {
        b"\r\n"
    } else if line.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    }
}

const _: () = assert!(RECORD_BYTES_MAX == 8192);

#[cfg(test)]
mod tests {
    use super::*;

    type Numbered = Vec<(usize, String)>;

    fn lines(text: &[u8]) -> Result<Numbered, Numbered> {
        parse(Path::new("F"), text, |number, line| {
            Ok((number, line.to_owned()))
        })
        .map_err(|faults| {
            let faults = faults.into_iter().map(|fault| match fault {
                HomeError::Record { line, found, .. } => (line, found),
                fault => panic!("{fault}"),
            });
            faults.collect()
        })
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_but_counted() {
        let text = b"# one\n\n \t \na:b\n#caf\xe9\n#\0\r\n c : d ";
        assert_eq!(
            lines(text).unwrap(),
            [(4, "a:b".into()), (7, " c : d ".into())]
        );
        assert_eq!(lines(b"").unwrap(), []);
    }

    #[test]
    fn windows_line_ends_and_byte_order_marks_are_accepted() {
        let text = b"\xef\xbb\xbf# one\r\na:b\r\n\r\nc:d";
        assert_eq!(lines(text).unwrap(), [(2, "a:b".into()), (4, "c:d".into())]);
    }

    #[test]
    fn lines_that_are_not_text_are_reported() {
        let mut text = b"a:b\na\0:b\nfin\na\xff:b\na\rb:c\nx\x1b:y\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 1 << 20));
        let faults = lines(&text).unwrap_err();
        assert_eq!(
            faults,
            [
                (2, "the line contains NUL".into()),
                (4, "the line is not valid UTF-8".into()),
                (5, "the line contains a carriage return".into()),
                (6, "the line contains the control character U+001B".into()),
                (7, "the line has 1048576 bytes".into()),
            ]
        );
    }

    #[test]
    fn an_edit_keeps_all_other_bytes() {
        let text = b"\xef\xbb\xbf# caf\xe9\r\na:1\r\n\r\nb:2\nc:3";
        assert_eq!(&edit(text, &[], None)[..], text);
        assert_eq!(
            &edit(
                text,
                &[(2, Some("a:9")), (4, None), (5, Some("c:9"))],
                Some("d:4")
            )[..],
            b"\xef\xbb\xbf# caf\xe9\r\na:9\r\n\r\nc:9\r\nd:4\r\n"
        );
        assert_eq!(&edit(b"", &[], Some("a:1"))[..], b"a:1\n");
        assert_eq!(&edit(b"a:1\n", &[(1, None)], Some("b:2"))[..], b"b:2\n");
        assert_eq!(
            &edit(b"\xef\xbb\xbf", &[], Some("a:1"))[..],
            b"\xef\xbb\xbfa:1\n"
        );
    }

    #[test]
    fn a_line_added_after_a_lone_carriage_return_is_read_back() {
        for text in ["a:1\r\nb:2\r", "a:1\nb:2\r", "\r\n\r", "\r"] {
            let before = lines(text.as_bytes()).unwrap();
            let after = lines(&edit(text.as_bytes(), &[], Some("c:3"))).unwrap();
            let (added, others) = after.split_last().unwrap();
            assert_eq!((others, &*added.1), (&*before, "c:3"));
        }
    }
}

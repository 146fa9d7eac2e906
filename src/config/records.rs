//! The shape that both files of a home share: a record a line, `#` comments, blank lines; read with line numbers, and
//! changed without touching a line that is not meant.
//!
//! Pure. Must not know: what a record means, the file system.

use std::path::Path;

use zeroize::Zeroizing;

use crate::config::HomeError;
use crate::limits;

/// What editors on Windows put before UTF-8 text; passed over at the beginning of a file.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Why one line is not a record: what was found, and what was expected. Never tells of a password or a hash.
pub(crate) struct Fault {
    pub(crate) found: String,
    pub(crate) expected: &'static str,
}

impl Fault {
    pub(crate) fn new(found: impl Into<String>, expected: &'static str) -> Fault {
        Fault {
            found: found.into(),
            expected,
        }
    }
}

/// Reads every record of `text` by `read`, which is given the line's number (the first is 1) and its text; all faults at once.
///
/// Lines end with `\n` or `\r\n`. Blank lines and comments are passed over whatever bytes a comment holds; any other line
/// has to be UTF-8 of at most [`limits::RECORD_BYTES_MAX`] without control characters, a tab excepted.
pub(crate) fn parse<T>(
    file: &Path,
    text: &[u8],
    mut read: impl FnMut(usize, &str) -> Result<T, Fault>,
) -> Result<Vec<T>, Vec<HomeError>> {
    let mut records = Vec::new();
    let mut faults = Vec::new();
    for (at, line) in bare(text).split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') || line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            continue;
        }
        match clean(line).and_then(|line| read(at + 1, line)) {
            Ok(record) => records.push(record),
            Err(Fault { found, expected }) => faults.push(HomeError {
                file: file.to_path_buf(),
                line: Some(at + 1),
                found,
                expected,
            }),
        }
    }
    if faults.is_empty() {
        Ok(records)
    } else {
        Err(faults)
    }
}

/// The same text with each line of `changes` (by number, ascending) replaced, or taken out where there is `None`, and with
/// `added` behind its last line. Every other byte stays as it is.
pub(crate) fn edited(
    text: &[u8],
    changes: &[(usize, Option<&str>)],
    added: Option<&str>,
) -> Zeroizing<Vec<u8>> {
    let body = bare(text);
    // Reserved for all that can come, so that no copy of a password is left behind by growing.
    let longer: usize = changes
        .iter()
        .filter_map(|(_, line)| *line)
        .chain(added)
        .map(|line| line.len() + 4)
        .sum();
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + longer));
    out.extend_from_slice(&text[..text.len() - body.len()]);
    let mut changes = changes.iter().peekable();
    for (at, line) in body.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match changes.next_if(|(number, _)| *number == at + 1) {
            None => out.extend_from_slice(line),
            Some((_, None)) => {}
            Some((_, Some(new))) => {
                out.extend_from_slice(new.as_bytes());
                out.extend_from_slice(end_of(line));
            }
        }
    }
    assert!(
        changes.next().is_none(),
        "a changed line is a line of the text"
    );
    if let Some(added) = added {
        let end: &[u8] = match body.split_inclusive(|&byte| byte == b'\n').next() {
            Some(first) if first.ends_with(b"\r\n") => b"\r\n",
            _ => b"\n",
        };
        match out.last() {
            _ if out.len() == text.len() - body.len() => {}
            None | Some(b'\n') => {}
            // Half of a line end is there already.
            Some(b'\r') => out.push(b'\n'),
            Some(_) => out.extend_from_slice(end),
        }
        out.extend_from_slice(added.as_bytes());
        out.extend_from_slice(end);
    }
    out
}

/// Whether `name` can be a user's: not empty, at most [`limits::NAME_BYTES_MAX`] bytes, without `:` and control characters,
/// and not to be mistaken for a comment or for everybody. What is wrong otherwise.
pub fn check_user(name: &str) -> Result<(), &'static str> {
    if name == "*" {
        return Err("the name '*', which stands for everybody");
    }
    if name.starts_with('#') {
        return Err("a name that begins with '#' as a comment does");
    }
    if name.starts_with(BYTE_ORDER_MARK) {
        return Err("a name that begins with a byte order mark");
    }
    check_name(name)
}

/// What both kinds of names have to keep.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("an empty name");
    }
    if name.len() > limits::NAME_BYTES_MAX {
        return Err("a name of more than 255 bytes");
    }
    if name.contains(':') {
        return Err("a name with a ':' in it");
    }
    if name.chars().any(char::is_control) {
        return Err("a name with a control character in it");
    }
    Ok(())
}

/// The text behind its byte order mark.
fn bare(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK.as_bytes())
        .unwrap_or(text)
}

/// The line as text that a record may be.
fn clean(line: &[u8]) -> Result<&str, Fault> {
    if line.len() > limits::RECORD_BYTES_MAX {
        return Err(Fault::new(
            format!("a line of {} bytes", line.len()),
            "at most 8,192 bytes",
        ));
    }
    if line.contains(&0) {
        return Err(Fault::new("a NUL byte", "text in UTF-8"));
    }
    let line =
        std::str::from_utf8(line).map_err(|_| Fault::new("bytes that are not UTF-8", "UTF-8"))?;
    match line.chars().find(|c| c.is_control() && *c != '\t') {
        None => Ok(line),
        Some('\r') => Err(Fault::new(
            "a carriage return amid the line",
            "lines that end with LF or CR LF",
        )),
        Some(c) => Err(Fault::new(
            format!("the control character U+{:04X}", u32::from(c)),
            "none in a record",
        )),
    }
}

/// The line end of a line, if it has one.
fn end_of(line: &[u8]) -> &[u8] {
    if line.ends_with(b"\r\n") {
        b"\r\n"
    } else if line.ends_with(b"\n") {
        b"\n"
    } else {
        b""
    }
}

const _: () = assert!(limits::NAME_BYTES_MAX == 255 && limits::RECORD_BYTES_MAX == 8192);

#[cfg(test)]
mod tests {
    use super::*;

    type Numbered = Vec<(usize, String)>;

    fn lines(text: &[u8]) -> Result<Numbered, Numbered> {
        parse(Path::new("F"), text, |number, line| {
            Ok((number, line.to_owned()))
        })
        .map_err(|faults| {
            faults
                .into_iter()
                .map(|fault| (fault.line.unwrap(), fault.found))
                .collect()
        })
    }

    #[test]
    fn comments_and_blank_lines_are_passed_over_and_counted() {
        let text = b"# one\n\n \t \na:b\n#caf\xe9\n#\0\r\n c : d ";
        assert_eq!(
            lines(text).unwrap(),
            [(4, "a:b".into()), (7, " c : d ".into())]
        );
        assert_eq!(lines(b"").unwrap(), []);
    }

    #[test]
    fn line_ends_and_byte_order_mark_of_windows_are_accepted() {
        let text = b"\xef\xbb\xbf# one\r\na:b\r\n\r\nc:d";
        assert_eq!(lines(text).unwrap(), [(2, "a:b".into()), (4, "c:d".into())]);
    }

    #[test]
    fn what_is_no_text_is_told_by_line() {
        let mut text = b"a:b\na\0:b\nfin\na\xff:b\na\rb:c\nx\x1b:y\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 1 << 20));
        let faults = lines(&text).unwrap_err();
        assert_eq!(
            faults,
            [
                (2, "a NUL byte".into()),
                (4, "bytes that are not UTF-8".into()),
                (5, "a carriage return amid the line".into()),
                (6, "the control character U+001B".into()),
                (7, "a line of 1048576 bytes".into()),
            ]
        );
    }

    #[test]
    fn an_edit_leaves_every_other_byte() {
        let text = b"\xef\xbb\xbf# caf\xe9\r\na:1\r\n\r\nb:2\nc:3";
        assert_eq!(&edited(text, &[], None)[..], text);
        assert_eq!(
            &edited(
                text,
                &[(2, Some("a:9")), (4, None), (5, Some("c:9"))],
                Some("d:4")
            )[..],
            b"\xef\xbb\xbf# caf\xe9\r\na:9\r\n\r\nc:9\r\nd:4\r\n"
        );
        assert_eq!(&edited(b"", &[], Some("a:1"))[..], b"a:1\n");
        assert_eq!(&edited(b"a:1\n", &[(1, None)], Some("b:2"))[..], b"b:2\n");
        assert_eq!(
            &edited(b"\xef\xbb\xbf", &[], Some("a:1"))[..],
            b"\xef\xbb\xbfa:1\n"
        );
    }

    #[test]
    fn a_line_behind_a_last_one_that_ends_with_half_a_line_end_can_still_be_read() {
        for text in ["a:1\r\nb:2\r", "a:1\nb:2\r", "\r\n\r", "\r"] {
            let before = lines(text.as_bytes()).unwrap();
            let after = lines(&edited(text.as_bytes(), &[], Some("c:3"))).unwrap();
            let (added, others) = after.split_last().unwrap();
            assert_eq!((others, &*added.1), (&*before, "c:3"));
        }
    }
}

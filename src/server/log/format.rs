//! The format of log lines: text (`TIME LEVEL key=value …`) or one JSON object per line.
//!
//! Events are always logged as text. The JSON form is parsed from that text, so both forms carry
//! the same fields.

use std::fmt;
use std::fmt::Write;

/// The format of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `key=value` fields, for people, fail2ban and grep.
    Text,
    /// JSON lines, for log collectors.
    Json,
}

/// Keys whose values are numbers in JSON; all other values are strings.
const NUMBERS: [&str; 8] = [
    "session",
    "length",
    "most",
    "sessions",
    "removed",
    "full",
    "failures",
    "dropped-lines",
];

/// Returns the line for `event`, line end included. `event` is the text given to the macros of
/// `log`, `key=value …`.
pub(crate) fn line(format: Format, time: impl fmt::Display, level: &str, event: &str) -> String {
    // Messages of libraries may contain line ends.
    let event = event.replace(['\n', '\r'], " ");
    match format {
        Format::Text => format!("{time} {level} {event}\n"),
        Format::Json => {
            let mut json = format!("{{\"time\":\"{time}\",\"level\":\"{level}\"");
            match fields(&event) {
                Some(fields) => fields
                    .iter()
                    .for_each(|(key, value)| append(&mut json, key, value)),
                None => append(&mut json, "text", &event),
            }
            json.push_str("}\n");
            json
        }
    }
}

/// Returns the keys and the unescaped values of an event; `None` if it is not in `key=value` form.
fn fields(event: &str) -> Option<Vec<(&str, String)>> {
    let mut fields = Vec::new();
    let mut rest = event;
    loop {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty()
            || !key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        fields.push((key, value));
        match after.strip_prefix(' ') {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(fields),
        }
    }
}

/// Returns the text up to the closing quote, with the escapes of Rust's `Debug` undone, and the
/// text after the quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        value.push(match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0' => '\0',
                'u' => {
                    let hex = text[chars.next()?.0 + 1..].split('}').next()?;
                    chars.nth(hex.len())?;
                    char::from_u32(u32::from_str_radix(hex, 16).ok()?)?
                }
                c @ ('"' | '\'' | '\\') => c,
                _ => return None,
            },
            c => c,
        });
    }
    None
}

/// Appends `,"key":value` (RFC 8259, section 7).
fn append(json: &mut String, key: &str, value: &str) {
    let _ = write!(json, ",\"{key}\":");
    if NUMBERS.contains(&key) && value.parse::<u64>().is_ok_and(|n| n.to_string() == value) {
        json.push_str(value);
        return;
    }
    json.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            // More than JSON requires: also characters that end a line or change its direction.
            c if c.is_control() || c.escape_debug().count() > 1 => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::log::escape::Escaped;

    #[test]
    fn text_and_json_carry_the_same_fields() {
        let user = "a \"b\" \u{1b}\u{202e}\u{1f6a2}=\\";
        let event = format!(
            "session=7 event=login-failed user={} from=127.0.0.1:9",
            Escaped(user)
        );
        assert_eq!(
            line(Format::Text, "T", "warn", &event),
            "T warn session=7 event=login-failed user=\"a \\\"b\\\" \\u{1b}\\u{202e}\u{1f6a2}=\\\\\" from=127.0.0.1:9\n"
        );
        assert_eq!(
            line(Format::Json, "T", "warn", &event),
            "{\"time\":\"T\",\"level\":\"warn\",\"session\":7,\"event\":\"login-failed\",\
             \"user\":\"a \\\"b\\\" \\u001b\\u202e\u{1f6a2}=\\\\\",\"from\":\"127.0.0.1:9\"}\n"
        );
        assert_eq!(
            line(Format::Json, "T", "info", "user=7 length=7 most=007"),
            "{\"time\":\"T\",\"level\":\"info\",\"user\":\"7\",\"length\":7,\"most\":\"007\"}\n"
        );
        assert_eq!(
            line(Format::Json, "T", "info", "hello\nworld=\""),
            "{\"time\":\"T\",\"level\":\"info\",\"text\":\"hello world=\\\"\"}\n"
        );
    }

    proptest! {
        #[test]
        fn values_cannot_forge_or_break_a_line(user in any::<String>(), path in "\\PC*|(?s).*") {
            let event = format!("session=1 event=x user={} path={}", Escaped(&user), Escaped(&path));
            for format in [Format::Text, Format::Json] {
                let line = line(format, "T", "warn", &event);
                prop_assert_eq!(line.matches(char::is_control).count(), 1, "{}", line);
                prop_assert!(line.ends_with('\n'));
                let breaks = ['\u{2028}', '\u{2029}', '\u{85}'];
                prop_assert!(!line.contains(breaks));
            }
            let text = line(Format::Text, "T", "warn", &event);
            let expected = [("session", "1"), ("event", "x"), ("user", &*user), ("path", &*path)];
            let fields = fields(text.strip_prefix("T warn ").unwrap().trim_end_matches('\n')).unwrap();
            let fields: Vec<_> = fields.iter().map(|(key, value)| (*key, &**value)).collect();
            prop_assert_eq!(fields, expected);
        }

        #[test]
        fn any_text_becomes_one_line(text in "(?s).*") {
            for format in [Format::Text, Format::Json] {
                prop_assert_eq!(line(format, "T", "info", &text).matches('\n').count(), 1);
            }
        }
    }
}

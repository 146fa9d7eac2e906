//! Untrusted text on a terminal.

use std::fmt;
use std::fmt::{Display, Write};

/// Displays text with every character escaped (`\u{1b}`) that could control a terminal or mislead
/// its reader: control characters, direction marks, zero-width and unassigned characters.
pub struct Sanitized<'a>(pub &'a str);

impl Display for Sanitized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match is_printable(character) {
                true => f.write_char(character)?,
                false => write!(f, "{}", character.escape_unicode())?,
            }
        }
        Ok(())
    }
}

fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // `escape_debug` escapes unprintable characters. After a letter, combining marks are printable.
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    character.encode_utf8(&mut bytes[1..]);
    let text =
        str::from_utf8(&bytes[..1 + character.len_utf8()]).expect("a letter and a whole character");
    text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::Sanitized;

    #[test]
    fn printable_text_is_unchanged() {
        for text in [
            "Free Fire",
            "it's \"so\" \\ there",
            "Grüße",
            "e\u{301}",
            "中文",
            "🎬",
            "",
        ] {
            assert_eq!(Sanitized(text).to_string(), text);
        }
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        for (text, shown) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("\u{9b}1m\u{7f}\r\n\t", "\\u{9b}1m\\u{7f}\\u{d}\\u{a}\\u{9}"),
            ("gpj\u{202e}.exe", "gpj\\u{202e}.exe"),
            (
                "\u{200b}\u{200d}\u{200f}\u{2060}\u{2066}\u{feff}\u{61c}",
                "\\u{200b}\\u{200d}\\u{200f}\\u{2060}\\u{2066}\\u{feff}\\u{61c}",
            ),
            (
                "\u{2028}\u{2029}\u{a0}\u{e000}",
                "\\u{2028}\\u{2029}\\u{a0}\\u{e000}",
            ),
        ] {
            assert_eq!(Sanitized(text).to_string(), shown);
        }
    }
}

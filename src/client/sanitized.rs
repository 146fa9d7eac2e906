//! A stranger's words on a terminal.

use std::fmt;
use std::fmt::{Display, Write};

/// Text as a terminal shows it: control characters, direction marks, what has no width or no meaning is escaped
/// (`\u{1b}`), all else stands as it is.
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
    // Debug escapes what cannot be printed. Behind a letter it leaves the marks alone that belong on one.
    let mut bytes = [0; 5];
    bytes[0] = b'a';
    character.encode_utf8(&mut bytes[1..]);
    let text =
        str::from_utf8(&bytes[..1 + character.len_utf8()]).expect("a letter and a character");
    text.escape_debug().count() == 2
}

#[cfg(test)]
mod tests {
    use super::Sanitized;

    #[test]
    fn what_can_be_printed_stays() {
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
    fn nothing_reaches_a_terminal_as_a_command() {
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

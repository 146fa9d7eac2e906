//! The parts of a line that all dialects share: words, numbers, names and hexadecimal digits.

use std::fmt::Write;

use crate::limits::NUMBER_DIGITS_MAX;

/// Strips blanks (spaces and tabs) from both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let (_, text) = text.split_at(text.iter().take_while(|byte| is_blank(byte)).count());
    let trailing = text.iter().rev().take_while(|byte| is_blank(byte)).count();
    &text[..text.len() - trailing]
}

/// Splits off the first word. The rest has no blanks around it.
pub(crate) fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = trim(text);
    let (word, rest) = text.split_at(text.iter().take_while(|byte| !is_blank(byte)).count());
    (word, trim(rest))
}

/// Parses a number: 1 to 19 ASCII digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    let is_valid =
        (1..=NUMBER_DIGITS_MAX).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    is_valid.then(|| {
        text.iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
    })
}

/// Decodes a name. Invalid UTF-8 becomes NUL, a control character, so that the result is never a
/// valid name of a file or user.
pub(crate) fn name(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(name) => name.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).replace(char::REPLACEMENT_CHARACTER, "\0"),
    }
}

/// Encodes bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Decodes the output of [`hex`] for 32 bytes.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_word_and_rest_are_trimmed() {
        assert_eq!(
            first_word(b"11  Free Fire"),
            (&b"11"[..], &b"Free Fire"[..])
        );
        assert_eq!(first_word(b"11"), (&b"11"[..], &b""[..]));
    }

    #[test]
    fn numbers_have_only_digits() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"0000000000000000011"), Some(11));
        assert_eq!(
            number(b"9999999999999999999"),
            Some(9_999_999_999_999_999_999)
        );
        for text in [
            "",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1e9",
            "0x10",
            "10000000000000000000",
            "00000000000000000000",
            "1_000",
            "\u{661}",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn invalid_utf8_becomes_an_invalid_name() {
        assert_eq!(name("Ünïcode \u{fffd}".as_bytes()), "Ünïcode \u{fffd}");
        assert_eq!(name(b"Movies/\xff\xfeJoker"), "Movies/\0\0Joker");
    }
}

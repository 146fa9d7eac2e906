//! The text of an operating system error, for messages to people.

use std::io;

/// Returns the text of an error as part of a sentence: `permission denied` for
/// `Permission denied (os error 13)`.
pub fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = match text.rsplit_once(" (os error ") {
        Some((text, _)) => text,
        None => text.as_str(),
    };
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_ascii_lowercase());
    // Not a name in capitals.
    match rest.clone().next() {
        Some(second) if second.is_uppercase() => text.to_owned(),
        _ => first.into_iter().chain(rest).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_and_capitals_are_left_out() {
        for (error, reason) in [
            (io::Error::from_raw_os_error(13), "permission denied"),
            (io::Error::from_raw_os_error(122), "disk quota exceeded"),
            (io::ErrorKind::NotFound.into(), "entity not found"),
            (io::Error::other("IPv6 is off"), "IPv6 is off"),
            (io::Error::other(""), ""),
        ] {
            assert_eq!(io_reason(&error), reason);
        }
    }
}

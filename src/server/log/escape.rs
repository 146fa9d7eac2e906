//! Values of log lines, escaped.

use std::fmt;

use crate::domain::path::GrantedPath;

/// A value from a client or a file, safe in a log line: quoted and escaped where it contains
/// blanks, quotes, `=` or control characters, so that it cannot forge a line or a field.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Debug` escapes quotes, backslashes, control characters and direction marks.
        let is_plain = |c: char| c.escape_debug().count() == 1 && !c.is_whitespace() && c != '=';
        match !self.0.is_empty() && self.0.chars().all(is_plain) {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

/// Returns a path as the client sees it, escaped.
pub(crate) fn escape_path(path: &GrantedPath) -> String {
    let shown = match path.relative.as_str() {
        "" => path.grant.name.clone(),
        below => format!("{}/{below}", path.grant.name),
    };
    Escaped(&shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::Escaped;

    #[test]
    fn a_value_stays_one_field_of_one_line() {
        assert_eq!(Escaped("user1").to_string(), "user1");
        assert_eq!(Escaped("").to_string(), "\"\"");
        assert_eq!(Escaped("a b").to_string(), "\"a b\"");
        assert_eq!(
            Escaped("x\nsession=1 event=login").to_string(),
            "\"x\\nsession=1 event=login\""
        );
        assert_eq!(
            Escaped("\u{1b}[2J\u{9b}1m").to_string(),
            "\"\\u{1b}[2J\\u{9b}1m\""
        );
        assert_eq!(Escaped("ä\u{202e}").to_string(), "\"ä\\u{202e}\"");
    }
}

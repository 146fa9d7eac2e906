//! Patterns in the paths of LIST and NLST: `*` is any characters, `?` is one.
//!
//! The time that a match takes grows with the length of the name times that of the pattern's part between two stars, both at
//! most [`NAME_BYTES_MAX`]: no pattern is a bomb.
//!
//! Must not know: directories.

use crate::limits::NAME_BYTES_MAX;

/// Whether the last part of a path is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?']) && name.len() <= NAME_BYTES_MAX
}

/// Whether a name matches a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // What stands behind the last star, and what is left of the name where that reaches a character further.
    let mut star = None;
    loop {
        let rest = name.clone();
        match (pattern.next(), name.next()) {
            (Some('*'), _) => {
                star = Some((pattern.clone(), rest.clone()));
                name = rest;
            }
            (Some(expected), Some(character)) if expected == '?' || expected == character => {}
            (None, None) => return true,
            (Some(_), None) => return false,
            _ => match &mut star {
                Some((behind, reached)) => {
                    reached.next();
                    pattern = behind.clone();
                    name = reached.clone();
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_are_any_characters_and_question_marks_one() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "Joker", true),
            ("J*r", "Joker", true),
            ("J*k", "Joker", false),
            ("*e*", "Joker", true),
            ("**r", "Joker", true),
            ("J?ker", "Joker", true),
            ("?", "ü", true),
            ("?", "", false),
            ("joker", "Joker", false),
            ("[J]oker", "Joker", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let bomb = "*a".repeat(127);
        assert!(!matches(&bomb, &"b".repeat(255)) && is_pattern(&bomb));
        assert!(!is_pattern(&"*".repeat(256)) && !is_pattern("[a]{b}"));
    }
}

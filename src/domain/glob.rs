//! Patterns in paths, those of LIST and NLST and those of the client: `*` is any characters, `?` is one.
//!
//! The time that a match takes grows with the length of the name times that of the pattern's part between two stars, both at
//! most [`NAME_BYTES_MAX`]: no pattern is a bomb.
//!
//! Must not know: directories.

use crate::limits::NAME_BYTES_MAX;

/// Whether a part of a path is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?']) && name.len() <= NAME_BYTES_MAX
}

/// Whether a name matches a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    matches_in(pattern, name, &mut 0)
}

/// The same, with the steps counted that it takes.
fn matches_in(pattern: &str, name: &str, steps: &mut usize) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // What stands behind the last star, and what is left of the name where that reaches a character further.
    let mut star = None;
    loop {
        *steps += 1;
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
            ("*a*b", "aaabab", true),
            ("* *", "Free Fire", true),
            ("Joker?", "Joker", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(!is_pattern(&"*".repeat(256)) && !is_pattern("[a]{b}"));
    }

    #[test]
    fn no_pattern_is_a_bomb() {
        let half = "a".repeat(127);
        for pattern in [
            "*a".repeat(127),
            "*a".repeat(126) + "*b",
            "*".repeat(254) + "b",
            "*?".repeat(127) + "b",
            format!("*{half}b"),
            format!("*{half}*{}b", "a".repeat(125)),
            "*?*a".repeat(63),
        ] {
            assert!(is_pattern(&pattern));
            for name in [
                "a".repeat(255),
                "b".repeat(255),
                "ab".repeat(127),
                half.clone() + "b",
            ] {
                let mut steps = 0;
                matches_in(&pattern, &name, &mut steps);
                let most = (pattern.len() + 1) * (name.len() + 1);
                assert!(steps <= most, "{steps} steps: {pattern} {name}");
            }
        }
    }
}

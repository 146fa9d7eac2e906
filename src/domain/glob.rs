//! Glob patterns in paths: `*` matches any characters, `?` matches one.
//!
//! The time of a match is bounded by the length of the name times the length of the pattern, both
//! at most [`NAME_BYTES_MAX`]. `[ ] { }` are ordinary characters: names that contain them are
//! common and FTP clients send them unescaped.

use crate::limits::NAME_BYTES_MAX;

/// Returns whether one component of a path is a pattern.
pub fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?']) && name.len() <= NAME_BYTES_MAX
}

/// Returns whether a name matches a pattern. A name that begins with a dot matches only a pattern
/// that does, as in a shell.
pub fn matches(pattern: &str, name: &str) -> bool {
    (pattern.starts_with('.') || !name.starts_with('.')) && matches_counted(pattern, name, &mut 0)
}

/// Matches and counts the steps.
fn matches_counted(pattern: &str, name: &str, steps: &mut usize) -> bool {
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // The pattern after the last star, and the name from the first character the star does not
    // match. Only the last star needs backtracking, which keeps the match from becoming
    // exponential.
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
                Some((after_star, retry)) => {
                    retry.next();
                    pattern = after_star.clone();
                    name = retry.clone();
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
    fn star_matches_any_and_question_mark_one_character() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "Joker", true),
            ("*", ".Joker", false),
            ("?Joker", ".Joker", false),
            ("*er", ".Joker", false),
            (".*", ".Joker", true),
            (".*", "Joker", false),
            ("J*", "J.oker", true),
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
    fn no_pattern_takes_more_than_quadratic_time() {
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
                matches_counted(&pattern, &name, &mut steps);
                let most = (pattern.len() + 1) * (name.len() + 1);
                assert!(steps <= most, "{steps} steps: {pattern} {name}");
            }
        }
    }
}

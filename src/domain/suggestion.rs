//! Suggestions for mistyped words: "did you mean".

use std::fmt;

use strsim::osa_distance;

/// Longest word that is compared. The cost of a comparison grows with the product of the lengths.
const WORD_BYTES_MAX: usize = 255;

/// The candidate that a mistyped word is closest to. Displays as ` (did you mean 'anna'?)`, or as
/// nothing if no candidate is close.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suggestion(Option<String>);

impl Suggestion {
    /// Finds the closest candidate: one that differs in case only, that `word` is the beginning
    /// of, or that a third of the characters turn it into. The first of several equal ones.
    pub fn new<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Suggestion {
        let trimmed = word.trim();
        if trimmed.is_empty() || word.len() > WORD_BYTES_MAX {
            return Suggestion(None);
        }
        let close = candidates.into_iter().filter(|candidate| {
            candidate.len() <= WORD_BYTES_MAX && *candidate != word && !candidate.is_empty()
        });
        let close = close.filter_map(|candidate| Some((distance(trimmed, candidate)?, candidate)));
        let closest = close.min_by_key(|(distance, _)| *distance);
        Suggestion(closest.map(|(_, candidate)| candidate.to_owned()))
    }

    /// Suggests a candidate that is known to be meant.
    pub fn of(candidate: impl Into<String>) -> Suggestion {
        Suggestion(Some(candidate.into()))
    }

    /// The suggested candidate.
    pub fn candidate(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(candidate) => write!(f, " (did you mean '{candidate}'?)"),
            None => Ok(()),
        }
    }
}

/// The number of characters to insert, delete, replace or swap; `None` if that is too many.
fn distance(word: &str, candidate: &str) -> Option<usize> {
    const PREFIX_CHARS_MIN: usize = 3;
    let (lower, length) = (word.to_lowercase(), word.chars().count());
    let distance = osa_distance(&lower, &candidate.to_lowercase());
    let longer = length.max(candidate.chars().count());
    if distance <= (longer / 3).max(1) && distance < longer {
        return Some(distance);
    }
    let is_prefix = length >= PREFIX_CHARS_MIN && candidate.to_lowercase().starts_with(&lower);
    is_prefix.then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closest(word: &str, candidates: &[&str]) -> Option<String> {
        let found = Suggestion::new(word, candidates.iter().copied());
        found.candidate().map(str::to_owned)
    }

    #[test]
    fn mistyped_words_are_close_and_others_are_not() {
        let rights = ["read", "upload", "change", "hidden"];
        for (word, meant) in [
            ("reed", Some("read")),
            ("raed", Some("read")),
            (" upload", Some("upload")),
            ("uplaod", Some("upload")),
            ("READ", Some("read")),
            ("chang", Some("change")),
            ("hid", Some("hidden")),
            ("write", None),
            ("r", None),
            ("", None),
            ("read", None),
        ] {
            assert_eq!(closest(word, &rights).as_deref(), meant, "{word:?}");
        }
        assert_eq!(closest("ana", &["bert", "anna"]).as_deref(), Some("anna"));
        assert_eq!(closest("x", &["y"]), None);
        assert_eq!(closest(&"a".repeat(300), &["a"]), None);
        assert_eq!(
            closest("movies", &["Movie", "Movies"]).as_deref(),
            Some("Movies")
        );
    }

    #[test]
    fn suggestions_are_displayed_in_parentheses() {
        let found = Suggestion::new("ana", ["anna"]);
        assert_eq!(found.to_string(), " (did you mean 'anna'?)");
        assert_eq!(Suggestion::new("ana", ["bert"]).to_string(), "");
    }
}

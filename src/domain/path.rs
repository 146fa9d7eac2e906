//! Paths inside granted directories, and the rule for names.

use std::sync::Arc;

use crate::domain::access::Grant;
use crate::limits::NAME_BYTES_MAX;

/// A path in a user's view of the server: a granted directory and a path relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedPath {
    /// The granted directory.
    pub grant: Arc<Grant>,
    /// The path relative to it, components separated by one `/`, as the client sent it and not
    /// validated; empty for the granted directory itself.
    pub relative: String,
}

impl GrantedPath {
    /// The last component of the relative path; empty for the granted directory itself.
    pub fn file_name(&self) -> &str {
        (self.relative.rsplit_once('/')).map_or(&*self.relative, |(_, name)| name)
    }

    /// The parent directory, or `None` for the granted directory itself.
    pub fn parent(&self) -> Option<GrantedPath> {
        if self.relative.is_empty() {
            return None;
        }
        let (parent, _) = self.relative.rsplit_once('/').unwrap_or_default();
        Some(GrantedPath {
            grant: self.grant.clone(),
            relative: parent.to_owned(),
        })
    }
}

/// Returns whether `name` is valid as one component of a path: not empty, at most
/// [`NAME_BYTES_MAX`] bytes, no leading dot, no `/` and no control character (Unicode category Cc).
/// Such a name cannot leave its directory and is safe to print on a terminal.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(|character: char| character == '/' || character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_visible_components() {
        let longest = "ä".repeat(127) + "x";
        for good in [
            "a",
            "Free Fire",
            "a.b",
            "ü",
            "~",
            "-rf",
            "a\\b",
            "%2e%2e",
            "\u{feff}",
            &longest,
        ] {
            assert!(is_name(good), "{good:?}");
        }
        let too_long = "ä".repeat(128);
        for bad in [
            "", ".", "..", ".a", "a/b", "/", "a\0", "\n", "a\tb", "\x7f", "\u{80}", "\u{9f}x",
            &too_long,
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}

//! Paths inside granted directories, and the rule for names.

use std::path::PathBuf;
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

    /// Returns whether the user has access to every component. The granted directory itself is
    /// valid.
    pub fn is_valid(&self) -> bool {
        self.relative.is_empty() || self.relative.split('/').all(|name| self.admits(name))
    }

    /// Returns whether the user has access to such a name: it is valid and does not begin with a
    /// dot, or the user has the right `hidden`.
    pub fn admits(&self, name: &str) -> bool {
        is_name(name) && (self.grant.rights.hidden || !is_hidden(name))
    }

    /// The path in the server's file system, for logs and comparisons. A relative path that begins
    /// with a `/`, which is not valid, is still below the granted directory.
    pub fn full_path(&self) -> PathBuf {
        self.full_path_of(&self.relative)
    }

    /// [`GrantedPath::full_path`] of another path in the granted directory.
    pub fn full_path_of(&self, relative: &str) -> PathBuf {
        match relative.trim_start_matches('/') {
            "" => self.grant.path.clone(),
            relative => self.grant.path.join(relative),
        }
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

/// The names of the server's own files begin like this: locks, sockets, and temporary files.
const RESERVED_PREFIX: &str = ".tidegate";

/// Returns whether `name` is valid as one component of a path: not empty, at most
/// [`NAME_BYTES_MAX`] bytes, no `/` and no control character (Unicode category Cc), not `.` or
/// `..`, and not reserved for the server's own files. Such a name cannot leave its directory and is
/// safe to print on a terminal.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && !name.contains(|character: char| character == '/' || character.is_control())
        && !is_reserved(name)
}

/// Returns whether a valid name needs the right `hidden`: it begins with a dot.
pub fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Returns whether a name is reserved for the server's own files. Some file systems ignore the
/// letter case.
fn is_reserved(name: &str) -> bool {
    (name.as_bytes().get(..RESERVED_PREFIX.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Rights;

    #[test]
    fn full_paths_begin_with_the_granted_directory() {
        for (relative, expected, is_valid) in [
            ("", "/srv/films", true),
            ("a/b", "/srv/films/a/b", true),
            ("/etc/passwd", "/srv/films/etc/passwd", false),
            ("//etc", "/srv/films/etc", false),
            ("a//b", "/srv/films/a//b", false),
            ("a/", "/srv/films/a/", false),
            ("../x", "/srv/films/../x", false),
        ] {
            let path = GrantedPath {
                grant: Arc::new(Grant {
                    name: "Films".to_owned(),
                    rights: Rights::default(),
                    path: "/srv/films".into(),
                }),
                relative: relative.to_owned(),
            };
            assert_eq!(path.full_path().to_str(), Some(expected));
            assert_eq!(path.is_valid(), is_valid, "{relative}");
        }
    }

    #[test]
    fn names_are_single_components() {
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
            ".a",
            "..a",
            "...",
            ".tidegat",
            "a.tidegate",
            &longest,
        ] {
            assert!(is_name(good), "{good:?}");
        }
        let too_long = "ä".repeat(128);
        for bad in [
            "",
            ".",
            "..",
            "./a",
            ".tidegate",
            ".tidegate.pid",
            ".tidegate-0123456789abcdef.part",
            ".Tidegate-x",
            "a/b",
            "/",
            "a\0",
            "\n",
            "a\tb",
            "\x7f",
            "\u{80}",
            "\u{9f}x",
            &too_long,
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}

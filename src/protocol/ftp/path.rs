//! Resolves the paths that an FTP client sends: to `/`, or to a grant and a relative path.
//!
//! `.` and `..` are resolved in the text alone (RFC 3659, 6). Storage validates the rest.

use std::fmt;

use crate::domain::access::Access;
use crate::domain::path::GrantedPath;
use crate::protocol::text::name;

/// The result of resolving a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// `/`, which contains the granted directories only.
    Top,
    /// A granted directory or something below it.
    Path(GrantedPath),
    /// Nothing that the user may see. Contains the path if it has only one component, which may be
    /// a pattern.
    Unknown(Option<String>),
}

/// Resolves `path` relative to the directory `current`; `None` is `/`.
pub(super) fn resolve(access: &Access, current: Option<&GrantedPath>, path: &[u8]) -> Location {
    let path = name(path);
    let mut parts: Vec<&str> = Vec::new();
    if let Some(current) = current.filter(|_| !path.starts_with('/')) {
        parts.push(&current.grant.name);
        parts.extend(current.relative.split('/').filter(|part| !part.is_empty()));
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let [first, relative @ ..] = &parts[..] else {
        return Location::Top;
    };
    match access.grant(first) {
        Some(grant) => Location::Path(GrantedPath {
            grant: grant.clone(),
            relative: relative.join("/"),
        }),
        None => Location::Unknown(relative.is_empty().then(|| (*first).to_owned())),
    }
}

/// Displays the absolute path of a directory as the client sees it; `None` is `/`.
pub(super) struct AbsolutePath<'a>(pub(super) Option<&'a GrantedPath>);

impl fmt::Display for AbsolutePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(path) = self.0 else {
            return f.write_str("/");
        };
        write!(f, "/{}", path.grant.name)?;
        match path.relative.as_str() {
            "" => Ok(()),
            relative => write!(f, "/{relative}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::access::{Grant, Rights};

    fn access() -> Access {
        let grant = |name: &str| {
            let (name, rights) = (name.to_owned(), Rights::default());
            Arc::new(Grant {
                path: "/srv".into(),
                name,
                rights,
            })
        };
        Access {
            user: "user1".to_owned(),
            grants: vec![grant("Movies"), grant("Docs")],
        }
    }

    #[test]
    fn paths_are_absolute_or_relative_to_the_current_directory() {
        let access = access();
        let docs = GrantedPath {
            grant: access.grants[1].clone(),
            relative: "Classics".into(),
        };
        for (from, path, expected) in [
            (None, "", "/"),
            (None, "..", "/"),
            (None, "Movies", "/Movies"),
            (None, "/Movies/", "/Movies"),
            (None, "//Movies//a/./b/", "/Movies/a/b"),
            (None, "Movies/../../Docs/x", "/Docs/x"),
            (Some(&docs), "", "/Docs/Classics"),
            (Some(&docs), "x y", "/Docs/Classics/x y"),
            (Some(&docs), "../x", "/Docs/x"),
            (Some(&docs), "../..", "/"),
            (Some(&docs), "/../Movies", "/Movies"),
            (Some(&docs), "...", "/Docs/Classics/..."),
            (None, "movies", "unknown Some(\"movies\")"),
            (None, "M*", "unknown Some(\"M*\")"),
            (None, "x/y", "unknown None"),
            (Some(&docs), "../../x", "unknown Some(\"x\")"),
        ] {
            let resolved = match resolve(&access, from, path.as_bytes()) {
                Location::Top => AbsolutePath(None).to_string(),
                Location::Path(path) => AbsolutePath(Some(&path)).to_string(),
                Location::Unknown(part) => format!("unknown {part:?}"),
            };
            assert_eq!(resolved, expected, "{path}");
        }
    }

    #[test]
    fn parent_of_a_granted_directory_is_the_top() {
        let access = access();
        let mut path = GrantedPath {
            grant: access.grants[0].clone(),
            relative: "a/b".into(),
        };
        let mut seen = Vec::new();
        while let Some(parent) = path.parent() {
            seen.push(AbsolutePath(Some(&parent)).to_string());
            path = parent;
        }
        assert_eq!(seen, ["/Movies/a", "/Movies"]);
    }
}

//! What a client's paths stand for: the top, or a grant of his and a path below it.
//!
//! `.` and `..` are taken out here, by the words alone (RFC 3659, 6: TVFS); what is left is the house's to judge.
//!
//! Must not know: states, the file system.

use std::fmt;

use crate::domain::access::Access;
use crate::domain::path::GrantedPath;
use crate::protocol::text::name;

/// What a path stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// `/`, which holds the granted directories and nothing else.
    Top,
    /// A granted directory or something in it.
    At(GrantedPath),
    /// Nothing that this user may see. Where it is one part only, that part, which may be a pattern.
    Nowhere(Option<String>),
}

/// What `path` stands for, seen from the directory `from`, where `None` is the top.
pub(crate) fn resolve(access: &Access, from: Option<&GrantedPath>, path: &[u8]) -> Location {
    let path = name(path);
    let mut parts: Vec<&str> = Vec::new();
    if let Some(from) = from.filter(|_| !path.starts_with('/')) {
        parts.push(&from.grant.name);
        parts.extend(from.relative.split('/').filter(|part| !part.is_empty()));
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let [first, below @ ..] = &parts[..] else {
        return Location::Top;
    };
    let grant = access.grants.iter().find(|grant| grant.name == *first);
    match grant {
        Some(grant) => Location::At(GrantedPath {
            grant: grant.clone(),
            relative: below.join("/"),
        }),
        None => Location::Nowhere(below.is_empty().then(|| (*first).to_owned())),
    }
}

/// The directory above, where `None` is the top.
pub(crate) fn parent(place: GrantedPath) -> Option<GrantedPath> {
    let below = match place.relative.rsplit_once('/') {
        Some((above, _)) => above.to_owned(),
        None if place.relative.is_empty() => return None,
        None => String::new(),
    };
    Some(GrantedPath {
        relative: below,
        ..place
    })
}

/// The whole path of a place, as the client sees it.
pub(crate) struct Shown<'a>(pub(crate) Option<&'a GrantedPath>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = self.0 else {
            return f.write_str("/");
        };
        write!(f, "/{}", place.grant.name)?;
        match place.relative.as_str() {
            "" => Ok(()),
            below => write!(f, "/{below}"),
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
    fn paths_are_whole_or_begin_where_one_is() {
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
            (None, "movies", "nowhere Some(\"movies\")"),
            (None, "M*", "nowhere Some(\"M*\")"),
            (None, "x/y", "nowhere None"),
            (Some(&docs), "../../x", "nowhere Some(\"x\")"),
        ] {
            let shown = match resolve(&access, from, path.as_bytes()) {
                Location::Top => Shown(None).to_string(),
                Location::At(place) => Shown(Some(&place)).to_string(),
                Location::Nowhere(part) => format!("nowhere {part:?}"),
            };
            assert_eq!(shown, expected, "{path}");
        }
    }

    #[test]
    fn what_is_above_a_granted_directory_is_the_top() {
        let access = access();
        let mut place = GrantedPath {
            grant: access.grants[0].clone(),
            relative: "a/b".into(),
        };
        let mut seen = Vec::new();
        while let Some(above) = parent(place) {
            seen.push(Shown(Some(&above)).to_string());
            place = above;
        }
        assert_eq!(seen, ["/Movies/a", "/Movies"]);
    }
}

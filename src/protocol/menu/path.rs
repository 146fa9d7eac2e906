//! What a client's names stand for: a grant of his and a path below it.
//!
//! Only the first part of a path is looked at, and only compared; what lies below is the house's to judge.
//!
//! Must not know: states, the file system.

use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::protocol::menu::command::name;
use crate::protocol::menu::text;

/// The place of a file or of what is to be made: a path from the top where the name has a `/`, else a name in the chosen
/// directory. Where there is none, the sentence for that; `unknown` is the refusal of a path that begins in no grant.
pub(crate) fn resolve(
    access: &Access,
    chosen: Option<&GrantedPath>,
    bytes: &[u8],
    unknown: ErrorCode,
) -> Result<GrantedPath, &'static str> {
    let name = name(bytes);
    if name.contains('/') {
        return from_top(access, &name).ok_or(text::refusal(unknown));
    }
    let chosen = chosen.ok_or(text::CHOOSE_DIRECTORY_FIRST)?;
    let grant = chosen.grant.clone();
    let below = match &*chosen.relative {
        "" => name,
        directory => format!("{directory}/{name}"),
    };
    Ok(GrantedPath {
        grant,
        relative: below,
    })
}

/// The place of a directory to enter: always a path from the top, with or without one `/` at its end.
pub(crate) fn directory(access: &Access, bytes: &[u8]) -> Result<GrantedPath, &'static str> {
    let name = name(bytes);
    let path = name.strip_suffix('/').unwrap_or(&name);
    // A second `/` would be an empty part, which below a grant's own name nobody else would see.
    let place = if path.ends_with('/') {
        None
    } else {
        from_top(access, path)
    };
    place.ok_or(text::refusal(ErrorCode::NoSuchDirectory))
}

/// The last part of a path: the name that is said when something has been done.
pub(crate) fn last_part(place: &GrantedPath) -> String {
    let (_, name) = place
        .relative
        .rsplit_once('/')
        .unwrap_or(("", &place.relative));
    name.to_owned()
}

fn from_top(access: &Access, path: &str) -> Option<GrantedPath> {
    let (first, below) = path.split_once('/').unwrap_or((path, ""));
    let grant = access
        .grants
        .iter()
        .find(|grant| grant.name == first)?
        .clone();
    let below = below.to_owned();
    Some(GrantedPath {
        grant,
        relative: below,
    })
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

    fn shown(place: Result<GrantedPath, &'static str>) -> Result<String, &'static str> {
        place.map(|place| format!("{}: {}", place.grant.name, place.relative))
    }

    #[test]
    fn a_bare_name_lies_in_the_chosen_directory() {
        let access = access();
        let resolve = |chosen, name: &str| {
            shown(resolve(
                &access,
                chosen,
                name.as_bytes(),
                ErrorCode::NoSuchFile,
            ))
        };
        let docs = GrantedPath {
            grant: access.grants[1].clone(),
            relative: String::new(),
        };
        let classics = GrantedPath {
            relative: "Classics".into(),
            ..docs.clone()
        };
        assert_eq!(resolve(None, "Tides"), Err(text::CHOOSE_DIRECTORY_FIRST));
        assert_eq!(resolve(Some(&docs), "Tides"), Ok("Docs: Tides".into()));
        assert_eq!(
            resolve(Some(&docs), ".."),
            Ok("Docs: ..".into()),
            "the house judges it"
        );
        assert_eq!(
            resolve(Some(&classics), "Ozymandias"),
            Ok("Docs: Classics/Ozymandias".into())
        );
    }

    #[test]
    fn a_path_begins_at_the_top_whatever_is_chosen() {
        let access = access();
        let chosen = GrantedPath {
            grant: access.grants[1].clone(),
            relative: "Classics".into(),
        };
        let no_file = Err(text::refusal(ErrorCode::NoSuchFile));
        for (path, expected) in [
            ("Movies/Joker", Ok("Movies: Joker".to_owned())),
            ("Movies/a/b", Ok("Movies: a/b".to_owned())),
            ("Movies/", Ok("Movies: ".to_owned())),
            ("Movies//Joker", Ok("Movies: /Joker".to_owned())),
            ("Movies/../x", Ok("Movies: ../x".to_owned())),
            ("movies/Joker", no_file.clone()),
            ("Classics/Ozymandias", no_file.clone()),
            ("/Movies/Joker", no_file.clone()),
            ("/", no_file.clone()),
            ("Movies\0/Joker", no_file.clone()),
        ] {
            let place = resolve(
                &access,
                Some(&chosen),
                path.as_bytes(),
                ErrorCode::NoSuchFile,
            );
            assert_eq!(shown(place), expected, "{path}");
        }
        let place = resolve(&access, None, b"Movies\xff/Joker", ErrorCode::NoSuchFile);
        assert_eq!(shown(place), no_file);
    }

    #[test]
    fn a_directory_may_end_in_one_slash() {
        let access = access();
        let none = Err(text::refusal(ErrorCode::NoSuchDirectory));
        for (path, expected) in [
            ("Docs", Ok("Docs: ".to_owned())),
            ("Docs/", Ok("Docs: ".to_owned())),
            ("Docs/Classics", Ok("Docs: Classics".to_owned())),
            ("Docs/Classics/", Ok("Docs: Classics".to_owned())),
            ("Docs//", none.clone()),
            ("Docs/Classics//", none.clone()),
            ("/", none.clone()),
            ("", none.clone()),
            ("/Docs", none.clone()),
            ("docs", none.clone()),
        ] {
            assert_eq!(
                shown(directory(&access, path.as_bytes())),
                expected,
                "{path}"
            );
        }
    }
}

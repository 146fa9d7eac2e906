//! Resolves the names that a client sends to a grant and a relative path.
//!
//! Only the first component is compared, with the names of the grants. Storage validates the rest.

use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::protocol::menu::text;
use crate::protocol::text::name;

/// Resolves a file or directory name: from the top if it has a `/`, otherwise in the chosen
/// directory. The error is the message for the client; `unknown` is the reason if no grant has the
/// first name.
pub(super) fn resolve(
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
    let relative = match &*chosen.relative {
        "" => name,
        directory => format!("{directory}/{name}"),
    };
    Ok(GrantedPath {
        grant: chosen.grant.clone(),
        relative,
    })
}

/// Resolves a directory to be chosen: always from the top, with or without one `/` at the end.
pub(super) fn directory(access: &Access, bytes: &[u8]) -> Result<GrantedPath, &'static str> {
    let name = name(bytes);
    let path = name.strip_suffix('/').unwrap_or(&name);
    // Below the name of a grant, storage would not notice an empty component.
    let path = match path.ends_with('/') {
        true => None,
        false => from_top(access, path),
    };
    path.ok_or(text::refusal(ErrorCode::NoSuchDirectory))
}

fn from_top(access: &Access, path: &str) -> Option<GrantedPath> {
    let (first, relative) = path.split_once('/').unwrap_or((path, ""));
    Some(GrantedPath {
        grant: access.grant(first)?.clone(),
        relative: relative.to_owned(),
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

    fn display(path: Result<GrantedPath, &'static str>) -> Result<String, &'static str> {
        path.map(|path| format!("{}: {}", path.grant.name, path.relative))
    }

    #[test]
    fn bare_names_are_resolved_in_the_chosen_directory() {
        let access = access();
        let resolve = |chosen, name: &str| {
            display(resolve(
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
            "storage validates it"
        );
        assert_eq!(
            resolve(Some(&classics), "Ozymandias"),
            Ok("Docs: Classics/Ozymandias".into())
        );
    }

    #[test]
    fn paths_with_a_slash_are_resolved_from_the_top() {
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
            let resolved = resolve(
                &access,
                Some(&chosen),
                path.as_bytes(),
                ErrorCode::NoSuchFile,
            );
            assert_eq!(display(resolved), expected, "{path}");
        }
        let path = resolve(&access, None, b"Movies\xff/Joker", ErrorCode::NoSuchFile);
        assert_eq!(display(path), no_file);
    }

    #[test]
    fn directories_may_end_with_one_slash() {
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
                display(directory(&access, path.as_bytes())),
                expected,
                "{path}"
            );
        }
    }
}

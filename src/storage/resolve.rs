//! Path resolution: a granted directory and a client's path become an open file or directory.
//!
//! The kernel resolves each path in one openat2(2) call with RESOLVE_BENEATH, which fails where a
//! component or a symbolic link leaves the granted directory. Nothing is checked first and opened
//! later. The granted directory itself is opened again for each request, so that a replacement
//! takes effect at once.

use std::io;
use std::path::PathBuf;

use crate::domain::error::ErrorCode;
use crate::domain::path::{GrantedPath, is_hidden, is_name};
use crate::kernel::errors::is_absent;
use crate::kernel::{FileKind, Kernel, OpenMode, Status};
use crate::storage::error::StorageError;

/// Splits a path below a granted directory into the directory and the last name. A component to
/// which the user has no access ends the directory before it and gives the error: `sub/../x` is an
/// invalid name in `sub`, not a file in a missing directory.
pub(super) fn split(place: &GrantedPath) -> (&str, Result<&str, ErrorCode>) {
    let below = &*place.relative;
    let mut start = 0;
    loop {
        let (part, is_last) = match below[start..].split_once('/') {
            Some((part, _)) => (part, false),
            None => (&below[start..], true),
        };
        let is_admitted = place.admits(part);
        if !is_admitted || is_last {
            let directory = &below[..start.saturating_sub(1)];
            let name = match is_admitted {
                true => Ok(part),
                false if is_name(part) && is_hidden(part) => Err(ErrorCode::HiddenDenied),
                false => Err(ErrorCode::InvalidName),
            };
            return (directory, name);
        }
        start += part.len() + 1;
    }
}

/// The server's path of something in a granted directory, for the log.
pub(super) fn full_path(place: &GrantedPath, below: &str) -> PathBuf {
    place.full_path_of(below)
}

/// Appends a name to a path below a directory; the directory itself is the empty path.
pub(super) fn join(below: &str, name: &str) -> String {
    match below {
        "" => name.to_owned(),
        below => format!("{below}/{name}"),
    }
}

/// Opens the granted directory.
pub(super) fn open_root<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
) -> Result<K::File, StorageError> {
    kernel
        .open_root(&place.grant.path)
        .map_err(|error| StorageError::opening_directory(place.grant.path.clone(), error))
}

/// Opens the directory `below` in the granted one.
pub(super) fn open_directory<K: Kernel>(
    kernel: &K,
    root: &K::File,
    place: &GrantedPath,
    below: &str,
) -> Result<K::File, StorageError> {
    kernel
        .open_beneath(root, below, OpenMode::Directory)
        .map_err(|error| StorageError::opening_directory(full_path(place, below), error))
}

/// The status of a path, links within the granted directory followed.
pub(super) fn status_beneath<K: Kernel>(
    kernel: &K,
    root: &K::File,
    below: &str,
) -> io::Result<Status> {
    kernel.status(&kernel.open_beneath(root, below, OpenMode::Path)?)
}

/// Opens the directory for a new name, and returns the name. Errors about the directory come
/// before [`ErrorCode::UploadDenied`], and that before [`ErrorCode::InvalidName`] and
/// [`ErrorCode::HiddenDenied`].
pub(super) fn open_parent_to_create<'a, K: Kernel>(
    kernel: &K,
    place: &'a GrantedPath,
) -> Result<(K::File, &'a str), StorageError> {
    let (below, name) = split(place);
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    if !place.grant.rights.may_add() {
        return Err(ErrorCode::UploadDenied.into());
    }
    Ok((directory, name?))
}

/// Opens the directory of an existing name that is to be changed, and returns the name. Errors
/// about the directory come before [`ErrorCode::ChangeDenied`], and that before `absent`, the code
/// for a path that ends with no name to which the user has access.
pub(super) fn open_parent_to_change<'a, K: Kernel>(
    kernel: &K,
    place: &'a GrantedPath,
    absent: ErrorCode,
) -> Result<(K::File, &'a str), StorageError> {
    let (below, name) = split(place);
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    match place.grant.rights.change {
        true => Ok((directory, name.map_err(|_| absent)?)),
        false => Err(ErrorCode::ChangeDenied.into()),
    }
}

/// The status of an existing name, a link not followed. FIFOs, sockets and devices count as
/// missing.
pub(super) fn status_of_name<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    name: &str,
    place: &GrantedPath,
) -> Result<Status, StorageError> {
    match kernel.status_at(directory, name) {
        Ok(found) if found.kind != FileKind::Other => Ok(found),
        Ok(_) => Err(ErrorCode::NoSuchFile.into()),
        Err(error) if is_absent(&error) => Err(ErrorCode::NoSuchFile.into()),
        Err(error) => {
            let path = full_path(place, &place.relative);
            Err(StorageError::writing("reading the status of", path, error))
        }
    }
}

/// Checks that a file may be given `name`: it is free, or has a file or a link that the user may
/// replace. Returns whether it is taken.
pub(super) fn check_name<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    name: &str,
    place: &GrantedPath,
) -> Result<bool, StorageError> {
    match kernel.status_at(directory, name) {
        Ok(found) if place.grant.rights.change && is_replaceable(found.kind) => Ok(true),
        Ok(_) => Err(ErrorCode::FileExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let path = full_path(place, &place.relative);
            Err(StorageError::writing("reading the status of", path, error))
        }
    }
}

/// Whether rename(2) of a file may replace something of this kind.
pub(super) fn is_replaceable(kind: FileKind) -> bool {
    matches!(kind, FileKind::File | FileKind::Link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Rights;
    use crate::storage::tests::{CHANGE, place};

    #[test]
    fn paths_split_before_an_invalid_name() {
        const INVALID: Result<&str, ErrorCode> = Err(ErrorCode::InvalidName);
        const HIDDEN: Result<&str, ErrorCode> = Err(ErrorCode::HiddenDenied);
        let with_hidden = Rights {
            hidden: true,
            ..CHANGE
        };
        for (rights, below, directory, name) in [
            (CHANGE, "x", "", Ok("x")),
            (CHANGE, "sub/deep/x", "sub/deep", Ok("x")),
            (CHANGE, "", "", INVALID),
            (CHANGE, "/x", "", INVALID),
            (CHANGE, "sub/", "sub", INVALID),
            (CHANGE, "sub//x", "sub", INVALID),
            (CHANGE, "../x", "", INVALID),
            (CHANGE, "sub/../x", "sub", INVALID),
            (CHANGE, "sub/./x", "sub", INVALID),
            (CHANGE, "sub/.hidden/deep/x", "sub", HIDDEN),
            (CHANGE, ".x", "", HIDDEN),
            (CHANGE, ".x/../y", "", HIDDEN),
            (CHANGE, ".tidegate-0123456789abcdef.part", "", INVALID),
            (CHANGE, "sub/x\n", "sub", INVALID),
            (with_hidden, "sub/.hidden/.x", "sub/.hidden", Ok(".x")),
            (with_hidden, ".x/../y", ".x", INVALID),
            (with_hidden, "sub/.", "sub", INVALID),
            (with_hidden, ".TIDEGATE.sock", "", INVALID),
        ] {
            let place = place("/srv".as_ref(), below, rights);
            assert_eq!(split(&place), (directory, name), "{below:?}");
        }
    }
}

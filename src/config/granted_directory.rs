//! Whether a granted directory can be used by the current process.

use std::fs;
use std::io;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::domain::access::Rights;
use crate::domain::io_reason::io_reason;

/// Describes why the directory at `path` cannot be used with these rights, and what to do; `None`
/// if it can. The check applies to the user of this process.
pub(super) fn unusable_directory(path: &Path, rights: Rights) -> Option<String> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let quoted = quoted(path);
            return Some(format!(
                "'{shown}' does not exist; create it with 'mkdir -p {quoted}' or correct the path"
            ));
        }
        Err(error) => {
            let reason = io_reason(&error);
            return Some(format!(
                "'{shown}' cannot be reached: {reason}; correct the path or its permissions"
            ));
        }
        Ok(found) => found,
    };
    if !found.is_dir() {
        return Some(format!(
            "'{shown}' is not a directory; name the directory that contains it"
        ));
    }
    let needed = [
        (rights.read, AccessFlags::R_OK | AccessFlags::X_OK, "read"),
        (
            rights.may_add(),
            AccessFlags::W_OK | AccessFlags::X_OK,
            "written to",
        ),
    ];
    let refused = needed
        .into_iter()
        .find(|(is_needed, flags, _)| *is_needed && is_refused(path, *flags))?;
    let (_, _, done) = refused;
    Some(format!(
        "'{shown}' cannot be {done} by this user; change its owner or permissions, or the grant"
    ))
}

/// A path as a word of a shell command.
fn quoted(path: &Path) -> String {
    let shown = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-:@+,=".contains(c);
    match shown.chars().all(is_plain) {
        true => shown.into_owned(),
        false => format!("\"{}\"", shown.escape_debug()),
    }
}

/// Whether the effective user of this process lacks these permissions.
fn is_refused(path: &Path, flags: AccessFlags) -> bool {
    let checked = faccessat(AT_FDCWD, path, flags, AtFlags::AT_EACCESS).map_err(io::Error::from);
    checked.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    })
}

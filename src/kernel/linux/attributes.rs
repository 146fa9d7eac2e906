//! The attributes that a file passes on to the one that replaces it.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};
use xattr::FileExt;

use crate::kernel::errors::is_not_permitted;
use crate::kernel::linux::ffi::retry;

/// The access control list (acl(5)).
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Prefix of the extended attributes that every owner of a file may set.
const USER_PREFIX: &[u8] = b"user.";

/// [`Kernel::copy_attributes`](crate::kernel::Kernel::copy_attributes).
pub(super) fn copy(from: &File, to: &File) -> io::Result<()> {
    let (old, new) = (retry(|| fstat(from))?, retry(|| fstat(to))?);
    let group = Gid::from_raw(old.st_gid);
    let keeps_group =
        old.st_gid == new.st_gid || permitted(retry(|| fchown(to, None, Some(group))))?;
    copy_user_attributes(from, to)?;
    let keeps_list = copy_access_list(from, to)?;
    // A write in place would remove set-user-ID and set-group-ID too (inode(7)).
    let mut mode =
        Mode::from_bits_truncate(old.st_mode) & (Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO);
    if !(keeps_group && keeps_list) {
        let others = (mode & Mode::S_IRWXO).bits();
        mode &= !Mode::S_IRWXG | Mode::from_bits_truncate(others << 3);
    }
    permitted(retry(|| fchmod(to, mode)))?;
    // The owner comes last: only the owner may change the rest.
    if old.st_uid != new.st_uid {
        let owner = Uid::from_raw(old.st_uid);
        permitted(retry(|| fchown(to, Some(owner), None)))?;
    }
    Ok(())
}

/// Copies the access control list, or removes the one that a new file has from its directory.
/// Returns false where that fails: the mode of a file with a list has the list's mask in the place
/// of the group.
fn copy_access_list(from: &File, to: &File) -> io::Result<bool> {
    match from.get_xattr(ACCESS_LIST) {
        Ok(Some(list)) => permitted(to.set_xattr(ACCESS_LIST, &list)),
        Ok(None) => remove_access_list(to),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
        // A handle without the right to read.
        Err(_) => Ok(false),
    }
}

fn remove_access_list(file: &File) -> io::Result<bool> {
    match file.get_xattr(ACCESS_LIST) {
        Ok(Some(_)) => permitted(file.remove_xattr(ACCESS_LIST)),
        _ => Ok(true),
    }
}

fn copy_user_attributes(from: &File, to: &File) -> io::Result<()> {
    // A file system without attributes, or a handle without the right to read, has none.
    for name in from.list_xattr().into_iter().flatten() {
        if name.as_bytes().starts_with(USER_PREFIX)
            && let Ok(Some(value)) = from.get_xattr(&name)
        {
            permitted(to.set_xattr(&name, &value))?;
        }
    }
    Ok(())
}

/// Whether the process was permitted to set an attribute that the file system has.
fn permitted(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if is_not_permitted(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

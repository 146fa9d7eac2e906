//! Changes of existing names: rename, removal, modification time; and new directories.
//!
//! Links are never followed: the link itself is renamed or removed. Each change is durable when it
//! is reported.

use std::io;

use crate::domain::error::ErrorCode;
use crate::domain::path::{GrantedPath, is_hidden, is_name};
use crate::domain::request::Response;
use crate::domain::step::Step;
use crate::kernel::errors::is_unsupported_rename;
use crate::kernel::{FileKind, Kernel, OpenMode, Status};
use crate::storage::error::StorageError;
use crate::storage::quota::{QuotaReservation, UsageChange};
use crate::storage::resolve::{
    full_path, is_replaceable, join, open_parent_to_change, open_parent_to_create, open_root,
    status_beneath, status_of_name,
};
use crate::storage::status::device_of;
use crate::storage::storage_use::StorageUse;
use crate::storage::walk::SizeWalk;

/// Links and names of unknown kind that are looked at to find why a directory is not empty.
const UNKNOWN_NAMES_MAX: usize = 100;

/// Creates a directory within the limits of a reservation, and waits until its name is durable.
pub fn make_directory<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    mut reservation: QuotaReservation,
) -> Result<(), StorageError> {
    let (directory, name) = open_parent_to_create(kernel, place)?;
    let added = StorageUse::file(0);
    reservation.settle((kernel, device_of(kernel, &directory)), |reservation| {
        // An existing name is reported before a quota.
        match kernel.status_at(&directory, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => reservation.grow_to(added)?,
            _ => {}
        }
        make_new_directory(kernel, place, &directory, name)?;
        let removed = StorageUse::default();
        Ok::<_, StorageError>(UsageChange { added, removed })
    })?;
    kernel
        .sync(&directory)
        .map_err(|error| failed("syncing", place, error))
}

fn make_new_directory<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    directory: &K::File,
    name: &str,
) -> Result<(), StorageError> {
    match kernel.make_directory(directory, name) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let root = open_root(kernel, place)?;
            match status_beneath(kernel, &root, &place.relative) {
                Ok(found) if found.kind == FileKind::Directory => {
                    Err(ErrorCode::DirectoryExists.into())
                }
                _ => Err(ErrorCode::FileExists.into()),
            }
        }
        Err(error) => Err(failed("making", place, error)),
    }
}

/// A change of an existing name.
#[derive(Clone, Debug)]
pub enum Modification {
    /// Renames a file, a directory or a link within one file system. An existing file or link of
    /// the new name is replaced where the user has the right to change. Leaving a directory needs
    /// the right to read there.
    Rename {
        /// The old path.
        from: GrantedPath,
        /// The new path.
        to: GrantedPath,
    },
    /// Removes a file or a link.
    Remove(GrantedPath),
    /// Removes an empty directory; hidden files count.
    RemoveDirectory(GrantedPath),
    /// Sets the modification time of a file or a directory, in seconds since 1970.
    SetModified(GrantedPath, i64),
}

impl Modification {
    /// The path that is changed; of a rename the old one.
    pub fn path(&self) -> &GrantedPath {
        match self {
            Modification::Rename { from: path, .. }
            | Modification::Remove(path)
            | Modification::RemoveDirectory(path)
            | Modification::SetModified(path, _) => path,
        }
    }
}

/// A modification and its effect on quotas. Before a directory moves between counted directories,
/// a walk determines its size, one directory per step.
pub struct PendingModification<K: Kernel> {
    modification: Modification,
    reservation: QuotaReservation,
    /// Through the directory that is to be moved.
    size: Option<SizeWalk<K>>,
}

impl<K: Kernel> PendingModification<K> {
    /// Prepares a modification; `reservation` covers the bytes that it adds to quotas.
    pub fn new(
        modification: Modification,
        reservation: QuotaReservation,
    ) -> PendingModification<K> {
        PendingModification {
            modification,
            reservation,
            size: None,
        }
    }

    /// The modification.
    pub fn modification(&self) -> &Modification {
        &self.modification
    }

    /// The modification.
    pub fn into_modification(self) -> Modification {
        self.modification
    }

    /// Runs the next slice: one directory of the walk, or the modification itself.
    pub fn step(&mut self, kernel: &K) -> Step<Result<Response, StorageError>> {
        if let Modification::Rename { from, to } = &self.modification
            && self.reservation.changes_usage()
            && self.size.is_none()
        {
            match begin_size_walk(kernel, from, to) {
                Ok(size) => self.size = size,
                Err(error) => return Step::Done(Err(error)),
            }
        }
        if let Some(size) = &mut self.size
            && size.step(kernel) == Step::More
        {
            return Step::More;
        }
        // A limit cannot be applied to what cannot be counted.
        if self.reservation.is_limited()
            && let Some(size) = self.size.take_if(|size| size.fault().is_some())
            && let Some(fault) = size.into_fault()
        {
            return Step::Done(Err(StorageError::uncounted(fault)));
        }
        let reservation = &mut self.reservation;
        // The directory itself counts too.
        let tree = (self.size.as_ref()).map(|size| size.total().plus(StorageUse::file(0)));
        let changed = match &self.modification {
            Modification::Rename { from, to } => rename(kernel, from, to, tree, reservation),
            Modification::Remove(place) => remove(kernel, place, reservation),
            Modification::RemoveDirectory(place) => remove_directory(kernel, place, reservation),
            Modification::SetModified(place, modified) => {
                return Step::Done(set_modified(kernel, place, *modified).map(Response::Modified));
            }
        };
        Step::Done(changed.map(|()| Response::Done))
    }
}

/// The walk that determines the size of a directory to be moved. A rename that would be refused
/// fails here.
fn begin_size_walk<K: Kernel>(
    kernel: &K,
    from: &GrantedPath,
    to: &GrantedPath,
) -> Result<Option<SizeWalk<K>>, StorageError> {
    let paths = RenamePaths::open(kernel, from, to)?;
    if paths.found.kind != FileKind::Directory {
        return Ok(None);
    }
    match kernel.status_at(&paths.to, paths.new) {
        Ok(taken) if taken.kind == FileKind::Directory => Err(ErrorCode::DirectoryExists.into()),
        Ok(_) => Err(ErrorCode::FileExists.into()),
        Err(_) => Ok(Some(SizeWalk::new(&from.grant.path, &from.relative))),
    }
}

/// Renames something. `tree` is the size of a directory that moves between counted ones.
fn rename<K: Kernel>(
    kernel: &K,
    from: &GrantedPath,
    to: &GrantedPath,
    tree: Option<StorageUse>,
    reservation: &mut QuotaReservation,
) -> Result<(), StorageError> {
    let paths = RenamePaths::open(kernel, from, to)?;
    let [device, target] = [&paths.from, &paths.to].map(|file| device_of(kernel, file));
    if device != target {
        return Err(ErrorCode::CrossDevice.into());
    }
    reservation.settle::<_, StorageError>((kernel, device), |reservation| {
        let old = kernel.status_at(&paths.from, paths.old).ok();
        let new = kernel.status_at(&paths.to, paths.new).ok();
        let is_same = old.map(identity) == new.map(identity);
        let removed = StorageUse::of(new.filter(|_| !is_same));
        let added = match reservation.changes_usage() {
            true => tree.unwrap_or_else(|| StorageUse::of(old)),
            false => StorageUse::default(),
        };
        reservation.set_replaced(removed);
        reservation.grow_to(added)?;
        paths.rename(kernel, from, to)?;
        Ok(UsageChange { added, removed })
    })?;
    for directory in [&paths.to, &paths.from] {
        kernel
            .sync(directory)
            .map_err(|error| failed("renaming", from, error))?;
    }
    Ok(())
}

/// The open directories of a rename, and the names in them.
struct RenamePaths<'a, K: Kernel> {
    from: K::File,
    old: &'a str,
    /// The status of the old name.
    found: Status,
    to: K::File,
    new: &'a str,
}

impl<'a, K: Kernel> RenamePaths<'a, K> {
    fn open(
        kernel: &K,
        from_place: &'a GrantedPath,
        to_place: &'a GrantedPath,
    ) -> Result<RenamePaths<'a, K>, StorageError> {
        let (from, old) = open_parent_to_change(kernel, from_place, ErrorCode::NoSuchFile)?;
        let (to, new) = open_parent_to_create(kernel, to_place)?;
        let (rights, more) = (from_place.grant.rights, to_place.grant.rights);
        // A rename in place shows nothing; in another directory the user may have more rights.
        let is_denied = !rights.read || (more.hidden && !rights.hidden);
        let is_denied = is_denied && !is_same_directory(kernel, &from, &to);
        if is_denied && !rights.read {
            return Err(ErrorCode::ReadDenied.into());
        }
        let found = status_of_name(kernel, &from, old, from_place)?;
        if is_denied && found.kind == FileKind::Directory {
            return Err(ErrorCode::HiddenDenied.into());
        }
        Ok(RenamePaths {
            from,
            old,
            found,
            to,
            new,
        })
    }

    /// Renames without replacing first (RENAME_NOREPLACE, renameat2(2)), so that only a file or
    /// link that the user may replace is replaced.
    fn rename(
        &self,
        kernel: &K,
        from_place: &GrantedPath,
        to_place: &GrantedPath,
    ) -> Result<(), StorageError> {
        let (from, to) = ((&self.from, self.old), (&self.to, self.new));
        let renamed = match kernel.rename(from, to, false) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let taken = (kernel.status_at(to.0, to.1))
                    .map_err(|error| failed("renaming", from_place, error))?;
                self.check_replaced(taken.kind, to_place)?;
                kernel.rename(from, to, true)
            }
            // A file that takes the name between the two calls is replaced.
            Err(error) if is_unsupported_rename(&error) => {
                match kernel.status_at(to.0, to.1) {
                    Ok(found) => self.check_replaced(found.kind, to_place)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed("renaming", from_place, error)),
                }
                kernel.rename(from, to, true)
            }
            result => result,
        };
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => ErrorCode::CrossDevice.into(),
            io::ErrorKind::InvalidInput => ErrorCode::IntoItself.into(),
            io::ErrorKind::NotFound => ErrorCode::NoSuchFile.into(),
            io::ErrorKind::IsADirectory => ErrorCode::DirectoryExists.into(),
            _ => failed("renaming", from_place, error),
        })
    }

    /// Checks that the current holder of the new name may be replaced.
    fn check_replaced(&self, taken: FileKind, to_place: &GrantedPath) -> Result<(), StorageError> {
        if taken == FileKind::Directory {
            return Err(ErrorCode::DirectoryExists.into());
        }
        let may_replace = to_place.grant.rights.change && is_replaceable(taken);
        match may_replace && self.found.kind != FileKind::Directory {
            true => Ok(()),
            false => Err(ErrorCode::FileExists.into()),
        }
    }
}

fn remove<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    reservation: &mut QuotaReservation,
) -> Result<(), StorageError> {
    let (directory, name) = open_parent_to_change(kernel, place, ErrorCode::NoSuchFile)?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ErrorCode::NoSuchFile.into(), // removed in the meantime
        _ => failed("removing", place, error),
    };
    reservation.settle::<_, StorageError>((kernel, device_of(kernel, &directory)), |_| {
        let found = status_of_name(kernel, &directory, name, place)?;
        match found.kind {
            FileKind::File | FileKind::Link => {}
            FileKind::Directory | FileKind::Other => return Err(ErrorCode::NoSuchFile.into()),
        }
        kernel.remove(&directory, name).map_err(failed)?;
        Ok(UsageChange {
            added: StorageUse::default(),
            removed: StorageUse::of(Some(found)),
        })
    })?;
    kernel.sync(&directory).map_err(failed)
}

fn remove_directory<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    reservation: &mut QuotaReservation,
) -> Result<(), StorageError> {
    let (directory, name) = open_parent_to_change(kernel, place, ErrorCode::NoSuchDirectory)?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorCode::NoSuchDirectory.into(),
        // rmdir(2) allows EEXIST for ENOTEMPTY.
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
            not_empty(kernel, &directory, name, place).into()
        }
        _ => failed("removing", place, error),
    };
    reservation.settle::<_, StorageError>((kernel, device_of(kernel, &directory)), |_| {
        kernel.remove_directory(&directory, name).map_err(failed)?;
        Ok(UsageChange {
            added: StorageUse::default(),
            removed: StorageUse::file(0),
        })
    })?;
    kernel.sync(&directory).map_err(failed)
}

/// Returns the reason why a directory is not empty, judged by what a listing shows to the user.
/// Without the right to read it stays unknown.
fn not_empty<K: Kernel>(
    kernel: &K,
    parent: &K::File,
    name: &str,
    place: &GrantedPath,
) -> ErrorCode {
    if !place.grant.rights.read {
        return ErrorCode::NotEmpty;
    }
    let (mut is_listed, mut has_hidden, mut unknown) = (false, false, Vec::new());
    let read = kernel.open_beneath(parent, name, OpenMode::Directory);
    let read = read.and_then(|directory| {
        kernel.read_directory(&directory, &mut |name, kind| {
            match (str::from_utf8(name), kind) {
                (Ok(name), _) if !place.admits(name) => {
                    has_hidden |= is_name(name) && is_hidden(name);
                }
                (Ok(_), Some(FileKind::File | FileKind::Directory)) => is_listed = true,
                (Ok(name), Some(FileKind::Link) | None) => unknown.push(name.to_owned()),
                (Ok(_), Some(FileKind::Other)) | (Err(_), _) => {}
            }
            !is_listed && unknown.len() < UNKNOWN_NAMES_MAX
        })
    });
    if read.is_err() || is_listed || unknown.len() == UNKNOWN_NAMES_MAX {
        return ErrorCode::NotEmpty;
    }
    let Ok(root) = open_root(kernel, place) else {
        return ErrorCode::NotEmpty;
    };
    let leads_somewhere = |name: &String| {
        let found = status_beneath(kernel, &root, &join(&place.relative, name));
        found.is_ok_and(|found| matches!(found.kind, FileKind::File | FileKind::Directory))
    };
    match unknown.iter().any(leads_somewhere) {
        true => ErrorCode::NotEmpty,
        false if has_hidden => ErrorCode::NotEmptyHidden,
        false => ErrorCode::NotEmptyUnlisted,
    }
}

/// Sets the modification time and returns the one that the file system has stored.
fn set_modified<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    modified: i64,
) -> Result<i64, StorageError> {
    let (directory, name) = open_parent_to_change(kernel, place, ErrorCode::NoSuchFile)?;
    match status_of_name(kernel, &directory, name, place)?.kind {
        FileKind::File | FileKind::Directory => {}
        FileKind::Link | FileKind::Other => return Err(ErrorCode::NoSuchFile.into()),
    }
    let failed = |error| failed("setting the time of", place, error);
    kernel
        .set_modified(&directory, name, modified)
        .map_err(failed)?;
    // A file that the server may not read cannot be synced: a power failure may restore its time.
    if let Ok(file) = kernel.open_beneath(&directory, name, OpenMode::Read) {
        kernel.sync(&file).map_err(failed)?;
    }
    let stored = status_of_name(kernel, &directory, name, place)?;
    Ok(stored.modified.0)
}

fn failed(operation: &'static str, place: &GrantedPath, error: io::Error) -> StorageError {
    StorageError::writing(operation, full_path(place, &place.relative), error)
}

/// Whether two open directories are the same one; false if their status is unknown.
fn is_same_directory<K: Kernel>(kernel: &K, one: &K::File, other: &K::File) -> bool {
    let identity = |file| kernel.status(file).map(identity).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

fn identity(found: Status) -> (u64, u64) {
    (found.device, found.inode)
}

#[cfg(test)]
mod tests;

//! The status of paths and the free space of file systems.

use std::io;
use std::path::Path;

use crate::domain::error::ErrorCode;
use crate::domain::listing::FileStatus;
use crate::domain::path::GrantedPath;
use crate::kernel::devices::Devices;
use crate::kernel::errors::is_absent;
use crate::kernel::{FileKind, Kernel, OpenMode, Status};
use crate::storage::error::StorageError;
use crate::storage::resolve::{full_path, open_directory, open_root, split, status_beneath};

/// The status of a path, links within the granted directory followed. Without the right to read,
/// only directories exist.
pub fn file_status<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<FileStatus, StorageError> {
    if !place.is_valid() {
        return Err(ErrorCode::NoSuchFile.into());
    }
    let found = (kernel.open_root(&place.grant.path))
        .and_then(|root| status_beneath(kernel, &root, &place.relative));
    match found {
        Ok(found) => match found.kind {
            FileKind::Directory => Ok(found.into()),
            FileKind::File if place.grant.rights.read => Ok(found.into()),
            _ => Err(ErrorCode::NoSuchFile.into()),
        },
        Err(error) if is_absent(&error) => {
            let path = full_path(place, &place.relative);
            Err(StorageError::absent(ErrorCode::NoSuchFile, path, error))
        }
        Err(error) => Err(StorageError::with_fault(
            ErrorCode::FileUnreadable,
            "reading the status of",
            full_path(place, &place.relative),
            error,
        )),
    }
}

impl From<Status> for FileStatus {
    fn from(found: Status) -> FileStatus {
        FileStatus {
            is_directory: found.kind == FileKind::Directory,
            size: found.size,
            modified: found.modified.0,
            identity: (found.device, found.inode),
        }
    }
}

/// Bytes that can still be written in a directory, or next to a file.
pub fn free_space<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<u64, StorageError> {
    let root = open_root(kernel, place)?;
    let directory = match place.is_valid() {
        true => kernel.open_beneath(&root, &place.relative, OpenMode::Directory),
        false => Err(io::ErrorKind::NotADirectory.into()),
    };
    let directory = match directory {
        Ok(directory) => directory,
        Err(_) => open_directory(kernel, &root, place, split(place).0)?,
    };
    kernel.free_space(&directory).map_err(|error| {
        let path = full_path(place, &place.relative);
        StorageError::writing("asking for the free space of", path, error)
    })
}

/// Returns the device of an open directory; 0 if it is unknown.
pub(crate) fn device_of<K: Kernel>(kernel: &K, directory: &K::File) -> u64 {
    kernel.status(directory).map_or(0, |status| status.device)
}

/// Whether the way to a path leads through a mount point in its granted directory. The file system
/// that is mounted there is not called.
pub fn leads_beyond<K: Kernel>(kernel: &K, place: &GrantedPath) -> bool {
    place.is_valid()
        && (open_root(kernel, place)).is_ok_and(|root| kernel.crosses_mount(&root, &place.relative))
}

/// Tries whether the device of a file or directory answers: waits until it does. The file system of
/// the nearest existing directory is asked for its free space, which none caches for long.
pub fn probe<K: Kernel>(kernel: &K, path: &Path) {
    use io::ErrorKind::{NotADirectory, NotFound};
    for directory in path.ancestors() {
        match kernel.open_root(directory) {
            Ok(directory) => return drop(kernel.free_space(&directory)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {}
            Err(_) => return,
        }
    }
}

/// Opens a granted directory and records its device and its status.
pub fn find_device<K: Kernel>(kernel: &K, root: &Path, devices: &Devices) {
    let found = (kernel.open_root(root))
        .and_then(|directory| Ok((kernel.status(&directory)?, kernel.file_system(&directory)?)));
    devices.set_status(root, found.as_ref().ok().map(|(status, _)| *status));
    if let Ok((status, kind)) = found {
        let device = devices.with_id(status.device, || kind);
        devices.set_root(root, device);
    }
}

/// Whether `length` bytes are free in the file system of the directory at an operator's path.
pub fn check_free_space<K: Kernel>(
    kernel: &K,
    path: &Path,
    length: u64,
) -> Result<(), StorageError> {
    let directory = kernel
        .open_root(path)
        .map_err(|error| StorageError::opening_directory(path.to_owned(), error))?;
    check_free_space_of(kernel, &directory, length, path)
}

/// [`check_free_space`] for an open directory; `path` is for the log.
pub(super) fn check_free_space_of<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    length: u64,
    path: &Path,
) -> Result<(), StorageError> {
    match kernel.free_space(directory) {
        Ok(free) if free >= length => Ok(()),
        Ok(_) => Err(ErrorCode::NoSpace.into()),
        Err(error) => Err(StorageError::writing(
            "asking for the free space of",
            path.to_owned(),
            error,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::storage::tests::{DROP_BOX, READ, TestDirectory, code_of};

    #[test]
    fn status_is_shown_to_readers_only() {
        let directory = TestDirectory::with_every_kind();
        let status = |below: &str, rights| {
            let found = code_of(file_status(
                &*directory.kernel,
                &directory.place(below, rights),
            ));
            found.map(|found| (found.is_directory, found.size))
        };
        let nothing = Err(ErrorCode::NoSuchFile);
        for (below, to_read, to_drop) in [
            ("file", Ok((false, 5)), nothing),
            ("link", Ok((false, 5)), nothing),
            ("link-sub/other", Ok((false, 5)), nothing),
            ("missing", nothing, nothing),
            (".hidden", nothing, nothing),
            ("fifo", nothing, nothing),
            ("out", nothing, nothing),
            ("out-file", nothing, nothing),
            ("..", nothing, nothing),
            ("sub/", nothing, nothing),
            ("file/below", nothing, nothing),
        ] {
            assert_eq!(status(below, READ), to_read, "{below}");
            assert_eq!(status(below, DROP_BOX), to_drop, "{below}");
        }
        for below in ["", "sub", "sub/deep", "link-sub"] {
            assert!(matches!(status(below, DROP_BOX), Ok((true, _))), "{below}");
        }
        let one = file_status(&*directory.kernel, &directory.place("file", READ)).unwrap();
        let same = file_status(&*directory.kernel, &directory.place("link", READ)).unwrap();
        assert_eq!((one.identity, one.modified), (same.identity, same.modified));
    }

    #[test]
    fn free_space_is_that_of_the_nearest_directory() {
        let directory = TestDirectory::new();
        fs::create_dir(directory.at("sub")).unwrap();
        fs::write(directory.at("file"), "12345").unwrap();
        symlink("../outside", directory.at("out")).unwrap();
        let free = |below| {
            let place = directory.place(below, READ);
            code_of(free_space(&*directory.kernel, &place))
        };
        for below in ["", "sub", "file", "new", "sub/new"] {
            assert!(free(below).unwrap() > 0, "{below}");
        }
        assert_eq!(free("missing/new"), Err(ErrorCode::NoSuchDirectory));
        assert_eq!(free("out/new"), Err(ErrorCode::NoSuchDirectory));
    }

    #[test]
    fn free_space_is_compared_with_the_length() {
        let directory = TestDirectory::new();
        let check =
            |path: &Path, length| code_of(check_free_space(&*directory.kernel, path, length));
        assert_eq!(check(&directory.at(""), 1), Ok(()));
        assert_eq!(check(&directory.at(""), u64::MAX), Err(ErrorCode::NoSpace));
        let missing = check(&directory.at("missing"), 1);
        assert_eq!(missing, Err(ErrorCode::NoSuchDirectory));
    }
}

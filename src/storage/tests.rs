//! A granted directory on a real file system, for the unit tests of this layer.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo, setfsuid};
use tempfile::TempDir;

use crate::domain::access::{Grant, Rights};
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::kernel::linux::Linux;
use crate::storage::error::StorageError;

pub(crate) const READ: Rights = Rights {
    read: true,
    upload: false,
    change: false,
    hidden: false,
    quota: None,
};
pub(crate) const UPLOAD: Rights = Rights {
    upload: true,
    ..READ
};
pub(crate) const CHANGE: Rights = Rights {
    change: true,
    ..READ
};
pub(crate) const DROP_BOX: Rights = Rights {
    read: false,
    ..UPLOAD
};

/// Change without the right to read.
pub(crate) const CHANGE_UNSEEN: Rights = Rights {
    read: false,
    ..CHANGE
};

/// Change, also of names that begin with a dot.
pub(crate) const CHANGE_HIDDEN: Rights = Rights {
    hidden: true,
    ..CHANGE
};

/// The content of a file outside the granted directory, which no path may reach.
pub(crate) const CANARY: &str = "canary: outside the granted directory";

/// A granted directory, and next to it one that is not granted and holds [`CANARY`].
pub(crate) struct TestDirectory {
    pub(crate) kernel: Arc<Linux>,
    folder: TempDir,
}

impl TestDirectory {
    pub(crate) fn new() -> TestDirectory {
        TestDirectory::within(tempfile::tempdir().unwrap())
    }

    /// In memory where /dev/shm exists, for tests with many files.
    pub(crate) fn in_memory() -> TestDirectory {
        TestDirectory::within(
            tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
        )
    }

    /// With files, directories, links inside and outside, and a FIFO.
    pub(crate) fn with_every_kind() -> TestDirectory {
        let directory = TestDirectory::new();
        fs::create_dir_all(directory.at("sub/deep")).unwrap();
        fs::create_dir(directory.at("empty")).unwrap();
        fs::write(directory.at("file"), "12345").unwrap();
        fs::write(directory.at("sub/other"), "other").unwrap();
        fs::write(directory.at(".hidden"), "").unwrap();
        symlink("file", directory.at("link")).unwrap();
        symlink("sub", directory.at("link-sub")).unwrap();
        symlink("../outside", directory.at("out")).unwrap();
        symlink("../outside/canary", directory.at("out-file")).unwrap();
        mkfifo(&directory.at("fifo"), Mode::S_IRWXU).unwrap();
        directory
    }

    fn within(folder: TempDir) -> TestDirectory {
        let kernel = Arc::new(Linux::new().unwrap());
        let directory = TestDirectory { kernel, folder };
        fs::create_dir_all(directory.at("")).unwrap();
        fs::create_dir(directory.at("../outside")).unwrap();
        fs::write(directory.at("../outside/canary"), CANARY).unwrap();
        directory
    }

    /// The path of something in the granted directory.
    pub(crate) fn at(&self, below: &str) -> PathBuf {
        self.folder.path().join("granted").join(below)
    }

    pub(crate) fn place(&self, below: &str, rights: Rights) -> GrantedPath {
        place(&self.at(""), below, rights)
    }

    /// Names and contents of the files right in the granted directory, temporary ones included.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = (fs::read_dir(self.at("")).unwrap())
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// Asserts that nothing outside was written.
    pub(crate) fn assert_canary(&self) {
        let canary = fs::read_to_string(self.at("../outside/canary")).unwrap();
        assert_eq!(canary, CANARY);
    }

    /// Grants every user of the machine access to the granted directory.
    pub(crate) fn open_to_all(&self) {
        fs::set_permissions(self.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

pub(crate) fn place(path: &Path, below: &str, rights: Rights) -> GrantedPath {
    let grant = Arc::new(Grant {
        name: "Movies".to_owned(),
        rights,
        path: path.to_owned(),
    });
    let relative = below.to_owned();
    GrantedPath { grant, relative }
}

/// Runs `test` on a thread that has none of root's privileges over files.
pub(crate) fn unprivileged(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if Uid::effective().is_root() {
                setfsuid(Uid::from_raw(65_534)); // of this thread alone
            }
            test();
        });
        thread.join().unwrap();
    });
}

pub(crate) fn code_of<T>(result: Result<T, StorageError>) -> Result<T, ErrorCode> {
    result.map_err(|error| error.code)
}

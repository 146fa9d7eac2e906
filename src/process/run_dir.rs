//! The run directory: where a running server keeps its pid file, its lock and its control socket.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::process::pid_file;

/// The run directory of a server: the one of `--run-dir`, or else the home.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
    is_given: bool,
}

impl RunDir {
    /// Returns the directory `given`, or else the home.
    pub fn new(given: Option<PathBuf>, home: &Path) -> RunDir {
        RunDir {
            is_given: given.is_some(),
            path: given.unwrap_or_else(|| home.to_path_buf()),
        }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory was given, so that it has to be usable.
    pub fn is_given(&self) -> bool {
        self.is_given
    }

    /// The path of the pid file, which is also the lock.
    pub fn pid_file(&self) -> PathBuf {
        self.path.join(".tidegate.pid")
    }

    /// The path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(".tidegate.sock")
    }

    /// Creates the directory, for this user only, if it was given and is missing; its parent has to
    /// exist.
    pub fn create(&self) -> io::Result<()> {
        if !self.is_given || self.path.is_dir() {
            return Ok(());
        }
        DirBuilder::new().mode(0o700).create(&self.path)
    }

    /// Whether a server uses the directory. A directory that cannot be read counts as unused.
    pub fn is_in_use(&self) -> bool {
        pid_file::is_locked(&self.pid_file()).unwrap_or(false)
    }
}

//! Errors of reading and editing a home.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A fault in a home. Contains no password and no hash.
#[derive(Debug, Error)]
pub enum HomeError {
    /// One of the two files is missing.
    #[error("{}: no such file; 'tidegate init HOME' creates a home", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// One of the two files cannot be read.
    #[error("{}: cannot read the file: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// One of the two files is a directory, a FIFO or a device.
    #[error("{}: not a regular file", .file.display())]
    NotAFile {
        /// The file.
        file: PathBuf,
    },
    /// One of the two files is larger than [`crate::limits::HOME_FILE_BYTES_MAX`].
    #[error("{}: the file is larger than 64 MiB", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// A line is not a valid record.
    #[error("{}:{line}: {found}; expected {expected}", .file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The fault.
        found: String,
        /// A description of a correct record.
        expected: &'static str,
    },
    /// A reload would grant a directory that the sandbox of the running server does not include.
    #[error(
        "{}:{line}: the sandbox of the running server cannot {access} '{}'; restart the server to \
         apply this grant",
        .file.display(), .path.display()
    )]
    OutsideSandbox {
        /// The file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: usize,
        /// The granted directory.
        path: PathBuf,
        /// The access that the grant needs: `read` or `write to`.
        access: &'static str,
    },
}

impl HomeError {
    /// The number of the faulty line, from 1; `None` if the file as a whole is at fault.
    pub fn line(&self) -> Option<usize> {
        match self {
            HomeError::Record { line, .. } | HomeError::OutsideSandbox { line, .. } => Some(*line),
            _ => None,
        }
    }
}

/// Why a home was not created or changed.
#[derive(Debug, Error)]
pub enum EditError {
    /// The home has faults; nothing was changed.
    #[error("{}", lines(.0))]
    Faults(Vec<HomeError>),
    /// The home exists already: this file of it.
    #[error("{}: the home exists already", .0.display())]
    HomeExists(PathBuf),
    /// The user exists already.
    #[error("user '{0}' exists already")]
    UserExists(String),
    /// The user does not exist.
    #[error("there is no user '{0}'")]
    NoSuchUser(String),
    /// The user has no own grant of this directory.
    #[error("there is no grant of '{directory}' to '{user}'")]
    NoSuchGrant {
        /// The user.
        user: String,
        /// The directory's name.
        directory: String,
    },
    /// Another process held the lock for too long.
    #[error("{}: another command is changing the home; try again later", .0.display())]
    Locked(PathBuf),
    /// A system call failed.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The action that failed: a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn lines(faults: &[HomeError]) -> String {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

const _: () = assert!(crate::limits::HOME_FILE_BYTES_MAX == 64 << 20);

//! Errors of reading and editing a home.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::domain::io_reason::io_reason;
use crate::domain::suggestion::Suggestion;

/// A fault in a home. Contains no password and no hash.
#[derive(Debug, Error)]
pub enum HomeError {
    /// There is no directory at the path of the home.
    #[error("{home}: no such directory; 'tidegate init {home}' creates a home", home = .0.display())]
    NoHome(PathBuf),
    /// The path of the home leads to a file.
    #[error(
        "{}: not a directory; a home is the directory that contains Credentials and Directories",
        .0.display()
    )]
    HomeIsFile(PathBuf),
    /// The directory has neither of the two files.
    #[error(
        "{home}: not a home, since it has no Credentials and no Directories; 'tidegate init \
         {home}' creates them",
        home = .0.display()
    )]
    NotAHome(PathBuf),
    /// One of the two files is missing.
    #[error("{}: no such file; restore it, or create an empty one", .file.display())]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// One of the two files cannot be read.
    #[error(
        "{}: cannot read the file: {}{}",
        .file.display(), io_reason(.source), advice(.source).replace("of the home", "of the file")
    )]
    Read {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// One of the two files is a directory, a FIFO or a device.
    #[error("{}: not a regular file; replace it by one", .file.display())]
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
    #[error("{}: the home exists already; 'tidegate user add' adds users to it", .0.display())]
    HomeExists(PathBuf),
    /// The user exists already.
    #[error("user '{0}' exists already; 'tidegate user passwd' changes the password")]
    UserExists(String),
    /// The user does not exist.
    #[error(
        "there is no user '{user}'{suggestion}; 'tidegate user list {}' lists them",
        .home.display()
    )]
    NoSuchUser {
        /// The user.
        user: String,
        /// An existing user of a similar name.
        suggestion: Suggestion,
        /// The home.
        home: PathBuf,
    },
    /// The user has no own grant of this directory.
    #[error(
        "there is no grant of '{directory}' to '{user}'{suggestion}; 'tidegate user list {}' \
         lists them",
        .home.display()
    )]
    NoSuchGrant {
        /// The user.
        user: String,
        /// The directory's name.
        directory: String,
        /// A directory that is granted to the user, or the user that has the grant.
        suggestion: Suggestion,
        /// The home.
        home: PathBuf,
    },
    /// Another process held the lock for too long.
    #[error("{}: another command is changing the home; try again later", .0.display())]
    Locked(PathBuf),
    /// A system call failed.
    #[error("cannot {action} {}: {}{}", .path.display(), io_reason(.source), advice(.source))]
    Io {
        /// The action that failed: a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl EditError {
    /// Reports a missing user, with the closest of `users` as a suggestion.
    pub fn no_such_user<'a>(
        home: &Path,
        user: &str,
        users: impl IntoIterator<Item = &'a str>,
    ) -> EditError {
        EditError::NoSuchUser {
            user: user.to_owned(),
            suggestion: Suggestion::new(user, users),
            home: home.to_owned(),
        }
    }
}

/// The next step after a failed system call, if there is an obvious one.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run the command as the owner of the home",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; nothing was changed, make room first"
        }
        _ => "",
    }
}

fn lines(faults: &[HomeError]) -> String {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

const _: () = assert!(crate::limits::HOME_FILE_BYTES_MAX == 64 << 20);

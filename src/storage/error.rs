//! Errors of this layer: a code for the client and, where the server is at fault, the cause for the
//! operator's log.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::domain::error::ErrorCode;
use crate::kernel::errors;

/// A refused or failed operation.
#[derive(Debug, Error)]
#[error("{code:?}")]
pub struct StorageError {
    /// The reason that the client learns.
    pub code: ErrorCode,
    /// The cause for the log; `None` where the client alone is at fault.
    #[source]
    pub fault: Option<FileFault>,
}

/// A system call that failed on a file or directory.
#[derive(Debug, Error)]
#[error("{operation} {}: {source}", path.display())]
pub struct FileFault {
    /// The attempted operation: `opening`, `writing`, …
    pub operation: &'static str,
    /// The path. The part below the granted directory is the client's: escape it in the log.
    pub path: PathBuf,
    /// The kernel's error.
    pub source: io::Error,
}

impl FileFault {
    /// Whether the process or the system has no descriptor left.
    pub fn is_out_of_descriptors(&self) -> bool {
        errors::is_out_of_descriptors(&self.source)
    }
}

impl StorageError {
    /// Whether a path led to another file system, which the event loop does not enter: a worker has
    /// to repeat the call.
    pub fn is_elsewhere(&self) -> bool {
        (self.fault.as_ref()).is_some_and(|fault| errors::crosses_devices(&fault.source))
    }
}

impl From<ErrorCode> for StorageError {
    fn from(code: ErrorCode) -> StorageError {
        StorageError { code, fault: None }
    }
}

impl StorageError {
    /// An error with a cause for the log.
    pub(super) fn with_fault(
        code: ErrorCode,
        operation: &'static str,
        path: PathBuf,
        source: io::Error,
    ) -> StorageError {
        let fault = FileFault {
            operation,
            path,
            source,
        };
        StorageError {
            code,
            fault: Some(fault),
        }
    }

    /// The error for a directory that cannot be opened.
    pub(super) fn opening_directory(path: PathBuf, error: io::Error) -> StorageError {
        match errors::is_absent(&error) {
            true => StorageError::absent(ErrorCode::NoSuchDirectory, path, error),
            false => {
                StorageError::with_fault(ErrorCode::DirectoryUnreadable, "opening", path, error)
            }
        }
    }

    /// The error for a directory of which a part cannot be counted.
    pub(super) fn uncounted(fault: FileFault) -> StorageError {
        StorageError {
            code: ErrorCode::DirectoryUnreadable,
            fault: Some(fault),
        }
    }

    /// The error for a path that leads to nothing. The cause is kept only for
    /// [`StorageError::is_elsewhere`].
    pub(super) fn absent(code: ErrorCode, path: PathBuf, error: io::Error) -> StorageError {
        match errors::crosses_devices(&error) {
            true => StorageError::with_fault(code, "opening", path, error),
            false => code.into(),
        }
    }

    /// The error for something that cannot be created, written, renamed or removed.
    pub(super) fn writing(
        operation: &'static str,
        path: PathBuf,
        error: io::Error,
    ) -> StorageError {
        use io::ErrorKind::{FileTooLarge, InvalidFilename, QuotaExceeded, StorageFull};
        let code = match error.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => ErrorCode::NoSpace,
            // Some file systems take names of fewer than 255 bytes.
            InvalidFilename => return ErrorCode::InvalidName.into(),
            _ => ErrorCode::FileUnwritable,
        };
        StorageError::with_fault(code, operation, path, error)
    }
}

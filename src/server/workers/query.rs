//! Requests that look at files and change nothing. The event loop answers them where it may call
//! the device, a worker elsewhere.

use std::path::{Path, PathBuf};

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::storage;
use crate::storage::StorageError;

/// A look at files.
pub(crate) enum Query {
    /// The status of a file or directory.
    Status(GrantedPath),
    /// The bytes that can still be written, of which quotas permit `left`.
    Space { path: GrantedPath, left: u64 },
    /// Whether an upload to the path would be accepted. Quotas apply later.
    CheckUpload(GrantedPath),
    /// Whether the file system of the first of these directories that can be opened has room for
    /// `bytes`. It has if none can be opened.
    CheckSpace {
        directories: Vec<PathBuf>,
        /// The directory whose device decides where this runs.
        root: PathBuf,
        bytes: u64,
    },
}

impl Query {
    /// Returns the granted directory in which it looks.
    pub(crate) fn root(&self) -> &Path {
        match self {
            Query::Status(path) | Query::Space { path, .. } | Query::CheckUpload(path) => {
                &path.grant.path
            }
            Query::CheckSpace { root, .. } => root,
        }
    }

    /// Looks at the files.
    pub(crate) fn run<K: Kernel>(&self, kernel: &K) -> Result<Response, StorageError> {
        match self {
            Query::Status(path) => storage::file_status(kernel, path).map(Response::Status),
            Query::Space { path, left } => {
                let space = storage::free_space(kernel, path)?;
                Ok(Response::Space(space.min(*left)))
            }
            Query::CheckUpload(path) => {
                storage::check_upload(kernel, path)?;
                Ok(Response::Allowed)
            }
            Query::CheckSpace {
                directories, bytes, ..
            } => {
                for directory in directories {
                    match storage::check_free_space(kernel, directory, *bytes) {
                        Ok(()) => return Ok(Response::Allowed),
                        Err(error) if error.code == ErrorCode::NoSpace => return Err(error),
                        Err(_) => {}
                    }
                }
                Ok(Response::Allowed)
            }
        }
    }
}

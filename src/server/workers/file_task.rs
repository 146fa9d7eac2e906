//! Tasks on single files: for devices that the event loop does not call, and for uncached pages.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Response};
use crate::kernel::Kernel;
use crate::kernel::devices::Devices;
use crate::server::workers::query::Query;
use crate::storage;
use crate::storage::{CloseFile, OpenFile, StagedUpload, StorageError};

/// A task on one file.
pub(crate) enum FileTask<K: Kernel> {
    Open(Opening<K>),
    /// Closes a file of a device on which that may wait.
    Close(K::File),
    /// Looks at files.
    Query(Query),
    /// Finds out on which device a granted directory is.
    FindDevice(FindDevice),
    /// Reads uncached pages, so that the event loop does not wait for the disk.
    Prefetch(FileRange<K>),
    /// Reads a range into memory.
    Read(FileRange<K>),
    /// Writes bytes of an upload.
    Write(Box<StagedUpload<K>>, Vec<u8>),
}

/// A file to be opened.
pub(crate) struct Opening<K: Kernel> {
    pub(crate) path: GrantedPath,
    /// The file that was open under this path.
    pub(crate) known: Option<Arc<OpenFile<K>>>,
    pub(crate) devices: Arc<Devices>,
    pub(crate) close: CloseFile<K>,
    /// What the file is opened for.
    pub(crate) purpose: Purpose,
}

/// A granted directory whose device is to be found.
pub(crate) struct FindDevice {
    pub(crate) path: PathBuf,
    pub(crate) devices: Arc<Devices>,
}

/// What a file is opened for.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Download,
    /// The checksum of the bytes from `start` to `end`, or to the end of the file.
    Checksum {
        algorithm: Algorithm,
        start: u64,
        end: Option<u64>,
    },
}

/// A range of a file that a download needs next.
pub(crate) struct FileRange<K: Kernel> {
    pub(crate) file: Arc<OpenFile<K>>,
    pub(crate) offset: u64,
    pub(crate) count: usize,
}

/// A range of a file that is ready to be sent.
pub(crate) enum Fetched {
    /// It is in the page cache.
    Cached,
    /// These are its first bytes, at least one.
    Bytes(Vec<u8>),
}

/// The result of an [`Opening`].
pub(crate) struct Opened<K: Kernel> {
    pub(crate) path: GrantedPath,
    pub(crate) purpose: Purpose,
    pub(crate) result: Result<Arc<OpenFile<K>>, StorageError>,
}

/// The result of a [`FileTask`].
pub(crate) enum FileResult<K: Kernel> {
    Opened(Opened<K>),
    Closed,
    Queried(Result<Response, StorageError>),
    /// A granted directory was opened, or cannot be.
    DeviceFound(PathBuf),
    Fetched(io::Result<Fetched>),
    /// A failed upload is lost.
    Written(Result<Box<StagedUpload<K>>, StorageError>),
}

impl<K: Kernel> FileTask<K> {
    pub(super) fn run(self, kernel: &K) -> FileResult<K> {
        match self {
            FileTask::Open(opening) => {
                let result = opening.run(kernel);
                let Opening { path, purpose, .. } = opening;
                FileResult::Opened(Opened {
                    path,
                    purpose,
                    result,
                })
            }
            FileTask::Close(file) => {
                drop(file);
                FileResult::Closed
            }
            FileTask::Query(query) => FileResult::Queried(query.run(kernel)),
            FileTask::FindDevice(FindDevice { path, devices }) => {
                storage::find_device(kernel, &path, &devices);
                FileResult::DeviceFound(path)
            }
            FileTask::Prefetch(range) => {
                let result = range.file.prefetch(kernel, range.offset, range.count);
                FileResult::Fetched(result.map(|()| Fetched::Cached))
            }
            FileTask::Read(range) => FileResult::Fetched(range.read(kernel).map(Fetched::Bytes)),
            FileTask::Write(mut staged, bytes) => {
                FileResult::Written(staged.write(&bytes).map(|()| staged))
            }
        }
    }
}

impl<K: Kernel> Opening<K> {
    fn run(&self, kernel: &K) -> Result<Arc<OpenFile<K>>, StorageError> {
        let known = self.known.clone();
        storage::open_file(kernel, &self.path, &self.devices, known, &self.close)
    }
}

impl<K: Kernel> FileRange<K> {
    /// Reads the first bytes of the range, at least one.
    ///
    /// # Errors
    /// Those of the read; `UnexpectedEof` if the file has become shorter.
    fn read(&self, kernel: &K) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.count];
        let mut filled = 0;
        while filled < self.count {
            let at = self.offset + filled as u64;
            match kernel.read_at(self.file.file(), &mut bytes[filled..], at)? {
                0 if filled == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => break,
                read => filled += read,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

//! Files opened for downloads and checksums.

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::Algorithm;
use crate::kernel::Kernel;
use crate::server::log::escape::escape_path;
use crate::server::session_id::SessionId;
use crate::server::workers::checksum::Checksum;
use crate::storage::{OpenFile, OpenFileCache, StorageError};

/// The files that clients download, opened once for all sessions.
pub(crate) struct OpenFiles<K: Kernel> {
    cache: OpenFileCache<K>,
}

impl<K: Kernel> OpenFiles<K> {
    pub(crate) fn new(kernel: Arc<K>) -> OpenFiles<K> {
        OpenFiles {
            cache: OpenFileCache::new(kernel),
        }
    }

    /// Begins a tick: cached files are compared with their paths again.
    pub(crate) fn begin_tick(&mut self) {
        self.cache.begin_tick();
    }

    /// Opens a file for a download.
    pub(crate) fn open(
        &mut self,
        session_id: SessionId,
        path: &GrantedPath,
        now: Instant,
    ) -> Result<Arc<OpenFile<K>>, StorageError> {
        let file = self.cache.open(path, now)?;
        debug!(
            "session={} event=open path={} length={}",
            session_id.generation,
            escape_path(path),
            file.length()
        );
        Ok(file)
    }

    /// Opens a file for a checksum of the bytes from `start` to `end`, or to the end of the file.
    pub(crate) fn checksum(
        &mut self,
        path: &GrantedPath,
        algorithm: Algorithm,
        start: u64,
        end: Option<u64>,
        now: Instant,
    ) -> Result<Checksum<K>, StorageError> {
        let file = self.cache.open(path, now)?;
        if start.max(end.unwrap_or(0)) > file.length() {
            return Err(ErrorCode::OffsetBeyondEnd.into());
        }
        let log_path = path.grant.path.join(&path.relative);
        Ok(Checksum::new(file, log_path, algorithm, start, end))
    }

    /// Closes files that were not used lately.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.cache.evict_expired(now);
    }

    /// Closes all files without a download, when the process runs out of descriptors.
    pub(crate) fn close_unused(&mut self) {
        self.cache.evict_unused();
    }
}

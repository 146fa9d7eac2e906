//! Files opened for downloads and checksums.

use std::sync::Arc;
use std::time::Instant;

use log::debug;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::{Algorithm, Response};
use crate::kernel::Kernel;
use crate::server::log::escape::escape_path;
use crate::server::service::context::Context;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::{Completion, Handled};
use crate::server::session_id::SessionId;
use crate::server::workers::checksum::Checksum;
use crate::server::workers::job::{Job, Lane, Work};
use crate::storage::{OpenFileCache, StorageError};

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
    ) -> Result<Handled<K>, StorageError> {
        let file = self.cache.open(path, now)?;
        let length = file.length();
        debug!(
            "session={} event=open path={} length={length}",
            session_id.generation,
            escape_path(path),
        );
        let response = Response::Opened { length };
        let handle = OpenHandle::File(file);
        Ok(Handled::Now(Completion::Response(response, handle)))
    }

    /// Starts a job that computes the checksum of the bytes from `start` to `end`, or to the end of
    /// the file.
    pub(crate) fn checksum(
        &mut self,
        session_id: SessionId,
        path: &GrantedPath,
        algorithm: Algorithm,
        (start, end): (u64, Option<u64>),
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        let file = self.cache.open(path, context.now)?;
        if start.max(end.unwrap_or(0)) > file.length() {
            return Err(ErrorCode::OffsetBeyondEnd.into());
        }
        let log_path = path.grant.path.join(&path.relative);
        let checksum = Checksum::new(file, log_path, algorithm, start, end);
        let work = Work::Checksum(checksum);
        let job = Job::owned(session_id, Lane::Processor, work);
        context.workers.submit(job);
        Ok(Handled::Later)
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

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
use crate::server::workers::job::{Job, Task};
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
        let task = Task::Checksum(checksum);
        let lane = context.lane(&path.grant);
        let job = Job::owned(session_id, lane, task);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Home;
    use crate::domain::access::{Grant, Rights};

    #[test]
    fn downloads_and_checksums_check_the_file() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["Credentials", "Directories"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        std::fs::write(folder.path().join("file"), "12345").unwrap();
        let context = Context::for_tests(Home::load(folder.path()).unwrap().0);
        let mut files = OpenFiles::new(context.kernel.clone());
        let path = |relative: &str| GrantedPath {
            grant: Arc::new(Grant {
                name: "Files".to_owned(),
                rights: Rights {
                    read: true,
                    ..Rights::default()
                },
                path: folder.path().to_owned(),
            }),
            relative: relative.to_owned(),
        };
        let session_id = SessionId {
            key: 0,
            generation: 1,
            peer: ([127, 0, 0, 1], 1).into(),
            user: None,
        };
        let opened = files.open(session_id, &path("file"), context.now);
        let Ok(Handled::Now(Completion::Response(Response::Opened { length }, _))) = opened else {
            panic!("not opened");
        };
        assert_eq!(length, 5);
        let missing = files.open(session_id, &path("missing"), context.now);
        assert_eq!(
            missing.err().map(|error| error.code),
            Some(ErrorCode::NoSuchFile)
        );
        for (range, expected) in [
            ((0, None), None),
            ((5, Some(5)), None),
            ((6, None), Some(ErrorCode::OffsetBeyondEnd)),
            ((0, Some(6)), Some(ErrorCode::OffsetBeyondEnd)),
        ] {
            let algorithm = Algorithm::Sha256;
            let begun = files.checksum(session_id, &path("file"), algorithm, range, &context);
            assert_eq!(begun.err().map(|error| error.code), expected, "{range:?}");
        }
        assert_eq!(context.workers.queued(), 2);
    }
}

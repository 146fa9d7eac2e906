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
use crate::server::workers::file_task::{FileTask, Opened, Opening, Purpose};
use crate::server::workers::job::{Job, Lane, Task};
use crate::server::workers::lanes::Workers;
use crate::storage::{OpenFile, OpenFileCache, StorageError};

/// The files that clients download, opened once for all sessions.
pub(crate) struct OpenFiles<K: Kernel> {
    cache: OpenFileCache<K>,
}

impl<K: Kernel> OpenFiles<K> {
    pub(crate) fn new(kernel: Arc<K>, workers: &Workers<K>) -> OpenFiles<K> {
        OpenFiles {
            cache: OpenFileCache::new(kernel, workers.closer()),
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
        path: GrantedPath,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        self.open_for(session_id, path, Purpose::Download, context)
    }

    /// Starts a job that computes the checksum of the bytes from `start` to `end`, or to the end of
    /// the file.
    pub(crate) fn checksum(
        &mut self,
        session_id: SessionId,
        path: GrantedPath,
        algorithm: Algorithm,
        (start, end): (u64, Option<u64>),
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        let purpose = Purpose::Checksum {
            algorithm,
            start,
            end,
        };
        self.open_for(session_id, path, purpose, context)
    }

    /// Opens a file: at once on a device that the event loop may call, else on a worker.
    fn open_for(
        &mut self,
        session_id: SessionId,
        path: GrantedPath,
        purpose: Purpose,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        let root = &path.grant.path;
        let opened = (self.cache).open(&path, || context.device(root), context.now);
        let stats = context.kernel.take_call_stats();
        match &opened {
            Ok(Some(file)) => file.device().record(stats, context.now),
            _ => context.device(root).record(stats, context.now),
        }
        if let Some(file) = opened? {
            return use_file(session_id, &path, purpose, file, context);
        }
        let lane = context.lane(&path.grant);
        let opening = Opening {
            known: self.cache.peek(&path),
            path,
            devices: context.devices.clone(),
            close: self.cache.close().clone(),
            purpose,
        };
        let job = Job::owned(session_id, lane, Task::File(FileTask::Open(opening)));
        context.workers.submit(job);
        Ok(Handled::Later)
    }

    /// Takes a file that a worker has opened.
    pub(crate) fn finish_open(
        &mut self,
        session_id: SessionId,
        opened: Opened<K>,
        context: &Context<K>,
    ) -> Result<Handled<K>, StorageError> {
        let (path, file) = (opened.path, opened.result?);
        self.cache.add(&path, file.clone(), context.now);
        use_file(session_id, &path, opened.purpose, file, context)
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

/// Responds with an open file, or starts the job that it was opened for.
fn use_file<K: Kernel>(
    session_id: SessionId,
    path: &GrantedPath,
    purpose: Purpose,
    file: Arc<OpenFile<K>>,
    context: &Context<K>,
) -> Result<Handled<K>, StorageError> {
    let length = file.length();
    match purpose {
        Purpose::Download => {
            debug!(
                "session={} event=open path={} length={length}",
                session_id.generation,
                escape_path(path),
            );
            let response = Response::Opened { length };
            let handle = OpenHandle::File(file);
            Ok(Handled::Now(Completion::Response(response, handle)))
        }
        Purpose::Checksum {
            algorithm,
            start,
            end,
        } => {
            if start.max(end.unwrap_or(0)) > length {
                return Err(ErrorCode::OffsetBeyondEnd.into());
            }
            let log_path = path.full_path();
            let lane = Lane::Device(file.device().clone());
            let checksum = Checksum::new(file, log_path, algorithm, start, end);
            let job = Job::owned(session_id, lane, Task::Checksum(checksum));
            context.workers.submit(job);
            Ok(Handled::Later)
        }
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
        let mut files = OpenFiles::new(context.kernel.clone(), &context.workers);
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
        let opened = files.open(session_id, path("file"), &context);
        let Ok(Handled::Now(Completion::Response(Response::Opened { length }, _))) = opened else {
            panic!("not opened");
        };
        assert_eq!(length, 5);
        let missing = files.open(session_id, path("missing"), &context);
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
            let begun = files.checksum(session_id, path("file"), algorithm, range, &context);
            assert_eq!(begun.err().map(|error| error.code), expected, "{range:?}");
        }
        assert_eq!(context.workers.queued(), 2);
    }
}

//! What becomes of the sessions that wait for a device which does not answer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::error::ErrorCode;
use crate::domain::listing::ListingTarget;
use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::SYNC_BYTES_PER_SECOND;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::{FileResult, FileTask};
use crate::server::workers::job::{Job, JobResult, Lane, Task};
use crate::server::workers::owned_jobs::CancelKey;
use crate::server::workers::query::Query;
use crate::storage;
use crate::storage::{Modification, StorageError};

/// How a session is answered whose job is given up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// No session waits.
    Nothing,
    Response(SessionId, ErrorCode),
    Listed(u64),
    Published(SessionId),
    Fetched(SessionId),
    Written(SessionId),
}

impl Answer {
    pub(super) fn is_nothing(self) -> bool {
        matches!(self, Answer::Nothing)
    }

    pub(super) fn is_published(self) -> bool {
        matches!(self, Answer::Published(_))
    }

    /// The result for the event loop. It carries no fault: the log has one line for the device.
    pub(super) fn into_timeout<K: Kernel>(self) -> Option<JobResult<K>> {
        Some(match self {
            Answer::Nothing => return None,
            Answer::Response(owner, code) => JobResult::Response {
                owner: Some(owner),
                result: Err(code.into()),
                modifies: false,
            },
            Answer::Listed(id) => JobResult::Listed {
                id,
                result: Err(StorageError::from(ErrorCode::FileUnreadable).into()),
            },
            Answer::Published(session_id) => JobResult::Published {
                session_id,
                result: Err(ErrorCode::FileUnwritable.into()),
            },
            Answer::Fetched(owner) => JobResult::File {
                owner: Some(owner),
                result: FileResult::Fetched(Err(io::ErrorKind::TimedOut.into())),
            },
            Answer::Written(owner) => JobResult::File {
                owner: Some(owner),
                result: FileResult::Written(Err(ErrorCode::FileUnwritable.into())),
            },
        })
    }
}

impl<K: Kernel> Job<K> {
    /// Returns how the waiting session is answered if the job is given up.
    pub(super) fn answer(&self) -> Answer {
        if self.is_cleanup {
            return Answer::Nothing;
        }
        let owner = self.owner;
        let respond = |code| owner.map_or(Answer::Nothing, |owner| Answer::Response(owner, code));
        match &self.task {
            Task::List(job) => Answer::Listed(job.id),
            Task::Create(_)
            | Task::CreateUnique(_)
            | Task::Copy(_)
            | Task::MakeDirectory(..)
            | Task::Modify(_) => respond(ErrorCode::FileUnwritable),
            Task::Publish(publication) => Answer::Published(publication.session_id),
            Task::Checksum(_) => respond(ErrorCode::FileUnreadable),
            Task::File(task) => match task {
                FileTask::Open(_) | FileTask::Query(Query::Status(_) | Query::Space { .. }) => {
                    respond(ErrorCode::FileUnreadable)
                }
                FileTask::Query(Query::CheckUpload(_) | Query::CheckSpace { .. }) => {
                    respond(ErrorCode::FileUnwritable)
                }
                FileTask::Prefetch(_) | FileTask::Read(_) => {
                    owner.map_or(Answer::Nothing, Answer::Fetched)
                }
                FileTask::Write(..) => owner.map_or(Answer::Nothing, Answer::Written),
                FileTask::Close(_) | FileTask::FindDevice(_) => Answer::Nothing,
            },
            Task::Discard(_)
            | Task::SweepOrphans(_)
            | Task::Count(_)
            | Task::Probe(_)
            | Task::Reload(_) => Answer::Nothing,
        }
    }

    /// Returns what cancels the job.
    pub(super) fn cancel_key(&self) -> Option<CancelKey> {
        match (&self.task, self.owner) {
            _ if self.is_cleanup => None,
            (_, Some(owner)) => Some(CancelKey::Session(owner.generation)),
            (Task::List(job), None) => Some(CancelKey::Listing(job.id)),
            _ => None,
        }
    }

    /// Returns the path that the job works on, for the log and for a probe of its device. It is
    /// empty where the job works on none.
    pub(super) fn path(&self) -> PathBuf {
        match &self.task {
            Task::List(job) => match &job.target {
                ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => {
                    path.full_path()
                }
                ListingTarget::Top { .. } => PathBuf::new(),
            },
            Task::Create(creation) | Task::CreateUnique(creation) => creation.path.full_path(),
            Task::MakeDirectory(path, _) => path.full_path(),
            Task::Copy(upload) | Task::Discard(upload) => upload.path().to_owned(),
            Task::Publish(publication) => publication.upload.path().to_owned(),
            Task::Modify(pending) => pending.modification().path().full_path(),
            Task::Checksum(checksum) => checksum.path().to_owned(),
            Task::File(task) => file_task_path(task),
            Task::SweepOrphans(sweep) => sweep.root().to_owned(),
            Task::Count(count) => count.root().to_owned(),
            Task::Probe(path) => path.clone(),
            Task::Reload(reload) => reload.home.path().to_owned(),
        }
    }

    /// Returns the lane of a job in a granted directory once it is known on which device its path
    /// is; `None` if the lane is right.
    pub(super) fn settled_lane(&self, kernel: &K) -> Option<Lane> {
        let Lane::Granted { device, beyond } = &self.lane else {
            return None;
        };
        // A network file system that is mounted in another one hangs with it.
        let leads_beyond = device.is_local()
            && (self.lists_mount(kernel)
                || (self.granted_paths().into_iter().flatten())
                    .any(|path| storage::leads_beyond(kernel, path)));
        leads_beyond.then(|| Lane::Device(beyond.clone()))
    }

    /// Whether a listing needs the status of a file system that is mounted in its directory.
    fn lists_mount(&self, kernel: &K) -> bool {
        let Task::List(job) = &self.task else {
            return false;
        };
        match &job.target {
            ListingTarget::Top { .. } => false,
            ListingTarget::Directory(path) => kernel.holds_mount(&path.full_path()),
            ListingTarget::Path { path, glob, .. } => {
                let path = path.full_path();
                let above = path.parent().filter(|_| *glob);
                kernel.holds_mount(&path) || above.is_some_and(|above| kernel.holds_mount(above))
            }
        }
    }

    /// Returns the paths of which a look-up may cross a mount point.
    fn granted_paths(&self) -> [Option<&GrantedPath>; 2] {
        match &self.task {
            Task::List(job) => match &job.target {
                ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => {
                    [Some(path), None]
                }
                ListingTarget::Top { .. } => [None, None],
            },
            Task::Create(creation) | Task::CreateUnique(creation) => [Some(&creation.path), None],
            Task::MakeDirectory(path, _) => [Some(path), None],
            Task::Modify(pending) => match pending.modification() {
                Modification::Rename { from, to } => [Some(from), Some(to)],
                modification => [Some(modification.path()), None],
            },
            Task::File(FileTask::Open(opening)) => [Some(&opening.path), None],
            Task::File(FileTask::Query(
                Query::Status(path) | Query::Space { path, .. } | Query::CheckUpload(path),
            )) => [Some(path), None],
            _ => [None, None],
        }
    }

    /// Returns how much longer than the disk timeout one call of the job may take.
    pub(super) fn extra_patience(&self) -> Duration {
        match &self.task {
            // fsync(2) writes the whole file to the disk in one call.
            Task::Publish(publication) => {
                let seconds = publication.upload.length() / SYNC_BYTES_PER_SECOND;
                Duration::from_secs(seconds)
            }
            _ => Duration::ZERO,
        }
    }

    /// Whether dropping the job may wait for the disk.
    pub(super) fn holds_file(&self) -> bool {
        matches!(
            self.task,
            Task::Copy(_)
                | Task::Discard(_)
                | Task::Publish(_)
                | Task::File(FileTask::Write(..) | FileTask::Close(_))
        )
    }
}

impl<K: Kernel> JobResult<K> {
    /// Returns the notice, for no session, that files or directories may have changed.
    pub(super) fn modification(&self) -> Option<JobResult<K>> {
        let modifies = match self {
            JobResult::Response { modifies, .. } => *modifies,
            JobResult::Published { .. } => true,
            _ => false,
        };
        modifies.then(|| JobResult::Response {
            owner: None,
            result: Ok(Response::Done.into()),
            modifies,
        })
    }
}

fn file_task_path<K: Kernel>(task: &FileTask<K>) -> PathBuf {
    match task {
        FileTask::Open(opening) => opening.path.full_path(),
        FileTask::Query(
            Query::Status(path) | Query::Space { path, .. } | Query::CheckUpload(path),
        ) => path.full_path(),
        FileTask::Query(Query::CheckSpace { directories, .. }) => {
            directories.first().cloned().unwrap_or_default()
        }
        FileTask::FindDevice(find) => find.path.clone(),
        FileTask::Prefetch(range) | FileTask::Read(range) => range.file.path().to_owned(),
        FileTask::Write(staged, _) => staged.path().to_owned(),
        FileTask::Close(_) => PathBuf::new(),
    }
}

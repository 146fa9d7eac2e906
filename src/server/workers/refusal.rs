//! What becomes of the sessions that wait for a device which does not answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::error::ErrorCode;
use crate::domain::listing::ListingTarget;
use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::SYNC_BYTES_PER_SECOND;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::{FileResult, FileTask};
use crate::server::workers::job::{Job, JobResult, Task};
use crate::server::workers::query::Query;

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
                result: Err(ErrorCode::FileUnreadable.into()),
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

/// Where a job works.
#[derive(Clone, Debug, Default)]
pub(super) struct Workplace {
    /// For the log.
    pub(super) path: PathBuf,
    /// A directory on the same device, to probe it.
    pub(super) directory: PathBuf,
}

impl Workplace {
    fn in_grant(path: &GrantedPath) -> Workplace {
        Workplace {
            path: path.full_path(),
            directory: path.grant.path.clone(),
        }
    }

    fn of_file(path: &Path) -> Workplace {
        Workplace {
            path: path.to_owned(),
            directory: path.parent().unwrap_or(path).to_owned(),
        }
    }

    fn of_task<K: Kernel>(task: &FileTask<K>) -> Workplace {
        match task {
            FileTask::Open(opening) => Workplace::in_grant(&opening.path),
            FileTask::Query(
                Query::Status(path) | Query::Space { path, .. } | Query::CheckUpload { path, .. },
            ) => Workplace::in_grant(path),
            FileTask::Query(Query::CheckSpace { directories, .. }) => {
                let first = directories.first();
                first.map_or_else(Workplace::default, |path| Workplace::of_directory(path))
            }
            FileTask::FindDevice(find) => Workplace::of_directory(&find.path),
            FileTask::Prefetch(range) | FileTask::Read(range) => {
                Workplace::of_file(range.file.path())
            }
            FileTask::Write(staged, _) => Workplace::of_file(staged.path()),
            FileTask::Close(_) => Workplace::default(),
        }
    }

    fn of_directory(path: &Path) -> Workplace {
        Workplace {
            path: path.to_owned(),
            directory: path.to_owned(),
        }
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
            | Task::MakeDirectory(_)
            | Task::Modify(_) => respond(ErrorCode::FileUnwritable),
            Task::Publish(publication) => Answer::Published(publication.session_id),
            Task::Checksum(_) => respond(ErrorCode::FileUnreadable),
            Task::File(task) => match task {
                FileTask::Open(_) | FileTask::Query(Query::Status(_) | Query::Space { .. }) => {
                    respond(ErrorCode::FileUnreadable)
                }
                FileTask::Query(Query::CheckUpload { .. } | Query::CheckSpace { .. }) => {
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

    /// Returns where the job works.
    pub(super) fn workplace(&self) -> Workplace {
        match &self.task {
            Task::List(job) => match &job.target {
                ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => {
                    Workplace::in_grant(path)
                }
                ListingTarget::Top { .. } => Workplace::default(),
            },
            Task::Create(creation) | Task::CreateUnique(creation) => {
                Workplace::in_grant(&creation.path)
            }
            Task::MakeDirectory(path) => Workplace::in_grant(path),
            Task::Copy(upload) | Task::Discard(upload) => Workplace::of_file(upload.path()),
            Task::Publish(publication) => Workplace::of_file(publication.upload.path()),
            Task::Modify(pending) => Workplace::in_grant(pending.modification().path()),
            Task::Checksum(checksum) => Workplace::of_file(checksum.path()),
            Task::File(task) => Workplace::of_task(task),
            Task::SweepOrphans(sweep) => Workplace::of_directory(sweep.root()),
            Task::Count(count) => Workplace::of_directory(count.root()),
            Task::Probe(directory) => Workplace::of_directory(directory),
            Task::Reload(reload) => Workplace::of_directory(reload.home.path()),
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

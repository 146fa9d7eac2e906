//! Jobs: work that would block the event loop, as values that a worker runs.
//!
//! A job states its lane and its owner as data, so that the queues are independent of its task.
//! Long jobs run in slices and return to the end of their queue between two slices. During a slice
//! they check by their [`JobToken`] whether they are cancelled.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use log::{debug, info, warn};
use zeroize::Zeroizing;

use crate::auth::account::Account;
use crate::auth::phc::Cost;
use crate::auth::verified_cache::PasswordTag;
use crate::auth::verifier::Verifier;
use crate::config::Home;
use crate::config::reload::ReloadOutcome;
use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::domain::step::Step;
use crate::kernel::Kernel;
use crate::kernel::devices::{Device, Devices};
use crate::server::log::escape::{Escaped, escape_path};
use crate::server::log::transfer_log::TransferRecord;
use crate::server::policy::login_queue::LoginOrigin;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::checksum::Checksum;
use crate::server::workers::file_task::{FileRange, FileResult, FileTask};
use crate::server::workers::listing::{Listing, ListingError, ListingJob};
use crate::server::workers::token::JobToken;
use crate::storage;
use crate::storage::{
    FileFault, Modification, OrphanSweep, PendingModification, QuotaReservation, StagedUpload,
    StorageError, UploadSpec, UsageScan,
};

/// A unit of work for a worker thread.
pub(crate) struct Job<K: Kernel> {
    /// The queue that the job waits in.
    pub(super) lane: Lane,
    /// The session whose end cancels the job; `None` for work that is finished in any case.
    pub(super) owner: Option<SessionId>,
    /// Who the time of the lane is charged to.
    pub(super) share: Share,
    pub(super) task: Task<K>,
    /// The task is only to be dropped.
    pub(super) is_cleanup: bool,
}

/// A part of a lane's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Share {
    /// Of a user.
    User(UserKey),
    /// Of all work that belongs to no user.
    Common,
    /// Of sweeps and counts.
    Background,
}

/// The resource that a job waits for.
#[derive(Clone, Debug)]
pub(crate) enum Lane {
    /// A device: its users take turns, each with its jobs in the order of submission.
    Device(Arc<Device>),
    /// The device of a granted directory, or the stand-in for all devices `beyond` the mount points
    /// in it, if the path of the task leads there.
    Granted {
        device: Arc<Device>,
        beyond: Arc<Device>,
    },
    /// A device, for work that no session waits for: one job at a time, at a lower priority.
    Background(Arc<Device>),
    /// Reloads of the configuration, which wait for nothing else.
    Reload,
}

/// The work of a job.
pub(crate) enum Task<K: Kernel> {
    List(Box<ListingJob>),
    Create(Creation),
    /// Creates an upload with a generated name in the directory at the path.
    CreateUnique(Creation),
    /// Copies the existing file that an upload appends to or resumes, in slices.
    Copy(Box<StagedUpload<K>>),
    /// Makes an upload durable and gives it its name.
    Publish(Publication<K>),
    /// Drops an unfinished upload: freeing its pages can take long.
    Discard(Box<StagedUpload<K>>),
    /// Opens, reads, writes or looks at a file.
    File(FileTask<K>),
    MakeDirectory(GrantedPath, QuotaReservation),
    /// Renames, removes or touches a file, in slices where a tree has to be walked for a quota.
    Modify(Box<PendingModification<K>>),
    Checksum(Checksum<K>),
    /// Removes the temporary files that a crash left in one granted directory, in slices.
    SweepOrphans(OrphanSweep<K>),
    /// Counts the bytes of one directory for a quota, in slices.
    Count(UsageScan<K>),
    /// Tries whether the device of a path answers.
    Probe(PathBuf),
    Reload(Reload),
}

/// A configuration to be read again.
pub(crate) struct Reload {
    pub(crate) home: Arc<Home>,
    pub(crate) devices: Arc<Devices>,
}

/// An upload to be created, within the quotas of its user.
pub(crate) struct Creation {
    pub(crate) path: GrantedPath,
    pub(crate) spec: UploadSpec,
    pub(crate) reservation: QuotaReservation,
    pub(crate) devices: Arc<Devices>,
}

/// A complete upload, and the session that waits for it to be published.
pub(crate) struct Publication<K: Kernel> {
    pub(super) session_id: SessionId,
    pub(super) upload: Box<StagedUpload<K>>,
    record: Option<Box<TransferRecord>>,
}

/// A login whose password is to be checked. Not a [`Job`]: it has a queue with an order of its own.
pub(crate) struct PasswordCheck {
    /// Identifies equal logins, which are checked once.
    pub(crate) tag: PasswordTag,
    /// That of the first login.
    pub(crate) origin: LoginOrigin,
    pub(crate) account: Arc<Account>,
    /// Whether the account exists; if not, `account` carries only the username.
    pub(crate) is_known: bool,
    /// Where usernames are hidden, the cost that every check is to have.
    pub(crate) hidden: Option<Cost>,
    pub(crate) password: Zeroizing<Vec<u8>>,
}

/// The result of a job, for the event loop.
pub(crate) enum JobResult<K: Kernel> {
    /// The response to a request of the owner; shared by all simple jobs.
    Response {
        owner: Option<SessionId>,
        result: Result<Success<K>, StorageError>,
        /// Whether files or directories may have changed, so that cached listings are out of date.
        modifies: bool,
    },
    File {
        owner: Option<SessionId>,
        result: FileResult<K>,
    },
    PasswordChecked {
        check: PasswordCheck,
        is_correct: bool,
    },
    Listed {
        id: u64,
        result: Result<Listing, ListingError>,
    },
    Published {
        session_id: SessionId,
        result: Result<(), StorageError>,
    },
    Reloaded(Box<ReloadOutcome>),
    /// A directory is counted, or cannot be counted as long as its device is stuck. With a fault,
    /// parts of it cannot be read.
    Counted(Option<FileFault>),
}

/// A response, with the upload that the request created, if any.
pub(crate) struct Success<K: Kernel> {
    pub(crate) response: Response,
    pub(crate) upload: Option<Box<StagedUpload<K>>>,
}

impl<K: Kernel> Success<K> {
    fn created(upload: Box<StagedUpload<K>>) -> Success<K> {
        Success {
            response: Response::Created,
            upload: Some(upload),
        }
    }
}

impl<K: Kernel> From<Response> for Success<K> {
    fn from(response: Response) -> Success<K> {
        Success {
            response,
            upload: None,
        }
    }
}

/// The result of one slice of a job.
pub(super) enum Ran<K: Kernel> {
    /// More work is left: the job returns to the end of its queue.
    Again(Job<K>),
    /// The job is done; `None` if the event loop need not know.
    Finished(Option<JobResult<K>>),
}

impl<K: Kernel> Job<K> {
    /// A job that is cancelled when its session ends.
    pub(crate) fn owned(owner: SessionId, lane: Lane, task: Task<K>) -> Job<K> {
        Job {
            owner: Some(owner),
            ..Job::for_user(owner.user, lane, task)
        }
    }

    /// A job that is done whatever happens to the session that it is for.
    pub(crate) fn detached(lane: Lane, task: Task<K>) -> Job<K> {
        Job::for_user(None, lane, task)
    }

    /// The same, with its time charged to a user.
    pub(crate) fn for_user(user: Option<UserKey>, lane: Lane, task: Task<K>) -> Job<K> {
        let share = match &lane {
            Lane::Background(_) => Share::Background,
            _ => user.map_or(Share::Common, Share::User),
        };
        Job {
            lane,
            owner: None,
            share,
            task,
            is_cleanup: false,
        }
    }

    /// A job that makes a complete upload durable and gives it its name, even if its session ends.
    pub(crate) fn publish(
        session_id: SessionId,
        upload: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
    ) -> Job<K> {
        let lane = Lane::Device(upload.device().clone());
        let publication = Publication {
            session_id,
            upload,
            record,
        };
        Job::for_user(session_id.user, lane, Task::Publish(publication))
    }

    /// A job that drops an unfinished upload.
    pub(crate) fn discard(upload: Box<StagedUpload<K>>) -> Job<K> {
        let lane = Lane::Device(upload.device().clone());
        Job::detached(lane, Task::Discard(upload))
    }

    /// A job that reads uncached pages.
    pub(crate) fn prefetch(id: SessionId, range: FileRange<K>) -> Job<K> {
        let lane = Lane::Device(range.file.device().clone());
        Job::owned(id, lane, Task::File(FileTask::Prefetch(range)))
    }

    /// A job that reads a range into memory.
    pub(crate) fn read(id: SessionId, range: FileRange<K>) -> Job<K> {
        let lane = Lane::Device(range.file.device().clone());
        Job::owned(id, lane, Task::File(FileTask::Read(range)))
    }

    /// A job that writes bytes of an upload.
    pub(crate) fn write(id: SessionId, staged: Box<StagedUpload<K>>, bytes: Vec<u8>) -> Job<K> {
        let lane = Lane::Device(staged.device().clone());
        Job::owned(id, lane, Task::File(FileTask::Write(staged, bytes)))
    }

    /// A job that tries whether a device answers.
    pub(super) fn probe(device: Arc<Device>, path: PathBuf) -> Job<K> {
        Job::detached(Lane::Device(device), Task::Probe(path))
    }

    /// Returns the job that drops the task of this one, which was cancelled.
    pub(super) fn into_cleanup(self) -> Job<K> {
        Job {
            owner: None,
            share: Share::Common,
            is_cleanup: true,
            ..self
        }
    }

    /// Returns the device that the job waits for, if any.
    pub(super) fn device(&self) -> Option<&Arc<Device>> {
        match &self.lane {
            Lane::Device(device) | Lane::Granted { device, .. } | Lane::Background(device) => {
                Some(device)
            }
            Lane::Reload => None,
        }
    }

    /// Runs the job, or one slice of it.
    pub(super) fn run(self, kernel: &Arc<K>, verifier: &mut Verifier, token: &JobToken) -> Ran<K> {
        if self.is_cleanup {
            return Ran::Finished(None);
        }
        if let Some(lane) = self.settled_lane(&**kernel) {
            return Ran::Again(Job { lane, ..self });
        }
        let Job {
            lane, owner, share, ..
        } = self;
        let again = |task| {
            Ran::Again(Job {
                lane: lane.clone(),
                owner,
                share,
                task,
                is_cleanup: false,
            })
        };
        let respond = |result, modifies| {
            Ran::Finished(Some(JobResult::Response {
                owner,
                result,
                modifies,
            }))
        };
        let finished = |result| Ran::Finished(Some(result));
        let copy = |mut upload: Box<StagedUpload<K>>| match upload.copy_base() {
            Ok(Step::More) => again(Task::Copy(upload)),
            Ok(Step::Done(())) => respond(Ok(Success::created(upload)), false),
            Err(error) => respond(Err(error), false),
        };
        match self.task {
            Task::List(job) => {
                let (id, result) = (job.id, job.run(&**kernel, token));
                finished(JobResult::Listed { id, result })
            }
            Task::Create(creation) => match creation.run(kernel) {
                Ok(upload) => copy(upload),
                Err(error) => respond(Err(error), false),
            },
            Task::CreateUnique(creation) => respond(creation.run_unique(kernel), false),
            Task::Copy(upload) => copy(upload),
            Task::File(task) => {
                let result = task.run(&**kernel);
                finished(JobResult::File { owner, result })
            }
            Task::MakeDirectory(path, reservation) => {
                let result = storage::make_directory(&**kernel, &path, reservation);
                respond(result.map(|()| Response::DirectoryCreated.into()), true)
            }
            Task::Modify(mut pending) => match pending.step(&**kernel) {
                Step::More => again(Task::Modify(pending)),
                Step::Done(result) => {
                    if let (Ok(_), Some(session_id)) = (&result, owner) {
                        log_modification(session_id, &pending.into_modification());
                    }
                    respond(result.map(Success::from), true)
                }
            },
            Task::Checksum(mut checksum) => match checksum.step(&**kernel, token) {
                Step::More => again(Task::Checksum(checksum)),
                Step::Done(result) => respond(result.map(Success::from), false),
            },
            task => task.run_detached(kernel, verifier, token, again),
        }
    }
}

impl<K: Kernel> Task<K> {
    /// Runs a task that no session owns, or one slice of it. `again` makes a job of the rest.
    fn run_detached(
        self,
        kernel: &Arc<K>,
        verifier: &mut Verifier,
        token: &JobToken,
        again: impl FnOnce(Task<K>) -> Ran<K>,
    ) -> Ran<K> {
        let result = match self {
            Task::Publish(publication) => Some(JobResult::Published {
                session_id: publication.session_id,
                result: publication.run(token),
            }),
            Task::SweepOrphans(mut sweep) => match sweep.step(&**kernel) {
                Step::More => return again(Task::SweepOrphans(sweep)),
                Step::Done(()) => {
                    log_sweep(&sweep);
                    None
                }
            },
            Task::Count(mut count) => match count.step(&**kernel) {
                Step::More => return again(Task::Count(count)),
                Step::Done(()) => Some(JobResult::Counted(count.into_fault())),
            },
            Task::Probe(path) => {
                storage::probe(&**kernel, &path);
                None
            }
            Task::Reload(Reload { home, devices }) => {
                let may_look = |path: &Path| devices.may_look(path, &**kernel);
                let reloaded = home.reload(verifier, &may_look);
                Some(JobResult::Reloaded(Box::new(reloaded)))
            }
            dropped => {
                drop(dropped);
                None
            }
        };
        Ran::Finished(result)
    }
}

impl Creation {
    fn run<K: Kernel>(self, kernel: &Arc<K>) -> Result<Box<StagedUpload<K>>, StorageError> {
        let mut upload = storage::create_upload(kernel, &self.path, self.spec)?;
        upload.set_device(&self.devices);
        upload.with_reservation(self.reservation).map(Box::new)
    }

    /// Creates an upload with a generated name in the directory at the path.
    fn run_unique<K: Kernel>(self, kernel: &Arc<K>) -> Result<Success<K>, StorageError> {
        let mut upload = storage::create_unique_upload(kernel, &self.path, self.spec)?;
        upload.set_device(&self.devices);
        let upload = upload.with_reservation(self.reservation)?;
        Ok(Success {
            response: Response::CreatedUnique {
                name: upload.name().to_owned(),
            },
            upload: Some(Box::new(upload)),
        })
    }
}

impl<K: Kernel> Publication<K> {
    /// Makes the upload durable, gives it its name, and logs it.
    fn run(self, token: &JobToken) -> Result<(), StorageError> {
        let (path, length) = (self.upload.path().to_owned(), self.upload.length());
        self.upload.publish_unless(|| token.is_cancelled())?;
        if let Some(mut record) = self.record {
            record.complete();
        }
        let (generation, path) = (self.session_id.generation, path.to_string_lossy());
        let path = Escaped(&path);
        info!("session={generation} event=upload path={path} length={length}");
        Ok(())
    }
}

impl PasswordCheck {
    /// Checks the password. Where usernames are hidden this takes as long for an unknown user as
    /// for a known one.
    pub(super) fn run<K: Kernel>(self, verifier: &mut Verifier) -> JobResult<K> {
        let secret = self.is_known.then_some(&self.account.secret);
        let is_correct = match (self.hidden, secret) {
            (Some(cost), secret) => verifier.verify_hidden(secret, cost, &self.password),
            (None, Some(secret)) => verifier.verify(secret, &self.password),
            (None, None) => false,
        };
        JobResult::PasswordChecked {
            check: self,
            is_correct,
        }
    }
}

fn log_modification(session_id: SessionId, modification: &Modification) {
    let generation = session_id.generation;
    match modification {
        Modification::Rename { from, to } => {
            let (from, to) = (escape_path(from), escape_path(to));
            info!("session={generation} event=rename from={from} to={to}");
        }
        Modification::Remove(path) => {
            let path = escape_path(path);
            info!("session={generation} event=remove path={path}");
        }
        Modification::RemoveDirectory(path) => {
            let path = escape_path(path);
            info!("session={generation} event=remove-directory path={path}");
        }
        Modification::SetModified(path, modified) => {
            let path = escape_path(path);
            debug!("session={generation} event=set-modified path={path} modified={modified}");
        }
    }
}

fn log_sweep<K: Kernel>(sweep: &OrphanSweep<K>) {
    let removed = sweep.removed();
    if removed > 0 {
        info!("event=sweep removed={removed}");
    }
    if let Some(fault) = sweep.fault() {
        warn!("event=fault what={}", Escaped(&fault.to_string()));
    }
}

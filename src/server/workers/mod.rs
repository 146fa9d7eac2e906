//! The helper threads for what would hold the loop up. A job is a value; it runs over the same kernel as the loop, and
//! what came of it is collected by the loop after a wake.
//!
//! Two lanes: jobs that wait for a disk, and jobs that take a processor, all behind the loop in priority. A checksum gives
//! way after each slice, and one thread of the second lane takes logins alone, of addresses from which none has failed, so
//! that neither waits for the other.
//! The queues are bounded by the sessions: each has one job at most, and takes it along when it ends, but for an upload that is
//! to be kept or given up. That one is done before any that a later session begins, since the disk's lane is served in the order in
//! which it was asked: so the uploads that outlive their sessions are about as many as sessions may be, and no more.
//!
//! Must not know: connections, sentences.

pub(crate) mod checksum;
pub(crate) mod listing;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use zeroize::Zeroizing;

use crate::auth::account::Account;
use crate::auth::phc::Cost;
use crate::auth::verified_cache::PasswordTag;
use crate::auth::verifier::Verifier;
use crate::config::Home;
use crate::config::reload::ReloadOutcome;
use crate::domain::path::GrantedPath;
use crate::domain::step::Step as Slice;
use crate::kernel::Kernel;
use crate::server::conn::transfer::UncachedRange;
use crate::server::log::transfer_log::TransferRecord;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::login_queue::LoginQueue;
use crate::server::service::listing_cache::Asked;
use crate::server::session_id::SessionId;
use crate::server::workers::checksum::Checksum;
use crate::server::workers::listing::Listing;
use crate::storage;
use crate::storage::{
    FileFault, Modification, OrphanSweep, PendingModification, QuotaReservation, StagedUpload,
    StorageError, UploadSpec, UsageScan,
};

/// What one thread may do while the loop goes on.
pub(crate) enum Job<K: Kernel> {
    /// Prove a password.
    Verify(PasswordCheck),
    List(Asked),
    Create {
        session_id: SessionId,
        place: GrantedPath,
        wanted: UploadSpec,
        claim: QuotaReservation,
    },
    /// Make a file ready under a name that nobody has.
    CreateUnique {
        session_id: SessionId,
        directory: GrantedPath,
        wanted: UploadSpec,
        claim: QuotaReservation,
    },
    /// Copy a slice of what an upload builds on.
    Fill {
        session_id: SessionId,
        upload: Box<StagedUpload<K>>,
    },
    Commit {
        session_id: SessionId,
        upload: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
    },
    /// Let go of an unfinished upload: giving back its pages can take long.
    Abandon(Box<StagedUpload<K>>),
    MakeDirectory {
        session_id: SessionId,
        place: GrantedPath,
    },
    /// Make a change, a directory a slice where a tree has to be walked for a quota.
    Change {
        session_id: SessionId,
        changing: Box<PendingModification>,
    },
    Checksum(Checksum<K>),
    /// Wait for the disk in the loop's stead.
    WarmUp {
        session_id: SessionId,
        cold: UncachedRange<K>,
    },
    /// Remove what an earlier crash left of uploads beneath one granted directory, a directory a slice.
    SweepLeftovers(OrphanSweep),
    /// Count the bytes of what a quota bounds, a directory a slice.
    Count(UsageScan),
    Reload(Arc<Home>),
}

/// A login to be proved, and afterwards what came of it.
pub(crate) struct PasswordCheck {
    pub(crate) tag: PasswordTag,
    /// From where it was asked for first.
    pub(crate) origin: ClientPrefix,
    /// How many have failed lately from there.
    pub(crate) failures: u32,
    pub(crate) account: Arc<Account>,
    /// Whether there is such a record; if not, the account only carries the name.
    pub(crate) known: bool,
    /// Where usernames are hidden: what every proof is to cost.
    pub(crate) hidden: Option<Cost>,
    pub(crate) password: Zeroizing<Vec<u8>>,
}

/// What came of a job.
pub(crate) enum Done<K: Kernel> {
    Verified {
        proof: PasswordCheck,
        right: bool,
    },
    ListingTarget {
        asked: Asked,
        result: Result<Listing, StorageError>,
    },
    Created {
        session_id: SessionId,
        result: Result<Box<StagedUpload<K>>, StorageError>,
        /// Whether the name was chosen here.
        unique: bool,
    },
    /// One slice more is copied; the loop puts the job back as long as somebody waits for it.
    Filled {
        session_id: SessionId,
        upload: Box<StagedUpload<K>>,
    },
    Committed {
        session_id: SessionId,
        path: PathBuf,
        length: u64,
        result: Result<(), StorageError>,
        record: Option<Box<TransferRecord>>,
    },
    Made {
        session_id: SessionId,
        result: Result<(), StorageError>,
    },
    Changed {
        session_id: SessionId,
        change: Modification,
        result: Result<(), StorageError>,
    },
    /// One slice more is done; the loop puts the job back as long as somebody waits for it.
    Slice(Checksum<K>),
    Checksummed {
        session_id: SessionId,
        result: Result<(Box<[u8]>, u64), StorageError>,
    },
    WarmedUp {
        session_id: SessionId,
        result: io::Result<()>,
    },
    Reloaded(Box<ReloadOutcome>),
    /// A directory has been counted, as far as the fault let it.
    Counted(Option<FileFault>),
    Abandoned,
    /// A granted directory has been walked, as far as it could be.
    Swept(OrphanSweep),
}

/// The threads and their queues.
pub(crate) struct Workers<K: Kernel> {
    shared: Arc<Shared<K>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<K: Kernel> {
    kernel: Arc<K>,
    queues: Mutex<Queues<K>>,
    /// Told of a new job of the first lane, and of the end.
    disk_changed: Condvar,
    /// Told of a new job of the second lane, and of the end.
    hash_changed: Condvar,
    done: Mutex<Vec<Done<K>>>,
}

struct Queues<K: Kernel> {
    disk: VecDeque<Job<K>>,
    logins: LoginQueue<PasswordCheck>,
    slices: VecDeque<Job<K>>,
    stopping: bool,
}

impl<K: Kernel> Queues<K> {
    /// Puts a job into the queue for its kind.
    fn push(&mut self, job: Job<K>) {
        match job {
            Job::Verify(proof) => self.logins.push(proof.origin, proof.failures, proof),
            Job::Checksum(_) | Job::SweepLeftovers(_) | Job::Count(_) | Job::Reload(_) => {
                self.slices.push_back(job);
            }
            _ => self.disk.push_back(job),
        }
    }

    /// The next job for a thread of this kind.
    fn next(&mut self, lane: &mut Lane) -> Option<Job<K>> {
        match lane {
            Lane::Disk => self.disk.pop_front(),
            Lane::LoginQueue => self.logins.pop_unsuspected().map(Job::Verify),
            Lane::Any { slice_next } => {
                let is_slice = std::mem::replace(slice_next, !*slice_next);
                let slice = match is_slice {
                    true => self.slices.pop_front(),
                    false => None,
                };
                slice
                    .or_else(|| self.logins.pop().map(Job::Verify))
                    .or_else(|| self.slices.pop_front())
            }
        }
    }
}

/// Which queues a thread serves.
enum Lane {
    Disk,
    /// LoginQueue of addresses from which none has failed, so that neither guesses nor a long checksum keep them waiting, and
    /// guesses never take all processors.
    LoginQueue,
    /// LoginQueue and slices in turn.
    Any {
        slice_next: bool,
    },
}

impl<K: Kernel> Workers<K> {
    /// Queues without threads: jobs wait until [`Workers::run_nth`] runs them.
    pub(crate) fn without_threads(kernel: Arc<K>) -> Workers<K> {
        Workers {
            shared: Arc::new(Shared {
                kernel,
                queues: Mutex::new(Queues {
                    disk: VecDeque::new(),
                    logins: LoginQueue::new(),
                    slices: VecDeque::new(),
                    stopping: false,
                }),
                disk_changed: Condvar::new(),
                hash_changed: Condvar::new(),
                done: Mutex::new(Vec::new()),
            }),
            threads: Vec::new(),
        }
    }

    /// Starts `disk` threads for the first lane and as many as there are processors, two at least, for the second.
    pub(crate) fn start(kernel: Arc<K>, disk: usize, processors: usize) -> io::Result<Workers<K>> {
        let mut workers = Workers::without_threads(kernel);
        let lanes = (0..disk)
            .map(|_| Lane::Disk)
            .chain([Lane::LoginQueue])
            .chain((1..processors.max(2)).map(|_| Lane::Any { slice_next: false }));
        for lane in lanes {
            let shared = workers.shared.clone();
            let name = match lane {
                Lane::Disk => "disk",
                _ => "hash",
            };
            let thread = std::thread::Builder::new()
                .name(name.into())
                .spawn(move || shared.work(lane))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(crate) fn submit(&self, job: Job<K>) {
        let hashing = job.is_hashing();
        let mut queues = self.shared.queues();
        queues.push(job);
        drop(queues);
        match hashing {
            // Not every thread of this lane takes every job: waking one could wake the wrong one.
            true => self.shared.hash_changed.notify_all(),
            false => self.shared.disk_changed.notify_one(),
        }
    }

    /// Drops the jobs that are still queued and that `gone` picks; logins are dropped by [`Workers::cancel_logins`].
    pub(crate) fn cancel(&self, gone: impl Fn(&Job<K>) -> bool) {
        let mut queues = self.shared.queues();
        let Queues { disk, slices, .. } = &mut *queues;
        for queue in [disk, slices] {
            queue.retain(|job| !gone(job));
        }
    }

    /// Drops the one job that warms up for this session_id, if it is still queued.
    pub(crate) fn cancel_warm_up(&self, session_id: SessionId) {
        let mut queues = self.shared.queues();
        let mut jobs = queues.disk.iter();
        let place = jobs.position(
            |job| matches!(job, Job::WarmUp { session_id: owner, .. } if *owner == session_id),
        );
        if let Some(place) = place {
            queues.disk.remove(place);
        }
    }

    /// Drops the logins that are still queued and that `gone` picks.
    pub(crate) fn cancel_logins(&self, gone: impl Fn(&PasswordCheck) -> bool) {
        self.shared.queues().logins.retain(|proof| !gone(proof));
    }

    /// So many logins have failed lately from an address: those that are still queued wait behind who has failed less.
    pub(crate) fn suspect(&self, origin: ClientPrefix, failures: u32) {
        self.shared.queues().logins.suspect(origin, failures);
    }

    /// Takes back the logins of an address that are still queued.
    pub(crate) fn take_logins(&self, origin: ClientPrefix) -> VecDeque<PasswordCheck> {
        self.shared.queues().logins.take(origin)
    }

    /// What has been done since the last call.
    pub(crate) fn collect(&self, into: &mut Vec<Done<K>>) {
        into.append(&mut lock(&self.shared.done));
    }

    /// How many jobs are queued.
    pub(crate) fn queued(&self) -> usize {
        let queues = self.shared.queues();
        queues.disk.len() + queues.logins.len() + queues.slices.len()
    }

    /// Runs the `n`th queued job on the calling thread: how a simulation lets jobs be late.
    pub(crate) fn run_nth(&self, n: usize) {
        let mut queues = self.shared.queues();
        let (disk, logins) = (queues.disk.len(), queues.logins.len());
        let job = if n < disk {
            queues.disk.remove(n)
        } else if n < disk + logins {
            // They have their own order, which is a matter of the addresses alone.
            queues.logins.pop().map(Job::Verify)
        } else {
            queues.slices.remove(n - disk - logins)
        };
        drop(queues);
        self.shared
            .run(job.expect("n is below queued()"), &mut Verifier::new());
    }
}

impl<K: Kernel> Drop for Workers<K> {
    /// Lets every thread finish the job it is at; what is queued is dropped.
    fn drop(&mut self) {
        self.shared.queues().stopping = true;
        self.shared.disk_changed.notify_all();
        self.shared.hash_changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl<K: Kernel> Shared<K> {
    fn queues(&self) -> MutexGuard<'_, Queues<K>> {
        lock(&self.queues)
    }

    /// A thread's life.
    fn work(&self, mut lane: Lane) {
        // To list a directory takes a processor too.
        self.kernel.lower_priority();
        let changed = match lane {
            Lane::Disk => &self.disk_changed,
            Lane::LoginQueue | Lane::Any { .. } => &self.hash_changed,
        };
        let mut verifier = Verifier::new();
        let mut queues = self.queues();
        while !queues.stopping {
            match queues.next(&mut lane) {
                Some(job) => {
                    drop(queues);
                    self.run(job, &mut verifier);
                    queues = self.queues();
                }
                None => queues = changed.wait(queues).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }

    fn run(&self, job: Job<K>, verifier: &mut Verifier) {
        match job.run(&self.kernel, verifier) {
            Step::Done(done) => {
                lock(&self.done).push(done);
                self.kernel.wake();
            }
            Step::Again(job) => {
                let mut queues = self.queues();
                queues.push(job);
            }
        }
    }
}

/// A panic while a lock is held leaves nothing half-done in these queues, so that the lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

enum Step<K: Kernel> {
    Done(Done<K>),
    Again(Job<K>),
}

impl<K: Kernel> Job<K> {
    /// Whether it takes a processor rather than waits for a disk.
    fn is_hashing(&self) -> bool {
        matches!(
            self,
            Job::Verify(_)
                | Job::Checksum(_)
                | Job::SweepLeftovers(_)
                | Job::Count(_)
                | Job::Reload(_)
        )
    }

    fn run(self, kernel: &Arc<K>, verifier: &mut Verifier) -> Step<K> {
        Step::Done(match self {
            Job::Verify(proof) => {
                let secret = proof.known.then_some(&proof.account.secret);
                let right = match (proof.hidden, secret) {
                    (Some(cost), secret) => verifier.verify_hidden(secret, cost, &proof.password),
                    (None, Some(secret)) => verifier.verify(secret, &proof.password),
                    (None, None) => false,
                };
                Done::Verified { proof, right }
            }
            Job::List(asked) => Done::ListingTarget {
                result: listing::list(&**kernel, &asked.listed, asked.form),
                asked,
            },
            Job::Create {
                session_id,
                place,
                wanted,
                claim,
            } => match claimed(storage::create_upload(kernel, &place, wanted), claim) {
                Ok(upload) => fill(session_id, upload),
                Err(refused) => Done::Created {
                    session_id,
                    result: Err(refused),
                    unique: false,
                },
            },
            Job::CreateUnique {
                session_id,
                directory,
                wanted,
                claim,
            } => Done::Created {
                session_id,
                result: claimed(
                    storage::create_unique_upload(kernel, &directory, wanted),
                    claim,
                ),
                unique: true,
            },
            Job::Fill { session_id, upload } => fill(session_id, upload),
            Job::Commit {
                session_id,
                upload,
                record,
            } => Done::Committed {
                session_id,
                record,
                path: upload.path().to_owned(),
                length: upload.length(),
                result: upload.publish(),
            },
            Job::Abandon(upload) => {
                drop(upload);
                Done::Abandoned
            }
            Job::MakeDirectory { session_id, place } => Done::Made {
                session_id,
                result: storage::make_directory(&**kernel, &place),
            },
            Job::Change {
                session_id,
                mut changing,
            } => match changing.step(&**kernel) {
                Slice::More => {
                    return Step::Again(Job::Change {
                        session_id,
                        changing,
                    });
                }
                Slice::Done(result) => Done::Changed {
                    session_id,
                    result,
                    change: changing.into_modification(),
                },
            },
            Job::Checksum(checksum) => checksum.slice(&**kernel),
            Job::WarmUp { session_id, cold } => Done::WarmedUp {
                session_id,
                result: cold.file.prefetch(&**kernel, cold.offset, cold.count),
            },
            Job::SweepLeftovers(mut leftovers) => match leftovers.step(&**kernel) {
                Slice::More => return Step::Again(Job::SweepLeftovers(leftovers)),
                Slice::Done(()) => Done::Swept(leftovers),
            },
            Job::Count(mut count) => match count.step(&**kernel) {
                Slice::More => return Step::Again(Job::Count(count)),
                Slice::Done(()) => Done::Counted(count.into_fault()),
            },
            Job::Reload(home) => Done::Reloaded(Box::new(home.reload(verifier))),
        })
    }
}

/// What was created, with what it may take of quotas.
fn claimed<K: Kernel>(
    created: Result<StagedUpload<K>, StorageError>,
    claim: QuotaReservation,
) -> Result<Box<StagedUpload<K>>, StorageError> {
    created?.with_reservation(claim).map(Box::new)
}

/// Copies a slice of what an upload builds on, if it builds on something.
fn fill<K: Kernel>(session_id: SessionId, mut upload: Box<StagedUpload<K>>) -> Done<K> {
    let result = match upload.copy_base() {
        Ok(Slice::More) => return Done::Filled { session_id, upload },
        Ok(Slice::Done(())) => Ok(upload),
        Err(refused) => Err(refused),
    };
    Done::Created {
        session_id,
        result,
        unique: false,
    }
}

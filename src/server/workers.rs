//! The helper threads for what would hold the loop up. A job is a value; it runs over the same kernel as the loop, and
//! what came of it is collected by the loop after a wake.
//!
//! Two lanes: jobs that wait for a disk, and jobs that take a processor, all behind the loop in priority. A checksum gives
//! way after each slice, and one thread of the second lane takes logins alone, so that neither waits for the other.
//! The queues are bounded by the sessions: each has one job at most, and takes it along when it ends.
//!
//! Must not know: connections, sentences.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Ticket;
use super::listings::Wanted;
use super::transfer::Cold;
use crate::home::credentials::Account;
use crate::home::password::{Cost, Tag, Verifier};
use crate::home::{Home, Reloaded};
use crate::kernel::Kernel;
use crate::limits::CHECKSUM_SLICE_BYTES;
use crate::protocol::{Place, Refusal};
use crate::vault::{self, Fault, Incoming, Leftovers, Listing, Refused, SharedFile};

/// What one thread may do while the loop goes on.
pub(super) enum Job<K: Kernel> {
    /// Prove a password.
    Verify(Proof),
    List(Wanted),
    Create {
        ticket: Ticket,
        place: Place,
        length: u64,
    },
    Commit {
        ticket: Ticket,
        incoming: Box<Incoming<K>>,
    },
    /// Let go of an unfinished upload: giving back its pages can take long.
    Abandon(Box<Incoming<K>>),
    MakeDirectory {
        ticket: Ticket,
        place: Place,
    },
    Checksum(Checksum<K>),
    /// Wait for the disk in the loop's stead.
    WarmUp {
        ticket: Ticket,
        cold: Cold<K>,
    },
    /// Remove what an earlier crash left of uploads beneath one granted directory, a directory a slice.
    SweepLeftovers(Leftovers),
    Reload(Arc<Home>),
}

/// A login to be proved, and afterwards what came of it.
pub(super) struct Proof {
    pub(super) tag: Tag,
    pub(super) account: Arc<Account>,
    /// Whether there is such a record; if not, the account only carries the name.
    pub(super) known: bool,
    /// Where usernames are hidden: what every proof is to cost.
    pub(super) hidden: Option<Cost>,
    pub(super) password: Zeroizing<Vec<u8>>,
}

/// A checksum under way.
pub(super) struct Checksum<K: Kernel> {
    pub(super) ticket: Ticket,
    pub(super) file: Arc<SharedFile<K>>,
    pub(super) path: PathBuf,
    pub(super) offset: u64,
    pub(super) hasher: Sha256,
}

/// What came of a job.
pub(super) enum Done<K: Kernel> {
    Verified {
        proof: Proof,
        right: bool,
    },
    Listed {
        wanted: Wanted,
        result: Result<Listing, Refused>,
    },
    Created {
        ticket: Ticket,
        result: Result<Box<Incoming<K>>, Refused>,
    },
    Committed {
        ticket: Ticket,
        path: PathBuf,
        length: u64,
        result: Result<(), Refused>,
    },
    Made {
        ticket: Ticket,
        result: Result<(), Refused>,
    },
    /// One slice more is done; the loop puts the job back as long as somebody waits for it.
    Slice(Checksum<K>),
    Checksummed {
        ticket: Ticket,
        result: Result<([u8; 32], u64), Refused>,
    },
    WarmedUp {
        ticket: Ticket,
        result: io::Result<()>,
    },
    Reloaded(Reloaded),
    Abandoned,
    /// A granted directory has been walked, as far as it could be.
    Swept(Leftovers),
}

/// The threads and their queues.
pub(super) struct Workers<K: Kernel> {
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
    logins: VecDeque<Job<K>>,
    slices: VecDeque<Job<K>>,
    stopping: bool,
}

impl<K: Kernel> Queues<K> {
    /// The queue in which a job of this kind waits.
    fn of(&mut self, job: &Job<K>) -> &mut VecDeque<Job<K>> {
        match job {
            Job::Verify(_) => &mut self.logins,
            Job::Checksum(_) | Job::SweepLeftovers(_) | Job::Reload(_) => &mut self.slices,
            _ => &mut self.disk,
        }
    }

    /// The next job for a thread of this kind.
    fn next(&mut self, lane: &mut Lane) -> Option<Job<K>> {
        match lane {
            Lane::Disk => self.disk.pop_front(),
            Lane::Logins => self.logins.pop_front(),
            Lane::Any { slice_next } => {
                let (first, second) = match *slice_next {
                    true => (&mut self.slices, &mut self.logins),
                    false => (&mut self.logins, &mut self.slices),
                };
                *slice_next = !*slice_next;
                first.pop_front().or_else(|| second.pop_front())
            }
        }
    }
}

/// Which queues a thread serves.
enum Lane {
    Disk,
    /// Logins alone, so that a long checksum never keeps them waiting.
    Logins,
    /// Logins and slices in turn.
    Any {
        slice_next: bool,
    },
}

impl<K: Kernel> Workers<K> {
    /// Queues without threads: jobs wait until [`Workers::run_nth`] runs them.
    pub(super) fn without_threads(kernel: Arc<K>) -> Workers<K> {
        Workers {
            shared: Arc::new(Shared {
                kernel,
                queues: Mutex::new(Queues {
                    disk: VecDeque::new(),
                    logins: VecDeque::new(),
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
    pub(super) fn start(kernel: Arc<K>, disk: usize) -> io::Result<Workers<K>> {
        let mut workers = Workers::without_threads(kernel);
        let processors = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        let lanes = (0..disk)
            .map(|_| Lane::Disk)
            .chain([Lane::Logins])
            .chain((1..processors).map(|_| Lane::Any { slice_next: false }));
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

    pub(super) fn submit(&self, job: Job<K>) {
        let hashing = job.is_hashing();
        let mut queues = self.shared.queues();
        queues.of(&job).push_back(job);
        drop(queues);
        match hashing {
            // Not every thread of this lane takes every job: waking one could wake the wrong one.
            true => self.shared.hash_changed.notify_all(),
            false => self.shared.disk_changed.notify_one(),
        }
    }

    /// Drops the jobs that are still queued and that `gone` picks.
    pub(super) fn cancel(&self, gone: impl Fn(&Job<K>) -> bool) {
        let mut queues = self.shared.queues();
        let Queues {
            disk,
            logins,
            slices,
            ..
        } = &mut *queues;
        for queue in [disk, logins, slices] {
            queue.retain(|job| !gone(job));
        }
    }

    /// What has been done since the last call.
    pub(super) fn collect(&self, into: &mut Vec<Done<K>>) {
        into.append(&mut lock(&self.shared.done));
    }

    /// How many jobs are queued.
    pub(super) fn queued(&self) -> usize {
        let queues = self.shared.queues();
        queues.disk.len() + queues.logins.len() + queues.slices.len()
    }

    /// Runs the `n`th queued job on the calling thread: how a simulation lets jobs be late.
    pub(super) fn run_nth(&self, n: usize) {
        let mut queues = self.shared.queues();
        let (disk, logins) = (queues.disk.len(), queues.logins.len());
        let job = if n < disk {
            queues.disk.remove(n)
        } else if n < disk + logins {
            queues.logins.remove(n - disk)
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
            Lane::Logins | Lane::Any { .. } => &self.hash_changed,
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
                queues.of(&job).push_back(job);
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
            Job::Verify(_) | Job::Checksum(_) | Job::SweepLeftovers(_) | Job::Reload(_)
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
            Job::List(wanted) => Done::Listed {
                result: vault::list(&**kernel, &wanted.place, wanted.form),
                wanted,
            },
            Job::Create {
                ticket,
                place,
                length,
            } => Done::Created {
                ticket,
                result: vault::create(kernel, &place, length).map(Box::new),
            },
            Job::Commit { ticket, incoming } => Done::Committed {
                ticket,
                path: incoming.path().to_owned(),
                length: incoming.length(),
                result: incoming.commit(),
            },
            Job::Abandon(incoming) => {
                drop(incoming);
                Done::Abandoned
            }
            Job::MakeDirectory { ticket, place } => Done::Made {
                ticket,
                result: vault::make_directory(&**kernel, &place),
            },
            Job::Checksum(checksum) => checksum.slice(&**kernel),
            Job::WarmUp { ticket, cold } => Done::WarmedUp {
                ticket,
                result: cold.file.warm_up(&**kernel, cold.offset, cold.count),
            },
            Job::SweepLeftovers(mut leftovers) => match leftovers.step(&**kernel) {
                true => return Step::Again(Job::SweepLeftovers(leftovers)),
                false => Done::Swept(leftovers),
            },
            Job::Reload(home) => Done::Reloaded(home.reload(verifier)),
        })
    }
}

impl<K: Kernel> Checksum<K> {
    /// Hashes on for one slice.
    fn slice(mut self, kernel: &K) -> Done<K> {
        let mut buffer = vec![0; 256 * 1024];
        let stop = self.offset + CHECKSUM_SLICE_BYTES as u64;
        while self.offset < stop {
            match kernel.read_at(self.file.file(), &mut buffer, self.offset) {
                Ok(0) => {
                    return Done::Checksummed {
                        ticket: self.ticket,
                        result: Ok((self.hasher.finalize().into(), self.offset)),
                    };
                }
                Ok(n) => {
                    self.hasher.update(&buffer[..n]);
                    self.offset += n as u64;
                }
                Err(source) => {
                    return Done::Checksummed {
                        ticket: self.ticket,
                        result: Err(Refused {
                            refusal: Refusal::FileUnreadable,
                            fault: Some(Fault {
                                doing: "read for a checksum",
                                path: self.path,
                                source,
                            }),
                        }),
                    };
                }
            }
        }
        Done::Slice(self)
    }
}

//! The worker threads and their queues.
//!
//! There are two lanes, one for jobs that wait for a disk and one for jobs that take a processor,
//! and a queue of password checks. All threads run at a lower priority than the event loop. Slices
//! and password checks take turns on the processor threads, except for one thread that only checks
//! passwords of clients without failed logins: neither long checksums nor brute force delay those.
//!
//! The queues are bounded by the sessions: each has at most one job, which its end cancels. Only
//! the publishing and discarding of uploads outlives the session, and as the disk lane runs in
//! order of submission, these jobs are done before any that a later session submits.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::thread::JoinHandle;
use std::time::Instant;

use crate::auth::verifier::Verifier;
use crate::kernel::Kernel;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::login_queue::LoginQueue;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::FileTask;
use crate::server::workers::job::{Job, JobResult, Lane, PasswordCheck, Ran, Task};
use crate::server::workers::token::JobToken;
use crate::storage::CloseFile;

/// The worker threads. A drop waits for the running jobs and drops the queued ones.
pub(crate) struct Workers<K: Kernel> {
    shared: Arc<Shared<K>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<K: Kernel> {
    kernel: Arc<K>,
    queues: Mutex<Queues<K>>,
    /// Signals a new job in the disk lane, and the stop.
    disk_changed: Condvar,
    /// Signals a new job in the processor lane or a new password check, and the stop.
    processor_changed: Condvar,
    results: Mutex<Vec<JobResult<K>>>,
}

struct Queues<K: Kernel> {
    disk: VecDeque<Job<K>>,
    processor: VecDeque<Job<K>>,
    logins: LoginQueue<PasswordCheck>,
    /// The owners of running jobs.
    running: Vec<SessionId>,
    /// Owners of running jobs that ended: these jobs run no further slice.
    cancelled: Vec<SessionId>,
    /// Jobs of [`Workers::start_nth`].
    started: Vec<Queued<K>>,
    is_stopping: bool,
}

/// An entry of the queues.
enum Queued<K: Kernel> {
    Job(Job<K>),
    Check(PasswordCheck),
}

/// The queues that a thread serves.
#[derive(Clone, Copy)]
enum Role {
    Disk,
    /// Password checks of clients without failed logins only.
    TrustedLogins,
    /// Password checks and jobs in turn.
    Processor {
        job_next: bool,
    },
}

impl<K: Kernel> Workers<K> {
    /// Creates queues without threads: jobs wait until [`Workers::run_nth`] runs them.
    pub(crate) fn without_threads(kernel: Arc<K>) -> Workers<K> {
        Workers {
            shared: Arc::new(Shared {
                kernel,
                queues: Mutex::new(Queues {
                    disk: VecDeque::new(),
                    processor: VecDeque::new(),
                    logins: LoginQueue::new(),
                    running: Vec::new(),
                    cancelled: Vec::new(),
                    started: Vec::new(),
                    is_stopping: false,
                }),
                disk_changed: Condvar::new(),
                processor_changed: Condvar::new(),
                results: Mutex::new(Vec::new()),
            }),
            threads: Vec::new(),
        }
    }

    /// Starts `disk_threads` threads for the disk lane, and one per processor, at least two, for
    /// the rest.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        kernel: Arc<K>,
        disk_threads: usize,
        processors: usize,
    ) -> io::Result<Workers<K>> {
        let mut workers = Workers::without_threads(kernel);
        let roles = std::iter::repeat_n(Role::Disk, disk_threads)
            .chain([Role::TrustedLogins])
            .chain((1..processors.max(2)).map(|_| Role::Processor { job_next: false }));
        for role in roles {
            let shared = workers.shared.clone();
            let name = match role {
                Role::Disk => "disk",
                Role::TrustedLogins | Role::Processor { .. } => "hash",
            };
            let thread = thread::Builder::new()
                .name(name.into())
                .spawn(move || shared.run_thread(role))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Queues a job.
    pub(crate) fn submit(&self, job: Job<K>) {
        self.shared.submit(job);
    }

    /// Returns the function that closes files of devices that the event loop does not call.
    pub(crate) fn closer(&self) -> CloseFile<K> {
        let shared = Arc::downgrade(&self.shared);
        Arc::new(move |device, file| {
            if let Some(shared) = shared.upgrade() {
                shared.submit(Job::detached(
                    Lane::Device(device.clone()),
                    Task::File(FileTask::Close(file)),
                ));
            }
        })
    }

    /// Queues a password check.
    pub(crate) fn submit_check(&self, check: PasswordCheck) {
        let (client, failures) = (check.client, check.failures);
        self.shared.queues().logins.push(client, failures, check);
        self.shared.processor_changed.notify_all();
    }

    /// Cancels the jobs of a session that ended. A running slice is completed.
    pub(crate) fn cancel(&self, owner: SessionId) {
        let mut queues = self.shared.queues();
        let Queues {
            disk, processor, ..
        } = &mut *queues;
        for queue in [disk, processor] {
            // Dropping an upload can block, so a worker does it.
            let is_owned = |job: &Job<K>| job.owner == Some(owner);
            if let Some(index) = queue.iter().position(is_owned)
                && let Some(job) = queue.remove(index)
                && let Some(discard) = job.cancelled()
            {
                queue.push_back(discard);
            }
        }
        if queues.running.contains(&owner) {
            queues.cancelled.push(owner);
        }
    }

    /// Drops the queued password checks for which `is_cancelled` returns true.
    pub(crate) fn cancel_checks(&self, is_cancelled: impl Fn(&PasswordCheck) -> bool) {
        let mut queues = self.shared.queues();
        queues.logins.retain(|check| !is_cancelled(check));
    }

    /// Sets the number of recently failed logins of a client, which delays its queued checks.
    pub(crate) fn set_failures(&self, client: ClientPrefix, failures: u32) {
        self.shared.queues().logins.set_failures(client, failures);
    }

    /// Removes and returns the queued password checks of a client.
    pub(crate) fn remove_checks(&self, client: ClientPrefix) -> VecDeque<PasswordCheck> {
        self.shared.queues().logins.remove_client(client)
    }

    /// Moves the results since the last call to `results`.
    pub(crate) fn collect(&self, results: &mut Vec<JobResult<K>>) {
        results.append(&mut lock(&self.shared.results));
    }

    /// Returns the number of queued jobs and password checks.
    pub(crate) fn queued(&self) -> usize {
        let queues = self.shared.queues();
        queues.disk.len() + queues.logins.len() + queues.processor.len()
    }

    /// Runs the `n`th queued job or password check (`n` below [`Workers::queued`]) on the calling
    /// thread, so that a simulation decides how late jobs are.
    pub(crate) fn run_nth(&self, n: usize) {
        let started = self.start_nth(n);
        self.finish_started(started);
    }

    /// Moves the `n`th queued job or password check to a thread without running it, as if its first
    /// call did not return. Returns the number for [`Workers::finish_started`].
    pub(crate) fn start_nth(&self, n: usize) -> usize {
        let mut queues = self.shared.queues();
        let queued = queues.remove_nth(n);
        queues.started.extend(queued);
        queues.started.len().saturating_sub(1)
    }

    /// Runs a job of [`Workers::start_nth`] on the calling thread and ends it.
    pub(crate) fn finish_started(&self, index: usize) {
        self.shared.finish_started(index);
    }

    /// Moves the `n`th queued job or password check to a thread, which runs the returned function.
    pub(crate) fn take_nth(&self, n: usize) -> impl FnOnce() + Send + 'static {
        let index = self.start_nth(n);
        let shared = self.shared.clone();
        move || shared.finish_started(index)
    }

    /// Checks the running jobs against the disk timeout; call once per second.
    pub(crate) fn sweep(&self, _now: Instant) {}

    /// Whether no job is queued or running.
    pub(crate) fn is_idle(&self) -> bool {
        let queues = self.shared.queues();
        queues.disk.is_empty() && queues.processor.is_empty() && queues.running.is_empty()
    }
}

impl<K: Kernel> Drop for Workers<K> {
    fn drop(&mut self) {
        self.shared.queues().is_stopping = true;
        self.shared.disk_changed.notify_all();
        self.shared.processor_changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has printed its message.
            let _ = thread.join();
        }
    }
}

impl<K: Kernel> Queues<K> {
    fn push(&mut self, job: Job<K>) {
        match job.lane {
            Lane::Device(_) | Lane::Background(_) => self.disk.push_back(job),
            Lane::Reload => self.processor.push_back(job),
        }
    }

    /// Removes the next entry for a thread of this role.
    fn next(&mut self, role: &mut Role) -> Option<Queued<K>> {
        match role {
            Role::Disk => self.disk.pop_front().map(Queued::Job),
            Role::TrustedLogins => self.logins.pop_unsuspected().map(Queued::Check),
            Role::Processor { job_next } => {
                let is_job = std::mem::replace(job_next, !*job_next);
                let job = match is_job {
                    true => self.processor.pop_front(),
                    false => None,
                };
                job.map(Queued::Job)
                    .or_else(|| self.logins.pop().map(Queued::Check))
                    .or_else(|| self.processor.pop_front().map(Queued::Job))
            }
        }
    }

    /// Removes the `n`th job or check. The order among password checks is that of their queue.
    fn remove_nth(&mut self, n: usize) -> Option<Queued<K>> {
        let (disk, logins) = (self.disk.len(), self.logins.len());
        if n < disk {
            self.disk.remove(n).map(Queued::Job)
        } else if n < disk + logins {
            self.logins.pop().map(Queued::Check)
        } else {
            self.processor.remove(n - disk - logins).map(Queued::Job)
        }
    }

    /// Ends a slice of a job with this owner; returns whether the job is cancelled.
    fn end_slice(&mut self, owner: Option<SessionId>) -> bool {
        let Some(owner) = owner else {
            return false;
        };
        let remove = |owners: &mut Vec<SessionId>| {
            let index = owners.iter().position(|other| *other == owner);
            index.map(|index| owners.swap_remove(index)).is_some()
        };
        remove(&mut self.running);
        remove(&mut self.cancelled)
    }
}

impl<K: Kernel> Shared<K> {
    fn submit(&self, job: Job<K>) {
        let lane = job.lane.clone();
        self.queues().push(job);
        match lane {
            Lane::Device(_) | Lane::Background(_) => self.disk_changed.notify_one(),
            // Notifying one thread could wake the one that takes no jobs.
            Lane::Reload => self.processor_changed.notify_all(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues<K>> {
        lock(&self.queues)
    }

    /// Runs jobs and checks on a thread until the stop.
    fn run_thread(&self, mut role: Role) {
        self.kernel.enter_worker();
        let changed = match role {
            Role::Disk => &self.disk_changed,
            Role::TrustedLogins | Role::Processor { .. } => &self.processor_changed,
        };
        let mut verifier = Verifier::new();
        let mut queues = self.queues();
        while !queues.is_stopping {
            match queues.next(&mut role) {
                Some(queued) => {
                    if let Queued::Job(job) = &queued {
                        queues.running.extend(job.owner);
                    }
                    drop(queues);
                    self.run(queued, &mut verifier);
                    queues = self.queues();
                }
                None => queues = changed.wait(queues).unwrap_or_else(|e| e.into_inner()),
            }
        }
    }

    fn finish_started(&self, index: usize) {
        let mut queues = self.queues();
        if index < queues.started.len() {
            let queued = queues.started.swap_remove(index);
            drop(queues);
            self.kernel.enter_worker();
            self.run(queued, &mut Verifier::new());
            self.kernel.leave_worker();
        }
    }

    fn run(&self, queued: Queued<K>, verifier: &mut Verifier) {
        match queued {
            Queued::Check(check) => self.finish(check.run(verifier)),
            Queued::Job(job) => {
                let owner = job.owner;
                let ran = job.run(&self.kernel, verifier, &JobToken::default());
                let mut queues = self.queues();
                let is_cancelled = queues.end_slice(owner);
                match ran {
                    Ran::Again(job) if !is_cancelled => queues.push(job),
                    ran => {
                        drop(queues);
                        if let Ran::Finished(Some(result)) = ran {
                            self.finish(result);
                        }
                    }
                }
            }
        }
    }

    fn finish(&self, result: JobResult<K>) {
        lock(&self.results).push(result);
        self.kernel.wake();
    }
}

/// Locks a mutex even if a thread panicked while holding it: no operation on the queues can panic
/// half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests;

//! The worker threads.
//!
//! One pool of threads runs the jobs of all devices, in the order of [`DeviceLanes`]. Reloads have
//! a thread of their own, so that they wait for no device, and so have password checks
//! ([`Logins`]). All workers run at a lower priority than the event loop.
//!
//! A job can hang in a system call for ever, and then so does its thread. Nothing here waits for
//! such a thread, not even the stop.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::auth::verified_cache::PasswordTag;
use crate::auth::verifier::Verifier;
use crate::kernel::Kernel;
use crate::limits::{DISK_THREADS, DISK_TIMEOUT, WORKER_STACK_BYTES, WORKER_STOP_TIMEOUT};
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::device_lanes::{DeviceLanes, Started};
use crate::server::workers::file_task::FileTask;
use crate::server::workers::job::{Job, JobResult, Lane, PasswordCheck, Ran, Task};
use crate::server::workers::logins::Logins;
use crate::server::workers::owned_jobs::CancelKey;
use crate::server::workers::token::JobToken;
use crate::storage::CloseFile;

/// The worker threads and their queues.
pub(crate) struct Workers<K: Kernel> {
    shared: Arc<Shared<K>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<K: Kernel> {
    kernel: Arc<K>,
    queues: Mutex<Queues<K>>,
    /// Signals a job that may start, and the stop.
    device_changed: Condvar,
    /// Signals a reload, and the stop.
    reload_changed: Condvar,
    logins: Logins,
    results: Mutex<Vec<JobResult<K>>>,
}

struct Queues<K: Kernel> {
    devices: DeviceLanes<K>,
    reloads: VecDeque<Job<K>>,
    is_reloading: bool,
    is_stopping: bool,
}

/// The jobs that a thread runs.
#[derive(Clone, Copy)]
enum Role {
    Devices,
    Reloads,
    TrustedLogins,
    Logins,
}

/// A job or password check that has a thread.
struct StartedJob<K: Kernel> {
    shared: Arc<Shared<K>>,
    work: Assignment<K>,
    token: JobToken,
}

enum Assignment<K: Kernel> {
    Job(Started<K>),
    Reload(Job<K>),
    Check(PasswordCheck),
}

impl<K: Kernel> Workers<K> {
    /// Creates queues without threads: jobs wait until [`Workers::run_nth`] runs them.
    pub(crate) fn without_threads(kernel: Arc<K>) -> Workers<K> {
        Workers::with_queues_for(kernel, DISK_THREADS)
    }

    fn with_queues_for(kernel: Arc<K>, device_threads: usize) -> Workers<K> {
        Workers {
            shared: Arc::new(Shared {
                kernel,
                queues: Mutex::new(Queues {
                    devices: DeviceLanes::new(device_threads, DISK_TIMEOUT),
                    reloads: VecDeque::new(),
                    is_reloading: false,
                    is_stopping: false,
                }),
                device_changed: Condvar::new(),
                reload_changed: Condvar::new(),
                logins: Logins::new(),
                results: Mutex::new(Vec::new()),
            }),
            threads: Vec::new(),
        }
    }

    /// Starts `device_threads` threads for the devices, one for reloads, and one per processor, at
    /// least two, for logins.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn start(
        kernel: Arc<K>,
        device_threads: usize,
        processors: usize,
    ) -> io::Result<Workers<K>> {
        let mut workers = Workers::with_queues_for(kernel, device_threads);
        let roles = std::iter::repeat_n(Role::Devices, device_threads)
            .chain([Role::Reloads, Role::TrustedLogins])
            .chain((1..processors.max(2)).map(|_| Role::Logins));
        for role in roles {
            let shared = workers.shared.clone();
            let thread = match role {
                Role::Devices => thread::Builder::new().stack_size(WORKER_STACK_BYTES),
                _ => thread::Builder::new(),
            };
            let name = match role {
                Role::Devices => "disk",
                Role::Reloads => "reload",
                Role::TrustedLogins | Role::Logins => "hash",
            };
            let thread = thread
                .name(name.into())
                .spawn(move || run_thread(&shared, role))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Sets the time after which a call that has not returned makes its device stuck.
    pub(crate) fn with_disk_timeout(self, disk_timeout: Duration) -> Workers<K> {
        self.shared.queues().devices.set_disk_timeout(disk_timeout);
        self
    }

    /// Queues a job. One for a stuck device is refused: its session is answered at once.
    pub(crate) fn submit(&self, job: Job<K>) {
        self.shared.submit(job);
    }

    /// Returns the function that closes files of devices that the event loop does not call.
    pub(crate) fn closer(&self) -> CloseFile<K> {
        let shared = Arc::downgrade(&self.shared);
        Arc::new(move |device, file| match shared.upgrade() {
            Some(shared) => shared.submit(Job::detached(
                Lane::Device(device.clone()),
                Task::File(FileTask::Close(file)),
            )),
            // The process ends, and must not wait.
            None if !device.is_inline() => std::mem::forget(file),
            None => drop(file),
        })
    }

    /// Queues a password check.
    pub(crate) fn submit_check(&self, check: PasswordCheck) {
        self.shared.logins.push(check);
    }

    /// Cancels the jobs of a session: queued ones are dropped, running ones end early, and there
    /// are no results.
    pub(crate) fn cancel(&self, owner: SessionId) {
        self.shared.cancel(CancelKey::Session(owner.generation));
    }

    /// Cancels a listing.
    pub(crate) fn cancel_listing(&self, id: u64) {
        self.shared.cancel(CancelKey::Listing(id));
    }

    /// Notes that a user's last session has ended.
    pub(crate) fn end_user(&self, user: UserKey) {
        let now = self.shared.kernel.now();
        self.shared.queues().devices.end_user(user, now);
    }

    /// Drops a queued password check.
    pub(crate) fn cancel_check(&self, tag: &PasswordTag) {
        self.shared.logins.cancel(tag);
    }

    /// Sets the number of recently failed logins of a client, which delays its queued checks.
    pub(crate) fn set_failures(&self, client: ClientPrefix, failures: u32) {
        self.shared.logins.set_failures(client, failures);
    }

    /// Removes and returns the queued password checks of a client.
    pub(crate) fn remove_checks(&self, client: ClientPrefix) -> Vec<PasswordCheck> {
        self.shared.logins.remove_client(client)
    }

    /// Moves the results since the last call to `results`.
    pub(crate) fn collect(&self, results: &mut Vec<JobResult<K>>) {
        results.append(&mut lock(&self.shared.results));
    }

    /// Checks the running jobs against the disk timeout; call once per second.
    pub(crate) fn sweep(&self, now: Instant) {
        let given_up = self.shared.queues().devices.sweep(now);
        self.shared.deliver(given_up.results);
        self.shared.device_changed.notify_all();
    }

    /// Returns the number of uploads that are being published.
    pub(crate) fn pending_publications(&self) -> usize {
        self.shared.queues().devices.publications()
    }

    /// Returns the number of jobs and password checks of which any may start.
    pub(crate) fn queued(&self) -> usize {
        let queues = self.shared.queues();
        queues.devices.startable() + self.shared.logins.len() + queues.startable_reloads()
    }

    /// Runs the `n`th of those (`n` below [`Workers::queued`]) on the calling thread, so that a
    /// simulation decides how late jobs are.
    pub(crate) fn run_nth(&self, n: usize) {
        self.take_nth(n)();
    }

    /// Gives a thread to the `n`th of those. The returned function runs it, on any thread.
    pub(crate) fn take_nth(&self, n: usize) -> impl FnOnce() + Send + 'static {
        let started = self.start_nth(n);
        move || started.into_iter().for_each(StartedJob::run)
    }

    fn start_nth(&self, n: usize) -> Option<StartedJob<K>> {
        let (shared, token) = (&self.shared, JobToken::default());
        let now = shared.kernel.now();
        let mut queues = shared.queues();
        let (jobs, checks) = (queues.devices.startable(), shared.logins.len());
        let work = if n < jobs {
            Assignment::Job(queues.devices.start_nth(n, &token, now)?)
        } else if n < jobs + checks {
            Assignment::Check(shared.logins.pop()?)
        } else {
            Assignment::Reload(queues.start_reload()?)
        };
        Some(StartedJob {
            shared: shared.clone(),
            work,
            token,
        })
    }
}

impl<K: Kernel> Drop for Workers<K> {
    /// Stops the threads that are in no call, or in one that ends soon. The others are left alone.
    fn drop(&mut self) {
        self.shared.queues().is_stopping = true;
        self.shared.device_changed.notify_all();
        self.shared.reload_changed.notify_all();
        self.shared.logins.stop();
        let until = self.shared.kernel.now() + WORKER_STOP_TIMEOUT;
        let are_finished = || self.threads.iter().all(JoinHandle::is_finished);
        while !are_finished() && self.shared.kernel.now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let jobs = self.shared.queues().devices.drain();
        for job in jobs {
            match job.device() {
                // Closing its files could wait.
                Some(device) if !device.is_inline() => std::mem::forget(job),
                _ => drop(job),
            }
        }
    }
}

impl<K: Kernel> StartedJob<K> {
    /// Runs the job and delivers its result.
    fn run(self) {
        self.shared.kernel.enter_worker();
        self.shared.kernel.count_calls(self.token.calls());
        self.shared
            .run(self.work, &self.token, &mut Verifier::new());
        self.shared.kernel.leave_worker();
    }
}

impl<K: Kernel> Queues<K> {
    fn startable_reloads(&self) -> usize {
        match self.is_reloading {
            true => 0,
            false => self.reloads.len(),
        }
    }

    fn start_reload(&mut self) -> Option<Job<K>> {
        if self.is_reloading {
            return None;
        }
        let job = self.reloads.pop_front();
        self.is_reloading = job.is_some();
        job
    }
}

impl<K: Kernel> Shared<K> {
    fn queues(&self) -> MutexGuard<'_, Queues<K>> {
        lock(&self.queues)
    }

    fn submit(&self, job: Job<K>) {
        let mut queues = self.queues();
        match &job.lane {
            Lane::Reload => {
                queues.reloads.push_back(job);
                self.reload_changed.notify_one();
            }
            Lane::Device(device) | Lane::Granted { device, .. } | Lane::Background(device) => {
                let device = device.clone();
                let given_up = queues.devices.submit(&device, job);
                drop(queues);
                self.device_changed.notify_one();
                self.deliver(given_up.results);
            }
        }
    }

    fn cancel(&self, key: CancelKey) {
        let dropped = self.queues().devices.cancel(key);
        drop(dropped);
        self.device_changed.notify_one();
    }

    fn run(&self, work: Assignment<K>, token: &JobToken, verifier: &mut Verifier) {
        match work {
            Assignment::Check(check) => self.deliver([check.run(verifier)]),
            Assignment::Reload(job) => {
                let ran = job.run(&self.kernel, verifier, token);
                self.queues().is_reloading = false;
                if let Ran::Finished(result) = ran {
                    self.deliver(result);
                }
            }
            Assignment::Job(Started { index, job, device }) => {
                let ran = job.run(&self.kernel, verifier, token);
                let now = self.kernel.now();
                device.record(self.kernel.take_call_stats(), now);
                let ended = self.queues().devices.end(index, ran, now);
                drop(ended.rest);
                self.deliver(ended.results);
            }
        }
    }

    fn deliver(&self, delivered: impl IntoIterator<Item = JobResult<K>>) {
        let mut delivered = delivered.into_iter().peekable();
        if delivered.peek().is_some() {
            lock(&self.results).extend(delivered);
            self.kernel.wake();
        }
    }
}

/// Runs jobs and checks on a thread until the stop.
fn run_thread<K: Kernel>(shared: &Arc<Shared<K>>, role: Role) {
    shared.kernel.enter_worker();
    let mut verifier = Verifier::new();
    let calls = Arc::new(AtomicU32::new(0));
    shared.kernel.count_calls(&calls);
    loop {
        let token = JobToken::new(calls.clone());
        let work = match role {
            Role::Devices => shared.wait_for_job(&token).map(Assignment::Job),
            Role::Reloads => shared.wait_for_reload().map(Assignment::Reload),
            Role::TrustedLogins => shared.logins.wait(true).map(Assignment::Check),
            Role::Logins => shared.logins.wait(false).map(Assignment::Check),
        };
        match work {
            Some(work) => shared.run(work, &token, &mut verifier),
            None => return,
        }
    }
}

impl<K: Kernel> Shared<K> {
    /// Waits for a job of any device; `None` at the stop.
    fn wait_for_job(&self, token: &JobToken) -> Option<Started<K>> {
        let mut queues = self.queues();
        while !queues.is_stopping {
            if let Some(started) = queues.devices.start(token, self.kernel.now()) {
                // One notification may stand for several jobs that may start.
                if queues.devices.may_start_any() {
                    self.device_changed.notify_one();
                }
                return Some(started);
            }
            queues = wait(&self.device_changed, queues);
        }
        None
    }

    /// Waits for a reload; `None` at the stop.
    fn wait_for_reload(&self) -> Option<Job<K>> {
        let mut queues = self.queues();
        while !queues.is_stopping {
            match queues.start_reload() {
                Some(job) => return Some(job),
                None => queues = wait(&self.reload_changed, queues),
            }
        }
        None
    }
}

/// Locks a mutex even if a thread panicked while holding it: no operation on the queues can panic
/// half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    changed.wait(guard).unwrap_or_else(|e| e.into_inner())
}

#[cfg(test)]
mod tests;

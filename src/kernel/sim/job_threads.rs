//! Threads for the jobs of a simulation that wait in the middle of a call.
//!
//! The event loop, the harness and the jobs of a simulation run one at a time, so that a seed
//! determines the run. A job that may have to wait for a device gets a thread of its own. It runs
//! until it is done or waits; then the harness goes on, and resumes the job when it likes.
//!
//! Must not know: files, sockets, the work of a job.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::MutexGuard;
use std::thread;
use std::time::Duration;

use crate::kernel::sim::devices::{DeviceBehaviour, SimDevice};
use crate::kernel::sim::jobs::{Caller, WaitingJob};
use crate::kernel::sim::simulator::{Sim, SimState};

/// Time of the machine in which a job has to finish or to wait in a call. A job that does neither
/// waits for a lock that another one holds in a call on a device.
const JOB_TIMEOUT: Duration = Duration::from_secs(60);

/// The harness.
impl Sim {
    /// Runs `job` as a worker, which may wait for the disk. On the event loop each wait counts as a
    /// stall. No device may be slow or hang.
    pub fn as_worker<T>(&self, job: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.state().caller, Caller::worker());
        let result = job();
        self.state().caller = before;
        result
    }

    /// Runs `job` as a worker until it is done or waits for a device.
    pub fn run_job(&self, job: impl FnOnce() + Send + 'static) {
        if self.state().devices.are_prompt() {
            return self.as_worker(job);
        }
        let mut state = self.state();
        state.jobs.last_id += 1;
        let id = state.jobs.last_id;
        let sim = self.clone();
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(job));
            let mut state = sim.state();
            state.jobs.panic = result.err();
            state.jobs.running = None;
            sim.notify();
        };
        let spawned = thread::Builder::new().name("job".into()).spawn(run);
        spawned.expect("a thread is started");
        self.run_until_waiting(state, id);
    }

    /// The number of jobs that wait in a call.
    pub fn waiting_jobs(&self) -> usize {
        self.state().jobs.waiting.len()
    }

    /// The number of jobs that wait in a call on this device.
    pub fn jobs_waiting_for(&self, device: SimDevice) -> usize {
        let state = self.state();
        let jobs = state.jobs.waiting.iter();
        jobs.filter(|job| job.device == device).count()
    }

    /// The number of jobs whose call can return now.
    pub fn resumable_jobs(&self) -> usize {
        let state = self.state();
        let jobs = state.jobs.waiting.iter();
        jobs.filter(|job| state.is_resumable(job)).count()
    }

    /// Lets the `n`th of the calls return that can, and runs its job until it is done or waits
    /// again. Returns whether there is one.
    pub fn resume_job(&self, n: usize) -> bool {
        let mut state = self.state();
        let jobs = state.jobs.waiting.iter().enumerate();
        let mut resumable = jobs.filter(|(_, job)| state.is_resumable(job));
        let Some((index, _)) = resumable.nth(n) else {
            return false;
        };
        let job = state.jobs.waiting.remove(index);
        self.run_until_waiting(state, job.id);
        true
    }

    /// Lets a job run, and waits until it is done or waits in a call.
    fn run_until_waiting<'a>(&'a self, mut state: MutexGuard<'a, SimState>, id: u64) {
        let before = std::mem::replace(&mut state.caller, Caller::worker());
        state.jobs.running = Some(id);
        self.notify();
        while state.jobs.running.is_some() {
            let (next, is_late) = self.wait(state, JOB_TIMEOUT);
            state = next;
            assert!(
                !is_late || state.jobs.running.is_none(),
                "a job waits for another one that waits for a device"
            );
        }
        state.caller = before;
        if let Some(panic) = state.jobs.panic.take() {
            drop(state);
            resume_unwind(panic);
        }
    }

    /// Makes the running job wait in a call on `device`: for `time`, or until its behaviour
    /// changes.
    pub(super) fn wait_in_call<'a>(
        &'a self,
        mut state: MutexGuard<'a, SimState>,
        device: SimDevice,
        time: Option<Duration>,
    ) -> MutexGuard<'a, SimState> {
        let Some(id) = state.jobs.running.take() else {
            let time = time.expect("a job that may hang is run by Sim::run_job");
            state.elapsed += time;
            return state;
        };
        let due = time.map(|time| state.elapsed + time);
        state.jobs.waiting.push(WaitingJob { id, device, due });
        let caller = state.caller.clone();
        self.notify();
        while state.jobs.running != Some(id) {
            (state, _) = self.wait(state, JOB_TIMEOUT);
        }
        state.caller = caller;
        state
    }
}

impl SimState {
    fn is_resumable(&self, job: &WaitingJob) -> bool {
        match job.due {
            Some(due) => self.elapsed >= due,
            None => self.devices.behaviour(job.device) != DeviceBehaviour::Hanging,
        }
    }
}

#[cfg(test)]
mod tests;

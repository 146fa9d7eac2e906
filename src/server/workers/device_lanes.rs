//! The lanes of all devices: which job runs next, and which devices are stuck.
//!
//! A lane runs a few jobs at a time and takes a thread only while fewer of its jobs run than
//! threads are free, so that devices which answer slowly or not at all never take all threads. Some
//! threads are reserved for local devices. Within a lane the users take turns.
//!
//! A job whose call exceeds its patience is abandoned, and its session is answered. A probe then
//! finds out whether the device answers at all. If it does not return either, the device is stuck:
//! all sessions with a queued or a new job in the lane are answered at once. The device is probed
//! again from time to time, and as soon as any call on it returns, the lane goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use slab::Slab;

use crate::kernel::devices::Device;
use crate::kernel::{CallStats, Kernel};
use crate::limits::{DISK_THREADS_RESERVED, SLOW_CALLS_MAX};
use crate::server::log::escape::Escaped;
use crate::server::session_id::UserKey;
use crate::server::workers::device_lane::{DeviceLane, ReadyKey};
use crate::server::workers::job::{Job, JobResult, Ran, Share};
use crate::server::workers::owned_jobs::{CancelKey, OwnedJobs, Place};
use crate::server::workers::running_jobs::{RunningJob, RunningState, overdue};
use crate::server::workers::token::JobToken;

/// The queued and running jobs of all devices.
pub(super) struct DeviceLanes<K: Kernel> {
    /// By the number of the device.
    lanes: HashMap<u32, DeviceLane>,
    /// The lanes that can start a job as far as they are concerned: those of local devices, and the
    /// others.
    ready: [BTreeSet<ReadyKey>; 2],
    /// Stuck devices to be probed as soon as there is a thread.
    probes: VecDeque<u32>,
    /// The queued jobs by number, in order of submission.
    jobs: BTreeMap<u64, Job<K>>,
    owned: OwnedJobs,
    running: Slab<RunningJob>,
    /// Threads that run jobs.
    threads: usize,
    disk_timeout: Duration,
    submitted: u64,
    turns: u64,
}

/// Measurements that take a device off the event loop.
const SLOW_DEVICE: CallStats = CallStats {
    calls: SLOW_CALLS_MAX,
    slow: SLOW_CALLS_MAX,
};

/// A job that is to run.
pub(super) struct Started<K: Kernel> {
    /// For [`DeviceLanes::end`].
    pub(super) index: usize,
    pub(super) job: Job<K>,
    pub(super) device: Arc<Device>,
}

/// Jobs that are given up.
pub(super) struct GivenUp<K: Kernel> {
    /// The answers of their sessions.
    pub(super) results: Vec<JobResult<K>>,
    /// To be dropped without the lock of the queues: closing a file can submit a job.
    pub(super) dropped: Vec<Job<K>>,
}

impl<K: Kernel> Default for GivenUp<K> {
    fn default() -> GivenUp<K> {
        GivenUp {
            results: Vec::new(),
            dropped: Vec::new(),
        }
    }
}

/// The end of one slice of a job.
pub(super) struct Ended<K: Kernel> {
    /// The results for the event loop.
    pub(super) results: Vec<JobResult<K>>,
    /// To be dropped without the lock of the queues.
    pub(super) rest: Ran<K>,
}

impl<K: Kernel> DeviceLanes<K> {
    pub(super) fn new(threads: usize, disk_timeout: Duration) -> DeviceLanes<K> {
        DeviceLanes {
            lanes: HashMap::new(),
            ready: [BTreeSet::new(), BTreeSet::new()],
            probes: VecDeque::new(),
            jobs: BTreeMap::new(),
            owned: OwnedJobs::default(),
            running: Slab::new(),
            threads,
            disk_timeout,
            submitted: 0,
            turns: 0,
        }
    }

    pub(super) fn set_disk_timeout(&mut self, disk_timeout: Duration) {
        self.disk_timeout = disk_timeout;
    }

    /// Queues a job. Gives up one that a session waits for if the device is stuck.
    pub(super) fn submit(&mut self, device: &Arc<Device>, job: Job<K>) -> GivenUp<K> {
        let mut given_up = GivenUp::default();
        match device.is_stuck() {
            true => self.give_up(device, job, &mut given_up),
            false => self.push(device, job),
        }
        given_up
    }

    fn push(&mut self, device: &Arc<Device>, job: Job<K>) {
        let number = device.number();
        self.submitted += 1;
        self.owned
            .add(job.cancel_key(), Place::Queued(self.submitted));
        let turn = self.next_turn();
        let lane = (self.lanes.entry(number)).or_insert_with(|| {
            let device = device.clone();
            DeviceLane::new(device, turn)
        });
        lane.push(job.share, self.submitted);
        self.jobs.insert(self.submitted, job);
        self.update_ready(number);
    }

    /// Cancels the jobs of a session, or a listing. Returns those that were queued, to be dropped
    /// without the lock of the queues.
    pub(super) fn cancel(&mut self, key: CancelKey) -> Vec<Job<K>> {
        let mut dropped = Vec::new();
        for place in self.owned.take(key) {
            match place {
                Place::Queued(id) => dropped.extend(self.cancel_queued(id)),
                Place::Running(index) => {
                    let running = &mut self.running[index];
                    running.token.cancel();
                    running.state = RunningState::Cancelled;
                }
            }
        }
        dropped
    }

    fn cancel_queued(&mut self, id: u64) -> Option<Job<K>> {
        let job = self.jobs.remove(&id)?;
        let device = job.device()?.clone();
        if let Some(lane) = self.lanes.get_mut(&device.number()) {
            lane.remove(job.share, id);
        }
        let dropped = self.discard(&device, job);
        self.update_ready(device.number());
        dropped
    }

    /// Starts the next job, or returns `None` if no job may start now.
    pub(super) fn start(&mut self, token: &JobToken, now: Instant) -> Option<Started<K>> {
        match self.next_lane() {
            Some(number) => self.start_job(number, None, token, now),
            None => self.start_probe(token, now),
        }
    }

    /// Starts the `n`th job that may start, in order of submission, probes last.
    pub(super) fn start_nth(
        &mut self,
        n: usize,
        token: &JobToken,
        now: Instant,
    ) -> Option<Started<K>> {
        let mut startable = self.jobs.iter().filter_map(|(id, job)| {
            let number = job.device()?.number();
            let lane = &self.lanes[&number];
            let may_start = self.may_start(lane) && lane.queue().may_start(job.share);
            may_start.then_some((number, (job.share, *id)))
        });
        match startable.nth(n) {
            Some((number, chosen)) => self.start_job(number, Some(chosen), token, now),
            None => self.start_probe(token, now),
        }
    }

    /// Returns the number of jobs of which any may start.
    pub(super) fn startable(&self) -> usize {
        let lanes = self.lanes.values().filter(|lane| self.may_start(lane));
        let jobs: usize = lanes.map(|lane| lane.queue().startable()).sum();
        let probes = match self.free_threads(false) {
            0 => 0,
            _ => self.probes.len(),
        };
        jobs + probes
    }

    /// Whether a job may start.
    pub(super) fn may_start_any(&self) -> bool {
        let may_probe = !self.probes.is_empty() && self.free_threads(false) > 0;
        may_probe || self.next_lane().is_some()
    }

    /// Gives a thread to the next job of a lane, or to a chosen one.
    fn start_job(
        &mut self,
        number: u32,
        chosen: Option<(Share, u64)>,
        token: &JobToken,
        now: Instant,
    ) -> Option<Started<K>> {
        let turn = self.next_turn();
        let lane = self.lanes.get_mut(&number)?;
        let device = lane.device.clone();
        let id = lane.start(chosen, turn)?;
        let job = self.jobs.remove(&id)?;
        let index = self.occupy(number, &job, token, now);
        let (old, new) = (Place::Queued(id), Place::Running(index));
        self.owned.replace(job.cancel_key(), old, new);
        self.update_ready(number);
        Some(Started { index, job, device })
    }

    fn start_probe(&mut self, token: &JobToken, now: Instant) -> Option<Started<K>> {
        if self.free_threads(false) == 0 {
            return None;
        }
        let number = self.probes.pop_front()?;
        let lane = self.lanes.get_mut(&number)?;
        let path = lane.start_probe()?;
        let device = lane.device.clone();
        let job = Job::probe(device.clone(), path);
        let index = self.occupy(number, &job, token, now);
        self.running[index].set_probe();
        Some(Started { index, job, device })
    }

    fn occupy(&mut self, device: u32, job: &Job<K>, token: &JobToken, now: Instant) -> usize {
        self.running.insert(RunningJob::new(
            (device, job.share, job.cancel_key()),
            (job.answer(), job.path()),
            token,
            self.disk_timeout + job.extra_patience(),
            now,
        ))
    }

    /// Ends a slice of a job.
    pub(super) fn end(&mut self, index: usize, ran: Ran<K>, now: Instant) -> Ended<K> {
        let running = self.running.remove(index);
        let number = running.device;
        if let Some(lane) = self.lanes.get_mut(&number) {
            match running.state {
                RunningState::Abandoned | RunningState::Probe => {
                    lane.end_abandoned();
                    if running.holds_share {
                        lane.release_share(running.share, running.elapsed(now));
                    }
                }
                RunningState::Wanted | RunningState::Cancelled => {
                    lane.end(running.share, running.elapsed(now));
                }
            }
            if lane.set_answering() {
                info!("event=disk-recovered device={number}");
                self.probes.retain(|probed| *probed != number);
            }
        }
        self.owned.remove(running.cancel_key, Place::Running(index));
        let (result, rest) = match ran {
            Ran::Again(job) if running.is_wanted() => {
                self.update_ready(number);
                return self.push_again(job);
            }
            Ran::Finished(result) if running.is_wanted() => (result, Ran::Finished(None)),
            // A change that was made must be noticed even if no session waits for it.
            Ran::Finished(Some(result)) => (result.modification(), Ran::Finished(Some(result))),
            rest => (None, rest),
        };
        self.update_ready(number);
        let results = result.into_iter().collect();
        Ended { results, rest }
    }

    /// Queues a job again after a slice, perhaps in another lane.
    fn push_again(&mut self, job: Job<K>) -> Ended<K> {
        let (results, rest) = match job.device().cloned() {
            Some(device) => {
                let mut given_up = self.submit(&device, job);
                let dropped = given_up.dropped.pop();
                (
                    given_up.results,
                    dropped.map_or(Ran::Finished(None), Ran::Again),
                )
            }
            None => (Vec::new(), Ran::Again(job)),
        };
        Ended { results, rest }
    }

    /// Checks the running jobs against their patience, and finds devices to probe.
    pub(super) fn sweep(&mut self, now: Instant) -> GivenUp<K> {
        let mut given_up = GivenUp::default();
        for index in overdue(&mut self.running, now) {
            self.abandon(index, now, &mut given_up);
        }
        let mut numbers: Vec<u32> = self.lanes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            self.sweep_lane(number, now, &mut given_up);
        }
        given_up
    }

    /// Gives up a running job: its device may be stuck.
    fn abandon(&mut self, index: usize, now: Instant, given_up: &mut GivenUp<K>) {
        let running = &mut self.running[index];
        if running.state == RunningState::Wanted {
            given_up.results.extend(running.answer.into_timeout());
        }
        running.abandon();
        let (number, key) = (running.device, running.cancel_key.take());
        self.owned.remove(key, Place::Running(index));
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.abandon();
            lane.suspect(running.path.clone(), now);
            // The event loop must not make the next call that hangs.
            lane.device.record(SLOW_DEVICE, now);
        }
        self.update_ready(number);
    }

    /// Probes devices that are suspected or stuck, and finds lanes whose jobs wait in vain for a
    /// thread.
    fn sweep_lane(&mut self, number: u32, now: Instant, given_up: &mut GivenUp<K>) {
        let Some(lane) = self.lanes.get(&number) else {
            return;
        };
        let (may_start, first) = (self.may_start(lane), lane.queue().first());
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        if lane.is_unserved(may_start, now, self.disk_timeout)
            && let Some(job) = first.and_then(|id| self.jobs.get(&id))
        {
            lane.suspect(job.path(), now);
        }
        if lane.take_due_probe(now) && !self.probes.contains(&number) {
            self.probes.push_back(number);
        }
        if let Some(path) = lane.confirmed_hang(now)
            && lane.device.set_stuck(true)
        {
            let path = path.to_string_lossy();
            let (path, threads) = (Escaped(&path), lane.abandoned());
            warn!("event=disk-stuck device={number} path={path} threads={threads}");
            given_up.results.push(JobResult::Counted(None));
            for id in lane.drain() {
                self.give_up_queued(id, given_up);
            }
        }
        self.update_ready(number);
    }

    /// Frees the places of abandoned jobs of a user whose last session has ended: the key may
    /// become that of another user.
    pub(super) fn end_user(&mut self, user: UserKey, now: Instant) {
        let share = Share::User(user);
        let mut changed = Vec::new();
        for (_, running) in &mut self.running {
            let is_abandoned = running.state == RunningState::Abandoned;
            if is_abandoned && running.share == share && running.holds_share {
                running.holds_share = false;
                if let Some(lane) = self.lanes.get_mut(&running.device) {
                    lane.release_share(share, running.elapsed(now));
                    changed.push(running.device);
                }
            }
        }
        for number in changed {
            self.update_ready(number);
        }
    }

    /// Gives up a queued job that was removed from its lane.
    fn give_up_queued(&mut self, id: u64, given_up: &mut GivenUp<K>) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        self.owned.remove(job.cancel_key(), Place::Queued(id));
        if let Some(device) = job.device().cloned() {
            self.give_up(&device, job, given_up);
        }
    }

    /// Answers the session that waits for a job of a stuck device, if any. Any other job, and an
    /// upload that is to be dropped, wait until the device answers again.
    fn give_up(&mut self, device: &Arc<Device>, job: Job<K>, given_up: &mut GivenUp<K>) {
        let answer = job.answer();
        if answer.is_nothing() {
            return self.push(device, job);
        }
        given_up.results.extend(answer.into_timeout());
        given_up.dropped.extend(self.discard(device, job));
    }

    /// Queues a job whose drop may wait for its device, to be dropped only. Returns any other.
    fn discard(&mut self, device: &Arc<Device>, job: Job<K>) -> Option<Job<K>> {
        if !job.holds_file() {
            return Some(job);
        }
        self.push(device, job.into_cleanup());
        None
    }

    /// Returns the number of jobs that publish an upload.
    pub(super) fn publications(&self) -> usize {
        let queued = self.jobs.values();
        let queued = queued.filter(|job| job.answer().is_published());
        let running = self.running.iter().filter(|(_, running)| {
            running.state == RunningState::Wanted && running.answer.is_published()
        });
        queued.count() + running.count()
    }

    /// Removes all queued jobs, at the end of the process.
    pub(super) fn drain(&mut self) -> Vec<Job<K>> {
        std::mem::take(&mut self.jobs).into_values().collect()
    }

    /// Returns the lane that is next to start a job.
    fn next_lane(&self) -> Option<u32> {
        let first = |ready: &BTreeSet<ReadyKey>| ready.first().copied();
        let mut candidates = self.ready.each_ref().map(first);
        candidates.sort_unstable();
        let allowed = candidates.into_iter().flatten().find(|(_, _, number)| {
            let lane = self.lanes.get(number);
            lane.is_some_and(|lane| self.may_start(lane))
        });
        allowed.map(|(_, _, number)| number)
    }

    /// Whether a lane may take one more thread.
    fn may_start(&self, lane: &DeviceLane) -> bool {
        lane.is_ready() && lane.occupied() < self.free_threads(lane.device.is_local())
    }

    /// Returns the threads that a lane may choose from. A few are for local devices only.
    fn free_threads(&self, is_local: bool) -> usize {
        let free = self.threads - self.running.len();
        match is_local {
            true => free,
            false => free.saturating_sub(DISK_THREADS_RESERVED),
        }
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Moves a lane to its place among those that are ready, or drops it if it is idle.
    fn update_ready(&mut self, number: u32) {
        let Some(lane) = self.lanes.get_mut(&number) else {
            return;
        };
        let ready = &mut self.ready[usize::from(!lane.device.is_local())];
        let new = (lane.is_ready()).then(|| (lane.occupied(), lane.turn, number));
        if lane.ready != new {
            if let Some(old) = std::mem::replace(&mut lane.ready, new) {
                ready.remove(&old);
            }
            ready.extend(new);
        }
        if lane.is_idle() {
            self.lanes.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests;

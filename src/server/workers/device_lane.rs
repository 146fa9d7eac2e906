//! The lane of one device: its queue, its threads, and whether it is stuck.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kernel::devices::Device;
use crate::limits::{
    BACKGROUND_COST, DISK_PROBE_INTERVAL, DISK_PROBE_TIMEOUT, LANE_OCCUPIED_MAX, LANE_THREADS_MAX,
};
use crate::server::workers::fair_queue::{Allowance, FairQueue};
use crate::server::workers::job::Share;

/// Occupied threads, last turn, number of the device: the order in which lanes are served.
pub(super) type ReadyKey = (usize, u64, u32);

pub(super) struct DeviceLane {
    pub(super) device: Arc<Device>,
    /// The numbers of the queued jobs.
    queue: FairQueue<Share>,
    /// Threads that run a job which is waited for.
    running: usize,
    /// Threads in a call that has exceeded its patience, or in a probe.
    abandoned: usize,
    /// When the lane last took a thread.
    pub(super) turn: u64,
    /// The entry among the lanes that are ready.
    pub(super) ready: Option<ReadyKey>,
    /// Since when jobs have waited in vain for a thread.
    unserved_since: Option<Instant>,
    /// How to probe the device while it may be stuck, or is.
    probe: Option<Probe>,
}

struct Probe {
    /// Where a call has not returned.
    path: PathBuf,
    /// When the next one is to start.
    due: Instant,
    /// Since when one is queued or running.
    pending_since: Option<Instant>,
}

impl DeviceLane {
    pub(super) fn new(device: Arc<Device>, turn: u64) -> DeviceLane {
        DeviceLane {
            device,
            queue: FairQueue::new(),
            running: 0,
            abandoned: 0,
            turn,
            ready: None,
            unserved_since: None,
            probe: None,
        }
    }

    pub(super) fn queue(&self) -> &FairQueue<Share> {
        &self.queue
    }

    pub(super) fn push(&mut self, share: Share, job: u64) {
        let allowance = match share {
            // The last thread of a lane is for another share.
            Share::User(_) | Share::Common => Allowance {
                concurrent: LANE_THREADS_MAX - 1,
                cost: 1,
            },
            Share::Background => Allowance {
                concurrent: 1,
                cost: BACKGROUND_COST,
            },
        };
        self.queue.push(share, allowance, job);
    }

    pub(super) fn remove(&mut self, share: Share, job: u64) {
        self.queue.remove(share, job);
    }

    /// Removes the next job, or a certain one, and gives it a thread.
    pub(super) fn start(&mut self, chosen: Option<(Share, u64)>, turn: u64) -> Option<u64> {
        let job = match chosen {
            Some((share, job)) => {
                self.queue.start(share, job);
                job
            }
            None => self.queue.pop()?.1,
        };
        self.running += 1;
        self.turn = turn;
        self.unserved_since = None;
        Some(job)
    }

    /// Takes back the thread of a job that ran for `elapsed`.
    pub(super) fn end(&mut self, share: Share, elapsed: Duration) {
        self.running -= 1;
        self.queue.end(share, elapsed);
    }

    /// Gives up the job of a thread: another job may have its place in the lane. The place in its
    /// share stays taken, so that a user does not use up the lane with one file that hangs.
    pub(super) fn abandon(&mut self) {
        self.running -= 1;
        self.abandoned += 1;
    }

    /// Frees the place that an abandoned job has in its share.
    pub(super) fn release_share(&mut self, share: Share, elapsed: Duration) {
        self.queue.end(share, elapsed);
    }

    /// Takes back the thread of a job that was given up, or of a probe.
    pub(super) fn end_abandoned(&mut self) {
        self.abandoned -= 1;
    }

    /// Threads that the lane has.
    pub(super) fn occupied(&self) -> usize {
        self.running + self.abandoned
    }

    /// Threads in calls that were given up.
    pub(super) fn abandoned(&self) -> usize {
        self.abandoned
    }

    /// Whether a job may start, as far as the lane is concerned.
    pub(super) fn is_ready(&self) -> bool {
        self.queue.startable() > 0
            && self.running < LANE_THREADS_MAX
            && self.occupied() < LANE_OCCUPIED_MAX
            && self.probe.is_none()
    }

    /// Whether the lane can be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.len() == 0 && self.occupied() == 0 && self.probe.is_none()
    }

    /// Whether jobs have waited for `most` without a thread that the lane may take.
    pub(super) fn is_unserved(&mut self, may_start: bool, now: Instant, most: Duration) -> bool {
        if may_start || self.running > 0 || self.queue.len() == 0 {
            self.unserved_since = None;
            return false;
        }
        let since = *self.unserved_since.get_or_insert(now);
        now.saturating_duration_since(since) >= most
    }

    /// Suspects that the device does not answer, since a call has not returned. A probe finds out,
    /// and no job starts before.
    pub(super) fn suspect(&mut self, path: PathBuf, now: Instant) {
        self.unserved_since = None;
        let probe = || Probe {
            path,
            due: now,
            pending_since: None,
        };
        self.probe.get_or_insert_with(probe);
    }

    /// Returns where a call has not returned if the probe has not returned in time either, or if
    /// no thread is left to go on.
    pub(super) fn confirmed_hang(&self, now: Instant) -> Option<&Path> {
        let probe = self.probe.as_ref()?;
        let is_late = probe.pending_since.is_some_and(|since| {
            let waited = now.saturating_duration_since(since);
            waited >= DISK_PROBE_TIMEOUT
        });
        let is_confirmed = is_late || self.occupied() >= LANE_OCCUPIED_MAX;
        is_confirmed.then_some(&*probe.path)
    }

    /// Removes all queued jobs, in order of submission.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        self.queue.drain()
    }

    /// Whether a probe is to start now; if so, it counts as queued.
    pub(super) fn take_due_probe(&mut self, now: Instant) -> bool {
        let has_thread = self.occupied() <= LANE_OCCUPIED_MAX;
        match &mut self.probe {
            Some(probe) if probe.pending_since.is_none() && has_thread && now >= probe.due => {
                probe.pending_since = Some(now);
                probe.due = now + DISK_PROBE_INTERVAL;
                true
            }
            _ => false,
        }
    }

    /// Gives a thread to the probe; returns the path to try.
    pub(super) fn start_probe(&mut self) -> Option<PathBuf> {
        let path = self.probe.as_ref()?.path.clone();
        self.abandoned += 1;
        Some(path)
    }

    /// Notes that a call on the device has returned. Returns whether the device was stuck and is
    /// no longer.
    pub(super) fn set_answering(&mut self) -> bool {
        if self.occupied() >= LANE_OCCUPIED_MAX
            && let Some(probe) = &mut self.probe
        {
            // The device answers, but not the calls that were given up: no thread is left to go on.
            probe.pending_since = None;
            return false;
        }
        self.probe = None;
        self.device.set_stuck(false)
    }
}

//! The jobs that have a thread, and for how long their calls may take.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::server::workers::job::Share;
use crate::server::workers::owned_jobs::CancelKey;
use crate::server::workers::refusal::Answer;
use crate::server::workers::token::JobToken;

/// A job that has a thread.
pub(super) struct RunningJob {
    pub(super) device: u32,
    pub(super) share: Share,
    pub(super) cancel_key: Option<CancelKey>,
    /// No session waits, from the start on.
    is_detached: bool,
    pub(super) answer: Answer,
    pub(super) path: PathBuf,
    pub(super) token: JobToken,
    /// Time after which a call that has not returned makes the device stuck.
    pub(super) patience: Duration,
    pub(super) started_at: Instant,
    /// When the last call was seen to have returned.
    active_at: Instant,
    /// [`JobToken::progress`] at that time.
    progress: u32,
    pub(super) state: RunningState,
    /// Whether it takes one of the places that its share has in the lane.
    pub(super) holds_share: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunningState {
    Wanted,
    /// The session has ended: the result is dropped.
    Cancelled,
    /// The patience is exceeded: the session was answered, and the result is dropped. Work that no
    /// session waits for goes on.
    Abandoned,
    /// Not a job of a user, and not waited for.
    Probe,
}

impl RunningJob {
    pub(super) fn new(
        (device, share, cancel_key): (u32, Share, Option<CancelKey>),
        (answer, path): (Answer, PathBuf),
        token: &JobToken,
        patience: Duration,
        now: Instant,
    ) -> RunningJob {
        RunningJob {
            device,
            share,
            cancel_key,
            is_detached: cancel_key.is_none() && answer.is_nothing(),
            answer,
            path,
            token: token.clone(),
            patience,
            started_at: now,
            active_at: now,
            progress: token.progress(),
            state: RunningState::Wanted,
            holds_share: true,
        }
    }

    /// Notes that the job is a probe, which takes no place in its share.
    pub(super) fn set_probe(&mut self) {
        (self.state, self.holds_share) = (RunningState::Probe, false);
    }

    /// Notes that the patience is exceeded.
    pub(super) fn abandon(&mut self) {
        self.state = RunningState::Abandoned;
        if !self.is_wanted() {
            self.token.cancel();
        }
    }

    /// Whether the job goes on, and its result is delivered.
    pub(super) fn is_wanted(&self) -> bool {
        match self.state {
            RunningState::Wanted => true,
            RunningState::Cancelled | RunningState::Probe => false,
            RunningState::Abandoned => self.is_detached,
        }
    }

    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }

    /// Whether a call of the job takes longer than its patience. Sees progress only when called:
    /// once per second is enough.
    fn is_overdue(&mut self, now: Instant) -> bool {
        let progress = self.token.progress();
        if progress != self.progress {
            (self.progress, self.active_at) = (progress, now);
        }
        let waited = now.saturating_duration_since(self.active_at);
        matches!(self.state, RunningState::Wanted | RunningState::Cancelled)
            && waited >= self.patience
    }
}

/// Returns the indices of jobs of which a call takes too long.
pub(super) fn overdue(running: &mut Slab<RunningJob>, now: Instant) -> Vec<usize> {
    let overdue = running.iter_mut().filter_map(|(index, job)| {
        let is_overdue = job.is_overdue(now);
        is_overdue.then_some(index)
    });
    overdue.collect()
}

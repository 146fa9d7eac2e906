//! The token of a running job: how the event loop and the job's worker know of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shared by a running job and the queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobToken {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cancelled: AtomicBool,
    beats: AtomicU32,
}

impl JobToken {
    /// Whether the result of the job is not wanted any more: it is to end early.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.state.is_cancelled.load(Ordering::Relaxed)
    }

    /// Reports progress, which restarts the disk timeout.
    pub(crate) fn beat(&self) {
        self.state.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Reports progress; returns whether the job is to go on.
    pub(crate) fn checkpoint(&self) -> bool {
        self.beat();
        !self.is_cancelled()
    }

    pub(super) fn cancel(&self) {
        self.state.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// The number of [`JobToken::beat`]s so far.
    pub(super) fn beats(&self) -> u32 {
        self.state.beats.load(Ordering::Relaxed)
    }
}

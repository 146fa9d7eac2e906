//! The token of a running job: how the event loop and the job's worker know of each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Shared by a running job and the queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobToken {
    is_cancelled: Arc<AtomicBool>,
    /// The file calls of the thread that have returned.
    calls: Arc<AtomicU32>,
}

impl JobToken {
    /// Creates a token for a thread that counts its file calls in `calls`.
    pub(super) fn new(calls: Arc<AtomicU32>) -> JobToken {
        JobToken {
            is_cancelled: Arc::default(),
            calls,
        }
    }

    /// Whether the result of the job is not wanted any more: it is to end early.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The counter of the thread's file calls.
    pub(super) fn calls(&self) -> &Arc<AtomicU32> {
        &self.calls
    }

    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Returns a number that changes with the job's progress.
    pub(super) fn progress(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

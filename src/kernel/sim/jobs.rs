//! The jobs of a simulation that wait in the middle of a call.
//!
//! Must not know: threads, files, sockets, the work of a job.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::kernel::sim::devices::SimDevice;
use crate::kernel::types::CallStats;

/// The thread that makes calls, as far as they depend on it.
#[derive(Clone, Default)]
pub(super) struct Caller {
    /// A worker may wait for a disk.
    pub(super) is_worker: bool,
    pub(super) stats: CallStats,
    /// Counts the calls.
    pub(super) calls: Option<Arc<AtomicU32>>,
}

impl Caller {
    pub(super) fn worker() -> Caller {
        Caller {
            is_worker: true,
            ..Caller::default()
        }
    }
}

/// The jobs with threads of their own.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) last_id: u64,
    /// The job that runs now; `None` while the harness or the event loop does.
    pub(super) running: Option<u64>,
    /// In the order in which they began to wait.
    pub(super) waiting: Vec<WaitingJob>,
    /// The message of a job that panicked.
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

pub(super) struct WaitingJob {
    pub(super) id: u64,
    pub(super) device: SimDevice,
    /// When a slow call is done; `None` for one that hangs.
    pub(super) due: Option<Duration>,
}

//! The measurement of file calls, per thread.
//!
//! A call that takes long may have waited for the disk or only for a processor. A thread that waits
//! for a disk gives up its processor by itself (`ru_nvcsw`, getrusage(2)); one that was preempted
//! does not. As reading that counter costs as much as a fast call, it is read only for some time
//! after a call that took long, which therefore does not count itself.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

use crate::kernel::types::CallStats;
use crate::limits::SLOW_CALL;

/// Calls after a long one for which the reason of the delay is looked up.
const SUSPICIOUS_CALLS: u32 = 256;

thread_local! {
    static STATS: Cell<CallStats> = const { Cell::new(CallStats { calls: 0, slow: 0 }) };
    static SUSPICIOUS: Cell<u32> = const { Cell::new(0) };
    static CALLS: RefCell<Option<Arc<AtomicU32>>> = const { RefCell::new(None) };
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call on a file system and measures it.
pub(super) fn timed<T>(call: impl FnOnce() -> T) -> T {
    let suspicious = SUSPICIOUS.get();
    let waits = (suspicious > 0).then(waits_so_far);
    let began_at = Instant::now();
    let result = call();
    let is_long = began_at.elapsed() >= SLOW_CALL;
    let is_slow = is_long && waits.is_some_and(|before| waits_so_far() > before);
    SUSPICIOUS.set(match is_long {
        true => SUSPICIOUS_CALLS,
        false => suspicious.saturating_sub(1),
    });
    CALLS.with_borrow(|counter| {
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let CallStats { calls, slow } = STATS.get();
    STATS.set(CallStats {
        calls: calls.saturating_add(1),
        slow: slow.saturating_add(u32::from(is_slow)),
    });
    result
}

/// Returns the measurements of this thread since the last call of this function.
pub(super) fn take_stats() -> CallStats {
    STATS.take()
}

/// Counts the returned calls of this thread in `calls` from now on.
pub(super) fn count_calls(calls: &Arc<AtomicU32>) {
    CALLS.set(Some(calls.clone()));
}

/// Whether the calling thread is a worker.
pub(super) fn is_worker() -> bool {
    IS_WORKER.get()
}

/// Sets whether the calling thread is a worker.
pub(super) fn set_worker(is_worker: bool) {
    IS_WORKER.set(is_worker);
}

/// The times that this thread gave up its processor to wait.
fn waits_so_far() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn a_call_that_waits_is_slow_and_one_that_computes_is_not() {
        let wait = || timed(|| sleep(SLOW_CALL));
        take_stats();
        timed(|| ());
        wait();
        assert_eq!(take_stats(), CallStats { calls: 2, slow: 0 });
        wait();
        let began_at = Instant::now();
        timed(|| while began_at.elapsed() < SLOW_CALL {});
        let stats = take_stats();
        assert_eq!(stats.calls, 2);
        assert!(stats.slow >= 1);
        assert_eq!(take_stats(), CallStats::default());
    }
}

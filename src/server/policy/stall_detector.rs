//! Transfers that move too little: who holds a slot and hardly takes or sends anything is let go of.
//!
//! Looked at once a sweep, and only where the operator has set a floor.
//!
//! Must not know: sockets, files, what becomes of who is too slow.

use std::collections::HashMap;
use std::time::Instant;

use crate::limits::STALL_WINDOW;

/// Since when each transfer has been watched, and from which byte on.
pub(crate) struct StallDetector {
    /// Bytes that have to move within [`STALL_WINDOW`].
    least: u64,
    /// By a connection's generation.
    since: HashMap<u64, (Instant, u64)>,
    /// Those of the sweep that goes on.
    next: HashMap<u64, (Instant, u64)>,
}

impl StallDetector {
    /// With a floor of `rate` bytes a second; 0 is none.
    pub(crate) fn new(rate: u64) -> StallDetector {
        StallDetector {
            least: rate.saturating_mul(STALL_WINDOW.as_secs()),
            since: HashMap::new(),
            next: HashMap::new(),
        }
    }

    /// Whether anybody is to be looked at.
    pub(crate) fn is_watching(&self) -> bool {
        self.least > 0
    }

    /// Looks at a transfer that waits for its client, on a connection that has moved `at` bytes so far, and says whether it is too
    /// slow.
    pub(crate) fn is_too_slow(&mut self, generation: u64, at: u64, now: Instant) -> bool {
        let (since, from) = self.since.get(&generation).copied().unwrap_or((now, at));
        let is_over = now.saturating_duration_since(since) >= STALL_WINDOW;
        let is_slow = is_over && at.wrapping_sub(from) < self.least;
        let next = match is_over {
            true => (now, at),
            false => (since, from),
        };
        self.next.insert(generation, next);
        is_slow
    }

    /// The sweep is over: who was not looked at in it begins anew.
    pub(crate) fn end_sweep(&mut self) {
        std::mem::swap(&mut self.since, &mut self.next);
        self.next.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_who_moves_too_little_over_a_whole_window_is_too_slow() {
        let begin = Instant::now();
        let mut paces = StallDetector::new(100);
        let mut slow = Vec::new();
        for second in 0..=130u64 {
            let now = begin + Duration::from_secs(second);
            // One at half the floor, one at the floor, one that waits for us each half minute.
            for (generation, at) in [(1, second * 50), (2, second * 100), (3, second)] {
                if generation == 3 && second % 30 == 0 {
                    continue;
                }
                if paces.is_too_slow(generation, at, now) {
                    slow.push((generation, second));
                }
            }
            paces.end_sweep();
        }
        assert_eq!(slow, [(1, 60), (1, 120)]);
        assert!(!StallDetector::new(0).is_watching());
    }
}

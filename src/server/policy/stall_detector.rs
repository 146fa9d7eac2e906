//! Detection of stalled transfers: slower than `--min-rate` over a whole window.

use std::collections::HashMap;
use std::time::Instant;

use crate::limits::STALL_WINDOW;

/// Watches the progress of all transfers that wait for their client, once per sweep.
pub(crate) struct StallDetector {
    /// Bytes that a transfer must move within [`STALL_WINDOW`]; 0 turns the detector off.
    bytes_min: u64,
    /// The start of the current window of each transfer, by the generation of its connection.
    windows: HashMap<u64, Window>,
    /// The windows of the transfers seen in the sweep in progress.
    seen: HashMap<u64, Window>,
}

#[derive(Clone, Copy)]
struct Window {
    began_at: Instant,
    /// Bytes moved by the connection before the window.
    bytes: u64,
}

impl StallDetector {
    /// Creates a detector for a minimum rate in bytes per second; 0 turns it off.
    pub(crate) fn new(min_rate: u64) -> StallDetector {
        StallDetector {
            bytes_min: min_rate.saturating_mul(STALL_WINDOW.as_secs()),
            windows: HashMap::new(),
            seen: HashMap::new(),
        }
    }

    /// Returns whether there is a minimum rate.
    pub(crate) fn is_enabled(&self) -> bool {
        self.bytes_min > 0
    }

    /// Records the progress of a transfer that waits for its client and returns whether it moved
    /// too little in a window that ends now. `bytes` counts all bytes of the connection and may
    /// wrap.
    pub(crate) fn is_stalled(&mut self, generation: u64, bytes: u64, now: Instant) -> bool {
        let start = Window {
            began_at: now,
            bytes,
        };
        let window = self.windows.get(&generation).copied().unwrap_or(start);
        let is_over = now.saturating_duration_since(window.began_at) >= STALL_WINDOW;
        self.seen
            .insert(generation, if is_over { start } else { window });
        is_over && bytes.wrapping_sub(window.bytes) < self.bytes_min
    }

    /// Ends the sweep: transfers that were not recorded in it start a new window.
    pub(crate) fn end_sweep(&mut self) {
        std::mem::swap(&mut self.windows, &mut self.seen);
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_slow_transfers_over_a_whole_window_stall() {
        let begin = Instant::now();
        let mut detector = StallDetector::new(100);
        let mut stalled = Vec::new();
        for second in 0..=130u64 {
            let now = begin + Duration::from_secs(second);
            // At half the minimum rate, at the minimum rate, and one that waits for the server
            // every half minute.
            for (generation, bytes) in [(1, second * 50), (2, second * 100), (3, second)] {
                if generation == 3 && second % 30 == 0 {
                    continue;
                }
                if detector.is_stalled(generation, bytes, now) {
                    stalled.push((generation, second));
                }
            }
            detector.end_sweep();
        }
        assert_eq!(stalled, [(1, 60), (1, 120)]);
        assert!(!StallDetector::new(0).is_enabled());
    }
}

//! The state machine of a graceful shutdown and of a handover.
//!
//! ```text
//! running ── stop ──▶ draining ── no connection left, or a second stop ──▶ stopped
//!    └── handover ──▶ handed over ── timeout ──▶ draining
//! ```
//!
//! After a handover another process serves the listeners, and the sessions here run to their own
//! end. While draining, idle sessions end with a message and transfers may finish.

use std::time::{Duration, Instant};

/// How the event loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every session has ended, or the drain timed out.
    Drained,
    /// A second signal did not wait for that.
    AtOnce,
}

/// The phase of a shutdown.
pub(super) struct Shutdown {
    phase: Phase,
    /// Time that a graceful shutdown allows for transfers to finish.
    timeout: Duration,
}

#[derive(Clone, Copy)]
enum Phase {
    Running,
    HandedOver { until: Instant },
    Draining { until: Instant },
    Stopped(Stopped),
}

/// A step of the shutdown, for the event loop to perform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownStep {
    /// Accept no more clients and let the sessions finish.
    Drain,
    /// The drain timed out: close the remaining connections.
    CutOff,
    /// A second stop: the loop ends at once.
    StopAtOnce,
}

impl Shutdown {
    pub(super) fn new(timeout: Duration) -> Shutdown {
        Shutdown {
            phase: Phase::Running,
            timeout,
        }
    }

    /// Handles a signal to stop.
    pub(super) fn stop(&mut self, now: Instant) -> ShutdownStep {
        match self.phase {
            Phase::Running | Phase::HandedOver { .. } => self.drain(now),
            Phase::Draining { .. } | Phase::Stopped(_) => {
                self.phase = Phase::Stopped(Stopped::AtOnce);
                ShutdownStep::StopAtOnce
            }
        }
    }

    fn drain(&mut self, now: Instant) -> ShutdownStep {
        let until = now + self.timeout;
        self.phase = Phase::Draining { until };
        ShutdownStep::Drain
    }

    /// Handles a handover to another process.
    pub(super) fn hand_over(&mut self, now: Instant) {
        if let Phase::Running | Phase::HandedOver { .. } = self.phase {
            let until = now + self.timeout;
            self.phase = Phase::HandedOver { until };
        }
    }

    /// Returns the step that a timeout asks for, if one has expired.
    pub(super) fn sweep(&mut self, now: Instant) -> Option<ShutdownStep> {
        match self.phase {
            Phase::HandedOver { until } if now >= until => Some(self.drain(now)),
            Phase::Draining { until } if now >= until => Some(ShutdownStep::CutOff),
            _ => None,
        }
    }

    /// Whether the graceful shutdown has timed out.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Draining { until } if now >= until)
    }

    /// Notes that no connection is left.
    pub(super) fn set_empty(&mut self) {
        if let Phase::HandedOver { .. } | Phase::Draining { .. } = self.phase {
            self.phase = Phase::Stopped(Stopped::Drained);
        }
    }

    /// Returns how the loop has ended, once it has.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        match self.phase {
            Phase::Stopped(stopped) => Some(stopped),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn drain_ends_when_empty_or_cut_off() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(TIMEOUT);
        shutdown.set_empty();
        assert_eq!(shutdown.stopped(), None, "an idle server goes on");
        assert_eq!(shutdown.stop(now), ShutdownStep::Drain);
        assert_eq!(shutdown.sweep(now), None);
        assert_eq!(shutdown.sweep(now + TIMEOUT), Some(ShutdownStep::CutOff));
        assert_eq!(shutdown.stopped(), None);
        shutdown.set_empty();
        assert_eq!(shutdown.stopped(), Some(Stopped::Drained));
    }

    #[test]
    fn second_stop_ends_at_once() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(TIMEOUT);
        shutdown.stop(now);
        assert_eq!(shutdown.stop(now), ShutdownStep::StopAtOnce);
        shutdown.set_empty();
        assert_eq!(shutdown.stopped(), Some(Stopped::AtOnce));
    }

    #[test]
    fn handover_drains_after_its_timeout() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(TIMEOUT);
        shutdown.hand_over(now);
        assert_eq!(shutdown.sweep(now), None);
        assert_eq!(shutdown.sweep(now + TIMEOUT), Some(ShutdownStep::Drain));
        shutdown.hand_over(now);
        let later = now + 2 * TIMEOUT;
        assert_eq!(shutdown.sweep(later), Some(ShutdownStep::CutOff));
    }
}

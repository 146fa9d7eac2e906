//! The sweep: once a second, a walk over all slots for their deadlines.
//!
//! Deadlines are whole seconds, so a stored time and this walk cost less than an ordered structure.

use std::time::Instant;

use crate::domain::error::{CloseReason, ErrorCode};
use crate::kernel::Kernel;
use crate::limits::SWEEP_INTERVAL;
use crate::protocol::step::Input;
use crate::server::conn::control::Expired;
use crate::server::conn::data::DataOutcome;
use crate::server::event_loop::slot::{Occupant, Schedule, Slot};
use crate::server::options::Options;
use crate::server::policy::stall_detector::StallDetector;

/// When the next sweep is due, and its record of transfers.
pub(super) struct Sweep {
    next: Instant,
    stall_detector: StallDetector,
}

/// The consequence of one slot's deadlines.
pub(super) enum Finding {
    Nothing,
    CloseControl(CloseReason),
    /// Give the session this input; it chooses the message for the client.
    Notify(Input<'static>),
    /// A data connection is to check its own deadlines.
    CheckData,
    EndData(DataOutcome),
}

impl Sweep {
    pub(super) fn new(now: Instant, options: &Options) -> Sweep {
        Sweep {
            next: now + SWEEP_INTERVAL,
            stall_detector: StallDetector::new(options.min_rate),
        }
    }

    /// Returns the time of the next sweep.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.next = now + SWEEP_INTERVAL;
    }

    /// Checks one slot.
    pub(super) fn check<K: Kernel>(
        &mut self,
        slot: &Slot<K>,
        now: Instant,
        options: &Options,
    ) -> Finding {
        let is_stalled = self.is_stalled(slot, now);
        match &slot.occupant {
            _ if slot.schedule == Schedule::Closed => Finding::Nothing,
            // A message would be taken for bytes of the file.
            Occupant::Control(_) if is_stalled => Finding::CloseControl(CloseReason::TooSlow),
            Occupant::Data(_) if is_stalled => {
                let idle = Err(ErrorCode::DataConnectionIdle);
                Finding::EndData(DataOutcome::Done(idle))
            }
            Occupant::Control(control) => {
                let is_queued = slot.schedule.is_queued();
                match control.expired(now, is_queued, options) {
                    None => Finding::Nothing,
                    Some(Expired::Close(reason)) => Finding::CloseControl(reason),
                    Some(Expired::Idle) => Finding::Notify(Input::Idle),
                }
            }
            Occupant::Data(_) => Finding::CheckData,
            Occupant::Closed => Finding::Nothing,
        }
    }

    fn is_stalled<K: Kernel>(&mut self, slot: &Slot<K>, now: Instant) -> bool {
        self.stall_detector.is_enabled()
            && slot
                .transfer_progress()
                .is_some_and(|(generation, at)| self.stall_detector.is_stalled(generation, at, now))
    }

    /// Ends a sweep: transfers that it did not see start over.
    pub(super) fn end(&mut self) {
        self.stall_detector.end_sweep();
    }
}

//! A slot of the slab: a connection and its place in the schedule.

use crate::kernel::Kernel;
use crate::server::conn::control::ControlConnection;
use crate::server::conn::data::DataConnection;
use crate::server::event_loop::run_queue::RunShare;
use crate::server::session_id::{SessionId, UserKey};

/// One slot.
pub(super) struct Slot<K: Kernel> {
    pub(super) occupant: Occupant<K>,
    pub(super) schedule: Schedule,
}

// An idle plain session fits into 256 bytes.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Slot<crate::kernel::linux::Linux>>() <= 232);

/// The connection in a slot.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every slot is a control connection, which a box of its own would make larger"
)]
pub(super) enum Occupant<K: Kernel> {
    Control(ControlConnection<K>),
    /// Boxed, since most slots hold a session that waits for a line.
    Data(Box<DataConnection<K>>),
    /// A data connection that was closed in this tick.
    Closed,
}

/// The reason for which a slot waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    /// An event, a completion or a deadline.
    Waiting,
    /// Its turn in the run queue, among the slots with short work.
    QueuedLine(RunShare),
    /// Its turn in the run queue, among the transfers.
    QueuedTransfer(RunShare),
    /// Its rate limit.
    Parked,
    /// Its removal at the end of the tick.
    Closed,
}

impl Schedule {
    /// Whether the slot waits for its next time slice.
    pub(super) fn is_queued(self) -> bool {
        match self {
            Schedule::QueuedLine(_) | Schedule::QueuedTransfer(_) | Schedule::Parked => true,
            Schedule::Waiting | Schedule::Closed => false,
        }
    }
}

impl<K: Kernel> Slot<K> {
    pub(super) fn new(occupant: Occupant<K>) -> Slot<K> {
        Slot {
            occupant,
            schedule: Schedule::Waiting,
        }
    }

    /// Whether only an event, a completion or a deadline can give the slot work.
    pub(super) fn is_blocked(&self) -> bool {
        match &self.occupant {
            Occupant::Control(control) => control.is_blocked(),
            Occupant::Data(data) => data.is_blocked(),
            Occupant::Closed => true,
        }
    }

    /// Returns the user that the connection belongs to, from login on.
    pub(super) fn user(&self) -> Option<UserKey> {
        match &self.occupant {
            Occupant::Control(control) => control.user(),
            Occupant::Data(data) => data.owner().user,
            Occupant::Closed => None,
        }
    }

    /// Returns the connections with which the slot takes turns.
    pub(super) fn share(&self) -> Option<RunShare> {
        let peer = match &self.occupant {
            Occupant::Control(control) => control.peer(),
            Occupant::Data(data) => data.owner().peer,
            Occupant::Closed => return None,
        };
        Some(RunShare::of(self.user(), peer))
    }

    /// Whether the next time slice is for a transfer, or for lines that are handled in order with
    /// the end of one.
    pub(super) fn is_transferring(&self) -> bool {
        match &self.occupant {
            Occupant::Control(control) => {
                control.is_transferring() || control.reads_lines_during_transfer()
            }
            Occupant::Data(data) => data.is_transferring(),
            Occupant::Closed => false,
        }
    }

    /// Returns the user whose rate limit applies to the next time slice.
    pub(super) fn rate_limited_by(&self) -> Option<UserKey> {
        match &self.occupant {
            Occupant::Control(control) => control.rate_limited_by(),
            Occupant::Data(data) => data.rate_limited_by(),
            Occupant::Closed => None,
        }
    }

    /// Returns the generation and the bytes moved so far of a transfer that waits for its client.
    pub(super) fn transfer_progress(&self) -> Option<(u64, u64)> {
        match &self.occupant {
            _ if self.schedule != Schedule::Waiting => None,
            Occupant::Control(control) => {
                Some((control.generation(), control.transfer_progress()?))
            }
            Occupant::Data(data) => Some((data.id().generation, data.transfer_progress()?)),
            Occupant::Closed => None,
        }
    }

    /// Whether a completion for `id` is for the current occupant, and awaited.
    pub(super) fn awaits(&self, id: SessionId) -> bool {
        match &self.occupant {
            _ if self.schedule == Schedule::Closed => false,
            Occupant::Control(control) => {
                control.generation() == id.generation && control.awaits_completion()
            }
            Occupant::Data(data) => data.id() == id && data.has_worker(),
            Occupant::Closed => false,
        }
    }
}

//! What stands in a slot of the loop's slab: a control connection with its session, or a data connection.
//!
//! Must not know: what either does.

use crate::kernel::{Kernel, Readiness};
use crate::server::conn::control::Connection;
use crate::server::conn::data::Data;
use crate::server::session_id::SessionId;
use crate::server::session_id::UserKey;

/// One slot.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every slot is a control connection, and a box of its own would cost each of them more"
)]
pub(crate) enum Slot<K: Kernel> {
    /// Where commands come, or the menu's everything.
    Control(Connection<K>),
    /// Boxed, since those who wait for a command are many.
    Data(Box<Data<K>>),
}

impl<K: Kernel> Slot<K> {
    pub(crate) fn notice(&mut self, event: Readiness) {
        match self {
            Slot::Control(connection) => connection.notice(event),
            Slot::Data(data) => data.notice(event),
        }
    }

    pub(crate) fn is_transferring(&self) -> bool {
        match self {
            Slot::Control(connection) => connection.is_transferring(),
            Slot::Data(data) => data.is_transferring(),
        }
    }

    /// It is to be removed when the batch of events is through.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Slot::Control(connection) => connection.finished,
            Slot::Data(data) => data.is_closed(),
        }
    }

    /// Whether there is nothing to do before an event, an answer, a wish or a deadline.
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            Slot::Control(connection) => connection.is_blocked(),
            Slot::Data(data) => data.is_blocked(),
        }
    }

    /// Whether it stands in the run queue.
    pub(crate) fn queued(&mut self) -> &mut bool {
        match self {
            Slot::Control(connection) => &mut connection.queued,
            Slot::Data(data) => &mut data.queued,
        }
    }

    /// Whose it is, once he has logged in.
    pub(crate) fn user(&self) -> Option<UserKey> {
        match self {
            Slot::Control(connection) => connection.user(),
            Slot::Data(data) => data.owner().user,
        }
    }

    /// Whose rate its turns wait for.
    pub(crate) fn bounded_by(&self) -> Option<UserKey> {
        match self {
            Slot::Control(connection) => connection.bounded_by(),
            Slot::Data(data) => data.bounded_by(),
        }
    }

    /// The generation, and bytes that have moved, of a transfer that waits for its client.
    pub(crate) fn progress(&self) -> Option<(u64, u64)> {
        match self {
            Slot::Control(connection) => Some((connection.generation(), connection.progress()?)),
            Slot::Data(data) => Some((data.session_id().generation, data.progress()?)),
        }
    }

    pub(crate) fn is_queued(&self) -> bool {
        match self {
            Slot::Control(connection) => connection.queued,
            Slot::Data(data) => data.queued,
        }
    }

    /// Whether it still holds this session_id, and waits for a reply.
    pub(crate) fn awaits(&self, session_id: SessionId) -> bool {
        match self {
            Slot::Control(connection) => {
                connection.generation() == session_id.generation && connection.awaits_answer()
            }
            Slot::Data(data) => data.session_id() == session_id && data.awaits_worker(),
        }
    }

    pub(crate) fn control(&mut self) -> Option<&mut Connection<K>> {
        match self {
            Slot::Control(connection) => Some(connection),
            Slot::Data(_) => None,
        }
    }

    pub(crate) fn data(&mut self) -> Option<&mut Data<K>> {
        match self {
            Slot::Control(_) => None,
            Slot::Data(data) => Some(data),
        }
    }
}

//! The connections in their slots, and the run queue.
//!
//! A slot is freed only at the end of a tick, so that no event of the tick reaches a new occupant.
//! The generation distinguishes successive occupants of one slot.

use std::io;

use slab::Slab;

use crate::domain::error::CloseReason;
use crate::kernel::Kernel;
use crate::server::conn::control::ControlConnection;
use crate::server::conn::data::DataConnection;
use crate::server::event_loop::run_queue::RunQueue;
use crate::server::event_loop::slot::{Occupant, Schedule, Slot};
use crate::server::net::stream::Stream;
use crate::server::service::Services;
use crate::server::session_id::SessionId;

/// All connections, and the queue of those due for a time slice.
pub(super) struct Connections<K: Kernel> {
    slots: Slab<Slot<K>>,
    /// Slots that may have a line to handle, or another short piece of work.
    lines: RunQueue,
    /// Slots that may have a part of a file to move.
    transfers: RunQueue,
    /// Slots to remove at the end of the tick: control connections with the reason.
    closed: Vec<(usize, Option<CloseReason>)>,
    next_generation: u64,
}

impl<K: Kernel> Connections<K> {
    pub(super) fn new() -> Connections<K> {
        Connections {
            slots: Slab::new(),
            lines: RunQueue::default(),
            transfers: RunQueue::default(),
            closed: Vec::new(),
            next_generation: 1,
        }
    }

    /// Returns a generation, never used before.
    pub(super) fn next_generation(&mut self) -> u64 {
        let generation = self.next_generation;
        self.next_generation += 1;
        generation
    }

    /// Registers a stream and puts the connection that `build` makes of it and its key into a slot.
    pub(super) fn insert(
        &mut self,
        kernel: &K,
        mut stream: Stream<K>,
        build: impl FnOnce(Stream<K>, usize) -> Occupant<K>,
    ) -> io::Result<usize> {
        let entry = self.slots.vacant_entry();
        let key = entry.key();
        stream.register(kernel, key)?;
        entry.insert(Slot::new(build(stream, key)));
        Ok(key)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = (usize, &Slot<K>)> {
        self.slots.iter()
    }

    pub(super) fn keys(&self) -> Vec<usize> {
        self.slots.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn get(&self, key: usize) -> Option<&Slot<K>> {
        self.slots.get(key)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Slot<K>> {
        self.slots.get_mut(key)
    }

    /// Returns the control connection in a slot, unless it is closed.
    pub(super) fn control(&mut self, key: usize) -> Option<&mut ControlConnection<K>> {
        match self.slots.get_mut(key)? {
            Slot {
                occupant: Occupant::Control(control),
                schedule,
            } if *schedule != Schedule::Closed => Some(control),
            _ => None,
        }
    }

    pub(super) fn controls(&mut self) -> impl Iterator<Item = (usize, &mut ControlConnection<K>)> {
        self.slots
            .iter_mut()
            .filter_map(|(key, slot)| match &mut slot.occupant {
                Occupant::Control(control) => Some((key, control)),
                _ => None,
            })
    }

    /// Returns the data connection in a slot.
    pub(super) fn data(&mut self, key: usize) -> Option<&mut DataConnection<K>> {
        match &mut self.slots.get_mut(key)?.occupant {
            Occupant::Data(data) => Some(data),
            _ => None,
        }
    }

    /// Whether the connection that `id` names still exists and waits for a completion.
    pub(super) fn awaits(&self, id: SessionId) -> bool {
        self.slots.get(id.key).is_some_and(|slot| slot.awaits(id))
    }

    pub(super) fn is_queued(&self, key: usize) -> bool {
        let slot = self.slots.get(key);
        slot.is_some_and(|slot| slot.schedule.is_queued())
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.lines.is_empty() || !self.transfers.is_empty()
    }

    pub(super) fn queued(&self) -> impl Iterator<Item = usize> {
        self.lines.keys().into_iter().chain(self.transfers.keys())
    }

    /// Puts a waiting slot at the end of its share of the run queue.
    pub(super) fn enqueue(&mut self, key: usize) {
        if let Some(slot) = self.slots.get_mut(key)
            && slot.schedule == Schedule::Waiting
            && let Some(share) = slot.share()
        {
            if slot.is_transferring() {
                slot.schedule = Schedule::QueuedTransfer(share);
                self.transfers.push(share, key);
            } else {
                slot.schedule = Schedule::QueuedLine(share);
                self.lines.push(share, key);
            }
        }
    }

    /// Enqueues a slot or, if its user's rate limit is used up, parks it until there are tokens.
    /// Returns true if it is parked.
    pub(super) fn park_or_enqueue(&mut self, key: usize, services: &mut Services<K>) -> bool {
        if let Some(slot) = self.slots.get_mut(key)
            && slot.schedule == Schedule::Waiting
            && let Some(user) = slot.rate_limited_by()
            && services.rates_mut().park(user, key)
        {
            slot.schedule = Schedule::Parked;
            return true;
        }
        self.enqueue(key);
        false
    }

    /// Takes the next slot with a short piece of work out of the run queue.
    pub(super) fn next_line(&mut self) -> Option<usize> {
        self.lines.pop()
    }

    /// Takes the next slot with a transfer out of the run queue.
    pub(super) fn next_transfer(&mut self) -> Option<usize> {
        self.transfers.pop()
    }

    /// Begins the time slice of a slot that was taken out of its queue.
    pub(super) fn begin_slice(&mut self, key: usize) {
        if let Some(slot) = self.slots.get_mut(key)
            && slot.schedule.is_queued()
        {
            slot.schedule = Schedule::Waiting;
        }
    }

    /// Closes a control connection at the end of the tick.
    pub(super) fn close_control(
        &mut self,
        key: usize,
        reason: CloseReason,
        services: &mut Services<K>,
    ) {
        if self.mark_closed(key, services).is_some() {
            self.closed.push((key, Some(reason)));
        }
    }

    /// Takes a data connection out of its slot, to be closed; the slot is freed at the end of the
    /// tick.
    pub(super) fn take_data(
        &mut self,
        key: usize,
        services: &mut Services<K>,
    ) -> Option<Box<DataConnection<K>>> {
        let slot = self.mark_closed(key, services)?;
        let occupant = std::mem::replace(&mut slot.occupant, Occupant::Closed);
        self.closed.push((key, None));
        match occupant {
            Occupant::Data(data) => Some(data),
            _ => None,
        }
    }

    /// Takes a slot out of the schedule while its user is still known to the services.
    fn mark_closed(&mut self, key: usize, services: &mut Services<K>) -> Option<&mut Slot<K>> {
        let slot = self.slots.get_mut(key)?;
        match std::mem::replace(&mut slot.schedule, Schedule::Closed) {
            Schedule::Closed => return None,
            Schedule::Waiting => {}
            Schedule::QueuedLine(share) => self.lines.remove(share, key),
            Schedule::QueuedTransfer(share) => self.transfers.remove(share, key),
            Schedule::Parked => {
                if let Some(user) = slot.user() {
                    services.rates_mut().cancel(user, key);
                }
            }
        }
        Some(slot)
    }

    /// Frees the slot of a connection that was closed in this tick.
    pub(super) fn remove_closed(&mut self) -> Option<Removed<K>> {
        let (key, reason) = self.closed.pop()?;
        let slot = self.slots.remove(key);
        let session = match (slot.occupant, reason) {
            (Occupant::Control(control), Some(reason)) => Some((control, reason)),
            _ => None,
        };
        Some(Removed { key, session })
    }

    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }
}

/// A connection whose slot was freed.
pub(super) struct Removed<K: Kernel> {
    pub(super) key: usize,
    /// The control connection of a session and why it ended; `None` for a data connection.
    pub(super) session: Option<(ControlConnection<K>, CloseReason)>,
}

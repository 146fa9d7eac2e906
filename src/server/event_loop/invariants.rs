//! Assertions about the event loop's own state, which hold between two ticks.

use std::collections::HashMap;

use crate::kernel::Kernel;
use crate::server::conn::control::{Admission, ControlConnection};
use crate::server::event_loop::accept::Acceptor;
use crate::server::event_loop::data_sessions::DataState;
use crate::server::event_loop::scheduler::Scheduler;
use crate::server::event_loop::slot::Occupant;
use crate::server::session_id::SessionId;

/// Asserts all invariants.
pub(super) fn assert_all<K: Kernel>(acceptor: &Acceptor<K>, scheduler: &Scheduler<K>) {
    assert_schedule(scheduler);
    assert_counts(acceptor, scheduler);
    assert_data_connections(scheduler);
    controls(scheduler).for_each(ControlConnection::assert_invariants);
}

/// Every slot is blocked on a flag that is false, waits for a completion, or is queued once.
fn assert_schedule<K: Kernel>(scheduler: &Scheduler<K>) {
    let mut entries: HashMap<usize, usize> = HashMap::new();
    let queued = scheduler.connections.queued();
    for key in queued.chain(scheduler.services.rates().parked()) {
        *entries.entry(key).or_default() += 1;
    }
    for (key, slot) in scheduler.connections.slots() {
        let count = entries.remove(&key).unwrap_or(0);
        let is_queued = slot.schedule.is_queued();
        assert_eq!(
            count,
            usize::from(is_queued),
            "slot {key} is in the queues {count} times"
        );
        assert!(
            is_queued || slot.is_blocked(),
            "slot {key} is neither blocked nor queued"
        );
    }
    assert!(entries.is_empty(), "a free slot is queued");
    assert!(
        !scheduler.connections.has_closed(),
        "closed connections are removed within their tick"
    );
}

fn assert_counts<K: Kernel>(acceptor: &Acceptor<K>, scheduler: &Scheduler<K>) {
    let (rejected, admitted): (Vec<_>, Vec<_>) =
        controls(scheduler).partition(|control| control.admission() == Admission::Rejected);
    assert_eq!(acceptor.rejected(), rejected.len(), "rejected connections");
    assert_eq!(acceptor.sessions(), admitted.len(), "sessions");
    assert_eq!(
        acceptor.sessions_of_all_addresses(),
        admitted.len(),
        "sessions by address"
    );
    let users = controls(scheduler).filter_map(ControlConnection::user);
    assert_eq!(
        users.count(),
        scheduler.services.sessions(),
        "sessions by user"
    );
}

/// No data connection and no port reservation outlives its session.
fn assert_data_connections<K: Kernel>(scheduler: &Scheduler<K>) {
    let sessions = &scheduler.data.sessions;
    for (key, slot) in scheduler.connections.slots() {
        let Occupant::Data(data) = &slot.occupant else {
            continue;
        };
        let owner = data.owner();
        assert!(has_session(scheduler, owner), "slot {key} has no session");
        let state = sessions.state(owner);
        let is_owned = matches!(
            state,
            DataState::Open { slot } | DataState::Dialing { slot } if slot == key
        );
        assert!(is_owned, "slot {key} is not its session's data connection");
    }
    for (reserved, owner) in scheduler.data.passive.reserved() {
        let is_owned = matches!(
            sessions.state(owner),
            DataState::Reserved { port } | DataState::Accepting { port } if port == reserved
        );
        assert!(
            is_owned && has_session(scheduler, owner),
            "port {reserved} is reserved for no session"
        );
    }
    if scheduler.connections.is_empty() {
        assert!(sessions.is_empty(), "a data session outlives its session");
    }
}

fn controls<K: Kernel>(scheduler: &Scheduler<K>) -> impl Iterator<Item = &ControlConnection<K>> {
    let slots = scheduler.connections.slots();
    slots.filter_map(|(_, slot)| match &slot.occupant {
        Occupant::Control(control) => Some(control),
        Occupant::Data(_) | Occupant::Closed => None,
    })
}

fn has_session<K: Kernel>(scheduler: &Scheduler<K>, owner: SessionId) -> bool {
    let slot = scheduler.connections.get(owner.key);
    slot.is_some_and(|slot| match &slot.occupant {
        Occupant::Control(control) => control.generation() == owner.generation,
        Occupant::Data(_) | Occupant::Closed => false,
    })
}

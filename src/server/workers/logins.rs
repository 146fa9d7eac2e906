//! Password checks: a queue of their own, served by threads of their own.
//!
//! One thread checks only passwords of clients without failed logins, so that brute force does not
//! delay those. No job of a device delays a login, and no login a job.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::auth::verified_cache::PasswordTag;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::login_queue::{LoginPlace, LoginQueue};
use crate::server::workers::job::PasswordCheck;

/// The queued password checks.
pub(super) struct Logins {
    state: Mutex<State>,
    /// Signals a new check, and the stop.
    changed: Condvar,
}

struct State {
    queue: LoginQueue<PasswordCheck>,
    /// The places of the queued checks.
    places: HashMap<PasswordTag, LoginPlace>,
    is_stopping: bool,
}

impl State {
    /// Queues a check, unless a session that has left wanted the same: it is queued already.
    fn push(&mut self, check: PasswordCheck) {
        if let Entry::Vacant(vacant) = self.places.entry(check.tag) {
            vacant.insert(self.queue.push(check.origin, check));
        }
    }

    fn pop(&mut self, trusted: bool) -> Option<PasswordCheck> {
        let check = match trusted {
            true => self.queue.pop_unsuspected(),
            false => self.queue.pop(),
        }?;
        self.places.remove(&check.tag);
        Some(check)
    }
}

impl Logins {
    pub(super) fn new() -> Logins {
        Logins {
            state: Mutex::new(State {
                queue: LoginQueue::new(),
                places: HashMap::new(),
                is_stopping: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, check: PasswordCheck) {
        self.state().push(check);
        // Notifying one thread could wake the one that takes no checks of suspects.
        self.changed.notify_all();
    }

    /// Removes the next check, for a simulation.
    pub(super) fn pop(&self) -> Option<PasswordCheck> {
        self.state().pop(false)
    }

    /// Waits for a check, with `trusted` for one of a client without failed logins; `None` at the
    /// stop.
    pub(super) fn wait(&self, trusted: bool) -> Option<PasswordCheck> {
        let mut state = self.state();
        while !state.is_stopping {
            match state.pop(trusted) {
                Some(check) => return Some(check),
                None => state = self.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
            }
        }
        None
    }

    pub(super) fn stop(&self) {
        self.state().is_stopping = true;
        self.changed.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.state().queue.len()
    }

    /// Drops a queued check.
    pub(super) fn cancel(&self, tag: &PasswordTag) {
        let state = &mut *self.state();
        if let Some(place) = state.places.remove(tag) {
            state.queue.remove(place);
        }
    }

    pub(super) fn set_failures(&self, client: ClientPrefix, failures: u32) {
        self.state().queue.set_failures(client, failures);
    }

    pub(super) fn remove_client(&self, client: ClientPrefix) -> Vec<PasswordCheck> {
        let state = &mut *self.state();
        let removed = state.queue.remove_client(client);
        for check in &removed {
            state.places.remove(&check.tag);
        }
        removed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No operation on the queue can panic half-way.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

//! Password checks: a queue of their own, served by threads of their own.
//!
//! One thread checks only passwords of clients without failed logins, so that brute force does not
//! delay those. No job of a device delays a login, and no login a job.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::login_queue::LoginQueue;
use crate::server::workers::job::PasswordCheck;

/// The queued password checks.
pub(super) struct Logins {
    state: Mutex<State>,
    /// Signals a new check, and the stop.
    changed: Condvar,
}

struct State {
    queue: LoginQueue<PasswordCheck>,
    is_stopping: bool,
}

impl Logins {
    pub(super) fn new() -> Logins {
        Logins {
            state: Mutex::new(State {
                queue: LoginQueue::new(),
                is_stopping: false,
            }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn push(&self, check: PasswordCheck) {
        let (client, failures) = (check.client, check.failures);
        self.state().queue.push(client, failures, check);
        // Notifying one thread could wake the one that takes no checks of suspects.
        self.changed.notify_all();
    }

    /// Removes the next check, for a simulation.
    pub(super) fn pop(&self) -> Option<PasswordCheck> {
        self.state().queue.pop()
    }

    /// Waits for a check, with `trusted` for one of a client without failed logins; `None` at the
    /// stop.
    pub(super) fn wait(&self, trusted: bool) -> Option<PasswordCheck> {
        let mut state = self.state();
        while !state.is_stopping {
            let next = match trusted {
                true => state.queue.pop_unsuspected(),
                false => state.queue.pop(),
            };
            match next {
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

    pub(super) fn retain(&self, keep: impl Fn(&PasswordCheck) -> bool) {
        self.state().queue.retain(keep);
    }

    pub(super) fn set_failures(&self, client: ClientPrefix, failures: u32) {
        self.state().queue.set_failures(client, failures);
    }

    pub(super) fn remove_client(&self, client: ClientPrefix) -> VecDeque<PasswordCheck> {
        self.state().queue.remove_client(client)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No operation on the queue can panic half-way.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

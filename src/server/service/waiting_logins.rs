//! The sessions that wait for a password check.

use std::collections::{BTreeMap, HashMap};

use crate::auth::verified_cache::PasswordTag;
use crate::server::session_id::SessionId;

/// The sessions that wait for each check. Equal logins are checked once.
#[derive(Default)]
pub(super) struct WaitingLogins {
    /// The sessions by generation.
    checks: HashMap<PasswordTag, BTreeMap<u64, SessionId>>,
    /// The check that each session waits for, by generation.
    sessions: HashMap<u64, PasswordTag>,
}

impl WaitingLogins {
    /// Adds a session. Returns whether it is the first that waits for the check.
    pub(super) fn add(&mut self, tag: PasswordTag, session_id: SessionId) -> bool {
        let waiting = self.checks.entry(tag).or_default();
        waiting.insert(session_id.generation, session_id);
        self.sessions.insert(session_id.generation, tag);
        waiting.len() == 1
    }

    /// Removes and returns the sessions that wait for a check.
    pub(super) fn take(&mut self, tag: &PasswordTag) -> Vec<SessionId> {
        let waiting = self.checks.remove(tag).unwrap_or_default();
        for generation in waiting.keys() {
            self.sessions.remove(generation);
        }
        waiting.into_values().collect()
    }

    /// Removes a session that ended. Returns its check if no other session waits for it.
    pub(super) fn cancel(&mut self, session_id: SessionId) -> Option<PasswordTag> {
        let tag = self.sessions.remove(&session_id.generation)?;
        let waiting = self.checks.get_mut(&tag)?;
        waiting.remove(&session_id.generation);
        if !waiting.is_empty() {
            return None;
        }
        self.checks.remove(&tag);
        Some(tag)
    }
}

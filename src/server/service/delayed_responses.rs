//! Responses to failed logins, delayed against brute force.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::request::Response;
use crate::limits::DELAYED_RESPONSES_MAX;
use crate::server::session_id::SessionId;

/// Responses by the time at which they are due. A session has at most one.
#[derive(Default)]
pub(super) struct DelayedResponses {
    by_time: BTreeMap<(Instant, u64), (SessionId, Response)>,
}

impl DelayedResponses {
    /// Adds a response that is due after `delay`. With [`DELAYED_RESPONSES_MAX`] responses waiting
    /// it is due at once: a client with that many connections is not slowed down by delays.
    pub(super) fn push(
        &mut self,
        session_id: SessionId,
        response: Response,
        now: Instant,
        delay: Duration,
    ) {
        let due = match self.by_time.len() < DELAYED_RESPONSES_MAX {
            true => now + delay,
            false => now,
        };
        self.by_time
            .insert((due, session_id.generation), (session_id, response));
    }

    /// Returns the time at which the next response is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((due, _), _)| *due)
    }

    /// Returns all responses.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Response> {
        self.by_time.values_mut().map(|(_, response)| response)
    }

    /// Removes the next response that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(SessionId, Response)> {
        let first = self.by_time.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_due_after_their_delays() {
        let (now, mut delayed) = (Instant::now(), DelayedResponses::default());
        for (generation, seconds) in [(1, 2), (2, 0), (3, 1)] {
            let session_id = SessionId {
                key: 0,
                generation,
                peer: ([127, 0, 0, 1], 1).into(),
                user: None,
            };
            let delay = Duration::from_secs(seconds);
            delayed.push(session_id, Response::Authenticated(None), now, delay);
        }
        let mut due = |seconds| {
            let now = now + Duration::from_secs(seconds);
            let due = std::iter::from_fn(|| delayed.pop_due(now));
            let due: Vec<u64> = due.map(|(session_id, _)| session_id.generation).collect();
            (due, delayed.next_due())
        };
        assert_eq!(due(0), (vec![2], Some(now + Duration::from_secs(1))));
        assert_eq!(due(2), (vec![3, 1], None));
    }
}

//! The jobs of each session, so that its end finds them without a search.

use std::collections::HashMap;

use crate::server::session_id::SessionId;

/// Where a job of a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a queue, under its number.
    Queued(u64),
    /// On a thread, under the index of its slot.
    Running(usize),
}

/// The places of all jobs with an owner. A session has one or two jobs at a time.
#[derive(Default)]
pub(super) struct OwnedJobs {
    /// By the generation of the session.
    places: HashMap<u64, Vec<Place>>,
}

impl OwnedJobs {
    pub(super) fn add(&mut self, owner: Option<SessionId>, place: Place) {
        if let Some(owner) = owner {
            self.places.entry(owner.generation).or_default().push(place);
        }
    }

    /// Moves a job of a session, if the session still has it.
    pub(super) fn replace(&mut self, owner: Option<SessionId>, old: Place, new: Place) {
        if let Some(owner) = owner
            && let Some(places) = self.places.get_mut(&owner.generation)
            && let Some(place) = places.iter_mut().find(|place| **place == old)
        {
            *place = new;
        }
    }

    pub(super) fn remove(&mut self, owner: Option<SessionId>, place: Place) {
        let Some(SessionId { generation, .. }) = owner else {
            return;
        };
        if let Some(places) = self.places.get_mut(&generation) {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.places.remove(&generation);
            }
        }
    }

    /// Removes and returns all jobs of a session.
    pub(super) fn take(&mut self, owner: SessionId) -> Vec<Place> {
        self.places.remove(&owner.generation).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn sessions(&self) -> usize {
        self.places.len()
    }
}

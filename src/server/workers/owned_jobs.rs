//! The jobs of each session and of each listing: a cancellation finds them without a search.

use std::collections::HashMap;

/// What cancels a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CancelKey {
    /// The end of a session, by its generation.
    Session(u64),
    /// The end of the last session that waits for a listing.
    Listing(u64),
}

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a queue, under its number.
    Queued(u64),
    /// On a thread, under the index of its slot.
    Running(usize),
}

/// The places of all jobs that can be cancelled. A session has one or two jobs at a time.
#[derive(Default)]
pub(super) struct OwnedJobs {
    places: HashMap<CancelKey, Vec<Place>>,
}

impl OwnedJobs {
    pub(super) fn add(&mut self, key: Option<CancelKey>, place: Place) {
        if let Some(key) = key {
            self.places.entry(key).or_default().push(place);
        }
    }

    /// Moves a job, if it was not cancelled.
    pub(super) fn replace(&mut self, key: Option<CancelKey>, old: Place, new: Place) {
        if let Some(places) = key.and_then(|key| self.places.get_mut(&key))
            && let Some(place) = places.iter_mut().find(|place| **place == old)
        {
            *place = new;
        }
    }

    pub(super) fn remove(&mut self, key: Option<CancelKey>, place: Place) {
        if let Some(key) = key
            && let Some(places) = self.places.get_mut(&key)
        {
            places.retain(|other| *other != place);
            if places.is_empty() {
                self.places.remove(&key);
            }
        }
    }

    /// Removes and returns all jobs with a key.
    pub(super) fn take(&mut self, key: CancelKey) -> Vec<Place> {
        self.places.remove(&key).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

//! The order in which listings that wait for memory are made: users take turns.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::server::session_id::UserKey;

/// `None` before the login; such sessions count as one user.
pub(super) type Requester = Option<UserKey>;

/// Queued listings by number. A listing that several users wait for is queued once for each.
#[derive(Default)]
pub(super) struct ListingQueue {
    users: HashMap<Requester, QueuedUser>,
    /// Users with a queued listing, by turn: those without a listing in memory, and the others.
    ready: [BTreeSet<(u64, Requester)>; 2],
    turns: u64,
}

#[derive(Default)]
struct QueuedUser {
    /// How many sessions wait for each queued listing.
    queued: BTreeMap<u64, usize>,
    turn: u64,
    /// Listings of the user that are in progress or in memory.
    in_memory: usize,
}

impl QueuedUser {
    /// The index in [`ListingQueue::ready`].
    fn class(&self) -> usize {
        usize::from(self.in_memory > 0)
    }
}

impl ListingQueue {
    /// Queues a listing for one more session of a user.
    pub(super) fn add(&mut self, user: Requester, listing: u64) {
        self.update(user, |queued| {
            *queued.queued.entry(listing).or_default() += 1
        });
    }

    /// Removes one session of a user from those that wait for a listing.
    pub(super) fn remove(&mut self, user: Requester, listing: u64) {
        self.update(user, |queued| {
            if let Some(sessions) = queued.queued.get_mut(&listing) {
                *sessions -= 1;
                if *sessions == 0 {
                    queued.queued.remove(&listing);
                }
            }
        });
    }

    /// Notes that a listing of a user takes memory, or no longer does.
    pub(super) fn set_in_memory(&mut self, user: Requester, is_in_memory: bool) {
        self.update(user, |queued| match is_in_memory {
            true => queued.in_memory += 1,
            false => queued.in_memory -= 1,
        });
    }

    /// Whether a listing of a user takes memory.
    pub(super) fn has_in_memory(&self, user: Requester) -> bool {
        self.users.get(&user).is_some_and(|user| user.in_memory > 0)
    }

    /// Returns the next listing and the user whose turn it is; with `is_reserve` only a user
    /// without a listing in memory. The listing stays queued.
    pub(super) fn next(&self, is_reserve: bool) -> Option<(Requester, u64)> {
        let [without, with] = self.ready.each_ref().map(|users| users.first().copied());
        let (_, user) = match is_reserve {
            true => without?,
            false => without.into_iter().chain(with).min()?,
        };
        let (listing, _) = self.users.get(&user)?.queued.first_key_value()?;
        Some((user, *listing))
    }

    /// Ends the turn of a user.
    pub(super) fn end_turn(&mut self, user: Requester) {
        self.turns += 1;
        let turn = self.turns;
        if self.users.contains_key(&user) {
            self.update(user, |queued| queued.turn = turn);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.ready.iter().all(BTreeSet::is_empty)
    }

    /// Changes the entry of a user and moves it to its place.
    fn update(&mut self, user: Requester, change: impl FnOnce(&mut QueuedUser)) {
        let turns = &mut self.turns;
        let entry = self.users.entry(user).or_insert_with(|| {
            *turns += 1;
            QueuedUser {
                turn: *turns,
                ..QueuedUser::default()
            }
        });
        self.ready[entry.class()].remove(&(entry.turn, user));
        change(entry);
        if !entry.queued.is_empty() {
            self.ready[entry.class()].insert((entry.turn, user));
        } else if entry.in_memory == 0 {
            self.users.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::policy::sessions::UserSessions;

    fn users() -> [Requester; 3] {
        let mut users = UserSessions::default();
        ["a", "b", "c"].map(|name| users.acquire(name, None))
    }

    fn take(queue: &mut ListingQueue, is_reserve: bool) -> Option<(Requester, u64)> {
        let (user, listing) = queue.next(is_reserve)?;
        queue.remove(user, listing);
        queue.end_turn(user);
        Some((user, listing))
    }

    #[test]
    fn users_take_turns_however_many_listings_they_want() {
        let (mut queue, [a, b, c]) = (ListingQueue::default(), users());
        for listing in 0..8000 {
            queue.add(a, listing);
        }
        assert_eq!(take(&mut queue, false), Some((a, 0)));
        queue.add(b, 8000);
        queue.add(c, 8001);
        queue.add(c, 8002);
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, false)).collect();
        assert_eq!(
            order[..5],
            [(a, 1), (b, 8000), (c, 8001), (a, 2), (c, 8002)]
        );
        assert_eq!(order.len(), 8002);
        assert!(queue.is_empty());
    }

    #[test]
    fn the_reserve_is_for_users_without_a_listing_in_memory() {
        let (mut queue, [a, b, _]) = (ListingQueue::default(), users());
        queue.set_in_memory(a, true);
        queue.add(a, 1);
        queue.add(b, 2);
        assert_eq!(queue.next(false), Some((a, 1)));
        assert_eq!(take(&mut queue, true), Some((b, 2)));
        assert_eq!(queue.next(true), None);
        queue.set_in_memory(a, false);
        assert_eq!(take(&mut queue, true), Some((a, 1)));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_listing_stays_queued_until_its_last_session_leaves() {
        let (mut queue, [a, ..]) = (ListingQueue::default(), users());
        queue.add(a, 1);
        queue.add(a, 1);
        queue.remove(a, 1);
        assert_eq!(queue.next(false), Some((a, 1)));
        queue.remove(a, 1);
        assert!(queue.is_empty());
    }
}

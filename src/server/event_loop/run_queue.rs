//! A queue of slots whose turns are divided evenly between shares: the users, and the networks of
//! clients that have not logged in.
//!
//! However many sessions of one user have work, another user's session waits for one of them at
//! most, per user with work. All operations take constant time, amortized.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::session_id::UserKey;

/// Shares of clients that have not logged in; networks are assigned to them.
const NETWORK_SHARES: usize = 64;

/// Slots for which a share keeps memory while it has none.
const IDLE_CAPACITY: usize = 64;

/// The sessions that take turns with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RunShare(u32);

impl RunShare {
    /// Returns the share of a connection.
    pub(super) fn of(user: Option<UserKey>, peer: SocketAddr) -> RunShare {
        let index = match user {
            Some(user) => NETWORK_SHARES + user.index(),
            None => ClientPrefix::of(peer).network_number() % NETWORK_SHARES,
        };
        RunShare(u32::try_from(index).expect("there are fewer users than sockets"))
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// Slots by share.
#[derive(Default)]
pub(super) struct RunQueue {
    /// By the number of the share.
    slots: Vec<VecDeque<usize>>,
    /// The shares with slots, in the order of their turns.
    turns: VecDeque<RunShare>,
    /// How many of the entries of a slot, the first ones, are of removed connections.
    removed: HashMap<(RunShare, usize), usize>,
    /// Entries that are not removed.
    length: usize,
}

impl RunQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds a slot that is not queued.
    pub(super) fn push(&mut self, share: RunShare, key: usize) {
        if self.slots.len() <= share.index() {
            self.slots.resize_with(share.index() + 1, VecDeque::new);
        }
        let slots = &mut self.slots[share.index()];
        if slots.is_empty() {
            self.turns.push_back(share);
        }
        slots.push_back(key);
        self.length += 1;
    }

    /// Removes a slot that was added to the share.
    pub(super) fn remove(&mut self, share: RunShare, key: usize) {
        *self.removed.entry((share, key)).or_default() += 1;
        self.length -= 1;
    }

    /// Takes the next slot.
    pub(super) fn pop(&mut self) -> Option<usize> {
        while let Some(share) = self.turns.pop_front() {
            let slots = &mut self.slots[share.index()];
            let Some(key) = slots.pop_front() else {
                continue;
            };
            if !slots.is_empty() {
                self.turns.push_back(share);
            } else if slots.capacity() > IDLE_CAPACITY {
                *slots = VecDeque::new();
            }
            if !self.take_removed(share, key) {
                self.length -= 1;
                return Some(key);
            }
        }
        None
    }

    /// Whether an entry at the front is one of a removed connection; it is forgotten then.
    fn take_removed(&mut self, share: RunShare, key: usize) -> bool {
        let Some(count) = self.removed.get_mut(&(share, key)) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.removed.remove(&(share, key));
        }
        true
    }

    /// Returns all slots, for the check of invariants.
    pub(super) fn keys(&self) -> Vec<usize> {
        let mut removed = self.removed.clone();
        let mut keys = Vec::new();
        for (index, slots) in self.slots.iter().enumerate() {
            for &key in slots {
                match removed.get_mut(&(RunShare(index as u32), key)) {
                    Some(count) if *count > 0 => *count -= 1,
                    _ => keys.push(key),
                }
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut RunQueue) -> Vec<usize> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn shares_take_turns_whatever_their_number_of_slots() {
        let mut queue = RunQueue::default();
        for key in 0..1000 {
            queue.push(RunShare(70), key);
        }
        queue.push(RunShare(3), 2000);
        queue.push(RunShare(100), 2001);
        queue.push(RunShare(3), 2002);
        let order = drain(&mut queue);
        assert_eq!(order[..6], [0, 2000, 2001, 1, 2002, 2]);
        assert_eq!(order.len(), 1003);
        assert!(queue.is_empty() && queue.slots[70].capacity() <= IDLE_CAPACITY);
    }

    #[test]
    fn removed_slots_get_no_turn_and_can_be_queued_anew() {
        let mut queue = RunQueue::default();
        let share = RunShare(1);
        for key in [1, 2, 3] {
            queue.push(share, key);
        }
        queue.remove(share, 2);
        queue.push(share, 2);
        queue.remove(share, 2);
        queue.push(share, 2);
        assert_eq!(queue.keys(), [1, 3, 2]);
        assert_eq!(drain(&mut queue), [1, 3, 2]);
        queue.push(share, 4);
        queue.remove(share, 4);
        assert!(queue.is_empty());
        assert_eq!(queue.pop(), None);
        assert!(queue.removed.is_empty());
    }

    #[test]
    fn users_and_networks_have_shares_of_their_own() {
        let of = |user: Option<usize>, peer: &str| {
            RunShare::of(user.map(UserKey::new), peer.parse().unwrap())
        };
        assert_eq!(of(Some(1), "10.0.0.1:1"), of(Some(1), "10.9.0.1:1"));
        assert_ne!(of(Some(1), "10.0.0.1:1"), of(Some(2), "10.0.0.1:1"));
        assert_eq!(of(None, "10.0.0.1:1"), of(None, "10.0.0.2:2"));
        assert_ne!(of(None, "10.0.0.1:1"), of(None, "10.0.1.1:1"));
        assert_ne!(of(None, "[2001:db8:1::1]:1"), of(None, "[2001:db8:2::1]:1"));
    }
}

//! LoginQueue that wait to be proved, and whose goes first: of the addresses the one with the fewest failed logins lately, among
//! those the one that has asked for the fewest, among those the one whose turn was longest ago. So who floods the server with
//! guesses waits for himself, and who comes with one login waits for no flood.
//!
//! Must not know: what a login is, who proves it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::server::policy::client_prefix::ClientPrefix;

/// The queue.
pub(crate) struct LoginQueue<T> {
    waiting: HashMap<ClientPrefix, Waiting<T>>,
    /// Those addresses by their rank, no two of which are equal.
    order: BTreeMap<Rank, ClientPrefix>,
    turns: u64,
}

/// What waits of one address.
struct Waiting<T> {
    failures: u32,
    /// How many have come since none was waiting.
    asked: u32,
    turn: u64,
    logins: VecDeque<T>,
}

/// The lowest goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    failures: u32,
    asked: u32,
    turn: u64,
}

impl<T> LoginQueue<T> {
    pub(crate) fn new() -> LoginQueue<T> {
        LoginQueue {
            waiting: HashMap::new(),
            order: BTreeMap::new(),
            turns: 0,
        }
    }

    /// Adds a login of an address from which so many have failed lately.
    pub(crate) fn push(&mut self, origin: ClientPrefix, failures: u32, login: T) {
        self.change(origin, |waiting| {
            waiting.failures = failures;
            waiting.asked = waiting.asked.saturating_add(1);
            waiting.logins.push_back(login);
        });
    }

    /// The next login, if need be of an address from which some have failed.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (_, &origin) = self.order.first_key_value()?;
        self.turns += 1;
        let turn = self.turns;
        self.change(origin, |waiting| {
            waiting.turn = turn;
            waiting.logins.pop_front()
        })
    }

    /// The next login of an address from which none has failed.
    pub(crate) fn pop_unsuspected(&mut self) -> Option<T> {
        let (first, _) = self.order.first_key_value()?;
        match first.failures {
            0 => self.pop(),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        let all = self.waiting.values();
        all.map(|waiting| waiting.logins.len()).sum()
    }

    /// What waits of an address counts with so many failures from now on.
    pub(crate) fn suspect(&mut self, origin: ClientPrefix, failures: u32) {
        self.change(origin, |waiting| waiting.failures = failures);
    }

    /// Drops what `keep` does not pick.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let all = self.waiting.iter();
        let changed = all.filter(|(_, waiting)| !waiting.logins.iter().all(&keep));
        for origin in changed.map(|(origin, _)| *origin).collect::<Vec<_>>() {
            self.change(origin, |waiting| waiting.logins.retain(&keep));
        }
    }

    /// Takes out all of an address.
    pub(crate) fn take(&mut self, origin: ClientPrefix) -> VecDeque<T> {
        self.change(origin, |waiting| std::mem::take(&mut waiting.logins))
    }

    /// Changes what waits of an address, and gives it the rank that follows.
    fn change<R>(&mut self, origin: ClientPrefix, change: impl FnOnce(&mut Waiting<T>) -> R) -> R {
        let mut waiting = match self.waiting.remove(&origin) {
            Some(waiting) => {
                self.order.remove(&waiting.rank());
                waiting
            }
            None => {
                self.turns += 1;
                Waiting {
                    failures: 0,
                    asked: 0,
                    turn: self.turns,
                    logins: VecDeque::new(),
                }
            }
        };
        let result = change(&mut waiting);
        if !waiting.logins.is_empty() {
            self.order.insert(waiting.rank(), origin);
            self.waiting.insert(origin, waiting);
        }
        result
    }
}

impl<T> Waiting<T> {
    fn rank(&self) -> Rank {
        Rank {
            failures: self.failures,
            asked: self.asked,
            turn: self.turn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u8) -> ClientPrefix {
        ClientPrefix::of(([127, 0, 0, number], 1).into())
    }

    fn drain(logins: &mut LoginQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| logins.pop()).collect()
    }

    #[test]
    fn who_asks_for_least_goes_first_and_who_floods_waits_for_himself() {
        let mut logins = LoginQueue::new();
        for guess in 0..4 {
            logins.push(origin(1), 0, guess);
        }
        logins.push(origin(2), 1, 10);
        logins.push(origin(2), 1, 11);
        logins.push(origin(3), 2, 20);
        logins.push(origin(4), 0, 30);
        assert_eq!(logins.len(), 8);
        assert_eq!(drain(&mut logins), [30, 0, 1, 2, 3, 10, 11, 20]);
        assert_eq!(logins.len(), 0);
    }

    #[test]
    fn those_who_ask_for_as_much_take_turns() {
        let mut logins = LoginQueue::new();
        for round in 0..3 {
            for number in [1, 2, 3] {
                logins.push(origin(number), 0, 10 * round + u32::from(number));
            }
        }
        assert_eq!(drain(&mut logins), [1, 2, 3, 11, 12, 13, 21, 22, 23]);
    }

    #[test]
    fn a_first_login_waits_for_none_of_the_guesses_that_were_queued_before_their_addresses_had_failed()
     {
        let mut logins = LoginQueue::new();
        for guess in 0..200 {
            logins.push(origin(1 + (guess % 50) as u8), 0, guess);
        }
        logins.push(origin(100), 0, 1000);
        assert_eq!(logins.pop(), Some(1000), "the others have four each");
        for number in 1..=50 {
            logins.suspect(origin(number), 1);
        }
        assert_eq!(logins.pop_unsuspected(), None);
        // Two of one address, which has never failed.
        logins.push(origin(100), 0, 1001);
        logins.push(origin(100), 0, 1002);
        assert_eq!(logins.pop_unsuspected(), Some(1001));
        assert_eq!(logins.pop(), Some(1002));
        // A slip comes before those who have failed more often.
        (1..=50).for_each(|number| logins.suspect(origin(number), 2));
        logins.push(origin(100), 1, 1003);
        assert_eq!(logins.pop_unsuspected(), None);
        assert_eq!(logins.pop(), Some(1003));
        assert_eq!(drain(&mut logins), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_dropped_takes_its_turn_along() {
        let mut logins = LoginQueue::new();
        for (number, login) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
            logins.push(origin(number), u32::from(number == 3), login);
        }
        logins.retain(|login| *login != 2);
        assert_eq!(logins.take(origin(1)), [1, 3]);
        assert_eq!(logins.take(origin(1)), []);
        logins.push(origin(2), 0, 5);
        assert_eq!(drain(&mut logins), [5, 4]);
        assert!(logins.waiting.is_empty() && logins.order.is_empty());
    }
}

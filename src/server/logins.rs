//! Logins that wait to be proved. One of each address in turn, and those of addresses without a failed login before the
//! others: so who floods the server with guesses waits for himself.
//!
//! Must not know: what a login is, who proves it.

use std::collections::{HashMap, VecDeque};

use super::origin::Origin;

/// The queue.
pub(super) struct Logins<T> {
    /// Of addresses without a failure lately.
    clean: Turns<T>,
    suspect: Turns<T>,
}

/// What waits, by whom it came from; each of them gets a turn.
struct Turns<T> {
    order: VecDeque<Origin>,
    waiting: HashMap<Origin, VecDeque<T>>,
}

impl<T> Logins<T> {
    pub(super) fn new() -> Logins<T> {
        let turns = || Turns {
            order: VecDeque::new(),
            waiting: HashMap::new(),
        };
        Logins {
            clean: turns(),
            suspect: turns(),
        }
    }

    pub(super) fn push(&mut self, origin: Origin, is_suspect: bool, login: T) {
        let turns = match is_suspect {
            true => &mut self.suspect,
            false => &mut self.clean,
        };
        let waiting = turns.waiting.entry(origin).or_default();
        if waiting.is_empty() {
            turns.order.push_back(origin);
        }
        waiting.push_back(login);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.clean.pop().or_else(|| self.suspect.pop())
    }

    pub(super) fn len(&self) -> usize {
        self.clean.len() + self.suspect.len()
    }

    /// Drops what `keep` does not pick.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        for turns in [&mut self.clean, &mut self.suspect] {
            for waiting in turns.waiting.values_mut() {
                waiting.retain(&keep);
            }
            turns.tidy();
        }
    }

    /// Takes out all of an address.
    pub(super) fn take(&mut self, origin: Origin) -> Vec<T> {
        let mut taken = Vec::new();
        for turns in [&mut self.clean, &mut self.suspect] {
            taken.extend(turns.waiting.remove(&origin).into_iter().flatten());
            turns.tidy();
        }
        taken
    }
}

impl<T> Turns<T> {
    fn pop(&mut self) -> Option<T> {
        let origin = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&origin).expect("who has a turn waits");
        let login = waiting.pop_front();
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&origin)),
            false => self.order.push_back(origin),
        }
        login
    }

    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Takes the turns of those for whom nothing waits any more.
    fn tidy(&mut self) {
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let waiting = &self.waiting;
        self.order.retain(|origin| waiting.contains_key(origin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::of(([127, 0, 0, number], 1).into())
    }

    fn drain(logins: &mut Logins<u32>) -> Vec<u32> {
        std::iter::from_fn(|| logins.pop()).collect()
    }

    #[test]
    fn who_floods_waits_for_himself() {
        let mut logins = Logins::new();
        for guess in 0..4 {
            logins.push(origin(1), false, guess);
        }
        logins.push(origin(2), true, 10);
        logins.push(origin(2), true, 11);
        logins.push(origin(3), true, 20);
        logins.push(origin(4), false, 30);
        assert_eq!(logins.len(), 8);
        assert_eq!(drain(&mut logins), [0, 30, 1, 2, 3, 10, 20, 11]);
        assert_eq!(logins.len(), 0);
    }

    #[test]
    fn what_is_dropped_takes_its_turn_along() {
        let mut logins = Logins::new();
        for (number, login) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
            logins.push(origin(number), number == 3, login);
        }
        logins.retain(|login| *login != 2);
        assert_eq!(logins.take(origin(1)), [1, 3]);
        assert_eq!(logins.take(origin(1)), []);
        logins.push(origin(2), false, 5);
        assert_eq!(drain(&mut logins), [5, 4]);
    }
}

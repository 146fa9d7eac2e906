//! The queue of logins whose passwords are to be checked.
//!
//! Clients are ordered by recently failed logins, then by logins requested since their queue was
//! last empty, then round robin. A client that floods the server with guesses delays only itself,
//! and a single login does not wait for a flood.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::server::policy::client_prefix::ClientPrefix;

/// Queued logins, ordered by the rank of their client.
pub(crate) struct LoginQueue<T> {
    clients: HashMap<ClientPrefix, Client<T>>,
    /// The clients by rank. Ranks are unique, since `turn` is.
    order: BTreeMap<Rank, ClientPrefix>,
    turns: u64,
}

/// The queued logins of one client.
struct Client<T> {
    rank: Rank,
    logins: VecDeque<T>,
}

/// The lowest rank goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    failures: u32,
    /// Logins requested since the queue of the client was last empty.
    requested: u32,
    /// The last turn of the client.
    turn: u64,
}

impl<T> LoginQueue<T> {
    pub(crate) fn new() -> LoginQueue<T> {
        LoginQueue {
            clients: HashMap::new(),
            order: BTreeMap::new(),
            turns: 0,
        }
    }

    /// Adds a login of a client with `failures` recently failed logins.
    pub(crate) fn push(&mut self, client: ClientPrefix, failures: u32, login: T) {
        self.update(client, |client| {
            client.rank.failures = failures;
            client.rank.requested = client.rank.requested.saturating_add(1);
            client.logins.push_back(login);
        });
    }

    /// Removes the next login.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (_, &first) = self.order.first_key_value()?;
        self.turns += 1;
        let turn = self.turns;
        self.update(first, |client| {
            client.rank.turn = turn;
            client.logins.pop_front()
        })
    }

    /// Removes the next login if its client has no recent failures.
    pub(crate) fn pop_unsuspected(&mut self) -> Option<T> {
        let (first, _) = self.order.first_key_value()?;
        match first.failures {
            0 => self.pop(),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        let clients = self.clients.values();
        clients.map(|client| client.logins.len()).sum()
    }

    /// Sets the number of recently failed logins of a client, which moves its queued logins.
    pub(crate) fn set_failures(&mut self, client: ClientPrefix, failures: u32) {
        self.update(client, |client| client.rank.failures = failures);
    }

    /// Removes the logins for which `keep` returns false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let clients = self.clients.iter();
        let changed = clients.filter(|(_, client)| !client.logins.iter().all(&keep));
        for client in changed.map(|(client, _)| *client).collect::<Vec<_>>() {
            self.update(client, |client| client.logins.retain(&keep));
        }
    }

    /// Removes and returns all logins of a client.
    pub(crate) fn remove_client(&mut self, client: ClientPrefix) -> VecDeque<T> {
        self.update(client, |client| std::mem::take(&mut client.logins))
    }

    /// Changes the entry of a client and moves it to the place of its new rank.
    fn update<R>(&mut self, prefix: ClientPrefix, change: impl FnOnce(&mut Client<T>) -> R) -> R {
        let mut client = match self.clients.remove(&prefix) {
            Some(client) => {
                self.order.remove(&client.rank);
                client
            }
            None => {
                self.turns += 1;
                Client {
                    rank: Rank {
                        failures: 0,
                        requested: 0,
                        turn: self.turns,
                    },
                    logins: VecDeque::new(),
                }
            }
        };
        let result = change(&mut client);
        if !client.logins.is_empty() {
            self.order.insert(client.rank, prefix);
            self.clients.insert(prefix, client);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> ClientPrefix {
        ClientPrefix::of(([127, 0, 0, number], 1).into())
    }

    fn drain(logins: &mut LoginQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| logins.pop()).collect()
    }

    #[test]
    fn a_flood_of_logins_delays_only_its_own_client() {
        let mut logins = LoginQueue::new();
        for guess in 0..4 {
            logins.push(client(1), 0, guess);
        }
        logins.push(client(2), 1, 10);
        logins.push(client(2), 1, 11);
        logins.push(client(3), 2, 20);
        logins.push(client(4), 0, 30);
        assert_eq!(logins.len(), 8);
        assert_eq!(drain(&mut logins), [30, 0, 1, 2, 3, 10, 11, 20]);
        assert_eq!(logins.len(), 0);
    }

    #[test]
    fn clients_of_equal_rank_take_turns() {
        let mut logins = LoginQueue::new();
        for round in 0..3 {
            for number in [1, 2, 3] {
                logins.push(client(number), 0, 10 * round + u32::from(number));
            }
        }
        assert_eq!(drain(&mut logins), [1, 2, 3, 11, 12, 13, 21, 22, 23]);
    }

    #[test]
    fn a_first_login_overtakes_queued_brute_force() {
        let mut logins = LoginQueue::new();
        for guess in 0..200 {
            logins.push(client(1 + (guess % 50) as u8), 0, guess);
        }
        logins.push(client(100), 0, 1000);
        assert_eq!(logins.pop(), Some(1000), "the others have four each");
        for number in 1..=50 {
            logins.set_failures(client(number), 1);
        }
        assert_eq!(logins.pop_unsuspected(), None);
        // Two logins of a client that never failed.
        logins.push(client(100), 0, 1001);
        logins.push(client(100), 0, 1002);
        assert_eq!(logins.pop_unsuspected(), Some(1001));
        assert_eq!(logins.pop(), Some(1002));
        // One failure goes before clients with more failures.
        (1..=50).for_each(|number| logins.set_failures(client(number), 2));
        logins.push(client(100), 1, 1003);
        assert_eq!(logins.pop_unsuspected(), None);
        assert_eq!(logins.pop(), Some(1003));
        assert_eq!(drain(&mut logins), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn removed_logins_leave_no_entry() {
        let mut logins = LoginQueue::new();
        for (number, login) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
            logins.push(client(number), u32::from(number == 3), login);
        }
        logins.retain(|login| *login != 2);
        assert_eq!(logins.remove_client(client(1)), [1, 3]);
        assert!(logins.remove_client(client(1)).is_empty());
        logins.push(client(2), 0, 5);
        assert_eq!(drain(&mut logins), [5, 4]);
        assert!(logins.clients.is_empty() && logins.order.is_empty());
    }
}

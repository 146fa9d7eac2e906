//! The queue of logins whose passwords are to be checked.
//!
//! Users who logged in before from the same network go first, and clients with recently failed
//! logins last. The others are ordered by a virtual time: a login comes after earlier ones of its
//! client, of other clients of its network, and of its user. A flood of guesses, from however many
//! addresses of one network or against one user, delays only itself.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use crate::limits::{
    LOGIN_CLOCKS_MAX, LOGIN_COST, LOGIN_COST_FACTOR_MAX, LOGIN_COST_FAILURES, LOGIN_LEAD_MAX,
    UNDELAYED_FAILURES,
};
use crate::server::policy::client_prefix::{ClientNetwork, ClientPrefix};

/// What the place of a login depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginOrigin {
    pub(crate) client: ClientPrefix,
    /// A hash of the username.
    pub(crate) user: u64,
    /// Whether the user logged in before from the network of the client.
    pub(crate) is_familiar: bool,
    /// Recently failed logins of the client.
    pub(crate) failures: u32,
    /// Recently failed logins of the client's network.
    pub(crate) network_failures: u32,
}

/// Queued logins, ordered by the rank of their client.
pub(crate) struct LoginQueue<T> {
    sources: HashMap<LoginSource, SourceLogins<T>>,
    /// The sources by the rank of their first login.
    order: BTreeMap<LoginRank, LoginSource>,
    clients: LoginClocks<ClientPrefix>,
    networks: LoginClocks<ClientNetwork>,
    users: LoginClocks<u64>,
    /// The virtual time: it advances with each login that leaves.
    now: u64,
    added: u64,
    len: usize,
}

/// Where a login is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoginPlace {
    source: LoginSource,
    turn: LoginTurn,
}

/// A client, with or without users that are familiar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LoginSource {
    client: ClientPrefix,
    is_familiar: bool,
}

/// The virtual time of a login, and its number.
type LoginTurn = (u64, u64);

/// The lowest rank goes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct LoginRank {
    failures: u32,
    is_strange: bool,
    turn: LoginTurn,
}

/// The queued logins of one source.
struct SourceLogins<T> {
    failures: u32,
    logins: BTreeMap<LoginTurn, T>,
}

impl<T> SourceLogins<T> {
    fn rank(&self, source: LoginSource) -> Option<LoginRank> {
        let (&turn, _) = self.logins.first_key_value()?;
        let forgiven = match source.is_familiar {
            true => UNDELAYED_FAILURES,
            false => 0,
        };
        Some(LoginRank {
            failures: self.failures.saturating_sub(forgiven),
            is_strange: !source.is_familiar,
            turn,
        })
    }
}

impl<T> LoginQueue<T> {
    pub(crate) fn new() -> LoginQueue<T> {
        LoginQueue {
            sources: HashMap::new(),
            order: BTreeMap::new(),
            clients: LoginClocks::new(),
            networks: LoginClocks::new(),
            users: LoginClocks::new(),
            now: 0,
            added: 0,
            len: 0,
        }
    }

    /// Adds a login. Returns its place, for [`LoginQueue::remove`].
    pub(crate) fn push(&mut self, origin: LoginOrigin, login: T) -> LoginPlace {
        let source = LoginSource {
            client: origin.client,
            is_familiar: origin.is_familiar,
        };
        self.added += 1;
        let turn = (self.time_of(origin, source), self.added);
        self.update(source, |queued| {
            queued.failures = origin.failures;
            queued.logins.insert(turn, login);
        });
        LoginPlace { source, turn }
    }

    /// Returns the virtual time of a new login.
    fn time_of(&mut self, origin: LoginOrigin, source: LoginSource) -> u64 {
        let (client, now) = (origin.client, self.now);
        let time = self.clients.next(client, now, LOGIN_COST);
        if origin.is_familiar || origin.failures > 0 {
            return time;
        }
        let time = time.max(self.users.next(origin.user, now, LOGIN_COST));
        if self.sources.contains_key(&source) {
            // Further logins of one client are delayed by the earlier ones, not by other clients.
            return time;
        }
        let factor = 1 + u64::from(origin.network_failures / LOGIN_COST_FAILURES);
        let cost = LOGIN_COST * factor.min(LOGIN_COST_FACTOR_MAX);
        let network = ClientNetwork::of(client);
        time.max(self.networks.next(network, now, cost))
    }

    /// Removes the next login.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (rank, &source) = self.order.first_key_value()?;
        let is_in_order = rank.is_strange && rank.failures == 0;
        let (turn, passed) = (rank.turn, if is_in_order { rank.turn.0 } else { 0 });
        self.now = passed.max(self.now + 1);
        self.remove(LoginPlace { source, turn })
    }

    /// Removes the next login unless its client has recently failed logins.
    pub(crate) fn pop_unsuspected(&mut self) -> Option<T> {
        let (first, _) = self.order.first_key_value()?;
        match first.failures {
            0 => self.pop(),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets the number of recently failed logins of a client, which moves its queued logins.
    pub(crate) fn set_failures(&mut self, client: ClientPrefix, failures: u32) {
        for source in sources_of(client) {
            self.update(source, |queued| queued.failures = failures);
        }
    }

    /// Removes a login that is queued.
    pub(crate) fn remove(&mut self, place: LoginPlace) -> Option<T> {
        self.update(place.source, |queued| queued.logins.remove(&place.turn))
    }

    /// Removes and returns all logins of a client.
    pub(crate) fn remove_client(&mut self, client: ClientPrefix) -> Vec<T> {
        let taken = sources_of(client).map(|source| {
            let taken = self.update(source, |queued| std::mem::take(&mut queued.logins));
            taken.into_values()
        });
        taken.into_iter().flatten().collect()
    }

    /// Changes the entry of a source and moves it to the place of its new rank.
    fn update<R>(
        &mut self,
        source: LoginSource,
        change: impl FnOnce(&mut SourceLogins<T>) -> R,
    ) -> R {
        let mut queued = self.sources.remove(&source).unwrap_or(SourceLogins {
            failures: 0,
            logins: BTreeMap::new(),
        });
        if let Some(rank) = queued.rank(source) {
            self.order.remove(&rank);
        }
        self.len -= queued.logins.len();
        let result = change(&mut queued);
        self.len += queued.logins.len();
        if let Some(rank) = queued.rank(source) {
            self.order.insert(rank, source);
            self.sources.insert(source, queued);
        }
        if self.len == 0 {
            self.clients.clear();
            self.networks.clear();
            self.users.clear();
            self.now = 0;
        }
        result
    }
}

fn sources_of(client: ClientPrefix) -> [LoginSource; 2] {
    [true, false].map(|is_familiar| LoginSource {
        client,
        is_familiar,
    })
}

/// When the next login of each key may take place, in virtual time.
struct LoginClocks<K> {
    next: HashMap<K, u64>,
}

impl<K: Copy + Eq + Hash> LoginClocks<K> {
    fn new() -> LoginClocks<K> {
        LoginClocks {
            next: HashMap::new(),
        }
    }

    /// Returns the time of the next login of a key, and puts the one after it off by `cost`.
    fn next(&mut self, key: K, now: u64, cost: u64) -> u64 {
        if self.next.len() >= LOGIN_CLOCKS_MAX {
            self.next.retain(|_, next| *next > now);
            if self.next.len() >= LOGIN_CLOCKS_MAX {
                self.next.clear();
            }
        }
        let next = self.next.entry(key).or_insert(now);
        let time = (*next).clamp(now, now + LOGIN_LEAD_MAX);
        *next = time + cost;
        time
    }

    fn clear(&mut self) {
        self.next.clear();
    }
}

#[cfg(test)]
mod tests;

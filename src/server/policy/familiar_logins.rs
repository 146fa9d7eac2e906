//! The networks from which users have logged in.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::limits::FAMILIAR_LOGINS_MAX;
use crate::server::policy::client_prefix::{ClientNetwork, ClientPrefix};

/// Pairs of a user and a network, as keyed hashes, since the start of the process. The half that
/// was not used for longest is forgotten when there are too many.
#[derive(Default)]
pub(crate) struct FamiliarLogins {
    key: RandomState,
    recent: HashSet<u64>,
    older: HashSet<u64>,
}

impl FamiliarLogins {
    /// Notes a successful login.
    pub(crate) fn record(&mut self, client: ClientPrefix, user: &str) {
        let hash = self.key.hash_one((ClientNetwork::of(client), user));
        if self.recent.insert(hash) && self.recent.len() >= FAMILIAR_LOGINS_MAX / 2 {
            self.older = std::mem::take(&mut self.recent);
        }
    }

    /// Whether the user has logged in from the network of a client.
    pub(crate) fn contains(&self, client: ClientPrefix, user: &str) -> bool {
        let hash = self.key.hash_one((ClientNetwork::of(client), user));
        self.recent.contains(&hash) || self.older.contains(&hash)
    }

    /// Returns a hash that identifies a user.
    pub(crate) fn user_hash(&self, user: &str) -> u64 {
        self.key.hash_one(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> ClientPrefix {
        ClientPrefix::of((std::net::Ipv4Addr::from(number), 1).into())
    }

    #[test]
    fn a_login_makes_the_network_familiar_for_its_user() {
        let mut logins = FamiliarLogins::default();
        logins.record(client(1), "a");
        assert!(logins.contains(client(1), "a") && logins.contains(client(2), "a"));
        assert!(!logins.contains(client(256), "a") && !logins.contains(client(1), "b"));
    }

    #[test]
    fn a_bounded_number_is_remembered_the_latest_for_longest() {
        let mut logins = FamiliarLogins::default();
        for network in 0..2 * FAMILIAR_LOGINS_MAX as u32 {
            logins.record(client(network << 8), "a");
            assert!(logins.recent.len() + logins.older.len() <= FAMILIAR_LOGINS_MAX);
        }
        assert!(logins.contains(client((2 * FAMILIAR_LOGINS_MAX as u32 - 1) << 8), "a"));
        assert!(!logins.contains(client(0), "a"));
    }
}

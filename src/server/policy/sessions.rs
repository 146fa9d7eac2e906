//! UserSessions with a session: how many each has, and at what rate their bytes may move. A session holds its user by a key, from its
//! login to its end.
//!
//! Must not know: sockets, what a login is.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Instant;

use slab::Slab;

use crate::domain::user_limits::UserLimits;
use crate::server::policy::rate_limit::TokenBucket;

/// Where a user with a session is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UserKey(NonZeroU32);

/// All users with a session.
#[derive(Default)]
pub(crate) struct UserSessions {
    users: Slab<User>,
    by_name: HashMap<String, UserKey>,
    /// Those for whose rate somebody waits.
    waiting: VecDeque<UserKey>,
}

struct User {
    name: String,
    sessions: usize,
    bucket: TokenBucket,
}

impl UserSessions {
    /// Counts one session more of a user with these limits; `None` where he has as many as he may.
    pub(crate) fn enter(
        &mut self,
        name: &str,
        limits: UserLimits,
        now: Instant,
    ) -> Option<UserKey> {
        let key = self.by_name.get(name).copied();
        let sessions = key.map_or(0, |key| self.users[key.index()].sessions);
        if limits.sessions.is_some_and(|most| sessions >= most) {
            return None;
        }
        let key = key.unwrap_or_else(|| {
            let user = User {
                name: name.to_owned(),
                sessions: 0,
                bucket: TokenBucket::new(limits.rate, now),
            };
            let key = UserKey::new(self.users.insert(user));
            self.by_name.insert(name.to_owned(), key);
            key
        });
        self.users[key.index()].sessions += 1;
        Some(key)
    }

    /// A session of this user has ended.
    pub(crate) fn leave(&mut self, key: UserKey) {
        let user = &mut self.users[key.index()];
        user.sessions -= 1;
        if user.sessions == 0 {
            let user = self.users.remove(key.index());
            self.by_name.remove(&user.name);
            self.waiting.retain(|waiting| *waiting != key);
        }
    }

    /// Goes on with the limits that a reload has brought.
    pub(crate) fn take_up(&mut self, limits: impl Fn(&str) -> UserLimits, now: Instant) {
        for (_, user) in &mut self.users {
            user.bucket.set_rate(limits(&user.name).rate, now);
        }
    }

    /// The user's name.
    pub(crate) fn name(&self, key: UserKey) -> &str {
        &self.users[key.index()].name
    }

    /// What bounds his rate.
    pub(crate) fn bucket(&mut self, key: UserKey) -> &mut TokenBucket {
        &mut self.users[key.index()].bucket
    }

    /// Lets a connection of a user wait for his rate.
    pub(crate) fn park(&mut self, user: UserKey, connection: usize) {
        let bucket = &mut self.users[user.index()].bucket;
        if bucket.parked().is_empty() {
            self.waiting.push_back(user);
        }
        bucket.park(connection);
    }

    /// The next connection that has waited and may go on, the users taking turns.
    pub(crate) fn release(&mut self, now: Instant) -> Option<usize> {
        for _ in 0..self.waiting.len() {
            let user = self.waiting.pop_front()?;
            let bucket = &mut self.users[user.index()].bucket;
            let released = bucket.release(now);
            if !bucket.parked().is_empty() {
                self.waiting.push_back(user);
            }
            if released.is_some() {
                return released;
            }
        }
        None
    }

    /// Connections that wait for their user's rate.
    pub(crate) fn parked(&self) -> impl Iterator<Item = usize> {
        let parked = self.users.iter().map(|(_, user)| user.bucket.parked());
        parked.flatten().copied()
    }

    /// Takes a connection out that waits no more.
    pub(crate) fn forget(&mut self, user: UserKey, connection: usize) {
        let bucket = &mut self.users[user.index()].bucket;
        bucket.forget(connection);
        if bucket.parked().is_empty() {
            self.waiting.retain(|waiting| *waiting != user);
        }
    }

    /// All sessions of all users.
    pub(crate) fn sessions(&self) -> usize {
        self.users.iter().map(|(_, user)| user.sessions).sum()
    }
}

impl UserKey {
    fn new(index: usize) -> UserKey {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        UserKey(number.expect("fewer users than sockets"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may_have(sessions: Option<usize>) -> UserLimits {
        UserLimits {
            sessions,
            ..UserLimits::default()
        }
    }

    #[test]
    fn sessions_are_counted_by_user_and_end() {
        let now = Instant::now();
        let mut users = UserSessions::default();
        let mut enter = |name, most| users.enter(name, may_have(most), now);
        let a = enter("a", Some(2)).unwrap();
        assert_eq!(enter("a", Some(2)), Some(a));
        assert_eq!(enter("a", Some(2)), None);
        let b = enter("b", Some(1)).unwrap();
        assert_eq!(enter("a", None), Some(a), "no limit any more");
        assert_eq!((enter("b", Some(1)), users.sessions()), (None, 4));
        users.leave(b);
        assert!(users.enter("b", may_have(Some(1)), now).is_some());
        for _ in 0..3 {
            users.leave(a);
        }
        assert!(users.enter("a", may_have(Some(1)), now).is_some());
        assert_eq!(users.sessions(), 2);
    }

    #[test]
    fn users_take_turns_and_so_do_their_connections() {
        let now = Instant::now();
        let limits = UserLimits {
            rate: Some(1_000_000),
            ..UserLimits::default()
        };
        let mut users = UserSessions::default();
        let a = users.enter("a", limits, now).unwrap();
        let b = users.enter("b", limits, now).unwrap();
        for (user, connection) in [(a, 1), (a, 2), (b, 3), (a, 4)] {
            users.park(user, connection);
        }
        users.forget(a, 4);
        let released: Vec<_> = std::iter::from_fn(|| users.release(now)).collect();
        assert_eq!(released, [1, 3, 2]);
        users.bucket(a).spend(1_000_000);
        users.park(a, 1);
        users.park(b, 3);
        assert_eq!(users.release(now), Some(3));
        assert_eq!(users.release(now), None);
        users.take_up(|_| UserLimits::default(), now);
        assert_eq!(
            users.release(now),
            Some(1),
            "a reload has taken the limit away"
        );
        assert_eq!(users.parked().count(), 0);
    }
}

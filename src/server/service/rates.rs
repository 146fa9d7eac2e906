//! Rate limits: one of all users together and one of each user.

use std::collections::VecDeque;
use std::time::Instant;

use crate::server::policy::rate_limit::TokenBucket;
use crate::server::session_id::UserKey;

/// The token buckets, and the order in which parked connections continue.
pub(crate) struct Rates {
    all: TokenBucket,
    /// By the index of the user's key.
    users: Vec<Option<TokenBucket>>,
    /// Users with parked connections. They take turns.
    waiting: VecDeque<UserKey>,
    /// Connections are being unparked: these go before those that are still parked.
    is_unparking: bool,
    /// The time of the tick.
    now: Instant,
}

/// The limit that a connection waits for.
enum Limit {
    All,
    User,
}

impl Rates {
    /// `max_rate` is the limit of all users together, in bytes per second.
    pub(crate) fn new(max_rate: Option<u64>, now: Instant) -> Rates {
        Rates {
            all: TokenBucket::new(max_rate, now),
            users: Vec::new(),
            waiting: VecDeque::new(),
            is_unparking: false,
            now,
        }
    }

    pub(crate) fn begin_tick(&mut self, now: Instant) {
        self.now = now;
    }

    /// Sets the limit of a user with a session, in bytes per second.
    pub(crate) fn set_user_rate(&mut self, user: UserKey, rate: Option<u64>) {
        let (index, now) = (user.index(), self.now);
        if self.users.len() <= index {
            self.users.resize_with(index + 1, || None);
        }
        match &mut self.users[index] {
            Some(bucket) => bucket.set_rate(rate, now),
            bucket => *bucket = Some(TokenBucket::new(rate, now)),
        }
    }

    /// Removes the limit of a user whose last session has ended.
    pub(crate) fn remove_user(&mut self, user: UserKey) {
        self.users[user.index()] = None;
        self.waiting.retain(|waiting| *waiting != user);
    }

    /// Returns the bytes that a connection of this user may move in a time slice. This is 0 while
    /// other connections are parked, unless connections are being unparked.
    pub(crate) fn allowance(&mut self, user: UserKey) -> usize {
        match self.exhausted(user) {
            Some(_) => 0,
            None => {
                let now = self.now;
                let all = self.all.available(now);
                self.user(user)
                    .map_or(all, |bucket| all.min(bucket.available(now)))
            }
        }
    }

    /// Counts bytes that a connection of this user moved.
    pub(crate) fn consume(&mut self, user: UserKey, bytes: usize) {
        self.all.consume(bytes);
        if let Some(bucket) = self.user(user) {
            bucket.consume(bytes);
        }
    }

    /// Parks a connection if a limit is exhausted; returns whether it did.
    pub(crate) fn park(&mut self, user: UserKey, connection: usize) -> bool {
        match self.exhausted(user) {
            Some(Limit::All) => self.all.park(connection),
            Some(Limit::User) => {
                if let Some(bucket) = self.users[user.index()].as_mut() {
                    if bucket.parked().is_empty() {
                        self.waiting.push_back(user);
                    }
                    bucket.park(connection);
                }
            }
            None => return false,
        }
        true
    }

    /// Removes the next parked connection that can continue. Call until it returns `None`, or end
    /// by [`Rates::end_unparking`].
    pub(crate) fn unpark(&mut self) -> Option<usize> {
        let connection = self.all.unpark(self.now).or_else(|| self.unpark_by_user());
        self.is_unparking = connection.is_some();
        connection
    }

    /// Ends the unparking of this tick.
    pub(crate) fn end_unparking(&mut self) {
        self.is_unparking = false;
    }

    /// Removes a connection from those that are parked.
    pub(crate) fn cancel(&mut self, user: UserKey, connection: usize) {
        self.all.cancel(connection);
        if let Some(bucket) = self.user(user) {
            bucket.cancel(connection);
            if bucket.parked().is_empty() {
                self.waiting.retain(|waiting| *waiting != user);
            }
        }
    }

    /// Returns the parked connections.
    pub(crate) fn parked(&self) -> impl Iterator<Item = usize> {
        let buckets = [&self.all].into_iter().chain(self.users.iter().flatten());
        buckets.flat_map(|bucket| bucket.parked().iter().copied())
    }

    fn user(&mut self, user: UserKey) -> Option<&mut TokenBucket> {
        self.users.get_mut(user.index())?.as_mut()
    }

    fn unpark_by_user(&mut self) -> Option<usize> {
        for _ in 0..self.waiting.len() {
            let user = self.waiting.pop_front()?;
            let bucket = self.users[user.index()].as_mut()?;
            let connection = bucket.unpark(self.now);
            if !bucket.parked().is_empty() {
                self.waiting.push_back(user);
            }
            if connection.is_some() {
                return connection;
            }
        }
        None
    }

    /// Returns the limit that a connection of this user has to wait for, if any.
    fn exhausted(&mut self, user: UserKey) -> Option<Limit> {
        let (now, goes_first) = (self.now, self.is_unparking);
        let is_exhausted = |bucket: &mut TokenBucket| {
            bucket.available(now) == 0 || (!goes_first && !bucket.parked().is_empty())
        };
        if is_exhausted(&mut self.all) {
            return Some(Limit::All);
        }
        let bucket = self.user(user)?;
        is_exhausted(bucket).then_some(Limit::User)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SLICE_BUDGET_BYTES;
    use crate::server::policy::sessions::UserSessions;

    const RATE: Option<u64> = Some(1_000_000);

    fn users() -> [UserKey; 2] {
        let mut users = UserSessions::default();
        ["a", "b"].map(|name| users.acquire(name, None).unwrap())
    }

    #[test]
    fn users_take_turns_and_so_do_their_connections() {
        let (now, [a, b]) = (Instant::now(), users());
        let mut rates = Rates::new(None, now);
        for user in [a, b] {
            rates.set_user_rate(user, RATE);
            rates.consume(user, 100_000);
        }
        for (user, connection) in [(a, 1), (a, 2), (b, 3), (a, 4)] {
            assert!(rates.park(user, connection));
        }
        rates.cancel(a, 4);
        assert_eq!(rates.unpark(), None);
        rates.begin_tick(now + std::time::Duration::from_millis(100));
        let order: Vec<_> = std::iter::from_fn(|| rates.unpark()).collect();
        assert_eq!(order, [1, 3, 2]);
        rates.consume(a, 1_000_000);
        assert!(rates.park(a, 1));
        assert!(!rates.park(b, 3), "the other user has tokens");
        assert_eq!(rates.unpark(), None);
        rates.set_user_rate(a, None);
        assert_eq!(rates.unpark(), Some(1), "a reload removed the limit");
        assert_eq!(rates.parked().count(), 0);
    }

    #[test]
    fn new_connections_wait_for_the_parked_ones() {
        let (now, [a, b]) = (Instant::now(), users());
        let mut rates = Rates::new(RATE, now);
        rates.set_user_rate(a, None);
        rates.set_user_rate(b, None);
        assert_eq!(rates.allowance(a), 100_000);
        rates.consume(a, 100_000);
        assert!(rates.park(a, 1) && rates.park(b, 2));
        rates.begin_tick(now + std::time::Duration::from_millis(100));
        assert_eq!(rates.allowance(b), 0, "two are parked");
        assert_eq!(rates.unpark(), Some(1));
        assert_eq!(rates.allowance(a), 100_000);
        rates.end_unparking();
        assert_eq!(rates.allowance(a), 0);
        rates.cancel(b, 2);
        assert_eq!(rates.allowance(a), 100_000);
    }

    #[test]
    fn removing_a_user_forgets_the_limit() {
        let (now, [a, b]) = (Instant::now(), users());
        let mut rates = Rates::new(None, now);
        rates.set_user_rate(b, RATE);
        rates.consume(b, 200_000);
        assert_eq!(rates.allowance(b), 0);
        rates.remove_user(b);
        rates.set_user_rate(b, None);
        assert_eq!(rates.allowance(b), SLICE_BUDGET_BYTES);
        assert_eq!(rates.allowance(a), SLICE_BUDGET_BYTES, "no limit known");
    }
}

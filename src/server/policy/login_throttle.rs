//! The login throttle: protection of authentication against brute force.
//!
//! Failed logins are counted by client, by user and client, and by user. Responses to further
//! failures are delayed, and a client, or a user at a client, is blocked for a time. A user as such
//! is never blocked, so that guesses from elsewhere cannot lock anyone out; they only slow down the
//! responses to failed logins. Failures are also counted by network, whose further logins then wait
//! longer for their turn.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::limits::{
    FAILURE_DELAY, FAILURE_DELAY_MAX, FAILURES_PER_ADDRESS_FACTOR, THROTTLE_ENTRIES_MAX,
    UNDELAYED_FAILURES, UNDELAYED_USER_FAILURES,
};
use crate::server::policy::client_prefix::{ClientNetwork, ClientPrefix};

/// Counts of failed logins. Entries are keyed by a keyed hash, so that long usernames take no more
/// memory than short ones.
pub(crate) struct LoginThrottle {
    /// Failed logins of a user from a client that block the pair; 0 turns the throttle off.
    failures_max: u32,
    /// Time for which a failure counts.
    window: Duration,
    key: RandomState,
    counts: HashMap<u64, Count>,
    /// The entries from before the last [`LoginThrottle::make_room`].
    older: HashMap<u64, Count>,
}

/// Failures in the two halves of a window. The first failure of a series counts for the whole
/// window, and each further one for at least half of it and at most all of it.
#[derive(Clone, Copy)]
struct Count {
    /// Start of the later half: the first failure, or half a window after the start of the earlier
    /// half.
    since: Instant,
    later: u32,
    earlier: u32,
}

// With the overhead of the table, at most the 48 bytes that THROTTLE_ENTRIES_MAX documents.
const _: () = assert!(size_of::<(u64, Count)>() <= 32);

impl Count {
    /// Returns the part that still counts at `now`.
    fn at(self, now: Instant, window: Duration) -> Option<Count> {
        let (age, half) = (now.saturating_duration_since(self.since), window / 2);
        match self {
            _ if age < half => Some(self),
            _ if age < window => Some(Count {
                since: self.since + half,
                later: 0,
                earlier: self.later,
            }),
            _ => None,
        }
    }

    fn failures(self) -> u32 {
        self.later.saturating_add(self.earlier)
    }
}

/// The consequences of a failed login.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Penalty {
    /// Delay of the response.
    pub(crate) delay: Duration,
    /// Whether this failure is the one that blocks the user at the client, or the client.
    pub(crate) blocks: bool,
}

#[derive(Hash)]
enum Subject<'a> {
    Client(ClientPrefix),
    Network(ClientNetwork),
    UserAtClient(ClientPrefix, &'a str),
    User(&'a str),
}

impl LoginThrottle {
    pub(crate) fn new(failures_max: u32, window: Duration) -> LoginThrottle {
        LoginThrottle {
            failures_max,
            window,
            key: RandomState::new(),
            counts: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// Returns whether all logins of this client are refused.
    pub(crate) fn is_client_blocked(&self, client: ClientPrefix, now: Instant) -> bool {
        let failures_max = self
            .failures_max
            .saturating_mul(FAILURES_PER_ADDRESS_FACTOR);
        failures_max > 0 && self.failures(client, now) >= failures_max
    }

    /// Returns whether logins of this user from this client are refused.
    pub(crate) fn is_blocked(&self, client: ClientPrefix, user: &str, now: Instant) -> bool {
        let subject = Subject::UserAtClient(client, user);
        self.is_client_blocked(client, now)
            || self.failures_max > 0 && self.count(subject, now) >= self.failures_max
    }

    /// Returns the number of failed logins from this client that still count.
    pub(crate) fn failures(&self, client: ClientPrefix, now: Instant) -> u32 {
        self.count(Subject::Client(client), now)
    }

    /// Returns the number of failed logins from the network of this client that still count.
    pub(crate) fn network_failures(&self, client: ClientPrefix, now: Instant) -> u32 {
        self.count(Subject::Network(ClientNetwork::of(client)), now)
    }

    /// Counts a failed login.
    pub(crate) fn record_failure(
        &mut self,
        client: ClientPrefix,
        user: &str,
        now: Instant,
    ) -> Penalty {
        if self.failures_max == 0 {
            return Penalty {
                delay: Duration::ZERO,
                blocks: false,
            };
        }
        let was_blocked = self.is_blocked(client, user, now);
        self.add(Subject::Network(ClientNetwork::of(client)), now);
        let delays = [
            (Subject::Client(client), UNDELAYED_FAILURES),
            (Subject::UserAtClient(client, user), UNDELAYED_FAILURES),
            (Subject::User(user), UNDELAYED_USER_FAILURES),
        ]
        .map(|(subject, undelayed)| delay(self.add(subject, now).saturating_sub(undelayed)));
        Penalty {
            delay: delays.into_iter().max().unwrap_or_default(),
            blocks: !was_blocked && self.is_blocked(client, user, now),
        }
    }

    /// Forgets the failures of a user at a client after a successful login: they were typing
    /// errors. The count of the client stays.
    pub(crate) fn record_success(&mut self, client: ClientPrefix, user: &str) {
        let hash = self.key.hash_one(Subject::UserAtClient(client, user));
        self.counts.remove(&hash);
        self.older.remove(&hash);
    }

    fn count(&self, subject: Subject<'_>, now: Instant) -> u32 {
        let hash = self.key.hash_one(subject);
        self.find(hash, now).map_or(0, Count::failures)
    }

    fn find(&self, hash: u64, now: Instant) -> Option<Count> {
        let count = self.counts.get(&hash).or_else(|| self.older.get(&hash));
        count?.at(now, self.window)
    }

    fn add(&mut self, subject: Subject<'_>, now: Instant) -> u32 {
        let hash = self.key.hash_one(subject);
        let mut count = self.find(hash, now).unwrap_or(Count {
            since: now,
            later: 0,
            earlier: 0,
        });
        count.later = count.later.saturating_add(1);
        self.make_room();
        self.counts.insert(hash, count);
        count.failures()
    }

    /// Drops the half of the entries that was not counted for longest, once there are
    /// [`THROTTLE_ENTRIES_MAX`].
    fn make_room(&mut self) {
        if self.counts.len() >= THROTTLE_ENTRIES_MAX / 2 {
            self.older = std::mem::take(&mut self.counts);
        }
    }
}

/// Returns the delay of the response to the `n`th failure beyond the undelayed ones.
fn delay(n: u32) -> Duration {
    match n.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => (FAILURE_DELAY * (1 << doublings.min(16))).min(FAILURE_DELAY_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);

    fn client(number: u32) -> ClientPrefix {
        ClientPrefix::of((std::net::Ipv4Addr::from(number), 1).into())
    }

    /// Records failures and returns the longest delay.
    fn fail(
        throttle: &mut LoginThrottle,
        from: u32,
        user: &str,
        times: u32,
        now: Instant,
    ) -> Duration {
        let delays = (0..times).map(|_| throttle.record_failure(client(from), user, now).delay);
        delays.max().unwrap()
    }

    #[test]
    fn repeated_failures_are_delayed_then_blocked() {
        let now = Instant::now();
        let mut throttle = LoginThrottle::new(10, WINDOW);
        assert_eq!(
            fail(&mut throttle, 1, "a", UNDELAYED_FAILURES, now),
            Duration::ZERO
        );
        assert_eq!(fail(&mut throttle, 1, "a", 1, now), FAILURE_DELAY);
        assert_eq!(fail(&mut throttle, 1, "a", 1, now), 2 * FAILURE_DELAY);
        assert_eq!(
            fail(&mut throttle, 1, "a", 10 - UNDELAYED_FAILURES - 3, now),
            FAILURE_DELAY_MAX
        );
        assert!(!throttle.is_blocked(client(1), "a", now));
        assert!(throttle.record_failure(client(1), "a", now).blocks);
        let further = throttle.record_failure(client(1), "a", now);
        assert!(!further.blocks, "blocked already");
        assert!(throttle.is_blocked(client(1), "a", now));
        assert!(
            !throttle.is_blocked(client(1), "b", now),
            "other users of the client are not blocked"
        );
        fail(&mut throttle, 1, "b", 9, now);
        assert!(
            throttle.is_client_blocked(client(1), now),
            "twice as many block the client"
        );
        assert!(throttle.is_blocked(client(1), "c", now));
        let later = now + WINDOW;
        assert!(!throttle.is_blocked(client(1), "a", later));
        assert_eq!(throttle.failures(client(1), later), 0);
    }

    #[test]
    fn one_failure_every_four_minutes_never_blocks() {
        let mut now = Instant::now();
        let mut throttle = LoginThrottle::new(10, WINDOW);
        for _ in 0..1000 {
            assert_eq!(fail(&mut throttle, 1, "a", 1, now), Duration::ZERO);
            now += Duration::from_secs(240);
        }
        assert!(!throttle.is_blocked(client(1), "a", now));
    }

    #[test]
    fn a_failure_counts_for_half_a_window_to_a_window() {
        let begin = Instant::now();
        for seconds in 0..900 {
            let mut throttle = LoginThrottle::new(10, WINDOW);
            fail(&mut throttle, 1, "a", 3, begin);
            let now = begin + Duration::from_secs(seconds);
            fail(&mut throttle, 1, "b", 1, now);
            let counted = if seconds < 300 { 4 } else { 1 };
            let failures = |at| throttle.failures(client(1), at);
            assert_eq!(failures(now), counted, "after {seconds} s");
            assert!(failures(now.max(begin + WINDOW)) <= 1);
            assert!(failures(now + WINDOW / 2 - Duration::from_secs(1)) >= 1);
            assert_eq!(failures(now + WINDOW), 0);
        }
    }

    #[test]
    fn guesses_from_elsewhere_do_not_block_a_user() {
        let now = Instant::now();
        let mut throttle = LoginThrottle::new(10, WINDOW);
        for from in 2..10_000 {
            fail(&mut throttle, from, "a", 1, now);
        }
        assert!(!throttle.is_blocked(client(1), "a", now));
        assert_eq!(throttle.failures(client(1), now), 0);
        assert_eq!(
            fail(&mut throttle, 1, "a", 1, now),
            FAILURE_DELAY_MAX,
            "only the response to a failure is delayed"
        );
    }

    #[test]
    fn a_success_forgets_only_the_failures_of_the_user() {
        let now = Instant::now();
        let mut throttle = LoginThrottle::new(10, WINDOW);
        for _ in 0..2 {
            fail(&mut throttle, 1, "a", 9, now);
            throttle.record_success(client(1), "a");
        }
        assert!(!throttle.is_blocked(client(1), "a", now));
        fail(&mut throttle, 1, "b", 2, now);
        assert!(
            throttle.is_client_blocked(client(1), now),
            "the client's count stays"
        );
    }

    #[test]
    fn entries_are_bounded_and_the_latest_are_kept() {
        let now = Instant::now();
        let mut throttle = LoginThrottle::new(1, WINDOW);
        for from in 0..2 * THROTTLE_ENTRIES_MAX as u32 {
            fail(&mut throttle, from, "a", 2, now);
            assert!(throttle.counts.len() + throttle.older.len() <= THROTTLE_ENTRIES_MAX);
        }
        let last = client(2 * THROTTLE_ENTRIES_MAX as u32 - 1);
        assert!(throttle.is_client_blocked(last, now));
    }

    #[test]
    fn a_limit_of_zero_turns_the_throttle_off() {
        let now = Instant::now();
        let mut throttle = LoginThrottle::new(0, WINDOW);
        assert_eq!(fail(&mut throttle, 1, "a", 1000, now), Duration::ZERO);
        assert!(!throttle.is_blocked(client(1), "a", now));
        assert!(throttle.counts.is_empty());
    }
}

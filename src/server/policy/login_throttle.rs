//! Failed logins: how many came lately from an address, for a user from an address, and for a user; how long the answer to one
//! more is held back, and who is turned away.
//!
//! An address is turned away, and a user at an address. A user is never: what strangers guess about him slows their own
//! answers down, so that nobody can lock him out from elsewhere.
//!
//! Must not know: sockets, sentences, passwords.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::limits::{
    FAILURE_DELAY, FAILURE_DELAY_MAX, FAILURES_PER_ADDRESS_FACTOR, THROTTLE_ENTRIES_MAX,
    UNDELAYED_FAILURES, UNDELAYED_USER_FAILURES,
};
use crate::server::policy::client_prefix::ClientPrefix;

/// The failures that still count. What they were about is kept as a keyed hash, so that no name costs more than another.
pub(crate) struct LoginThrottle {
    /// LoginThrottle of a user from an address at which they are turned away; 0 turns off all of this.
    most: u32,
    /// How long a failure counts.
    window: Duration,
    key: RandomState,
    counts: HashMap<u64, Count>,
    /// Those of before [`LoginThrottle::make_room`] last began anew.
    older: HashMap<u64, Count>,
}

/// Two halves of the window are enough: the first of a series counts for all of it, none for longer, and each for half of it at
/// least.
#[derive(Clone, Copy)]
struct Count {
    /// When the later half began: with the first failure, or half a window after the earlier one.
    since: Instant,
    later: u32,
    earlier: u32,
}

// With its hash, which is what the bound on their number promises.
const _: () = assert!(size_of::<(u64, Count)>() <= 32);

impl Count {
    /// What of it still counts.
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

/// What follows from one more failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// How long its answer is to be held back.
    pub(crate) delay: Duration,
    /// It was the one after which somebody is turned away.
    pub(crate) was_last: bool,
}

#[derive(Hash)]
enum About<'a> {
    Address(ClientPrefix),
    UserFrom(ClientPrefix, &'a str),
    User(&'a str),
}

impl LoginThrottle {
    pub(crate) fn new(most: u32, window: Duration) -> LoginThrottle {
        LoginThrottle {
            most,
            window,
            key: RandomState::new(),
            counts: HashMap::new(),
            older: HashMap::new(),
        }
    }

    /// Whether all from this address are turned away.
    pub(crate) fn turns_away(&self, origin: ClientPrefix, now: Instant) -> bool {
        self.most > 0
            && self.count(About::Address(origin), now)
                >= self.most.saturating_mul(FAILURES_PER_ADDRESS_FACTOR)
    }

    /// Whether this user is turned away at this address.
    pub(crate) fn turns_user_away(&self, origin: ClientPrefix, user: &str, now: Instant) -> bool {
        self.turns_away(origin, now)
            || self.most > 0 && self.count(About::UserFrom(origin, user), now) >= self.most
    }

    /// How many logins have failed lately from this address.
    pub(crate) fn of(&self, origin: ClientPrefix, now: Instant) -> u32 {
        self.count(About::Address(origin), now)
    }

    /// Counts a failed login.
    pub(crate) fn note(&mut self, origin: ClientPrefix, user: &str, now: Instant) -> Noted {
        if self.most == 0 {
            return Noted {
                delay: Duration::ZERO,
                was_last: false,
            };
        }
        let before = self.turns_user_away(origin, user, now);
        let delays = [
            (About::Address(origin), UNDELAYED_FAILURES),
            (About::UserFrom(origin, user), UNDELAYED_FAILURES),
            (About::User(user), UNDELAYED_USER_FAILURES),
        ]
        .map(|(about, free)| delay(self.add(about, now).saturating_sub(free)));
        Noted {
            delay: delays.into_iter().max().unwrap_or_default(),
            was_last: !before && self.turns_user_away(origin, user, now),
        }
    }

    /// A login of this user has succeeded from this address: what failed before was a slip.
    pub(crate) fn forgive(&mut self, origin: ClientPrefix, user: &str) {
        let hash = self.key.hash_one(About::UserFrom(origin, user));
        self.counts.remove(&hash);
        self.older.remove(&hash);
    }

    fn count(&self, about: About<'_>, now: Instant) -> u32 {
        let hash = self.key.hash_one(about);
        self.find(hash, now).map_or(0, Count::failures)
    }

    fn find(&self, hash: u64, now: Instant) -> Option<Count> {
        let count = self.counts.get(&hash).or_else(|| self.older.get(&hash));
        count?.at(now, self.window)
    }

    fn add(&mut self, about: About<'_>, now: Instant) -> u32 {
        let hash = self.key.hash_one(about);
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

    /// Where there are as many as may be, the half that was not counted for longest goes.
    fn make_room(&mut self) {
        if self.counts.len() >= THROTTLE_ENTRIES_MAX / 2 {
            self.older = std::mem::take(&mut self.counts);
        }
    }
}

/// How long the answer to the `n`th failure that is not free is held back.
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

    fn origin(number: u32) -> ClientPrefix {
        ClientPrefix::of((std::net::Ipv4Addr::from(number), 1).into())
    }

    fn fail(
        failures: &mut LoginThrottle,
        from: u32,
        user: &str,
        times: u32,
        now: Instant,
    ) -> Duration {
        let noted = (0..times).map(|_| failures.note(origin(from), user, now).delay);
        noted.max().unwrap()
    }

    #[test]
    fn who_fails_again_waits_longer_and_is_turned_away() {
        let now = Instant::now();
        let mut failures = LoginThrottle::new(10, WINDOW);
        assert_eq!(
            fail(&mut failures, 1, "a", UNDELAYED_FAILURES, now),
            Duration::ZERO
        );
        assert_eq!(fail(&mut failures, 1, "a", 1, now), FAILURE_DELAY);
        assert_eq!(fail(&mut failures, 1, "a", 1, now), 2 * FAILURE_DELAY);
        assert_eq!(
            fail(&mut failures, 1, "a", 10 - UNDELAYED_FAILURES - 3, now),
            FAILURE_DELAY_MAX
        );
        assert!(!failures.turns_user_away(origin(1), "a", now));
        assert!(failures.note(origin(1), "a", now).was_last);
        assert!(!failures.note(origin(1), "a", now).was_last, "only once");
        assert!(failures.turns_user_away(origin(1), "a", now));
        assert!(
            !failures.turns_user_away(origin(1), "b", now),
            "others from there may still"
        );
        fail(&mut failures, 1, "b", 9, now);
        assert!(failures.turns_away(origin(1), now), "but not for ever");
        assert!(failures.turns_user_away(origin(1), "c", now));
        let later = now + WINDOW;
        assert!(
            !failures.turns_user_away(origin(1), "a", later) && failures.of(origin(1), later) == 0
        );
    }

    #[test]
    fn an_office_with_a_slip_every_four_minutes_is_never_turned_away() {
        let mut now = Instant::now();
        let mut failures = LoginThrottle::new(10, WINDOW);
        for _ in 0..1000 {
            assert_eq!(fail(&mut failures, 1, "a", 1, now), Duration::ZERO);
            now += Duration::from_secs(240);
        }
        assert!(!failures.turns_user_away(origin(1), "a", now));
    }

    #[test]
    fn no_failure_counts_for_longer_than_the_window_nor_for_less_than_half_of_it() {
        let begin = Instant::now();
        for seconds in 0..900 {
            let mut failures = LoginThrottle::new(10, WINDOW);
            fail(&mut failures, 1, "a", 3, begin);
            let now = begin + Duration::from_secs(seconds);
            fail(&mut failures, 1, "b", 1, now);
            let counted = if seconds < 300 { 4 } else { 1 };
            assert_eq!(failures.of(origin(1), now), counted, "after {seconds} s");
            assert!(failures.of(origin(1), now.max(begin + WINDOW)) <= 1);
            assert!(failures.of(origin(1), now + WINDOW / 2 - Duration::from_secs(1)) >= 1);
            assert_eq!(failures.of(origin(1), now + WINDOW), 0);
        }
    }

    #[test]
    fn nobody_is_locked_out_by_what_others_guess_about_him() {
        let now = Instant::now();
        let mut failures = LoginThrottle::new(10, WINDOW);
        for from in 2..10_000 {
            fail(&mut failures, from, "a", 1, now);
        }
        assert!(!failures.turns_user_away(origin(1), "a", now));
        assert_eq!(failures.of(origin(1), now), 0);
        assert_eq!(
            fail(&mut failures, 1, "a", 1, now),
            FAILURE_DELAY_MAX,
            "a slip of his waits"
        );
    }

    #[test]
    fn a_login_forgives_the_users_own_slips_alone() {
        let now = Instant::now();
        let mut failures = LoginThrottle::new(10, WINDOW);
        for _ in 0..2 {
            fail(&mut failures, 1, "a", 9, now);
            failures.forgive(origin(1), "a");
        }
        assert!(!failures.turns_user_away(origin(1), "a", now));
        fail(&mut failures, 1, "b", 2, now);
        assert!(
            failures.turns_away(origin(1), now),
            "the address's count stands"
        );
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let now = Instant::now();
        let mut failures = LoginThrottle::new(1, WINDOW);
        for from in 0..2 * THROTTLE_ENTRIES_MAX as u32 {
            fail(&mut failures, from, "a", 2, now);
            assert!(failures.counts.len() + failures.older.len() <= THROTTLE_ENTRIES_MAX);
        }
        assert!(failures.turns_away(origin(2 * THROTTLE_ENTRIES_MAX as u32 - 1), now));
    }

    #[test]
    fn none_are_counted_where_the_operator_wants_none() {
        let now = Instant::now();
        let mut failures = LoginThrottle::new(0, WINDOW);
        assert_eq!(fail(&mut failures, 1, "a", 1000, now), Duration::ZERO);
        assert!(!failures.turns_user_away(origin(1), "a", now));
        assert!(failures.counts.is_empty());
    }
}

//! The rate limit: a token bucket, and the connections parked until it refills.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{COMMAND_COST_BYTES, RATE_LIMIT_BURST, RATE_LIMIT_TICK, SLICE_BUDGET_BYTES};

/// A token bucket shared by all transfers of one user, or of all users. One token is one byte.
///
/// Tokens may become negative: a time slice may move more than was available, and the debt is
/// paid before the next one, so that the rate holds over time.
pub(crate) struct TokenBucket {
    /// Bytes per second; `None` for no limit.
    rate: Option<u64>,
    tokens: i64,
    /// Time up to which tokens were added.
    refilled_at: Instant,
    /// Connections that found too few tokens, in order of arrival.
    parked: VecDeque<usize>,
}

impl TokenBucket {
    /// Creates a full bucket.
    pub(crate) fn new(rate: Option<u64>, now: Instant) -> TokenBucket {
        TokenBucket {
            rate,
            tokens: rate.map_or(0, burst),
            refilled_at: now,
            parked: VecDeque::new(),
        }
    }

    /// Changes the rate and fills the bucket; does nothing if the rate stays the same.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        if self.rate != rate {
            self.rate = rate;
            self.tokens = rate.map_or(0, burst);
            self.refilled_at = now;
        }
    }

    /// Returns the bytes that one time slice may move now; 0 while they are too few.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else {
            return SLICE_BUDGET_BYTES;
        };
        self.refill(rate, now);
        match usize::try_from(self.tokens) {
            Ok(tokens) if tokens >= slice_min(rate) => tokens.min(SLICE_BUDGET_BYTES),
            _ => 0,
        }
    }

    /// Removes tokens for moved bytes.
    pub(crate) fn consume(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens = self.tokens.saturating_sub_unsigned(bytes as u64);
        }
    }

    /// Parks a connection after those that are parked already.
    pub(crate) fn park(&mut self, connection: usize) {
        self.parked.push_back(connection);
    }

    /// Removes the next parked connection if there are tokens for its time slice.
    pub(crate) fn unpark(&mut self, now: Instant) -> Option<usize> {
        match !self.parked.is_empty() && self.available(now) > 0 {
            true => self.parked.pop_front(),
            false => None,
        }
    }

    /// Removes a connection from those that are parked.
    pub(crate) fn cancel(&mut self, connection: usize) {
        self.parked.retain(|parked| *parked != connection);
    }

    /// Returns the parked connections.
    pub(crate) fn parked(&self) -> &VecDeque<usize> {
        &self.parked
    }

    /// Adds the tokens earned since the last refill. Only whole bytes are added; the remaining
    /// fraction of time counts towards the next refill.
    fn refill(&mut self, rate: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let earned = elapsed.as_nanos() * u128::from(rate) / NANOS_PER_SECOND;
        let room = burst(rate).saturating_sub(self.tokens).max(0);
        match i64::try_from(earned) {
            Ok(earned) if earned < room => {
                self.tokens += earned;
                let nanos = (earned as u128 * NANOS_PER_SECOND).div_ceil(u128::from(rate));
                self.refilled_at += Duration::from_nanos(nanos as u64);
            }
            _ => {
                self.tokens += room;
                self.refilled_at = now;
            }
        }
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Bytes of a full bucket.
fn burst(rate: u64) -> i64 {
    let bytes = u128::from(rate) * RATE_LIMIT_BURST.as_nanos() / NANOS_PER_SECOND;
    (bytes as i64).max(2 * slice_min(rate) as i64)
}

/// Bytes that are enough for a time slice: those earned in [`RATE_LIMIT_TICK`], at least the cost
/// of a command and at most a whole budget.
fn slice_min(rate: u64) -> usize {
    let bytes = u128::from(rate) * RATE_LIMIT_TICK.as_nanos() / NANOS_PER_SECOND;
    usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .clamp(COMMAND_COST_BYTES, SLICE_BUDGET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connections_without_tokens_are_parked_in_order() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Some(1_000_000), now);
        assert_eq!(bucket.available(now), 100_000);
        bucket.consume(150_000);
        assert_eq!(bucket.available(now), 0);
        (1..=3).for_each(|connection| bucket.park(connection));
        bucket.cancel(2);
        assert_eq!(bucket.unpark(now), None);
        let later = now + Duration::from_millis(60);
        assert_eq!(bucket.unpark(later), Some(1));
        bucket.consume(10_000);
        assert_eq!(bucket.unpark(later), None);
        bucket.set_rate(None, later);
        assert_eq!(bucket.unpark(later), Some(3));
        assert_eq!(bucket.unpark(later), None);
    }

    proptest! {
        /// Time slices of any length that each consume too much get at most the rate and one burst;
        /// a transfer that always takes all available bytes gets at least the rate.
        #[test]
        fn the_rate_holds(
            rate in 1u64..1 << 34,
            waits in proptest::collection::vec(1u64..20_000_000, 1..200),
            excess in 0usize..2000,
        ) {
            let begin = Instant::now();
            let mut now = begin;
            let mut bucket = TokenBucket::new(Some(rate), now);
            let mut moved = 0u128;
            let mut slices = 0u64;
            for wait in waits {
                now += Duration::from_nanos(wait);
                while let available @ 1.. = bucket.available(now) {
                    bucket.consume(available + excess);
                    moved += (available + excess) as u128;
                    slices += 1;
                    prop_assume!(slices < 1_000_000);
                }
            }
            let earned = (now - begin).as_nanos() * u128::from(rate) / NANOS_PER_SECOND;
            let most = earned + burst(rate) as u128 + excess as u128;
            prop_assert!(moved <= most, "{moved} of at most {most}");
            // Each refill may lose a fraction of a nanosecond.
            let rounding = (u128::from(slices) + 400) * u128::from(rate / 1_000_000_000 + 1);
            let least = earned.saturating_sub(slice_min(rate) as u128 + rounding);
            prop_assert!(moved >= least, "{moved} of at least {least}");
        }
    }
}

//! A bound on bytes a second, for whoever shares it: a bucket that fills at the rate. Who finds it empty is parked, in a line
//! that moves when there is enough for a turn.
//!
//! What was moved although the bucket was empty is a debt, so that the rate holds over time whatever one turn moves.
//!
//! Must not know: connections, users, who the keys belong to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::limits::{COMMAND_COST_BYTES, RATE_LIMIT_BURST, RATE_LIMIT_TICK, SLICE_BUDGET_BYTES};

/// One bucket, and who waits for it.
pub(crate) struct TokenBucket {
    /// Bytes a second; `None` is no limit.
    rate: Option<u64>,
    /// Bytes that may be moved; below zero where more were.
    tokens: i64,
    /// Up to when the tokens are counted.
    at: Instant,
    /// Keys of those who found too little, the first of them first.
    parked: VecDeque<usize>,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(rate: Option<u64>, now: Instant) -> TokenBucket {
        let mut bucket = TokenBucket {
            rate: None,
            tokens: 0,
            at: now,
            parked: VecDeque::new(),
        };
        bucket.set_rate(rate, now);
        bucket
    }

    /// Goes on at another rate; the same one changes nothing.
    pub(crate) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        if self.rate != rate {
            self.rate = rate;
            self.tokens = rate.map_or(0, burst);
            self.at = now;
        }
    }

    /// Bytes that one turn may move now; 0 is too few for a turn.
    pub(crate) fn allowance(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else {
            return SLICE_BUDGET_BYTES;
        };
        self.fill(rate, now);
        match usize::try_from(self.tokens) {
            Ok(tokens) if tokens >= least(rate) => tokens.min(SLICE_BUDGET_BYTES),
            _ => 0,
        }
    }

    /// So many bytes were moved.
    pub(crate) fn spend(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.tokens = self.tokens.saturating_sub_unsigned(bytes as u64);
        }
    }

    /// Lets a key wait, behind the others.
    pub(crate) fn park(&mut self, key: usize) {
        self.parked.push_back(key);
    }

    /// The next key that has waited, where there is enough for its turn.
    pub(crate) fn release(&mut self, now: Instant) -> Option<usize> {
        match !self.parked.is_empty() && self.allowance(now) > 0 {
            true => self.parked.pop_front(),
            false => None,
        }
    }

    /// Takes a key out that waits no more.
    pub(crate) fn forget(&mut self, key: usize) {
        self.parked.retain(|parked| *parked != key);
    }

    /// Those who wait.
    pub(crate) fn parked(&self) -> &VecDeque<usize> {
        &self.parked
    }

    /// Adds what has come since, in whole bytes; the rest of the time counts the next time.
    fn fill(&mut self, rate: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        let came = passed.as_nanos() * u128::from(rate) / SECOND;
        let room = burst(rate).saturating_sub(self.tokens).max(0);
        match i64::try_from(came) {
            Ok(came) if came < room => {
                self.tokens += came;
                let nanos = (came as u128 * SECOND).div_ceil(u128::from(rate));
                self.at += Duration::from_nanos(nanos as u64);
            }
            // It runs over.
            _ => {
                self.tokens += room;
                self.at = now;
            }
        }
    }
}

/// Nanoseconds.
const SECOND: u128 = 1_000_000_000;

/// Bytes of a full bucket.
fn burst(rate: u64) -> i64 {
    let bytes = u128::from(rate) * RATE_LIMIT_BURST.as_nanos() / SECOND;
    (bytes as i64).max(2 * least(rate) as i64)
}

/// Bytes that are worth a turn: what comes in a tick, within what a command costs and what a turn may move.
fn least(rate: u64) -> usize {
    let bytes = u128::from(rate) * RATE_LIMIT_TICK.as_nanos() / SECOND;
    usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .clamp(COMMAND_COST_BYTES, SLICE_BUDGET_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_finds_too_little_waits_in_line() {
        let now = Instant::now();
        let mut bucket = TokenBucket::new(Some(1_000_000), now);
        assert_eq!(bucket.allowance(now), 100_000);
        bucket.spend(150_000);
        assert_eq!(bucket.allowance(now), 0);
        (1..=3).for_each(|key| bucket.park(key));
        bucket.forget(2);
        assert_eq!(bucket.release(now), None);
        let later = now + Duration::from_millis(60);
        assert_eq!(bucket.release(later), Some(1));
        bucket.spend(10_000);
        assert_eq!(bucket.release(later), None);
        bucket.set_rate(None, later);
        assert_eq!(bucket.release(later), Some(3));
        assert_eq!(bucket.release(later), None);
    }

    proptest! {
        /// However the turns fall and however much one of them moves too much, no more comes out than the rate and one burst, and no
        /// less than the rate where somebody always takes what there is in time.
        #[test]
        fn the_rate_holds(rate in 1u64..1 << 34, waits in proptest::collection::vec(1u64..20_000_000, 1..200), over in 0usize..2000) {
            let begin = Instant::now();
            let mut now = begin;
            let mut bucket = TokenBucket::new(Some(rate), now);
            let mut moved = 0u128;
            let mut turns = 0u64;
            for wait in waits {
                now += Duration::from_nanos(wait);
                while let allowance @ 1.. = bucket.allowance(now) {
                    bucket.spend(allowance + over);
                    moved += (allowance + over) as u128;
                    turns += 1;
                    prop_assume!(turns < 1_000_000);
                }
            }
            let come = (now - begin).as_nanos() * u128::from(rate) / SECOND;
            let most = come + burst(rate) as u128 + over as u128;
            prop_assert!(moved <= most, "{moved} of at most {most}");
            // Each time the clock is looked at costs a part of a nanosecond.
            let rounding = (u128::from(turns) + 400) * u128::from(rate / 1_000_000_000 + 1);
            let least = come.saturating_sub(least(rate) as u128 + rounding);
            prop_assert!(moved >= least, "{moved} of at least {least}");
        }
    }
}

//! A queue whose time is divided fairly between shares, such as users (start-time fair queueing).
//!
//! Every share has a virtual time that grows with the time that its items took. The share with the
//! lowest one goes next, so a share with many or long items delays only itself. All operations
//! take logarithmic time in the number of shares and items.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Charged when an item starts, until its real time is known: a share with several idle workers
/// does not get all of them at once.
const START_CHARGE: Duration = Duration::from_millis(50);

/// The most by which the virtual time of a share may exceed that of the next item: a share is not
/// shut out for long by one slow item.
const LEAD_MAX: Duration = Duration::from_millis(500);

/// Queued items by share. Items are numbers; a lower one goes first within its share.
pub(super) struct FairQueue<S> {
    shares: HashMap<S, ShareState>,
    /// The shares of which an item may start, by virtual time, then by turn.
    order: BTreeSet<(Duration, u64, S)>,
    /// The virtual time of the item that started last.
    now: Duration,
    turns: u64,
    items: usize,
    running: usize,
    /// Items of the shares in `order`.
    startable: usize,
}

/// How much of the workers a share may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Items that may run at once.
    pub(super) concurrent: usize,
    /// How fast the virtual time passes: 1, or more for a share of lower priority.
    pub(super) cost: u32,
}

struct ShareState {
    items: BTreeSet<u64>,
    allowance: Allowance,
    time: Duration,
    turn: u64,
    running: usize,
}

impl ShareState {
    fn may_start(&self) -> bool {
        !self.items.is_empty() && self.running < self.allowance.concurrent
    }
}

impl<S: Copy + Ord + Hash> FairQueue<S> {
    pub(super) fn new() -> FairQueue<S> {
        FairQueue {
            shares: HashMap::new(),
            order: BTreeSet::new(),
            now: Duration::ZERO,
            turns: 0,
            items: 0,
            running: 0,
            startable: 0,
        }
    }

    /// Adds an item, which must be new, to a share.
    pub(super) fn push(&mut self, key: S, allowance: Allowance, item: u64) {
        let now = self.now;
        self.update(key, allowance, |share| {
            if share.items.is_empty() && share.running == 0 {
                share.time = share.time.max(now);
            }
            share.items.insert(item);
        });
        self.items += 1;
    }

    /// Removes an item. Returns whether it was queued.
    pub(super) fn remove(&mut self, key: S, item: u64) -> bool {
        let Some(allowance) = self.shares.get(&key).map(|share| share.allowance) else {
            return false;
        };
        let is_removed = self.update(key, allowance, |share| share.items.remove(&item));
        self.items -= usize::from(is_removed);
        self.forget_if_idle();
        is_removed
    }

    /// Removes the next item and counts it as running until [`FairQueue::end`].
    pub(super) fn pop(&mut self) -> Option<(S, u64)> {
        let (time, _, key) = *self.order.first()?;
        self.now = self.now.max(time);
        let item = self.shares.get(&key)?.items.first().copied()?;
        self.start(key, item);
        Some((key, item))
    }

    /// Removes an item out of turn and counts it as running.
    pub(super) fn start(&mut self, key: S, item: u64) {
        let Some(allowance) = self.shares.get(&key).map(|share| share.allowance) else {
            return;
        };
        let is_removed = self.update(key, allowance, |share| {
            let is_removed = share.items.remove(&item);
            share.running += usize::from(is_removed);
            share.time += START_CHARGE * u32::from(is_removed);
            is_removed
        });
        self.items -= usize::from(is_removed);
        self.running += usize::from(is_removed);
    }

    /// Charges a share for an item that ran for `elapsed`.
    pub(super) fn end(&mut self, key: S, elapsed: Duration) {
        let Some(allowance) = self.shares.get(&key).map(|share| share.allowance) else {
            return;
        };
        let now = self.now;
        self.update(key, allowance, |share| {
            let cost = elapsed.min(LEAD_MAX) * share.allowance.cost;
            let time = share.time.saturating_sub(START_CHARGE) + cost;
            share.time = time.min(now + LEAD_MAX * share.allowance.cost);
            share.running -= 1;
        });
        self.running -= 1;
        self.forget_if_idle();
    }

    /// Removes all items, in order of submission.
    pub(super) fn drain(&mut self) -> Vec<u64> {
        let mut items: Vec<u64> = Vec::with_capacity(self.items);
        for share in self.shares.values_mut() {
            items.extend(std::mem::take(&mut share.items));
        }
        items.sort_unstable();
        self.order.clear();
        (self.items, self.startable) = (0, 0);
        self.forget_if_idle();
        items
    }

    /// Returns the number of entries that the order of the shares has.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.order.len()
    }

    /// Returns the number of queued items.
    pub(super) fn len(&self) -> usize {
        self.items
    }

    /// Returns the item that is next to start.
    pub(super) fn first(&self) -> Option<u64> {
        let (_, _, key) = self.order.first()?;
        self.shares.get(key)?.items.first().copied()
    }

    /// Returns the number of queued items of shares that may start one.
    pub(super) fn startable(&self) -> usize {
        self.startable
    }

    /// Whether an item of this share may start.
    pub(super) fn may_start(&self, key: S) -> bool {
        self.shares.get(&key).is_some_and(ShareState::may_start)
    }

    /// Changes a share and moves it to its new place in the order.
    fn update<R>(
        &mut self,
        key: S,
        allowance: Allowance,
        change: impl FnOnce(&mut ShareState) -> R,
    ) -> R {
        let share = self.shares.entry(key).or_insert_with(|| ShareState {
            items: BTreeSet::new(),
            allowance,
            time: Duration::ZERO,
            turn: 0,
            running: 0,
        });
        let before = share.may_start().then_some(share.time);
        if before.is_some() {
            self.order.remove(&(share.time, share.turn, key));
            self.startable -= share.items.len();
        }
        let result = change(share);
        if share.may_start() {
            if before != Some(share.time) {
                self.turns += 1;
                share.turn = self.turns;
            }
            self.order.insert((share.time, share.turn, key));
            self.startable += share.items.len();
        }
        result
    }

    /// An idle queue owes nothing to any share, so it needs no memory of them.
    fn forget_if_idle(&mut self) {
        if self.items == 0 && self.running == 0 {
            self.shares.clear();
            self.now = Duration::ZERO;
        }
    }
}

#[cfg(test)]
mod tests;

//! The memory that users take, as charges that end when they are dropped.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::server::session_id::UserKey;

/// The sum of all charges.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryUse {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Debug, Default)]
struct MemoryState {
    bytes: usize,
    /// The users of charges that were dropped since [`MemoryUse::take_freed`].
    freed: Vec<Option<UserKey>>,
}

/// A part of the memory. Its owner may be dropped on any thread.
#[derive(Debug)]
pub(crate) struct MemoryCharge {
    of: MemoryUse,
    user: Option<UserKey>,
    bytes: usize,
    /// The sum of all charges up to which this one may grow.
    sum_max: usize,
}

impl MemoryUse {
    /// Charges bytes to a user. The charge may grow as long as the sum of all charges is at most
    /// `sum_max`.
    pub(crate) fn charge(
        &self,
        user: Option<UserKey>,
        bytes: usize,
        sum_max: usize,
    ) -> MemoryCharge {
        self.state().bytes += bytes;
        MemoryCharge {
            of: self.clone(),
            user,
            bytes,
            sum_max,
        }
    }

    /// Returns the sum of all charges.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Returns the users of the charges that were dropped since the last call, once per charge.
    pub(crate) fn take_freed(&self) -> Vec<Option<UserKey>> {
        std::mem::take(&mut self.state().freed)
    }

    fn state(&self) -> MutexGuard<'_, MemoryState> {
        // No operation can panic half-way.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl MemoryCharge {
    /// Makes sure that the charge covers `bytes`. Returns whether there is room.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let Some(missing) = bytes.checked_sub(self.bytes).filter(|missing| *missing > 0) else {
            return true;
        };
        let mut state = self.of.state();
        if state.bytes + missing > self.sum_max {
            return false;
        }
        // In large steps, since each takes a lock.
        let step = missing.max(self.bytes).min(self.sum_max - state.bytes);
        state.bytes += step;
        self.bytes += step;
        true
    }

    /// Sets the charge to the bytes that are used.
    pub(crate) fn set(&mut self, bytes: usize) {
        let mut state = self.of.state();
        state.bytes = state.bytes + bytes - self.bytes;
        self.bytes = bytes;
    }
}

impl Drop for MemoryCharge {
    fn drop(&mut self) {
        let mut state = self.of.state();
        state.bytes -= self.bytes;
        state.freed.push(self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_grow_within_their_sum_and_end_when_dropped() {
        let memory = MemoryUse::default();
        let mut first = memory.charge(None, 10, 100);
        let mut second = memory.charge(None, 10, 200);
        assert!(first.cover(11));
        assert_eq!(memory.bytes(), 30, "twice as much");
        assert!(first.cover(90) && !first.cover(91));
        assert_eq!(memory.bytes(), 100);
        assert!(second.cover(110) && !second.cover(111));
        first.set(5);
        assert_eq!(memory.bytes(), 115);
        assert!(memory.take_freed().is_empty());
        drop(second);
        assert_eq!((memory.bytes(), memory.take_freed()), (5, vec![None]));
    }
}

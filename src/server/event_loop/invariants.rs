//! The loop from outside: what a simulation and the benches look at, drive and hold to its invariants.
//!
//! Must not know: how a turn goes.

use crate::kernel::Kernel;
use crate::server::conn::control::Connection;
use crate::server::event_loop::slot::Slot;
use crate::server::event_loop::{EventLoop, Stopped};

impl<K: Kernel> EventLoop<K> {
    /// Connections in their slots.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Jobs that wait for a worker.
    pub fn jobs(&self) -> usize {
        self.services.workers().queued()
    }

    /// Runs the `n`th waiting job (`n` below [`EventLoop::jobs`]) on the calling thread.
    pub fn run_job(&self, n: usize) {
        self.services.workers().run_nth(n);
    }

    /// How the loop has ended, once it has.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Asserts between two turns what must hold of every slot: it is blocked with a false flag for what it needs, or
    /// waits for an answer, or stands in the queue, once.
    pub fn check(&self) {
        for (key, slot) in &self.connections {
            let queued = self
                .queue
                .iter()
                .copied()
                .chain(self.services.rates().parked());
            let entries = queued.filter(|queued| *queued == key).count();
            assert_eq!(
                entries,
                usize::from(slot.is_queued()),
                "slot {key} stands in the queue {entries} times"
            );
            assert!(
                slot.is_queued() || slot.is_blocked(),
                "slot {key} is neither blocked nor queued"
            );
        }
        let mut queued = self
            .queue
            .iter()
            .copied()
            .chain(self.services.rates().parked());
        assert!(
            queued.all(|key| self.connections.contains(key)),
            "an empty slot stands in the queue"
        );
        self.controls().for_each(Connection::check);
        let turned_away = self.controls().filter(|control| control.is_turned_away());
        assert_eq!(
            self.door.turned_away(),
            turned_away.count(),
            "who is turned away is counted"
        );
        assert_eq!(
            self.connections.len() - self.door.turned_away() - self.data_connections,
            self.door.sessions(),
            "sessions are counted by address"
        );
        let entered = self.controls().filter(|control| control.user().is_some());
        assert_eq!(
            entered.count(),
            self.services.sessions(),
            "sessions are counted by user"
        );
        self.check_data();
        assert!(
            self.finished.is_empty(),
            "the finished are removed within their turn"
        );
    }

    fn controls(&self) -> impl Iterator<Item = &Connection<K>> {
        self.connections.iter().filter_map(|(_, slot)| match slot {
            Slot::Control(connection) => Some(connection),
            Slot::Data(_) => None,
        })
    }
}

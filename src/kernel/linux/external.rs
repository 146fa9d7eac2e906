//! Connections of the rest of the process to the event loop: descriptors that are polled with the
//! loop's own, signals that they raise, and a listener for milestones.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use crate::kernel::linux::poll::Poller;
use crate::kernel::types::{Milestone, Signal};

/// Called in the event loop's thread when an external descriptor is readable. Must not block.
pub type ReadableHandler = Box<dyn FnMut(&PollHandle<'_>) + Send>;

/// Called for every milestone. Must not block.
pub type MilestoneHandler = Box<dyn Fn(Milestone) + Send + Sync>;

/// The access of a [`ReadableHandler`] to the poll.
pub struct PollHandle<'a>(&'a Poller);

impl PollHandle<'_> {
    /// Polls another descriptor, edge-triggered, for the same handler.
    pub fn watch(&self, descriptor: &impl AsRawFd) -> io::Result<()> {
        self.0.watch_external(descriptor.as_raw_fd())
    }

    /// Stops polling a descriptor, which may be one of the event loop's own. Closing it is not
    /// enough if another process has it open too.
    pub fn unwatch(&self, descriptor: &impl AsRawFd) {
        self.0.unwatch(descriptor.as_raw_fd());
    }

    /// Delivers a signal to the event loop.
    pub fn raise(&self, signal: Signal) {
        self.0.raise(signal);
    }
}

/// The handlers of the rest of the process.
#[derive(Default)]
pub(super) struct External {
    on_readable: Mutex<Option<ReadableHandler>>,
    on_milestone: Option<MilestoneHandler>,
}

impl External {
    pub(super) fn set_on_milestone(&mut self, handler: MilestoneHandler) {
        self.on_milestone = Some(handler);
    }

    /// Replaces the handler for readable descriptors.
    pub(super) fn set_on_readable(&self, handler: ReadableHandler) {
        *self.on_readable.lock().expect("no handler panics") = Some(handler);
    }

    pub(super) fn handle_readable(&self, poller: &Poller) {
        if let Some(handler) = &mut *self.on_readable.lock().expect("no handler panics") {
            handler(&PollHandle(poller));
        }
    }

    pub(super) fn handle_milestone(&self, milestone: Milestone) {
        if let Some(handler) = &self.on_milestone {
            handler(milestone);
        }
    }
}

//! Connections of the rest of the process to the event loop: descriptors that are polled with the
//! loop's own, signals that they raise, and a listener for milestones.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use crate::domain::reload_report::ReloadReport;
use crate::kernel::linux::poll::Poller;
use crate::kernel::types::{Milestone, Signal};

/// Handles external descriptors, in the event loop's thread. Must not block.
pub trait ControlHandler: Send {
    /// An external descriptor is readable.
    fn handle_readable(&mut self, poll: &PollHandle<'_>);
    /// The event loop is alive; called once per sweep.
    fn handle_tick(&mut self, poll: &PollHandle<'_>);
    /// A reload begins, which answers all requests before it.
    fn handle_reload_begin(&mut self);
    /// The reload is complete.
    fn handle_reload_end(&mut self, report: &ReloadReport);
}

/// Called for every milestone. Must not block.
pub type MilestoneHandler = Box<dyn Fn(Milestone) + Send + Sync>;

/// The access of a [`ControlHandler`] to the poll.
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
    control: Mutex<Option<Box<dyn ControlHandler>>>,
    on_milestone: Option<MilestoneHandler>,
}

impl External {
    pub(super) fn set_on_milestone(&mut self, handler: MilestoneHandler) {
        self.on_milestone = Some(handler);
    }

    /// Replaces the handler of external descriptors.
    pub(super) fn set_control(&self, handler: Box<dyn ControlHandler>) {
        *self.control.lock().expect("no handler panics") = Some(handler);
    }

    fn with_control(&self, call: impl FnOnce(&mut dyn ControlHandler)) {
        if let Some(handler) = &mut *self.control.lock().expect("no handler panics") {
            call(&mut **handler);
        }
    }

    pub(super) fn handle_readable(&self, poller: &Poller) {
        self.with_control(|control| control.handle_readable(&PollHandle(poller)));
    }

    pub(super) fn handle_milestone(&self, milestone: Milestone, poller: &Poller) {
        if let Some(handler) = &self.on_milestone {
            handler(milestone);
        }
        match milestone {
            Milestone::Alive => {
                self.with_control(|control| control.handle_tick(&PollHandle(poller)));
            }
            Milestone::Reloading => self.with_control(|control| control.handle_reload_begin()),
            Milestone::Ready | Milestone::Stopping => {}
        }
    }

    pub(super) fn handle_reload_end(&self, report: &ReloadReport) {
        self.with_control(|control| control.handle_reload_end(report));
    }
}

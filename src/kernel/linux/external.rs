//! What the rest of the process connects to the event loop: descriptors that are polled with the
//! loop's own, signals that they raise, and a listener for milestones.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use mio::net::TcpListener;
use nix::sys::socket::{getsockopt, sockopt};

use crate::kernel::linux::Linux;
use crate::kernel::linux::socket::set_options;
use crate::kernel::types::{Milestone, Signal};

/// Called in the event loop's thread when an external descriptor is readable. Must not block.
pub type ReadableHandler = Box<dyn FnMut(&PollHandle<'_>) + Send>;

/// Called for every milestone. Must not block.
pub type MilestoneHandler = Box<dyn Fn(Milestone) + Send + Sync>;

/// The access of a [`ReadableHandler`] to the poll.
pub struct PollHandle<'a>(&'a Linux);

impl PollHandle<'_> {
    /// Polls another descriptor, edge-triggered, for the same handler.
    pub fn watch(&self, descriptor: &impl AsRawFd) -> io::Result<()> {
        self.0.poller.watch_external(descriptor.as_raw_fd())
    }

    /// Stops polling a descriptor, which may be one of the event loop's own. Closing it is not
    /// enough if another process has it open too.
    pub fn unwatch(&self, descriptor: &impl AsRawFd) {
        self.0.poller.unwatch(descriptor.as_raw_fd());
    }

    /// Delivers a signal to the event loop.
    pub fn raise(&self, signal: Signal) {
        self.0.poller.raise(signal);
    }
}

impl Linux {
    /// Calls `handler` for every milestone from now on.
    pub fn on_milestone(&mut self, handler: MilestoneHandler) {
        self.on_milestone = Some(handler);
    }

    /// Polls `descriptor` with the event loop and calls `handler` when it is readable. Replaces the
    /// earlier handler.
    pub fn on_readable(
        &self,
        descriptor: &impl AsRawFd,
        handler: ReadableHandler,
    ) -> io::Result<()> {
        PollHandle(self).watch(descriptor)?;
        *self.on_readable.lock().expect("no handler panics") = Some(handler);
        Ok(())
    }

    pub(super) fn handle_readable(&self) {
        if let Some(handler) = &mut *self.on_readable.lock().expect("no handler panics") {
            handler(&PollHandle(self));
        }
    }

    /// Registers a socket that listens already, like [`crate::kernel::Kernel::listen`] a new one.
    ///
    /// # Errors
    /// If the socket does not listen.
    pub fn adopt(&self, socket: OwnedFd, token: usize) -> io::Result<Arc<TcpListener>> {
        if !getsockopt(&socket, sockopt::AcceptConn)? {
            return Err(io::Error::other("an inherited socket is not a listener"));
        }
        set_options(&socket)?;
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        self.register_listener(TcpListener::from_std(socket), token)
    }

    pub(super) fn register_listener(
        &self,
        mut listener: TcpListener,
        token: usize,
    ) -> io::Result<Arc<TcpListener>> {
        self.poller.watch_listener(&mut listener, token)?;
        Ok(Arc::new(listener))
    }
}

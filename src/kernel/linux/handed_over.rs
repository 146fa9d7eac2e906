//! Listeners that come from somebody else and go to somebody else: what [`crate::kernel::linux::Linux`] has to do with the poll for it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use mio::net::TcpListener;
use nix::sys::socket::{getsockopt, sockopt};

use crate::kernel::linux::socket::set_options;
use crate::kernel::linux::{CONTROL, Linux, SUCCESSOR};
use crate::process::control_socket::{Control, Release};
use crate::process::systemd::Supervisor;

impl Linux {
    /// From now on milestones are told.
    pub fn report_to(&mut self, supervisor: Supervisor) {
        self.supervisor = supervisor;
    }

    /// From now on these listeners, each with its tag, are handed over to the server that asks for them on `socket`;
    /// `release` is called when this one is relieved of them.
    pub fn hand_over<'a>(
        &self,
        socket: UnixListener,
        listeners: impl Iterator<Item = (&'a Arc<TcpListener>, u8)>,
        release: Release,
    ) -> io::Result<()> {
        let listeners = listeners
            .map(|(listener, tag)| (Arc::downgrade(listener), tag))
            .collect();
        let control = Control::new(socket, listeners, release)?;
        let fd = control.socket().as_raw_fd();
        self.poller.watch_reserved(fd, CONTROL)?;
        *self.control() = Some(control);
        Ok(())
    }

    /// Takes a socket over that listens already, as [`Kernel::listen`](crate::kernel::Kernel::listen) makes one.
    ///
    /// # Errors
    /// Also where it is something else.
    pub fn adopt(&self, socket: OwnedFd, token: usize) -> io::Result<Arc<TcpListener>> {
        if !getsockopt(&socket, sockopt::AcceptConn)? {
            return Err(io::Error::other("a socket that was passed does not listen"));
        }
        set_options(&socket)?;
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        self.watch(TcpListener::from_std(socket), token)
    }

    pub(super) fn watch(
        &self,
        mut listener: TcpListener,
        token: usize,
    ) -> io::Result<Arc<TcpListener>> {
        self.poller.watch_listener(&mut listener, token)?;
        Ok(Arc::new(listener))
    }

    fn control(&self) -> MutexGuard<'_, Option<Control>> {
        self.control.lock().expect("nobody panics with it")
    }

    /// Somebody asks for the listeners.
    pub(super) fn answer(&self) {
        let mut control = self.control();
        let Some(control) = &mut *control else { return };
        loop {
            match control.answer() {
                Ok(Some(stream)) => {
                    let fd = stream.as_raw_fd();
                    if let Err(error) = self.poller.watch_reserved(fd, SUCCESSOR) {
                        failed(&error);
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return failed(&error),
            }
        }
    }

    /// The one who asked says something.
    pub(super) fn hear(&self) {
        let mut control = self.control();
        let Some(control) = &mut *control else { return };
        if control.hear() {
            // The other process keeps them open, so that to close ours would not end their events here.
            for listener in control.listeners() {
                self.poller.unwatch(listener.as_raw_fd());
            }
            self.poller.unwatch(control.socket().as_raw_fd());
            self.relieved.store(true, Ordering::Relaxed);
        }
    }
}

/// Logs why the listeners cannot be handed over; what quotes a value and escapes in it is `Debug` of a text.
fn failed(error: &io::Error) {
    let why = error.to_string();
    log::warn!("event=take-over result=failed why={why:?}");
}

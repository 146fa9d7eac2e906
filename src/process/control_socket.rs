//! The control socket in a home, and the exchange by which a server hands its listeners over to the
//! next server process of the home.
//!
//! The old server sends its listeners as descriptors (SCM_RIGHTS). While both servers have them,
//! clients queue at the same sockets and none is refused. When the new server is ready it sends
//! `ready`. The old one then stops accepting, releases the locks of the home and sends `released`.
//! If the new server fails before that, nothing has changed.
//!
//! Only root and the user of the old server get the listeners: both could end the process or read
//! its memory anyway.

use std::fs;
use std::io;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::kernel::Signal;
use crate::kernel::linux::external::PollHandle;
use crate::kernel::linux::receive_descriptors;
use crate::limits::HANDOVER_DESCRIPTORS_MAX;

/// How long the new server waits for a message of the old one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

const READY: &[u8] = b"ready\n";
const RELEASED: &[u8] = b"released\n";

/// Releases the locks of the home after a handover.
pub type Release = Box<dyn FnOnce() + Send>;

/// Binds the control socket at `path` with mode 0600. Removes the one of an earlier server: the
/// caller holds the lock of the home. Changes the umask for a moment, so no other thread may run.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// The old server's side. `L` is the event loop's listener.
pub struct ControlSocket<L> {
    socket: UnixListener,
    /// Each with a tag for its dialect. The event loop owns them and may close them.
    listeners: Vec<(Weak<L>, u8)>,
    /// `None` after a handover.
    release: Option<Release>,
    /// The connection of the new server.
    successor: Option<UnixStream>,
    /// The user that may request a handover, next to root.
    uid: u32,
}

impl<L: AsRawFd> ControlSocket<L> {
    /// Serves handover requests on `socket`. `release` is called once the next server is ready.
    pub fn new(
        socket: UnixListener,
        listeners: Vec<(Weak<L>, u8)>,
        release: Release,
    ) -> io::Result<ControlSocket<L>> {
        socket.set_nonblocking(true)?;
        Ok(ControlSocket {
            socket,
            listeners,
            release: Some(release),
            successor: None,
            uid: geteuid().as_raw(),
        })
    }

    /// The listening socket, which is to be polled.
    pub fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Handles readiness of the socket or of the new server's connection. Raises
    /// [`Signal::Relieved`] once the new server is ready.
    pub fn handle_readable(&mut self, poll: &PollHandle<'_>) {
        if let Err(error) = self.accept_requests(poll)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            let why = error.to_string();
            log::warn!("event=take-over result=failed why={why:?}");
        }
        if self.is_successor_ready() {
            self.finish(poll);
        }
    }

    /// Accepts until the socket blocks or fails.
    fn accept_requests(&mut self, poll: &PollHandle<'_>) -> io::Result<()> {
        loop {
            let (stream, _) = self.socket.accept()?;
            stream.set_nonblocking(true)?;
            let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
            if peer.uid() != 0 && peer.uid() != self.uid {
                log::warn!("event=take-over result=refused uid={}", peer.uid());
                continue;
            }
            if self.release.is_none() {
                continue; // handed over already
            }
            self.send_listeners(&stream)?;
            poll.watch(&stream)?;
            self.successor = Some(stream);
        }
    }

    /// Sends the control socket and the listeners that are still open, with one tag byte for each.
    fn send_listeners(&self, stream: &UnixStream) -> io::Result<()> {
        let open = self.listeners.iter();
        let open: Vec<(Arc<L>, u8)> = open
            .filter_map(|(listener, tag)| Some((listener.upgrade()?, *tag)))
            .take(HANDOVER_DESCRIPTORS_MAX - 1)
            .collect();
        let mut descriptors = vec![self.socket.as_raw_fd()];
        let mut tags = vec![0];
        for (listener, tag) in &open {
            descriptors.push(listener.as_raw_fd());
            tags.push(*tag);
        }
        let sent = sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(&tags)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        assert_eq!(sent, tags.len(), "a new socket buffers a few bytes");
        Ok(())
    }

    /// Reads the message of the new server. Closes its connection if the new server has failed.
    fn is_successor_ready(&mut self) -> bool {
        let Some(stream) = &mut self.successor else {
            return false;
        };
        let mut message = [0; READY.len()];
        match stream.read(&mut message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Ok(n) if message[..n] == *READY => true,
            _ => {
                self.successor = None;
                false
            }
        }
    }

    fn finish(&mut self, poll: &PollHandle<'_>) {
        if let Some(release) = self.release.take() {
            release();
        }
        if let Some(mut stream) = self.successor.take() {
            let _ = stream.write_all(RELEASED);
        }
        // The new server has the same sockets open, so closing them here would not end their
        // events.
        for (listener, _) in &self.listeners {
            if let Some(listener) = listener.upgrade() {
                poll.unwatch(&*listener);
            }
        }
        poll.unwatch(&self.socket);
        poll.raise(Signal::Relieved);
    }
}

/// The new server's side: a connection to the old server, and the sockets received from it.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    control: UnixListener,
    listeners: Vec<(SocketAddr, u8, OwnedFd)>,
}

impl Predecessor {
    /// Requests the listeners of the server whose control socket is at `path`.
    pub fn connect(path: &Path) -> io::Result<Predecessor> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        let mut descriptors = receive_descriptors(&stream)?.into_iter();
        let (control, _) = descriptors
            .next()
            .ok_or_else(|| io::Error::other("the running server refused the handover"))?;
        let listeners = descriptors
            .map(|(listener, tag)| {
                let listener = TcpListener::from(listener);
                Ok((listener.local_addr()?, tag, listener.into()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Predecessor {
            stream,
            control: control.into(),
            listeners,
        })
    }

    /// Returns the control socket, for the handover to the server after this one.
    pub fn control_socket(&self) -> io::Result<UnixListener> {
        self.control.try_clone()
    }

    /// The addresses and tags of the listeners that were not claimed.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, u8)> {
        let listeners = self.listeners.iter();
        listeners.map(|(address, tag, _)| (*address, *tag))
    }

    /// Returns the listener with this address and tag. Port 0 matches every port.
    pub fn claim(&mut self, address: SocketAddr, tag: u8) -> Option<OwnedFd> {
        let matches = |found: &SocketAddr| {
            found.ip() == address.ip() && (address.port() == 0 || found.port() == address.port())
        };
        let mut listeners = self.listeners.iter();
        let at = listeners.position(|(found, other, _)| matches(found) && *other == tag)?;
        Some(self.listeners.swap_remove(at).2)
    }

    /// Reports to the old server that this one is ready, and waits until the locks are released.
    pub fn relieve(mut self) -> io::Result<()> {
        self.stream.write_all(READY)?;
        let mut message = [0; RELEASED.len()];
        self.stream.read_exact(&mut message)
    }
}

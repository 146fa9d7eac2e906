//! How one server of a home hands its listeners over to the next: a socket in the home, and a few lines over it.
//!
//! The old server sends its listeners as descriptors. As long as both have them, whoever comes is in the queue of the
//! same socket, and nobody is refused. Once the new one serves it says `ready`; the old one lets go of its listeners and of
//! the home's lock, and says `released`. A new one that fails before has changed nothing.
//!
//! Only the same user and root are answered: who may as well end the process, or read its memory.
//!
//! Must not know: sessions, homes, what is served.

use std::fs;
use std::io;
use std::io::{IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use mio::net::TcpListener;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::kernel::linux::receive_descriptors;
use crate::limits::HANDOVER_DESCRIPTORS_MAX;

/// How long the next server waits for the old one's word.
const PATIENCE: Duration = Duration::from_secs(10);

const READY: &[u8] = b"ready\n";
const RELEASED: &[u8] = b"released\n";

/// What the old server does when it is relieved.
pub type Release = Box<dyn FnOnce() + Send>;

/// Opens the socket at `path` for this user alone. What an earlier server left there is removed: the caller holds the home's lock.
pub fn open(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = umask(Mode::from_bits_truncate(0o177)); // no other thread runs yet
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

/// The old server's side.
pub(crate) struct Control {
    socket: UnixListener,
    /// Each with a tag that means something to the servers alone.
    listeners: Vec<(Weak<TcpListener>, u8)>,
    release: Option<Release>,
    successor: Option<UnixStream>,
    /// Who may ask, beside root.
    uid: u32,
}

impl Control {
    pub(crate) fn new(
        socket: UnixListener,
        listeners: Vec<(Weak<TcpListener>, u8)>,
        release: Release,
    ) -> io::Result<Control> {
        socket.set_nonblocking(true)?;
        Ok(Control {
            socket,
            listeners,
            release: Some(release),
            successor: None,
            uid: geteuid().as_raw(),
        })
    }

    pub(crate) fn socket(&self) -> &UnixListener {
        &self.socket
    }

    /// Somebody knocks: the listeners for who may have them. The stream is to be watched, and [`Control::hear`] called when it can be read.
    pub(crate) fn answer(&mut self) -> io::Result<Option<&UnixStream>> {
        let (stream, _) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
        if peer.uid() != 0 && peer.uid() != self.uid {
            log::warn!("event=take-over result=refused uid={}", peer.uid());
            return Ok(None);
        }
        if self.release.is_none() {
            return Ok(None); // it is relieved already
        }
        let listeners: Vec<(Arc<TcpListener>, u8)> = self
            .listeners
            .iter()
            .filter_map(|(listener, tag)| Some((listener.upgrade()?, *tag)))
            .take(HANDOVER_DESCRIPTORS_MAX - 1)
            .collect();
        let mut descriptors = vec![self.socket.as_raw_fd()];
        let mut tags = vec![0];
        for (listener, tag) in &listeners {
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
        assert_eq!(sent, tags.len(), "a new socket has room for a few bytes");
        Ok(Some(self.successor.insert(stream)))
    }

    /// What the next server says. True once: it serves, and this one is relieved.
    pub(crate) fn hear(&mut self) -> bool {
        let Some(stream) = &mut self.successor else {
            return false;
        };
        let mut word = [0; READY.len()];
        match stream.read(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Ok(n) if word[..n] == *READY => {}
            _ => {
                self.successor = None; // it has failed, and nothing has changed
                return false;
            }
        }
        if let Some(release) = self.release.take() {
            release();
        }
        let _ = stream.write_all(RELEASED);
        true
    }

    /// The listeners, for the one who has to let go of them.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = Arc<TcpListener>> {
        self.listeners
            .iter()
            .filter_map(|(listener, _)| listener.upgrade())
    }
}

/// The new server's side.
#[derive(Debug)]
pub struct TakeOver {
    stream: UnixStream,
    /// The socket by which the next one will ask.
    pub control: UnixListener,
    listeners: Vec<(SocketAddr, u8, OwnedFd)>,
}

impl TakeOver {
    /// Asks the server that listens at `path`.
    pub fn ask(path: &Path) -> io::Result<TakeOver> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut descriptors = receive_descriptors(&stream)?.into_iter();
        let (control, _) = descriptors
            .next()
            .ok_or_else(|| io::Error::other("it does not give its listeners away"))?;
        let listeners = descriptors
            .map(|(listener, tag)| {
                let listener = std::net::TcpListener::from(listener);
                Ok((listener.local_addr()?, tag, listener.into()))
            })
            .collect::<io::Result<_>>()?;
        Ok(TakeOver {
            stream,
            control: control.into(),
            listeners,
        })
    }

    /// Where the old server listens and this one does not yet, with the tags.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, u8)> {
        self.listeners
            .iter()
            .map(|(address, tag, _)| (*address, *tag))
    }

    /// The old server's listener with an address and a tag; one at any port for port 0.
    pub fn take(&mut self, address: SocketAddr, tag: u8) -> Option<OwnedFd> {
        let fits = |found: &SocketAddr| {
            found.ip() == address.ip() && (address.port() == 0 || found.port() == address.port())
        };
        let mut listeners = self.listeners.iter();
        let at = listeners.position(|(found, other, _)| fits(found) && *other == tag)?;
        Some(self.listeners.swap_remove(at).2)
    }

    /// Tells the old server that this one serves, and waits until it has let go.
    pub fn complete(mut self) -> io::Result<()> {
        self.stream.write_all(READY)?;
        let mut word = [0; RELEASED.len()];
        self.stream.read_exact(&mut word)
    }
}

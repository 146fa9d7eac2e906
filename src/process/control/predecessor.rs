//! The new server's side of a handover: a connection to the running server, and the sockets
//! received from it.

use std::io;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::kernel::linux::receive_descriptors;
use crate::process::control::client::{connect, next_answer};
use crate::process::control::message::{ControlAnswer, ControlRequest};
use crate::process::control::server::CONTROL;

/// How long the new server waits for an answer of the old one.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The running server and its sockets.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    control: UnixListener,
    /// Each with the name of its dialect.
    listeners: Vec<(SocketAddr, String, OwnedFd)>,
}

impl Predecessor {
    /// Requests the listeners of the server whose control socket is at `path`.
    pub fn connect(path: &Path) -> io::Result<Predecessor> {
        let mut stream = connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let sent = stream.write_all(&ControlRequest::TakeOver.to_line());
        let (line, descriptors) = receive_descriptors(&stream)?;
        // A server that refuses this user answers without reading.
        let answer = match line.is_empty() {
            true => return Err(sent.err().unwrap_or_else(left)),
            false => ControlAnswer::parse(&line)?,
        };
        if let Some(why) = answer.error {
            return Err(io::Error::other(why));
        }
        let names = answer.sockets.unwrap_or_default();
        if names.len() != descriptors.len() || names.first().is_none_or(|name| name != CONTROL) {
            return Err(io::Error::other(
                "the running server has not sent its listeners; the limit of open files may be too \
                 low",
            ));
        }
        let mut sockets = names.into_iter().zip(descriptors);
        let control = sockets.next().ok_or_else(left)?.1;
        let listeners = sockets
            .map(|(name, listener)| {
                let listener = TcpListener::from(listener);
                Ok((listener.local_addr()?, name, listener.into()))
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

    /// The addresses and names of the listeners that were not claimed.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, &str)> {
        let listeners = self.listeners.iter();
        listeners.map(|(address, name, _)| (*address, name.as_str()))
    }

    /// Returns the listener with this address and name. Port 0 matches every port.
    pub fn claim(&mut self, address: SocketAddr, name: &str) -> Option<OwnedFd> {
        let matches = |found: &SocketAddr| {
            found.ip() == address.ip() && (address.port() == 0 || found.port() == address.port())
        };
        let mut listeners = self.listeners.iter();
        let at = listeners.position(|(found, other, _)| matches(found) && other == name)?;
        Some(self.listeners.swap_remove(at).2)
    }

    /// Reports to the old server that this one is ready, and waits until it has released its locks
    /// and stopped accepting.
    ///
    /// # Errors
    /// If the old server goes on serving. This one must not serve then.
    pub fn relieve(mut self) -> io::Result<()> {
        // An answer of the old server explains a failure better.
        let sent = self.stream.write_all(&ControlRequest::Ready.to_line());
        let mut lines = BufReader::new(&self.stream);
        let answer = next_answer(&mut lines).or_else(|error| {
            // After this, the old server cannot confirm any more, and notices it. What it has sent
            // before can still be read.
            self.stream.shutdown(Shutdown::Both)?;
            next_answer(&mut lines).map_err(|_| sent.err().unwrap_or(error))
        })?;
        match answer.error {
            Some(why) => Err(io::Error::other(why)),
            None => Ok(()),
        }
    }
}

fn left() -> io::Error {
    io::Error::other("the running server has closed the connection")
}

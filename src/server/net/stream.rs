//! A client's socket with its readiness flags, the only caller of the kernel's socket operations.
//!
//! Sockets are registered once, edge-triggered, so a missed edge is not reported again. Two
//! rules follow:
//!
//! - An event is a hint. It sets flags and closes nothing.
//! - A flag is cleared only by a call that blocked, or by a read that returned fewer bytes than
//!   asked for while no end is announced. A short write clears nothing: the kernel may have stopped
//!   at a page or a piece, with room left in the socket.

use std::io;
use std::net::SocketAddr;

use crate::kernel::{Kernel, Piece, Readiness};

/// A connected socket with its readiness.
pub(crate) struct Stream<K: Kernel> {
    socket: K::Socket,
    readable: bool,
    writable: bool,
    /// The last event reported the peer's end, so a short read does not mean that all was read.
    end_announced: bool,
    /// A read returned the end of the peer's sending half.
    ended: bool,
}

/// Why a call on a stream moved no byte.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The stream is not ready. The next event resumes it.
    Blocked,
    /// The connection is broken, or the file that was to be sent cannot be read.
    Failed(io::Error),
}

/// The result of one read of a lingering close.
pub(crate) enum Drained {
    /// Bytes were discarded. More may follow.
    Some(usize),
    /// The peer has closed its sending half.
    End,
    /// The peer sends more than a lingering close discards.
    TooMuch,
}

impl<K: Kernel> Stream<K> {
    /// Takes a socket that is, or is about to be, registered. `readable` makes the first read go to
    /// the kernel before any event, which suits a client that speaks first.
    pub(crate) fn new(socket: K::Socket, readable: bool) -> Stream<K> {
        Stream {
            socket,
            readable,
            writable: true,
            end_announced: false,
            ended: false,
        }
    }

    /// Registers the socket for both directions, once, under `token`.
    pub(crate) fn register(&mut self, kernel: &K, token: usize) -> io::Result<()> {
        kernel.register(&mut self.socket, token)
    }

    /// Sets the flags that an event reports.
    pub(crate) fn set_ready(&mut self, event: Readiness) {
        self.readable |= event.readable;
        self.writable |= event.writable;
        self.end_announced |= event.ended;
    }

    /// Whether a read may return something.
    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether a write may take something.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the peer has closed its sending half and everything before that was read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Treats a broken connection as one whose peer has closed its sending half.
    pub(crate) fn set_ended(&mut self) {
        self.ended = true;
    }

    /// Makes later reads continue up to the peer's end even if no event has announced it yet.
    /// Returns the flag for [`Stream::restore_end`].
    pub(crate) fn expect_end(&mut self) -> bool {
        self.readable = true;
        std::mem::replace(&mut self.end_announced, true)
    }

    /// Undoes [`Stream::expect_end`].
    pub(crate) fn restore_end(&mut self, announced: bool) {
        self.end_announced = announced;
    }

    /// Returns the result of a connection that the server dialed, or `Blocked` while it is pending.
    pub(crate) fn connect_result(&self, kernel: &K) -> Result<(), StreamError> {
        kernel.connect_result(&self.socket).map_err(StreamError::of)
    }

    /// Reads once. Zero bytes mean the end of the peer's sending half, seen now or before.
    pub(crate) fn read(&mut self, kernel: &K, buffer: &mut [u8]) -> Result<usize, StreamError> {
        if self.ended {
            return Ok(0);
        }
        if !self.readable {
            return Err(StreamError::Blocked);
        }
        match kernel
            .receive(&self.socket, buffer)
            .map_err(StreamError::of)
        {
            Ok(n) => {
                self.ended = n == 0;
                self.readable = n == buffer.len() || (n > 0 && self.end_announced);
                Ok(n)
            }
            Err(StreamError::Blocked) => {
                self.readable = false;
                Err(StreamError::Blocked)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Writes gathered pieces by one call and returns how many bytes were taken. `more` announces
    /// that something follows at once, so that the kernel may wait to fill a packet.
    pub(crate) fn send(
        &mut self,
        kernel: &K,
        pieces: &[Piece<'_, K::Map>],
        more: bool,
    ) -> Result<usize, StreamError> {
        if !self.writable {
            return Err(StreamError::Blocked);
        }
        let sent = kernel.send(&self.socket, pieces, more);
        self.sent(sent)
    }

    /// Sends up to `count` bytes of a file from `offset` on without copying them. Zero bytes mean
    /// the file's end.
    pub(crate) fn send_file(
        &mut self,
        kernel: &K,
        file: &K::File,
        offset: u64,
        count: usize,
    ) -> Result<usize, StreamError> {
        if !self.writable {
            return Err(StreamError::Blocked);
        }
        let sent = kernel.send_file(&self.socket, file, offset, count);
        self.sent(sent)
    }

    /// Shuts the sending half: the bytes already written still arrive, then the peer sees the end.
    pub(crate) fn shutdown(&self, kernel: &K) -> io::Result<()> {
        kernel.shutdown_write(&self.socket)
    }

    /// Returns how many written bytes, the end included, the peer's kernel has not acknowledged
    /// (SIOCOUTQ).
    pub(crate) fn unsent(&self, kernel: &K) -> io::Result<usize> {
        kernel.unacknowledged(&self.socket)
    }

    /// Returns the server's own address of the connection.
    pub(crate) fn local_address(&self, kernel: &K) -> io::Result<SocketAddr> {
        kernel.local_address(&self.socket)
    }

    /// Reads and discards once, as a part of a lingering close. A socket that is closed with unread
    /// input sends a reset, which can overtake the last bytes that were written. `left` bounds how
    /// much is discarded in all.
    pub(crate) fn drain(
        &mut self,
        kernel: &K,
        buffer: &mut [u8],
        left: &mut u64,
    ) -> Result<Drained, StreamError> {
        match self.read(kernel, buffer)? {
            0 => Ok(Drained::End),
            n if n as u64 >= *left => Ok(Drained::TooMuch),
            n => {
                *left -= n as u64;
                Ok(Drained::Some(n))
            }
        }
    }

    fn sent(&mut self, result: io::Result<usize>) -> Result<usize, StreamError> {
        let result = result.map_err(StreamError::of);
        if matches!(result, Err(StreamError::Blocked)) {
            self.writable = false;
        }
        result
    }
}

impl StreamError {
    fn of(error: io::Error) -> StreamError {
        match error.kind() {
            io::ErrorKind::WouldBlock => StreamError::Blocked,
            _ => StreamError::Failed(error),
        }
    }
}

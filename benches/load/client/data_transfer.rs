//! One transfer over an FTP data connection.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use nix::sys::socket::{MsgFlags, recv};

use crate::client::message::ReadMode;
use crate::client::traffic::Traffic;

/// A transfer from the server's port reply until its completion reply.
pub(crate) struct DataTransfer {
    /// `None` after the last byte: the client closes the data connection and waits for the
    /// completion reply.
    socket: Option<TcpStream>,
    is_upload: bool,
    /// Bytes of the upload still to be sent.
    remaining: u64,
    is_confirmed: bool,
}

impl DataTransfer {
    /// A transfer over `socket`: an upload of `body` bytes, or a download if that is zero.
    pub(crate) fn new(socket: TcpStream, body: u64) -> DataTransfer {
        DataTransfer {
            socket: Some(socket),
            is_upload: body > 0,
            remaining: body,
            is_confirmed: false,
        }
    }

    pub(crate) fn is_upload(&self) -> bool {
        self.is_upload
    }

    /// Records the server's completion reply.
    pub(crate) fn confirm(&mut self) {
        self.is_confirmed = true;
    }

    /// Returns whether the data connection is closed and the server has confirmed the transfer.
    pub(crate) fn is_complete(&self) -> bool {
        self.socket.is_none() && self.is_confirmed
    }

    /// Sends the upload until the socket blocks, or reads once from the download. Returns false if
    /// the data connection is already closed.
    pub(crate) fn advance(
        &mut self,
        buffer: &mut [u8],
        content: &[u8],
        mode: ReadMode,
        traffic: &mut Traffic,
    ) -> io::Result<bool> {
        let Some(socket) = &mut self.socket else {
            return Ok(false);
        };
        while self.remaining > 0 {
            let size = content.len().min(self.remaining as usize);
            let count = socket.write(&content[..size])? as u64;
            self.remaining -= count;
            traffic.send(count);
        }
        if self.is_upload {
            self.socket = None;
            return Ok(true);
        }
        let count = match mode {
            ReadMode::Discard => recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?,
            ReadMode::Buffer | ReadMode::Verify => socket.read(buffer)?,
        };
        if count == 0 {
            self.socket = None;
        }
        traffic.receive(&buffer[..count]);
        Ok(true)
    }
}

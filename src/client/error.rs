//! Errors of the client.

use std::io;

use thiserror::Error;

use crate::domain::io_reason::io_reason;

use crate::protocol::menu::text;

/// The failure of a request, classified by whether its connection remains usable.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The server refused one item. The connection remains usable.
    #[error("{0}")]
    Refused(&'static str),
    /// One item failed on this side. The connection remains usable.
    #[error("{0}")]
    Local(String),
    /// The client gave up the connection because of one item. A new connection can process the
    /// others.
    #[error("{0}")]
    Aborted(String),
    /// The server closed an idle connection. It began none of the pending requests, so they can be
    /// repeated over a new connection.
    #[error("{}", text::IDLE)]
    Idle,
    /// There is no session with the server: it cannot be reached, or something else has the port.
    /// The message contains the address.
    #[error("{0}")]
    NoServer(String),
    /// The reader of standard output has gone, for example `head`.
    #[error("the reader of standard output has closed it")]
    OutputClosed,
    /// Standard output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(String),
    /// The connection was lost, the login failed, or the server violated the protocol.
    #[error("{0}")]
    Fatal(String),
}

impl ClientError {
    /// The failure to write to standard output.
    pub(super) fn output(error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::BrokenPipe => ClientError::OutputClosed,
            _ => ClientError::Output(io_reason(error)),
        }
    }
}

//! Errors of the client.

use thiserror::Error;

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
    /// The connection was lost, the login failed, or the server violated the protocol.
    #[error("{0}")]
    Fatal(String),
}

//! The vocabulary of a client and its scenario: requests, replies, events and reactions.

use std::time::Duration;

/// A request of a client: text, followed by the body of an upload.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientRequest {
    pub(crate) text: Vec<u8>,
    /// Sent once the server has replied with the port of a data connection. The file then goes over
    /// that connection.
    pub(crate) text_after_port: Vec<u8>,
    /// Bytes of the upload.
    pub(crate) body: u64,
}

impl ClientRequest {
    /// A request without a body.
    pub(crate) fn new(text: impl Into<Vec<u8>>) -> ClientRequest {
        ClientRequest {
            text: text.into(),
            ..ClientRequest::default()
        }
    }
}

/// The meaning of one line from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ServerReply {
    /// A line that needs no reaction.
    Ignored,
    /// The server accepts the next command.
    Ready,
    /// A file of this many bytes follows.
    File(u64),
    /// The server's port for the next data connection.
    Port(u16),
    /// The transfer on the data connection begins.
    TransferStarted,
    /// The transfer on the data connection is complete.
    TransferComplete,
    /// The upload is complete.
    Uploaded,
    /// The directory listing begins.
    Listed,
    /// The login failed.
    LoginFailed,
    /// The request was refused.
    Refused,
}

/// An event of one client, reported to the scenario.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClientEvent {
    /// The server accepts the next command.
    Ready,
    /// A download begins.
    DownloadStarted,
    /// The last byte of a download arrived.
    Downloaded {
        /// Time since the client's last request.
        elapsed: Duration,
        /// SHA-256 of the content, with [`ReadMode::Verify`].
        digest: Option<[u8; 32]>,
    },
    /// The server confirmed an upload.
    Uploaded {
        /// Time since the client's last request.
        elapsed: Duration,
    },
    /// A directory was listed.
    Listed,
    /// A login failed.
    LoginFailed,
    /// The server refused a request.
    Refused,
    /// The connection ended or the server sent an invalid line. The client no longer exists.
    Closed {
        /// True if a transfer was incomplete.
        mid_transfer: bool,
        /// Time since the client's last request.
        elapsed: Duration,
    },
}

/// The scenario's reaction to an event.
pub(crate) enum Reaction {
    /// Wait for the next event.
    Wait,
    /// Send a request.
    Send(ClientRequest),
    /// Drop the connection at once. No further event follows.
    Disconnect,
}

/// How clients read the content of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadMode {
    /// Into memory.
    #[default]
    Buffer,
    /// Discarded by the kernel (MSG_TRUNC, tcp(7)), so that the client is never the bottleneck.
    Discard,
    /// Into memory and through SHA-256.
    Verify,
}

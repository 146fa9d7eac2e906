//! The interface between a session and the server: one input in, one action out.

use std::fmt::Debug;
use std::net::SocketAddr;

use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::request::{Request, Response};

/// A fact that the server reports to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection is established. The first input, unless the session is refused.
    Begin,
    /// The session is refused because the server is full; instead of [`Input::Begin`].
    ServerFull,
    /// The session is refused because too many logins failed recently from the client's address;
    /// instead of [`Input::Begin`].
    LoginBlocked,
    /// A line without its end, after [`Action::ReadLine`].
    Line(&'a [u8]),
    /// More than [`LINE_BYTES_MAX`](crate::limits::LINE_BYTES_MAX) bytes without a line end. If the
    /// session reads on, the rest of the line is discarded.
    LineTooLong,
    /// The response to the open [`Action::Request`].
    Response(Response),
    /// The end of [`Action::Send`], [`Action::Receive`], [`Action::Discard`] or [`Action::Abort`]:
    /// every byte is sent, or the upload is durable and published, or the reason for the failure. A
    /// data connection is closed by then, and the client has seen its end unless that took too
    /// long.
    TransferDone(Result<(), ErrorCode>),
    /// The end of [`Action::Listen`]: the address to announce.
    Listening(Result<SocketAddr, ErrorCode>),
    /// The end of [`Action::Connect`].
    DataConnected(Result<(), ErrorCode>),
    /// The end of [`Action::QueryProgress`]: the number of bytes.
    Progress(u64),
    /// A line after one that [`Action::HoldLine`] put off is ABOR. It is handed in in its turn, but
    /// the transfer must not go on meanwhile.
    AbortAhead,
    /// The idle or login timeout expired. Only while the session waits for nothing but a line.
    Idle,
    /// The server shuts down. Only while the session waits for nothing but a line.
    Stopping,
}

/// The one action that a session asks for in a step.
///
/// While a data connection is being made or in use, the server goes on reading lines. The session
/// answers such a line with [`Action::ReadLine`], [`Action::HoldLine`], [`Action::Abort`] or
/// [`Action::QueryProgress`]; the transfer continues meanwhile. Once the data has ended, the server
/// gives the session no line but ABOR before the result.
#[derive(Debug)]
pub enum Action {
    /// Read the next line; a transfer in progress continues.
    ReadLine,
    /// Keep the line and those after it until the transfer has ended, then hand them in again.
    HoldLine,
    /// Handle this request; no further input before its response.
    Request(Request),
    /// Send a range of the opened file or listing ([`Response::Opened`], [`Response::Listing`])
    /// over the control connection, unchanged.
    Send {
        /// The first byte.
        offset: u64,
        /// The number of bytes.
        length: u64,
    },
    /// Send such a range over the data connection.
    SendData {
        /// The conversion of line ends.
        representation: Representation,
        /// The first byte.
        offset: u64,
        /// The number of bytes.
        length: u64,
    },
    /// Receive the upload that [`Response::Created`] staged over the control connection, make it
    /// durable and publish it.
    Receive {
        /// The announced number of bytes.
        length: u64,
    },
    /// Receive such an upload over the data connection, up to its end.
    ReceiveData {
        /// The conversion of line ends.
        representation: Representation,
        /// The length that the client announced.
        allocation: Option<Allocation>,
    },
    /// Receive `length` bytes and discard them.
    Discard {
        /// The announced number of bytes.
        length: u64,
    },
    /// Reserve a passive port for this client and one data connection, and release an earlier one.
    /// Can take as long as [`ErrorCode::NoPassivePort`] says. Ends with [`Input::Listening`].
    Listen,
    /// Return the number of bytes moved over the data connection. Ends with [`Input::Progress`].
    QueryProgress,
    /// Make the data connection. Ends with [`Input::DataConnected`].
    Connect(DataMode),
    /// Close the data connection or release its port, and cancel the transfer. A connection attempt
    /// ends with [`Input::DataConnected`] and [`ErrorCode::Aborted`]. Otherwise
    /// [`Input::TransferDone`] follows with the same error, or with `Ok` if the transfer was
    /// complete.
    Abort,
    /// Send the pending output, then close the control connection; a data connection at once.
    Close(CloseReason),
}

/// A command that matters to the server before it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineAhead {
    /// ABOR: the transfer is cancelled at once.
    Abort,
    /// QUIT: the end of the client's input is the orderly end of the session.
    Quit,
}

/// The way in which a data connection is made (RFC 959, 3.2 and 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// The client connects to the address of [`Input::Listening`].
    Passive,
    /// The server connects to this address, which the session has verified to be the client's.
    Active(SocketAddr),
}

/// The length of an upload as ALLO announced it (RFC 959, 4.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The announced bytes.
    pub bytes: u64,
    /// The offset of the upload in the file. RFC 959 does not say whether `bytes` includes it, so
    /// both are accepted.
    pub restart: u64,
}

impl Allocation {
    /// Whether more than `received` bytes were announced.
    pub fn is_more_than(self, received: u64) -> bool {
        self.restart.saturating_add(received) < self.bytes
    }

    /// Whether exactly `received` bytes were announced.
    pub fn is_exactly(self, received: u64) -> bool {
        received == self.bytes || self.restart.saturating_add(received) == self.bytes
    }
}

/// The representation type of a transfer (RFC 959, 3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// Bytes are sent unchanged.
    Image,
    /// CR LF on the wire, LF in the file: a lone LF becomes CR LF when sent, and CR LF becomes LF
    /// when received. Offsets and lengths count bytes of the file.
    Ascii,
}

/// Panics because of an input that `state` does not expect. The server broke the sequence of
/// actions and inputs. The input is not shown, and no text of the state: it may be a password, or
/// one that the client sent in place of its username.
pub(crate) fn unexpected_input(state: &impl Debug) -> ! {
    let state = format!("{state:?}");
    let shown = state.split('"').next().unwrap_or_default();
    unreachable!("unexpected input in the state {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_the_state_without_its_text() {
        let message = |state: (u8, Option<&'static str>)| {
            let panic = std::panic::catch_unwind(|| unexpected_input(&state)).unwrap_err();
            panic.downcast_ref::<String>().unwrap().clone()
        };
        let expected = "unexpected input in the state (7, ";
        assert!(message((7, None)).ends_with(&format!("{expected}None)")));
        assert!(message((7, Some("a\"b"))).ends_with(&format!("{expected}Some(")));
    }
}

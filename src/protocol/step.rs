//! The interface between a session and the server: one input in, one action out.

use std::net::SocketAddr;

use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::request::{Request, Response};

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection stands; the first input, once.
    Begin,
    /// There is no room for this session; instead of `Begin`.
    ServerFull,
    /// Too many logins have failed lately from where this connection comes; instead of `Begin`.
    LoginBlocked,
    /// A line without its end, after [`Action::ReadLine`].
    Line(&'a [u8]),
    /// More than [`crate::limits::LINE_BYTES_MAX`] bytes came without a line end. Who wants to read on gets the next line: the
    /// rest of this one is thrown away.
    LineTooLong,
    /// The answer to the one open [`Action::Request`].
    Response(Response),
    /// What [`Action::Send`], [`Action::Receive`] or [`Action::Discard`] asked for is done: every byte is on its way, an
    /// incoming file is durable under its name, or why it is not. ConnectionKind a data connection also the client has seen the end, or
    /// the time for it is over, and it is closed. The one answer to [`Action::Abort`], too.
    TransferDone(Result<(), ErrorCode>),
    /// The answer to [`Action::Listen`]: the address to tell the client.
    Listening(Result<SocketAddr, ErrorCode>),
    /// The answer to [`Action::Connect`]: the data connection stands, or why it does not.
    DataConnected(Result<(), ErrorCode>),
    /// Nothing was moved for too long, or no login came in time; only while a line is awaited and nothing else.
    Idle,
    /// The server stops; only while a line is awaited and nothing else.
    Stopping,
}

/// The one wish of a step.
///
/// While a data connection is made or bytes move over it, lines are read all the same. The answer to such a line is
/// [`Action::ReadLine`], [`Action::Abort`], or an [`Action::Request`] of [`Request::Progress`] alone; what was begun goes on beside it.
#[derive(Debug)]
pub enum Action {
    /// The next line, please; and let what was begun go on.
    ReadLine,
    /// Put this to the house; nothing else happens before its answer.
    Request(Request),
    /// Send `length` bytes of what [`Response::Opened`] or [`Response::Listing`] opened, from byte `from` on.
    Send {
        /// On which of the two connections.
        over: ConnectionKind,
        /// What becomes of line ends on the way.
        representation: Representation,
        /// The first byte that is sent.
        from: u64,
        /// How many bytes are sent.
        length: u64,
    },
    /// Take `length` bytes, or all up to the end of the data connection, into what [`Response::Created`] created, make them durable
    /// and publish them.
    Receive {
        /// On which of the two connections.
        over: ConnectionKind,
        /// What becomes of line ends on the way.
        representation: Representation,
        /// How many bytes were announced; `None` only over a data connection.
        length: Option<u64>,
    },
    /// Take `length` bytes and throw them away.
    Discard {
        /// How many bytes were announced.
        length: u64,
    },
    /// An address at which this client alone is awaited, for one data connection, please; it may take as long as
    /// [`ErrorCode::NoPassivePort`] says. An earlier one is given back. Answered by [`Input::Listening`].
    Listen,
    /// Make the data connection. Answered by [`Input::DataConnected`].
    Connect(DataMode),
    /// Let go of the data connection, of the address where one is awaited, and of the transfer, whichever there are. If a
    /// connection is being made, [`Input::DataConnected`] with [`ErrorCode::Aborted`] is the answer. Else it is [`Input::TransferDone`] with
    /// that refusal, also where there was nothing to let go of; and with `Ok` where it came too late.
    Abort,
    /// Send what is owed, then close; a data connection at once.
    Close(CloseReason),
}

/// Which connection a transfer goes over (RFC 959 has two; the menu has only the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// The one that the commands come on.
    Control,
    /// The one that [`Action::Connect`] made, for this transfer alone.
    Data,
}

/// How a data connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// The client comes to the address of [`Input::Listening`].
    Passive,
    /// The server goes to this address, which the session has found to be the client's own.
    Active(SocketAddr),
}

/// What becomes of line ends on their way (RFC 959, 3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// The bytes as they are.
    Image,
    /// CR LF on the wire, LF in the file: an LF without a CR before it gets one on its way out, and a CR LF becomes an LF on
    /// its way in. Offsets and lengths count bytes of the file.
    Ascii,
}

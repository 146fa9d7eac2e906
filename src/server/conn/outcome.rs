//! The outcome of a time slice.

use std::io;

use crate::domain::error::CloseReason;
use crate::kernel::Kernel;
use crate::kernel::errors;
use crate::server::conn::data_command::DataCommand;

/// How a control connection's time slice ended.
pub(crate) enum Outcome<K: Kernel> {
    /// The connection waits for an event, a completion or a deadline.
    Idle,
    /// The budget is spent: the connection belongs at the end of the run queue.
    Again,
    /// The session has a command for its data connection. Output that came before it is written, as
    /// far as the socket takes it; input may be left.
    Data(DataCommand<K>),
    /// The connection is to be removed.
    Close(CloseReason),
}

/// Returns why a failed write closes the connection.
pub(super) fn reason_of_write_error(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CloseReason::FileShrank,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected => CloseReason::Reset,
        _ if errors::is_file_truncated(error) => CloseReason::FileShrank,
        _ => CloseReason::SendFailed,
    }
}

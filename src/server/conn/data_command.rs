//! Commands of a session that concern its data connection.

use std::net::SocketAddr;

use crate::kernel::Kernel;
use crate::protocol::step::{Allocation, DataMode, Representation};
use crate::server::conn::transfer::Download;
use crate::storage::StagedUpload;

/// A command of a session for its data connection. Only the event loop can execute it, since the
/// data connection has a slot of its own.
pub(crate) enum DataCommand<K: Kernel> {
    /// Reserve a passive port at `local`, the server's address of the control connection.
    Listen { local: SocketAddr },
    /// Make the data connection.
    Connect { mode: DataMode, local: SocketAddr },
    /// Send a file or listing.
    Send(Box<Download<K>>, Representation),
    /// Receive an upload up to the end of the data connection.
    Receive(Box<StagedUpload<K>>, Representation, Option<Allocation>),
    /// Cancel the connection attempt or the transfer and report its end.
    Abort,
}

//! Active mode (PORT and EPRT): which clients may use it.

use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::Reply;

/// The clients that may use active mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActiveMode {
    /// No client.
    Disabled,
    /// Clients of other machines only. The server connects to no service of its own machine, even
    /// for a client behind a tunnel that ends there.
    Remote,
    /// All clients.
    Enabled,
}

impl ActiveMode {
    /// Allows active mode to a client, or returns the refusal. `is_local` means that the control
    /// connection comes from the server's own machine.
    pub(super) fn allow(self, is_local: bool) -> Result<(), Reply> {
        match self {
            ActiveMode::Disabled => Err(reply::ACTIVE_DISABLED),
            ActiveMode::Remote if is_local => Err(reply::LOCAL_ACTIVE_DISABLED),
            ActiveMode::Remote | ActiveMode::Enabled => Ok(()),
        }
    }
}

//! The identity of a session: the address of every response.

use std::net::SocketAddr;

use crate::server::policy::sessions::UserKey;

/// Who asked the services: the slot, its tenant's session number, and where that one sits, for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionId {
    pub(crate) key: usize,
    pub(crate) generation: u64,
    pub(crate) peer: SocketAddr,
    /// Whose session it is, once he has logged in.
    pub(crate) user: Option<UserKey>,
}

/// Who has logged in meanwhile is the same one.
impl PartialEq for SessionId {
    fn eq(&self, other: &SessionId) -> bool {
        (self.key, self.generation) == (other.key, other.generation)
    }
}

impl Eq for SessionId {}

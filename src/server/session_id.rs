//! The identity of a session.

use std::net::SocketAddr;

use crate::server::policy::sessions::UserKey;

/// Identifies the session that made a request, so that the response reaches that session only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionId {
    /// Index of the session's slot in the slab.
    pub(crate) key: usize,
    /// Counter that tells apart successive users of one slot; never reused. The log's `session`.
    pub(crate) generation: u64,
    /// Address of the client, for the log and for limits by address.
    pub(crate) peer: SocketAddr,
    /// The user, from login on.
    pub(crate) user: Option<UserKey>,
}

/// A login does not change the identity.
impl PartialEq for SessionId {
    fn eq(&self, other: &SessionId) -> bool {
        (self.key, self.generation) == (other.key, other.generation)
    }
}

impl Eq for SessionId {}

//! The identities of sessions and of their users.

#[cfg(feature = "sim")]
use std::cell::Cell;
use std::net::SocketAddr;
use std::num::NonZeroU32;

#[cfg(feature = "sim")]
thread_local! {
    static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}

/// Returns how many sessions were compared on this thread. A search through the sessions that wait
/// for something compares each of them.
#[cfg(feature = "sim")]
pub fn comparisons() -> u64 {
    COMPARISONS.get()
}

/// Identifies the session that made a request, so that the response reaches that session only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionId {
    /// Index of the session's slot in the slab.
    pub(crate) key: usize,
    /// Counter that distinguishes successive users of one slot; never reused. The log's `session`.
    pub(crate) generation: u64,
    /// Address of the client, for the log and for limits by address.
    pub(crate) peer: SocketAddr,
    /// The user, from login on.
    pub(crate) user: Option<UserKey>,
}

/// A login does not change the identity.
impl PartialEq for SessionId {
    fn eq(&self, other: &SessionId) -> bool {
        #[cfg(feature = "sim")]
        COMPARISONS.set(COMPARISONS.get() + 1);
        (self.key, self.generation) == (other.key, other.generation)
    }
}

impl Eq for SessionId {}

/// Identifies a user with at least one session. Reused after the user's last session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct UserKey(NonZeroU32);

impl UserKey {
    /// # Panics
    /// If `index` is `u32::MAX` or more; there are fewer users than sockets.
    pub(crate) fn new(index: usize) -> UserKey {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        UserKey(number.expect("there are fewer users than sockets"))
    }

    /// A small index, unique among the users with a session.
    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

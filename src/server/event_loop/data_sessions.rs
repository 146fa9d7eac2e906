//! What sessions want of their data connections, and what each has of one.
//!
//! A session's turn notes a wish; the event_loop, which alone knows the slots, sees to it behind the turn and answers by a
//! reply. Most sessions have nothing here.
//!
//! Must not know: sockets, what is said on the control connection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::kernel::Kernel;
use crate::protocol::step::{DataMode, Representation};
use crate::server::conn::transfer::Download;
use crate::server::session_id::SessionId;
use crate::storage::StagedUpload;

/// What a session wants of its data connection.
pub(crate) enum DataCommand<K: Kernel> {
    /// An address at which its client is awaited; `local` is the session's own end of its control connection.
    Listen {
        local: SocketAddr,
    },
    /// The connection, made this way.
    Connect {
        via: DataMode,
        local: SocketAddr,
    },
    Send(Box<Download<K>>, Representation),
    Receive(Box<StagedUpload<K>>, Representation),
    /// To let go of everything, and to be told so.
    Abort,
    /// To let go of everything, and to be told nothing.
    Leave,
    /// Not to take for whole what its client may have left amid of.
    Distrust,
}

/// What one session has of a data connection.
#[derive(Debug, Default)]
pub(crate) struct DataSession {
    /// The passive listener at which its client is awaited.
    pub(crate) awaited: Option<usize>,
    /// The slot of the data connection.
    pub(crate) data: Option<usize>,
    /// The session waits to be told that it stands.
    pub(crate) connecting: bool,
    /// What has come is whole, and a worker makes it durable.
    pub(crate) committing: bool,
    /// Bytes of the file that have moved.
    pub(crate) moved: u64,
}

/// The data_sessions, by the serials of their sessions, and the wishes that nobody has seen to yet.
pub(crate) struct DataSessions<K: Kernel> {
    data_sessions: HashMap<u64, DataSession>,
    wishes: VecDeque<(SessionId, DataCommand<K>)>,
}

impl<K: Kernel> DataSessions<K> {
    pub(crate) fn new() -> DataSessions<K> {
        DataSessions {
            data_sessions: HashMap::new(),
            wishes: VecDeque::new(),
        }
    }

    /// Notes a wish.
    pub(crate) fn wish(&mut self, owner: SessionId, wish: DataCommand<K>) {
        self.wishes.push_back((owner, wish));
    }

    /// The next wish to see to.
    pub(crate) fn next_wish(&mut self) -> Option<(SessionId, DataCommand<K>)> {
        self.wishes.pop_front()
    }

    /// Whether a session has asked to let go of everything.
    pub(crate) fn is_aborting(&self, owner: SessionId) -> bool {
        let mut wishes = self.wishes.iter();
        wishes.any(|(other, wish)| *other == owner && matches!(wish, DataCommand::Abort))
    }

    /// Whether there are some to see to.
    pub(crate) fn has_wishes(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// What a session has, if it has anything.
    pub(crate) fn get(&self, owner: SessionId) -> Option<&DataSession> {
        self.data_sessions.get(&owner.generation)
    }

    /// What a session has, with nothing in it at first.
    pub(crate) fn of(&mut self, owner: SessionId) -> &mut DataSession {
        self.data_sessions.entry(owner.generation).or_default()
    }

    /// Takes away what a session has.
    pub(crate) fn take(&mut self, owner: SessionId) -> DataSession {
        self.data_sessions
            .remove(&owner.generation)
            .unwrap_or_default()
    }

    /// How many sessions have something.
    pub(crate) fn len(&self) -> usize {
        self.data_sessions.len()
    }
}

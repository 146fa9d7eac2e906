//! What sessions want of their data connections, and what each has of one.
//!
//! A session's turn notes a wish; the engine, which alone knows the slots, sees to it behind the turn and answers by a
//! reply. Most sessions have nothing here.
//!
//! Must not know: sockets, what is said on the control connection.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::kernel::Kernel;
use crate::protocol::{Representation, Via};
use crate::server::Ticket;
use crate::server::conn::transfer::Outgoing;
use crate::storage::Incoming;

/// What a session wants of its data connection.
pub(crate) enum Wish<K: Kernel> {
    /// An address at which its client is awaited; `local` is the session's own end of its control connection.
    Listen {
        local: SocketAddr,
    },
    /// The connection, made this way.
    Connect {
        via: Via,
        local: SocketAddr,
    },
    Send(Box<Outgoing<K>>, Representation),
    Receive(Box<Incoming<K>>, Representation),
    /// To let go of everything, and to be told so.
    Abort,
    /// To let go of everything, and to be told nothing.
    Leave,
    /// Not to take for whole what its client may have left amid of.
    Distrust,
}

/// What one session has of a data connection.
#[derive(Debug, Default)]
pub(crate) struct Channel {
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

/// The channels, by the serials of their sessions, and the wishes that nobody has seen to yet.
pub(crate) struct Channels<K: Kernel> {
    channels: HashMap<u64, Channel>,
    wishes: VecDeque<(Ticket, Wish<K>)>,
}

impl<K: Kernel> Channels<K> {
    pub(crate) fn new() -> Channels<K> {
        Channels {
            channels: HashMap::new(),
            wishes: VecDeque::new(),
        }
    }

    /// Notes a wish.
    pub(crate) fn wish(&mut self, owner: Ticket, wish: Wish<K>) {
        self.wishes.push_back((owner, wish));
    }

    /// The next wish to see to.
    pub(crate) fn next_wish(&mut self) -> Option<(Ticket, Wish<K>)> {
        self.wishes.pop_front()
    }

    /// Whether a session has asked to let go of everything.
    pub(crate) fn is_aborting(&self, owner: Ticket) -> bool {
        let mut wishes = self.wishes.iter();
        wishes.any(|(other, wish)| *other == owner && matches!(wish, Wish::Abort))
    }

    /// Whether there are some to see to.
    pub(crate) fn has_wishes(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// What a session has, if it has anything.
    pub(crate) fn get(&self, owner: Ticket) -> Option<&Channel> {
        self.channels.get(&owner.serial)
    }

    /// What a session has, with nothing in it at first.
    pub(crate) fn of(&mut self, owner: Ticket) -> &mut Channel {
        self.channels.entry(owner.serial).or_default()
    }

    /// Takes away what a session has.
    pub(crate) fn take(&mut self, owner: Ticket) -> Channel {
        self.channels.remove(&owner.serial).unwrap_or_default()
    }

    /// How many sessions have something.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }
}

//! The door: who knocks, and who is let in.
//!
//! Listeners are edge-triggered too: one that has not blocked is asked again in the next turn. Who is over a limit is told
//! so, for which a few get a slot.
//!
//! Must not know: what becomes of a connection once it has its slot.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use log::{info, warn};

use crate::kernel::errors;
use crate::kernel::{Kernel, Piece};
use crate::limits::{ACCEPTS_PER_TICK_MAX, REJECTED_CONNECTIONS_MAX};
use crate::protocol::session::Dialect;
use crate::protocol::step::Input;
use crate::server::conn::control::Connection;
use crate::server::event_loop::EventLoop;
use crate::server::event_loop::slot::Slot;
use crate::server::log::escape::Escaped;
use crate::server::net::stream::Stream;
use crate::server::policy::client_prefix::ClientPrefix;

/// The listeners, and what is counted of those who came by them.
pub(crate) struct Acceptor<K: Kernel> {
    listeners: Vec<Listener<K>>,
    per_address: HashMap<ClientPrefix, usize>,
    /// Connections beyond a limit that are still being told so.
    turned_away: usize,
    /// How many were turned away since the last sweep.
    unwanted: Unwanted,
}

struct Listener<K: Kernel> {
    handle: K::Listener,
    /// What begins on its connections.
    dialect: Dialect,
    /// It has not blocked since its last edge.
    ready: bool,
    /// Out of descriptors: no accept before the next sweep, or before a slot is freed.
    paused: bool,
}

/// Connections that were not let in, for the log: a line for each would be a flood.
#[derive(Default)]
struct Unwanted {
    full: usize,
    failures: usize,
}

impl<K: Kernel> Acceptor<K> {
    pub(crate) fn new() -> Acceptor<K> {
        Acceptor {
            listeners: Vec::new(),
            per_address: HashMap::new(),
            turned_away: 0,
            unwanted: Unwanted::default(),
        }
    }

    pub(crate) fn open(&mut self, handle: K::Listener, dialect: Dialect) {
        self.listeners.push(Listener {
            handle,
            dialect,
            ready: false,
            paused: false,
        });
    }

    /// Nobody comes in any more.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
    }

    /// How many listeners are open.
    pub(crate) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// A listener has something to accept.
    pub(crate) fn notice(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    /// Whether somebody can be accepted at once.
    pub(crate) fn is_ready(&self) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|listener| listener.ready && !listener.paused)
    }

    /// There may be descriptors again.
    pub(crate) fn resume(&mut self) {
        for listener in &mut self.listeners {
            listener.paused = false;
        }
    }

    /// Connections that are being told that they may not come in.
    pub(crate) fn turned_away(&self) -> usize {
        self.turned_away
    }

    /// Sessions, counted by their addresses.
    pub(crate) fn sessions(&self) -> usize {
        self.per_address.values().sum()
    }

    /// A connection is gone.
    pub(crate) fn left(&mut self, peer: SocketAddr, turned_away: bool) {
        if turned_away {
            self.turned_away -= 1;
            return;
        }
        let origin = ClientPrefix::of(peer);
        if let Some(count) = self.per_address.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&origin);
            }
        }
    }

    /// Tells the log of those who were turned away since the last time.
    pub(crate) fn log_unwanted(&mut self) {
        let Unwanted { full, failures } = std::mem::take(&mut self.unwanted);
        if full + failures > 0 {
            warn!("event=turned-away full={full} failures={failures}");
        }
    }
}

impl<K: Kernel> EventLoop<K> {
    /// Takes what knocks, up to the turn's bound for each listener.
    pub(crate) fn accept(&mut self) {
        for index in 0..self.door.listeners() {
            for _ in 0..ACCEPTS_PER_TICK_MAX {
                let listener = &mut self.door.listeners[index];
                if !listener.ready || listener.paused {
                    break;
                }
                match self.kernel.accept(&listener.handle) {
                    Ok((socket, peer)) => {
                        let dialect = listener.dialect;
                        self.admit(socket, peer, dialect);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.ready = false
                    }
                    Err(error) if errors::is_out_of_resources(&error) => {
                        // Files that are kept open stay so: who is inside goes before who knocks.
                        listener.paused = true;
                        warn!("event=accept-paused why={}", Escaped(&error.to_string()));
                    }
                    // The one that knocked has left, or its network failed: the next may be fine.
                    Err(_) => {}
                }
            }
        }
    }

    /// Gives a new connection a slot, or tells it why it gets none.
    fn admit(&mut self, socket: K::Socket, peer: SocketAddr, dialect: Dialect) {
        // A client that sends lines at once may have sent them already.
        let mut stream = Stream::new(socket, true);
        let mut session = dialect.session(peer);
        let first = self.first_input(ClientPrefix::of(peer));
        let turned_away = !matches!(first, Input::Begin);
        if turned_away && self.door.turned_away >= REJECTED_CONNECTIONS_MAX {
            // Told without a slot, by one write that a fresh socket has room for.
            let mut text = Vec::new();
            session.step(first, &mut text);
            let _ = stream.send(&*self.kernel, &[Piece::Bytes(&text)], false);
            return;
        }
        let generation = self.next_serial;
        self.next_serial += 1;
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        if let Err(error) = stream.register(&*self.kernel, key) {
            warn!(
                "session={generation} event=register-failed why={}",
                Escaped(&error.to_string())
            );
            return;
        }
        let now = self.services.now();
        let connection = Connection::new(stream, peer, generation, turned_away, session, now);
        let Slot::Control(connection) = entry.insert(Slot::Control(connection)) else {
            unreachable!("it was just put there");
        };
        info!("session={generation} event=connect from={peer}");
        let outcome = match turned_away {
            true => {
                self.door.turned_away += 1;
                connection.tell(key, first, &mut self.services, &mut self.scratch)
            }
            false => {
                *self
                    .door
                    .per_address
                    .entry(ClientPrefix::of(peer))
                    .or_default() += 1;
                connection.begin(key, &mut self.services, &mut self.scratch)
            }
        };
        self.after_turn(key, outcome);
    }

    /// What a new connection's session is told first: to begin, or that it may not.
    fn first_input(&mut self, origin: ClientPrefix) -> Input<'static> {
        if self.services.is_blocked(origin) {
            self.door.unwanted.failures += 1;
            return Input::LoginBlocked;
        }
        let sessions = self.connections.len() - self.door.turned_away - self.data_connections;
        let from_there = self.door.per_address.get(&origin).copied().unwrap_or(0);
        let most = self.options.max_per_address;
        if sessions >= self.options.max_sessions || (most > 0 && from_there >= most) {
            self.door.unwanted.full += 1;
            return Input::ServerFull;
        }
        Input::Begin
    }
}

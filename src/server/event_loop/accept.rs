//! Accepts connections and decides which become sessions.
//!
//! Listeners are edge-triggered too: one that has not blocked is asked again in the next tick. A
//! client over a limit gets a message instead of a session.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use log::warn;

use crate::kernel::Kernel;
use crate::kernel::errors;
use crate::limits::ACCEPTS_PER_TICK_MAX;
use crate::protocol::session::Dialect;
use crate::protocol::step::Input;
use crate::server::conn::control::Admission;
use crate::server::log::escape::Escaped;
use crate::server::options::Options;
use crate::server::policy::client_prefix::ClientPrefix;

/// The listeners, and the counts that the limits need.
pub(super) struct Acceptor<K: Kernel> {
    listeners: Vec<SessionListener<K>>,
    sessions: usize,
    sessions_by_address: HashMap<ClientPrefix, usize>,
    /// Rejected connections that are in a slot until the client has read why.
    rejected: usize,
    /// Rejections since the last sweep.
    unlogged: Rejections,
}

struct SessionListener<K: Kernel> {
    handle: K::Listener,
    /// The dialect of its connections.
    dialect: Dialect,
    /// It has not blocked since its last event.
    ready: bool,
    /// Out of descriptors: no accept before the next sweep, or before a slot is freed.
    paused: bool,
}

/// Logs that a listener cannot accept and is tried again after the next sweep.
pub(super) fn log_accept_failed(error: &io::Error) {
    warn!("event=accept-failed why={}", Escaped(&error.to_string()));
}

/// Rejected connections, counted for the log: a line for each would be a flood.
#[derive(Default)]
struct Rejections {
    full: usize,
    blocked: usize,
}

/// A connection that was accepted.
pub(super) struct Accepted<K: Kernel> {
    pub(super) socket: K::Socket,
    pub(super) peer: SocketAddr,
    pub(super) dialect: Dialect,
}

/// The position of an accept round, which gives every listener the same number of accepts.
#[derive(Default)]
pub(super) struct AcceptRound {
    listener: usize,
    accepts: usize,
}

impl<K: Kernel> Acceptor<K> {
    pub(super) fn new() -> Acceptor<K> {
        Acceptor {
            listeners: Vec::new(),
            sessions: 0,
            sessions_by_address: HashMap::new(),
            rejected: 0,
            unlogged: Rejections::default(),
        }
    }

    pub(super) fn add_listener(&mut self, handle: K::Listener, dialect: Dialect) {
        self.listeners.push(SessionListener {
            handle,
            dialect,
            ready: false,
            paused: false,
        });
    }

    /// Closes the listeners.
    pub(super) fn close_listeners(&mut self) {
        self.listeners.clear();
    }

    /// Returns the number of open listeners.
    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Notes that a listener has a connection to accept.
    pub(super) fn set_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.ready = true;
        }
    }

    /// Whether a connection can be accepted at once.
    pub(super) fn is_ready(&self) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|listener| listener.ready && !listener.paused)
    }

    /// Resumes after a shortage of descriptors.
    pub(super) fn resume(&mut self) {
        for listener in &mut self.listeners {
            listener.paused = false;
        }
    }

    /// Accepts the next connection of a round. Returns `None` when the round is over.
    pub(super) fn accept_next(
        &mut self,
        kernel: &K,
        round: &mut AcceptRound,
    ) -> Option<Accepted<K>> {
        while let Some(listener) = self.listeners.get_mut(round.listener) {
            let is_ready = listener.ready && !listener.paused;
            if !is_ready || round.accepts == ACCEPTS_PER_TICK_MAX {
                round.listener += 1;
                round.accepts = 0;
                continue;
            }
            round.accepts += 1;
            match kernel.accept(&listener.handle) {
                Ok((socket, peer)) => {
                    let dialect = listener.dialect;
                    return Some(Accepted {
                        socket,
                        peer,
                        dialect,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                Err(error) if errors::is_out_of_resources(&error) => {
                    // Cached files stay open: sessions go before new clients.
                    listener.paused = true;
                    warn!("event=accept-paused why={}", Escaped(&error.to_string()));
                }
                Err(error) if errors::is_of_one_connection(&error) => {}
                Err(error) => {
                    listener.paused = true;
                    log_accept_failed(&error);
                }
            }
        }
        None
    }

    /// Returns the first input of a new session: to begin, or the limit that rejects it. `blocked`:
    /// too many logins failed from the client's address.
    pub(super) fn first_input(
        &mut self,
        peer: SocketAddr,
        blocked: bool,
        options: &Options,
    ) -> Input<'static> {
        if blocked {
            self.unlogged.blocked += 1;
            return Input::LoginBlocked;
        }
        let prefix = ClientPrefix::of(peer);
        let from_address = self.sessions_by_address.get(&prefix).copied().unwrap_or(0);
        let most = options.max_per_address;
        let is_full = self.sessions >= options.max_sessions;
        if is_full || (most > 0 && from_address >= most) {
            self.unlogged.full += 1;
            return Input::ServerFull;
        }
        Input::Begin
    }

    /// Counts a connection that got a slot.
    pub(super) fn add(&mut self, peer: SocketAddr, admission: Admission) {
        match admission {
            Admission::Rejected => self.rejected += 1,
            Admission::Admitted => {
                self.sessions += 1;
                let prefix = ClientPrefix::of(peer);
                *self.sessions_by_address.entry(prefix).or_default() += 1;
            }
        }
    }

    /// Counts a connection that has ended.
    pub(super) fn remove(&mut self, peer: SocketAddr, admission: Admission) {
        if admission == Admission::Rejected {
            self.rejected -= 1;
            return;
        }
        self.sessions -= 1;
        let prefix = ClientPrefix::of(peer);
        if let Some(count) = self.sessions_by_address.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.sessions_by_address.remove(&prefix);
            }
        }
    }

    /// Returns the number of rejected connections in slots.
    pub(super) fn rejected(&self) -> usize {
        self.rejected
    }

    /// Returns the number of sessions.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Returns the number of sessions, counted by address.
    pub(super) fn sessions_of_all_addresses(&self) -> usize {
        self.sessions_by_address.values().sum()
    }

    /// Logs the rejections since the last call.
    pub(super) fn log_rejections(&mut self) {
        let Rejections { full, blocked } = std::mem::take(&mut self.unlogged);
        if full + blocked > 0 {
            warn!("event=turned-away full={full} failures={blocked}");
        }
    }
}

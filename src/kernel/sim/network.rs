//! Simulated listeners and connections: edge-triggered, with bounded buffers and short transfers.
//!
//! Every arrival is an edge. Free space is an edge only after a write has blocked.
//!
//! Must not know: files, clocks, the behaviour of clients.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::connection::{ConnectState, ResetState, SimConnection};
use crate::kernel::sim::fault_plan::InjectedFault;
use crate::kernel::types::Readiness;

/// Connections that wait to be accepted from one listener. Further attempts have to be repeated.
const BACKLOG: usize = 64;

/// All sockets of the server and its peers.
pub(super) struct Network {
    /// Listeners that were ever opened.
    opened_listeners: u64,
    listeners: BTreeMap<usize, OpenListener>,
    /// The listeners of peers, with connections of the server that are not accepted yet.
    peer_listeners: BTreeMap<SocketAddr, VecDeque<usize>>,
    /// By id, which is never reused.
    connections: BTreeMap<usize, SimConnection>,
    /// The connections that were used since the last poll, or have something in flight or to
    /// report. The others need no look.
    active: BTreeSet<usize>,
    next_id: usize,
    /// Every token that was ever registered. A spurious event has one of them.
    tokens: BTreeSet<usize>,
    /// The tokens of open handles.
    claimed_tokens: BTreeSet<usize>,
    /// Sockets that the server holds.
    held_sockets: usize,
    /// Probability that a write is shorter than necessary.
    short_writes: f64,
    /// Probability of a spurious event per poll.
    spurious_events: f64,
}

struct OpenListener {
    address: SocketAddr,
    token: usize,
    has_edge: bool,
    backlog: VecDeque<usize>,
}

impl Network {
    pub(super) fn new(rng: &mut Rng) -> Network {
        Network {
            opened_listeners: 0,
            listeners: BTreeMap::new(),
            peer_listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            active: BTreeSet::new(),
            next_id: 0,
            tokens: BTreeSet::new(),
            claimed_tokens: BTreeSet::new(),
            held_sockets: 0,
            short_writes: *rng.choice(&[0.0, 0.1, 0.5, 0.9]).expect("four choices"),
            spurious_events: *rng.choice(&[0.0, 0.05, 0.3]).expect("three choices"),
        }
    }

    // The server's side.

    pub(super) fn listen(&mut self, mut address: SocketAddr, token: usize) -> Result<usize, Errno> {
        while address.port() == 0 || self.listeners.values().any(|l| l.address == address) {
            if address.port() != 0 {
                return Err(Errno::EADDRINUSE);
            }
            let taken = self.listeners.values().map(|l| l.address.port());
            address.set_port(taken.max().unwrap_or(2100) + 1);
        }
        let id = self.new_id();
        self.claim_token(token);
        let listener = OpenListener {
            address,
            token,
            has_edge: false,
            backlog: VecDeque::new(),
        };
        self.listeners.insert(id, listener);
        self.opened_listeners += 1;
        Ok(id)
    }

    pub(super) fn listener_address(&self, id: usize) -> SocketAddr {
        self.listeners[&id].address
    }

    pub(super) fn accept(
        &mut self,
        id: usize,
        fault: Option<InjectedFault>,
    ) -> Result<usize, Errno> {
        let listener = self.listeners.get_mut(&id).expect("an open listener");
        if let Some(InjectedFault::Error(errno)) = fault {
            // A would-block must be followed by an event.
            listener.has_edge |= errno == Errno::EAGAIN && !listener.backlog.is_empty();
            return Err(errno);
        }
        let id = listener.backlog.pop_front().ok_or(Errno::EAGAIN)?;
        self.held_sockets += 1;
        Ok(id)
    }

    pub(super) fn connect(&mut self, rng: &mut Rng, from: IpAddr, to: SocketAddr) -> usize {
        let id = self.new_id();
        let mut connection = SimConnection::new(rng, to, SocketAddr::new(from, client_port(id)));
        connection.state = ConnectState::Connecting;
        self.connections.insert(id, connection);
        self.active.insert(id);
        self.held_sockets += 1;
        id
    }

    pub(super) fn connect_result(&mut self, id: usize) -> Result<(), Errno> {
        let connection = self.connection(id);
        connection.check_connected()?;
        connection.to_server.report_reset()
    }

    pub(super) fn peer_address(&self, id: usize) -> SocketAddr {
        self.connections[&id].address
    }

    pub(super) fn local_address(&self, id: usize) -> SocketAddr {
        self.connections[&id].local
    }

    pub(super) fn register(&mut self, id: usize, token: usize) {
        self.claim_token(token);
        let connection = self.connection(id);
        assert!(connection.token.is_none(), "a socket is registered once");
        connection.token = Some(token);
        connection.has_edge = true;
    }

    pub(super) fn receive(
        &mut self,
        id: usize,
        buffer: &mut [u8],
        fault: Option<InjectedFault>,
    ) -> Result<usize, Errno> {
        let connection = self.connection(id);
        connection.check_connected()?;
        connection.apply_fault(fault)?;
        let stream = &mut connection.to_server;
        if fault == Some(InjectedFault::Short) && stream.arrived.len() > 1 {
            stream.withhold();
        }
        if !stream.arrived.is_empty() {
            return Ok(stream.read(buffer));
        }
        stream.report_reset()?;
        match stream.has_end_arrived || stream.reset == ResetState::Reported {
            true => Ok(0),
            false => Err(Errno::EAGAIN),
        }
    }

    /// How many of `wanted` bytes a write takes now. [`Network::write`] of as many must follow.
    pub(super) fn writable_bytes(
        &mut self,
        rng: &mut Rng,
        id: usize,
        wanted: usize,
        fault: Option<InjectedFault>,
    ) -> Result<usize, Errno> {
        let short_writes = self.short_writes;
        let connection = self.connection(id);
        connection.check_connected()?;
        connection.apply_fault(fault)?;
        connection.to_server.report_reset()?;
        if connection.to_server.reset == ResetState::Reported || connection.to_peer.is_shut {
            return Err(Errno::EPIPE);
        }
        let free = connection.to_peer.free().min(wanted);
        if free == 0 && wanted > 0 {
            connection.is_blocked = true;
            return Err(Errno::EAGAIN);
        }
        Ok(match fault {
            Some(InjectedFault::Short) => free.min(1),
            _ if free > 1 && rng.f64() < short_writes => rng.usize(1..=free),
            _ => free,
        })
    }

    pub(super) fn write(&mut self, id: usize, bytes: &[u8]) {
        let connection = self.connection(id);
        connection.to_peer.in_flight.extend(bytes);
        if connection.is_peer_closed {
            // A closed peer answers with a reset.
            connection.to_peer.in_flight.clear();
            connection.to_server.begin_reset();
        }
    }

    /// Bytes in flight to the peer, a FIN counted as one.
    pub(super) fn unacknowledged(&mut self, id: usize) -> Result<usize, Errno> {
        let stream = &self.connection(id).to_peer;
        let is_fin_in_flight =
            stream.is_shut && !stream.has_end_arrived && stream.reset == ResetState::None;
        Ok(stream.in_flight.len() + usize::from(is_fin_in_flight))
    }

    pub(super) fn shutdown_write(&mut self, id: usize) -> Result<(), Errno> {
        let connection = self.connection(id);
        connection.to_peer.is_shut = true;
        match connection.to_server.is_reset() {
            true => Err(Errno::ENOTCONN),
            false => Ok(()),
        }
    }

    pub(super) fn close(&mut self, rng: &mut Rng, id: usize) {
        let connection = self.connection(id);
        connection.is_closed = true;
        let token = connection.token.take();
        connection.to_peer.is_shut = true;
        if connection.to_server.has_unread() {
            connection.reset_peer(rng);
        }
        self.held_sockets -= 1;
        if let Some(token) = token {
            self.claimed_tokens.remove(&token);
        }
    }

    pub(super) fn close_listener(&mut self, rng: &mut Rng, id: usize) {
        let listener = self.listeners.remove(&id).expect("an open listener");
        self.claimed_tokens.remove(&listener.token);
        for id in listener.backlog {
            let connection = self.connection(id);
            connection.is_closed = true;
            connection.reset_peer(rng);
        }
    }

    /// Whether no event is spurious.
    #[cfg(test)]
    pub(super) fn is_calm(&self) -> bool {
        self.spurious_events == 0.0
    }

    pub(super) fn opened_listeners(&self) -> u64 {
        self.opened_listeners
    }

    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Sockets that the server holds.
    pub(super) fn held_sockets(&self) -> usize {
        self.held_sockets
    }

    // Between the two sides.

    /// Lets bytes in flight arrive; with `all`, all of them. Returns whether anything arrived at
    /// the server.
    pub(super) fn deliver(&mut self, rng: &mut Rng, all: bool) -> bool {
        let mut any = false;
        for &id in &self.active {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            if connection.state == ConnectState::Connecting && (all || rng.bool()) {
                let backlog = self.peer_listeners.get_mut(&connection.address);
                match backlog.filter(|_| !connection.is_closed) {
                    Some(backlog) => {
                        backlog.push_back(id);
                        connection.state = ConnectState::Connected;
                    }
                    None => {
                        connection.state = ConnectState::Refused;
                        connection.is_peer_closed = true;
                    }
                }
                connection.has_edge = true;
                any |= !connection.is_closed;
            }
            connection.to_peer.deliver(rng, all);
            if !connection.to_server.deliver(rng, all) {
                continue;
            }
            if !connection.is_closed {
                connection.has_edge = true;
                any = true;
            } else if !connection.to_server.arrived.is_empty() {
                // Bytes for a closed socket are answered with a reset.
                connection.to_server.arrived.clear();
                connection.reset_peer(rng);
            }
        }
        let connections = &mut self.connections;
        self.active.retain(|id| {
            let Some(connection) = connections.get(id) else {
                return false;
            };
            let is_over = connection.is_closed && connection.is_peer_closed;
            if is_over {
                connections.remove(id);
            }
            !is_over
        });
        any
    }

    /// The events of one poll, in any order. Without `all`, some may be delayed to the next poll.
    pub(super) fn ready(&mut self, rng: &mut Rng, all: bool, ready: &mut Vec<Readiness>) {
        for listener in self.listeners.values_mut() {
            if std::mem::take(&mut listener.has_edge) && !listener.backlog.is_empty() {
                ready.push(Readiness {
                    token: listener.token,
                    readable: true,
                    writable: false,
                    ended: false,
                });
            }
        }
        let delays = !all && rng.u8(..) < 32;
        let connections = &mut self.connections;
        self.active.retain(|id| {
            let Some(connection) = connections.get_mut(id) else {
                return false;
            };
            if let Some(token) = connection.token
                && connection.has_edge
                && !(delays && rng.bool())
            {
                connection.has_edge = false;
                ready.extend(connection.readiness(token));
            }
            connection.is_active()
        });
        if rng.f64() < self.spurious_events
            && let Some(&token) = rng.choice(&self.tokens)
        {
            ready.push(Readiness {
                token,
                readable: rng.bool(),
                writable: rng.bool(),
                ended: false,
            });
        }
        rng.shuffle(ready);
    }

    // The peers' side.

    pub(super) fn peer_connect(
        &mut self,
        rng: &mut Rng,
        to: SocketAddr,
        from: IpAddr,
    ) -> Result<usize, Errno> {
        let id = self.new_id();
        let mut listeners = self.listeners.values_mut();
        let listener = listeners.find(|listener| listener.address == to);
        let listener = listener.ok_or(Errno::ECONNREFUSED)?;
        if listener.backlog.len() == BACKLOG {
            return Err(Errno::EAGAIN);
        }
        listener.backlog.push_back(id);
        listener.has_edge = true;
        let connection = SimConnection::new(rng, SocketAddr::new(from, client_port(id)), to);
        self.connections.insert(id, connection);
        Ok(id)
    }

    pub(super) fn peer_listen(&mut self, at: SocketAddr) {
        self.peer_listeners.entry(at).or_default();
    }

    pub(super) fn peer_close_listener(&mut self, rng: &mut Rng, at: SocketAddr) {
        for id in self.peer_listeners.remove(&at).unwrap_or_default() {
            if self.connections.contains_key(&id) {
                self.peer_reset(rng, id);
            }
        }
    }

    pub(super) fn peer_accept(&mut self, at: SocketAddr) -> Result<usize, Errno> {
        let backlog = self.peer_listeners.get_mut(&at);
        let backlog = backlog.expect("an open listener of a peer");
        backlog.pop_front().ok_or(Errno::EAGAIN)
    }

    pub(super) fn peer_send(&mut self, id: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let connection = self.connection(id);
        if connection.to_peer.is_reset() || connection.to_server.is_shut {
            return Err(Errno::EPIPE);
        }
        let count = connection.to_server.free().min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        connection.to_server.in_flight.extend(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn peer_receive(&mut self, id: usize, count: usize) -> Result<Vec<u8>, Errno> {
        let connection = self.connections.get_mut(&id);
        let connection = connection.expect("an open connection");
        let stream = &mut connection.to_peer;
        let mut bytes = vec![0; count.min(stream.arrived.len())];
        if stream.read(&mut bytes) > 0 {
            if connection.is_blocked && connection.to_peer.is_writable() {
                connection.is_blocked = false;
                connection.has_edge = true;
                self.active.insert(id);
            }
            return Ok(bytes);
        }
        match stream.is_reset() {
            true => Err(Errno::ECONNRESET),
            false if stream.has_end_arrived => Ok(Vec::new()),
            false => Err(Errno::EAGAIN),
        }
    }

    pub(super) fn peer_shutdown(&mut self, id: usize) {
        self.connection(id).to_server.is_shut = true;
    }

    pub(super) fn peer_close(&mut self, id: usize) {
        let connection = self.connection(id);
        connection.is_peer_closed = true;
        connection.to_server.is_shut = true;
        if connection.to_peer.has_unread() {
            connection.to_server.begin_reset();
        }
    }

    pub(super) fn peer_reset(&mut self, rng: &mut Rng, id: usize) {
        let connection = self.connection(id);
        connection.is_peer_closed = true;
        let stream = &mut connection.to_server;
        let arriving = rng.usize(..=stream.in_flight.len());
        stream.in_flight.truncate(arriving);
        stream.begin_reset();
    }

    fn new_id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id
    }

    /// Records a token, which no open handle may have.
    fn claim_token(&mut self, token: usize) {
        let is_new = self.claimed_tokens.insert(token);
        assert!(is_new, "an open handle has the token");
        self.tokens.insert(token);
    }

    fn connection(&mut self, id: usize) -> &mut SimConnection {
        self.active.insert(id);
        self.connections.get_mut(&id).expect("an open connection")
    }
}

/// The port of the connecting end.
fn client_port(id: usize) -> u16 {
    1024 + (id % 60_000) as u16
}

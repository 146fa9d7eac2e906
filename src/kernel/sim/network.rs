//! Simulated sockets: edge-triggered, bounded, cut anywhere.
//!
//! What one side writes first flies and then arrives, in pieces, so that a read is short exactly where Linux's would
//! be: when no more has arrived yet. Each arrival is an edge; room is one only after a write has blocked.
//!
//! Must not know: files, clocks, who the clients are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::Readiness;
use crate::kernel::sim::fault_plan::Fault;

/// Connections that wait to be accepted from one listener; who comes then must try again.
const BACKLOG: usize = 64;

/// Everything between the server and its peers.
pub(super) struct Network {
    listeners: BTreeMap<usize, Port>,
    /// Where peers listen, and who the server has dialled there and nobody accepted yet.
    dialled: BTreeMap<SocketAddr, VecDeque<usize>>,
    /// By the number that a peer is known by, never reused.
    pub(super) connections: BTreeMap<usize, Connection>,
    next: usize,
    /// Every token that was ever registered: what comes late comes for one of these.
    tokens: BTreeSet<usize>,
    /// Chance that a write is cut shorter than it need be.
    cut: f64,
    /// Chance, each poll, of an event that nothing has caused.
    spurious: f64,
}

struct Port {
    address: SocketAddr,
    token: usize,
    edge: bool,
    waiting: VecDeque<usize>,
}

/// One TCP connection, both ends of it.
pub(super) struct Connection {
    /// The peer's end.
    pub(super) address: SocketAddr,
    /// The server's end.
    pub(super) local: SocketAddr,
    standing: Standing,
    token: Option<usize>,
    /// Something has changed since the last event.
    edge: bool,
    /// A write has found no room, and nobody was told of any since.
    blocked: bool,
    /// The server has accepted it, and not closed it.
    pub(super) held: bool,
    /// The server has it no longer.
    closed: bool,
    peer_closed: bool,
    /// To the server.
    up: Stream,
    /// To the peer.
    down: Stream,
}

/// One direction.
struct Stream {
    flying: VecDeque<u8>,
    arrived: VecDeque<u8>,
    /// Bytes that fit on the whole way.
    capacity: usize,
    /// The sending half is shut.
    shut: bool,
    end_arrived: bool,
    broken: Broken,
}

/// How far a connection is that the server dialled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The peer has not answered yet.
    Dialling,
    Stands,
    /// The peer has said no, and the server was not told.
    Refused,
}

/// What a reset has done to a direction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    No,
    /// It is to arrive.
    Flying,
    /// It has, and the reader was not told.
    Untold,
    Told,
}

impl Network {
    pub(super) fn new(rng: &mut Rng) -> Network {
        Network {
            listeners: BTreeMap::new(),
            dialled: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            tokens: BTreeSet::new(),
            cut: *rng.choice(&[0.0, 0.1, 0.5, 0.9]).expect("one of four"),
            spurious: *rng.choice(&[0.0, 0.05, 0.3]).expect("one of three"),
        }
    }

    // The server's side.

    pub(super) fn listen(&mut self, mut address: SocketAddr, token: usize) -> Result<usize, Errno> {
        while address.port() == 0 || self.listeners.values().any(|l| l.address == address) {
            if address.port() != 0 {
                return Err(Errno::EADDRINUSE);
            }
            let taken = self.listeners.values().map(|port| port.address.port());
            address.set_port(taken.max().unwrap_or(2100) + 1);
        }
        let id = self.number();
        let port = Port {
            address,
            token,
            edge: false,
            waiting: VecDeque::new(),
        };
        self.claim(token);
        self.listeners.insert(id, port);
        Ok(id)
    }

    pub(super) fn listening_on(&self, id: usize) -> SocketAddr {
        self.listeners[&id].address
    }

    pub(super) fn accept(&mut self, id: usize, fault: Option<Fault>) -> Result<usize, Errno> {
        let port = self.listeners.get_mut(&id).expect("an open listener");
        if let Some(Fault::Error(errno)) = fault {
            // A would-block is a fact: what waits then counts as come later.
            port.edge |= errno == Errno::EAGAIN && !port.waiting.is_empty();
            return Err(errno);
        }
        let peer = port.waiting.pop_front().ok_or(Errno::EAGAIN)?;
        self.at(peer).held = true;
        Ok(peer)
    }

    pub(super) fn dial(&mut self, rng: &mut Rng, from: IpAddr, to: SocketAddr) -> usize {
        let id = self.number();
        let mut connection = Connection::new(rng, to, SocketAddr::new(from, port_of(id)));
        connection.held = true;
        connection.standing = Standing::Dialling;
        self.connections.insert(id, connection);
        id
    }

    pub(super) fn connected(&mut self, id: usize) -> Result<(), Errno> {
        let connection = self.at(id);
        connection.answered()?;
        connection.up.tell()
    }

    pub(super) fn register(&mut self, id: usize, token: usize) {
        self.claim(token);
        let connection = self.at(id);
        assert!(connection.token.is_none(), "a socket is registered once");
        connection.token = Some(token);
        connection.edge = true;
    }

    pub(super) fn receive(
        &mut self,
        id: usize,
        buffer: &mut [u8],
        fault: Option<Fault>,
    ) -> Result<usize, Errno> {
        let connection = self.at(id);
        connection.answered()?;
        connection.strike(fault)?;
        let stream = &mut connection.up;
        if fault == Some(Fault::Short) && stream.arrived.len() > 1 {
            stream.recall();
        }
        if !stream.arrived.is_empty() {
            return Ok(stream.take(buffer));
        }
        stream.tell()?;
        match stream.end_arrived || stream.broken == Broken::Told {
            true => Ok(0),
            false => Err(Errno::EAGAIN),
        }
    }

    /// How many of `wanted` bytes a write takes now. The caller follows with [`Network::write`] of as many.
    pub(super) fn room(
        &mut self,
        rng: &mut Rng,
        id: usize,
        wanted: usize,
        fault: Option<Fault>,
    ) -> Result<usize, Errno> {
        let cut = self.cut;
        let connection = self.at(id);
        connection.answered()?;
        connection.strike(fault)?;
        connection.up.tell()?;
        if connection.up.broken == Broken::Told || connection.down.shut {
            return Err(Errno::EPIPE);
        }
        let room = connection.down.free().min(wanted);
        if room == 0 && wanted > 0 {
            connection.blocked = true;
            return Err(Errno::EAGAIN);
        }
        Ok(match fault {
            Some(Fault::Short) => room.min(1),
            _ if room > 1 && rng.f64() < cut => rng.usize(1..=room),
            _ => room,
        })
    }

    pub(super) fn write(&mut self, id: usize, bytes: &[u8]) {
        let connection = self.at(id);
        connection.down.flying.extend(bytes);
        if connection.peer_closed {
            // Nobody is there any more: the answer is a reset.
            connection.down.flying.clear();
            connection.up.reset();
        }
    }

    /// What still flies to the peer, the end counted as a byte.
    pub(super) fn unconfirmed(&mut self, id: usize) -> Result<usize, Errno> {
        let connection = self.at(id);
        let down = &connection.down;
        Ok(down.flying.len()
            + usize::from(down.shut && !down.end_arrived && down.broken == Broken::No))
    }

    pub(super) fn shut_sending(&mut self, id: usize) -> Result<(), Errno> {
        let connection = self.at(id);
        connection.down.shut = true;
        match connection.up.broken {
            Broken::Untold | Broken::Told => Err(Errno::ENOTCONN),
            Broken::No | Broken::Flying => Ok(()),
        }
    }

    pub(super) fn close(&mut self, rng: &mut Rng, id: usize) {
        let connection = self.at(id);
        (connection.held, connection.closed) = (false, true);
        connection.token = None;
        connection.down.shut = true;
        if !connection.up.arrived.is_empty() || !connection.up.flying.is_empty() {
            connection.reset_peer(rng);
        }
    }

    pub(super) fn close_listener(&mut self, rng: &mut Rng, id: usize) {
        let port = self.listeners.remove(&id).expect("an open listener");
        for peer in port.waiting {
            let connection = self.at(peer);
            connection.closed = true;
            connection.reset_peer(rng);
        }
    }

    /// Whether it tells nothing without a cause.
    #[cfg(test)]
    pub(super) fn is_calm(&self) -> bool {
        self.spurious == 0.0
    }

    pub(super) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    // Between the two.

    /// Lets some of what flies arrive; with `all`, all of it. Whether anything did at the server.
    pub(super) fn deliver(&mut self, rng: &mut Rng, all: bool) -> bool {
        let mut any = false;
        for (&id, connection) in &mut self.connections {
            if connection.standing == Standing::Dialling && (all || rng.bool()) {
                let waiting = self.dialled.get_mut(&connection.address);
                match waiting.filter(|_| !connection.closed) {
                    Some(waiting) => {
                        waiting.push_back(id);
                        connection.standing = Standing::Stands;
                    }
                    None => {
                        connection.standing = Standing::Refused;
                        connection.peer_closed = true;
                    }
                }
                connection.edge = true;
                any |= !connection.closed;
            }
            connection.down.deliver(rng, all);
            if !connection.up.deliver(rng, all) {
                continue;
            }
            if !connection.closed {
                connection.edge = true;
                any = true;
            } else if !connection.up.arrived.is_empty() {
                // Bytes for a socket that is gone.
                connection.up.arrived.clear();
                connection.reset_peer(rng);
            }
        }
        self.connections
            .retain(|_, connection| !(connection.closed && connection.peer_closed));
        any
    }

    /// The events of one poll, in any order; without `all`, some may come with the next.
    pub(super) fn ready(&mut self, rng: &mut Rng, all: bool, ready: &mut Vec<Readiness>) {
        for port in self.listeners.values_mut() {
            if std::mem::take(&mut port.edge) && !port.waiting.is_empty() {
                ready.push(Readiness {
                    token: port.token,
                    readable: true,
                    writable: false,
                    ended: false,
                });
            }
        }
        let kept_back = !all && rng.u8(..) < 32;
        for connection in self.connections.values_mut() {
            let Some(token) = connection.token else {
                continue;
            };
            if !connection.edge || kept_back && rng.bool() {
                continue;
            }
            connection.edge = false;
            ready.extend(connection.readiness(token));
        }
        if rng.f64() < self.spurious
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

    pub(super) fn connect(
        &mut self,
        rng: &mut Rng,
        to: SocketAddr,
        from: IpAddr,
    ) -> Result<usize, Errno> {
        let id = self.number();
        let mut listeners = self.listeners.values_mut();
        let port = listeners.find(|port| port.address == to);
        let port = port.ok_or(Errno::ECONNREFUSED)?;
        if port.waiting.len() == BACKLOG {
            return Err(Errno::EAGAIN);
        }
        port.waiting.push_back(id);
        port.edge = true;
        let connection = Connection::new(rng, SocketAddr::new(from, port_of(id)), to);
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// A peer listens at an address of his.
    pub(super) fn peer_listen(&mut self, at: SocketAddr) {
        self.dialled.entry(at).or_default();
    }

    /// A peer's listener, and whoever waits at it, is no more.
    pub(super) fn peer_close_listener(&mut self, rng: &mut Rng, at: SocketAddr) {
        for id in self.dialled.remove(&at).unwrap_or_default() {
            if self.connections.contains_key(&id) {
                self.peer_reset(rng, id);
            }
        }
    }

    pub(super) fn peer_accept(&mut self, at: SocketAddr) -> Result<usize, Errno> {
        let waiting = self.dialled.get_mut(&at).expect("a peer listens there");
        waiting.pop_front().ok_or(Errno::EAGAIN)
    }

    pub(super) fn peer_send(&mut self, id: usize, bytes: &[u8]) -> Result<usize, Errno> {
        let connection = self.at(id);
        if matches!(connection.down.broken, Broken::Untold | Broken::Told) || connection.up.shut {
            return Err(Errno::EPIPE);
        }
        let count = connection.up.free().min(bytes.len());
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::EAGAIN);
        }
        connection.up.flying.extend(&bytes[..count]);
        Ok(count)
    }

    pub(super) fn peer_receive(&mut self, id: usize, count: usize) -> Result<Vec<u8>, Errno> {
        let connection = self.at(id);
        let stream = &mut connection.down;
        let mut bytes = vec![0; count.min(stream.arrived.len())];
        if stream.take(&mut bytes) > 0 {
            if connection.blocked && connection.down.writable() {
                connection.blocked = false;
                connection.edge = true;
            }
            return Ok(bytes);
        }
        match stream.broken {
            Broken::Untold | Broken::Told => Err(Errno::ECONNRESET),
            _ if stream.end_arrived => Ok(Vec::new()),
            _ => Err(Errno::EAGAIN),
        }
    }

    pub(super) fn peer_shut(&mut self, id: usize) {
        self.at(id).up.shut = true;
    }

    pub(super) fn peer_close(&mut self, id: usize) {
        let connection = self.at(id);
        connection.peer_closed = true;
        connection.up.shut = true;
        let unread = !connection.down.arrived.is_empty() || !connection.down.flying.is_empty();
        if unread {
            connection.up.reset();
        }
    }

    pub(super) fn peer_reset(&mut self, rng: &mut Rng, id: usize) {
        let connection = self.at(id);
        connection.peer_closed = true;
        let arrive = rng.usize(..=connection.up.flying.len());
        connection.up.flying.truncate(arrive);
        connection.up.reset();
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// Notes a token, which must be nobody else's.
    fn claim(&mut self, token: usize) {
        let mut taken = self.listeners.values().map(|port| Some(port.token));
        assert!(
            !taken.any(|other| other == Some(token)),
            "a listener has it"
        );
        let mut taken = self.connections.values().map(|c| c.token);
        assert!(!taken.any(|other| other == Some(token)), "a socket has it");
        self.tokens.insert(token);
    }

    fn at(&mut self, id: usize) -> &mut Connection {
        self.connections.get_mut(&id).expect("a connection")
    }
}

/// The port of the end that dials.
fn port_of(id: usize) -> u16 {
    1024 + (id % 60_000) as u16
}

impl Connection {
    fn new(rng: &mut Rng, address: SocketAddr, local: SocketAddr) -> Connection {
        Connection {
            address,
            local,
            standing: Standing::Stands,
            token: None,
            edge: false,
            blocked: false,
            held: false,
            closed: false,
            peer_closed: false,
            up: Stream::new(rng),
            down: Stream::new(rng),
        }
    }

    /// What the peer has said to a server that dialled; a refusal is told once.
    fn answered(&mut self) -> Result<(), Errno> {
        match self.standing {
            Standing::Stands => Ok(()),
            Standing::Dialling => Err(Errno::EAGAIN),
            Standing::Refused => {
                self.standing = Standing::Stands;
                self.up.broken = Broken::Told;
                Err(Errno::ECONNREFUSED)
            }
        }
    }

    /// What a poll says of it now (epoll asks afresh), if there is anything to say.
    fn readiness(&mut self, token: usize) -> Option<Readiness> {
        if self.standing == Standing::Dialling {
            return None;
        }
        let broken = matches!(self.up.broken, Broken::Untold | Broken::Told)
            || self.standing == Standing::Refused;
        let writable = self.down.writable();
        // Linux notes that somebody looked for room in vain.
        self.blocked |= !writable;
        let readiness = Readiness {
            token,
            readable: broken || self.up.end_arrived || !self.up.arrived.is_empty(),
            writable: broken || writable,
            ended: broken || self.up.end_arrived,
        };
        (readiness.readable || readiness.writable).then_some(readiness)
    }

    /// What an injected error leaves behind.
    fn strike(&mut self, fault: Option<Fault>) -> Result<(), Errno> {
        let Some(Fault::Error(errno)) = fault else {
            return Ok(());
        };
        match errno {
            Errno::EAGAIN => self.edge = true, // it could have gone on a moment later
            Errno::ECONNRESET | Errno::EPIPE | Errno::ETIMEDOUT => {
                self.up.arrived.clear();
                self.up.flying.clear();
                self.up.broken = Broken::Told;
                self.down.flying.clear();
                self.down.broken = Broken::Flying;
            }
            _ => {}
        }
        Err(errno)
    }

    /// A reset on its way to the peer, which may lose all that he has not read.
    fn reset_peer(&mut self, rng: &mut Rng) {
        if self.down.broken != Broken::No {
            return;
        }
        let mut unread = std::mem::take(&mut self.down.arrived);
        unread.append(&mut self.down.flying);
        unread.truncate(rng.usize(..=unread.len()));
        self.down.arrived = unread;
        self.down.broken = Broken::Flying;
    }
}

impl Stream {
    fn new(rng: &mut Rng) -> Stream {
        let capacity = match rng.u8(..8) {
            0 => rng.usize(64..1024),
            1..=4 => rng.usize(1024..65_536),
            _ => rng.usize(65_536..524_288),
        };
        Stream {
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            capacity,
            shut: false,
            end_arrived: false,
            broken: Broken::No,
        }
    }

    fn free(&self) -> usize {
        self.capacity - self.flying.len() - self.arrived.len()
    }

    /// Linux tells of room once a third is free.
    fn writable(&self) -> bool {
        self.free() >= self.capacity / 3
    }

    fn reset(&mut self) {
        if self.broken == Broken::No {
            self.broken = Broken::Flying;
        }
    }

    /// Tells of a reset that has arrived, once.
    fn tell(&mut self) -> Result<(), Errno> {
        if self.broken != Broken::Untold {
            return Ok(());
        }
        self.broken = Broken::Told;
        Err(Errno::ECONNRESET)
    }

    /// Reads what has arrived, as much as fits.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.arrived.len());
        let all = self.arrived.read_exact(&mut buffer[..count]);
        all.expect("memory can be read");
        count
    }

    /// Sends all but the first byte of what has arrived back into the air.
    fn recall(&mut self) {
        let mut late = self.arrived.split_off(1);
        late.append(&mut self.flying);
        self.flying = late;
        self.end_arrived = false;
        if self.broken == Broken::Untold {
            self.broken = Broken::Flying;
        }
    }

    /// Whether anything arrived: bytes, then the end or a reset.
    fn deliver(&mut self, rng: &mut Rng, all: bool) -> bool {
        if !all && rng.bool() {
            return false;
        }
        let count = match all || rng.bool() {
            true => self.flying.len(),
            false => rng.usize(..=self.flying.len()),
        };
        let late = self.flying.split_off(count);
        self.arrived.append(&mut self.flying);
        self.flying = late;
        let mut any = count > 0;
        if self.flying.is_empty() {
            if self.broken == Broken::Flying {
                self.broken = Broken::Untold;
                any = true;
            } else if self.shut && !self.end_arrived && self.broken == Broken::No {
                self.end_arrived = true;
                any = true;
            }
        }
        any
    }
}

//! One simulated TCP connection, both ends of it.
//!
//! Written bytes are in flight first and arrive in pieces, so that a read is short exactly where it
//! would be on Linux: when no more bytes have arrived.

use std::collections::VecDeque;
use std::io::Read;
use std::net::SocketAddr;

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::fault_plan::InjectedFault;
use crate::kernel::types::Readiness;

pub(super) struct SimConnection {
    /// The peer's end.
    pub(super) address: SocketAddr,
    /// The server's end.
    pub(super) local: SocketAddr,
    pub(super) state: ConnectState,
    pub(super) token: Option<usize>,
    /// Something has changed since the last event.
    pub(super) has_edge: bool,
    /// A write has found no space, and no event has reported any since.
    pub(super) is_blocked: bool,
    /// The server has closed the socket, or its listener.
    pub(super) is_closed: bool,
    pub(super) is_peer_closed: bool,
    pub(super) to_server: StreamHalf,
    pub(super) to_peer: StreamHalf,
}

/// The state of a connection that the server has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectState {
    /// The peer has not answered yet.
    Connecting,
    Connected,
    /// The peer has refused, and no call has reported it.
    Refused,
}

/// One direction of a connection.
pub(super) struct StreamHalf {
    pub(super) in_flight: VecDeque<u8>,
    pub(super) arrived: VecDeque<u8>,
    /// Bytes that fit, in flight and arrived together.
    capacity: usize,
    /// The sender has closed its sending half.
    pub(super) is_shut: bool,
    pub(super) has_end_arrived: bool,
    pub(super) reset: ResetState,
}

/// The state of a reset in one direction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetState {
    None,
    InFlight,
    /// It has arrived, and no call has reported it.
    Arrived,
    Reported,
}

impl SimConnection {
    pub(super) fn new(rng: &mut Rng, address: SocketAddr, local: SocketAddr) -> SimConnection {
        SimConnection {
            address,
            local,
            state: ConnectState::Connected,
            token: None,
            has_edge: false,
            is_blocked: false,
            is_closed: false,
            is_peer_closed: false,
            to_server: StreamHalf::new(rng),
            to_peer: StreamHalf::new(rng),
        }
    }

    /// Whether something is in flight or to be reported.
    pub(super) fn is_active(&self) -> bool {
        self.has_edge
            || self.state == ConnectState::Connecting
            || self.to_server.is_moving()
            || self.to_peer.is_moving()
    }

    /// Whether the connection is established. A refusal is reported once.
    pub(super) fn check_connected(&mut self) -> Result<(), Errno> {
        match self.state {
            ConnectState::Connected => Ok(()),
            ConnectState::Connecting => Err(Errno::EAGAIN),
            ConnectState::Refused => {
                self.state = ConnectState::Connected;
                self.to_server.reset = ResetState::Reported;
                Err(Errno::ECONNREFUSED)
            }
        }
    }

    /// The readiness that epoll(7) would report now, if any.
    pub(super) fn readiness(&mut self, token: usize) -> Option<Readiness> {
        if self.state == ConnectState::Connecting {
            return None;
        }
        let is_broken = self.to_server.is_reset() || self.state == ConnectState::Refused;
        let is_writable = self.to_peer.is_writable();
        // Linux marks the socket here (SOCK_NOSPACE), as after a write that blocked.
        self.is_blocked |= !is_writable;
        let has_end = self.to_server.has_end_arrived;
        let readiness = Readiness {
            token,
            readable: is_broken || has_end || !self.to_server.arrived.is_empty(),
            writable: is_broken || is_writable,
            ended: is_broken || has_end,
        };
        (readiness.readable || readiness.writable).then_some(readiness)
    }

    /// Applies the consequences of an injected error.
    pub(super) fn apply_fault(&mut self, fault: Option<InjectedFault>) -> Result<(), Errno> {
        let Some(InjectedFault::Error(errno)) = fault else {
            return Ok(());
        };
        match errno {
            // A would-block must be followed by an event.
            Errno::EAGAIN => self.has_edge = true,
            Errno::ECONNRESET | Errno::EPIPE | Errno::ETIMEDOUT => {
                self.to_server.arrived.clear();
                self.to_server.in_flight.clear();
                self.to_server.reset = ResetState::Reported;
                self.to_peer.in_flight.clear();
                self.to_peer.reset = ResetState::InFlight;
            }
            _ => {}
        }
        Err(errno)
    }

    /// Sends a reset to the peer, which may discard bytes that the peer has not read.
    pub(super) fn reset_peer(&mut self, rng: &mut Rng) {
        if self.to_peer.reset != ResetState::None {
            return;
        }
        let mut unread = std::mem::take(&mut self.to_peer.arrived);
        unread.append(&mut self.to_peer.in_flight);
        unread.truncate(rng.usize(..=unread.len()));
        self.to_peer.arrived = unread;
        self.to_peer.reset = ResetState::InFlight;
    }
}

impl StreamHalf {
    fn new(rng: &mut Rng) -> StreamHalf {
        let capacity = match rng.u8(..8) {
            0 => rng.usize(64..1024),
            1..=4 => rng.usize(1024..65_536),
            _ => rng.usize(65_536..524_288),
        };
        StreamHalf {
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            capacity,
            is_shut: false,
            has_end_arrived: false,
            reset: ResetState::None,
        }
    }

    pub(super) fn free(&self) -> usize {
        self.capacity - self.in_flight.len() - self.arrived.len()
    }

    /// Linux reports a socket as writable once a third of its buffer is free.
    pub(super) fn is_writable(&self) -> bool {
        self.free() >= self.capacity / 3
    }

    /// Whether a reset has arrived.
    pub(super) fn is_reset(&self) -> bool {
        matches!(self.reset, ResetState::Arrived | ResetState::Reported)
    }

    /// Whether bytes of this direction are unread.
    pub(super) fn has_unread(&self) -> bool {
        !self.arrived.is_empty() || !self.in_flight.is_empty()
    }

    pub(super) fn begin_reset(&mut self) {
        if self.reset == ResetState::None {
            self.reset = ResetState::InFlight;
        }
    }

    /// Reports a reset that has arrived, once.
    pub(super) fn report_reset(&mut self) -> Result<(), Errno> {
        if self.reset != ResetState::Arrived {
            return Ok(());
        }
        self.reset = ResetState::Reported;
        Err(Errno::ECONNRESET)
    }

    /// Reads as many of the arrived bytes as fit.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.arrived.len());
        let all = self.arrived.read_exact(&mut buffer[..count]);
        all.expect("a read from memory succeeds");
        count
    }

    /// Whether bytes, the end or a reset are in flight.
    fn is_moving(&self) -> bool {
        let ends = self.is_shut && !self.has_end_arrived && self.reset == ResetState::None;
        !self.in_flight.is_empty() || self.reset == ResetState::InFlight || ends
    }

    /// Puts all but the first arrived byte back in flight.
    pub(super) fn withhold(&mut self) {
        let mut late = self.arrived.split_off(1);
        late.append(&mut self.in_flight);
        self.in_flight = late;
        self.has_end_arrived = false;
        if self.reset == ResetState::Arrived {
            self.reset = ResetState::InFlight;
        }
    }

    /// Lets bytes arrive, then the end or a reset. With `all`, everything arrives. Returns whether
    /// anything did.
    pub(super) fn deliver(&mut self, rng: &mut Rng, all: bool) -> bool {
        if !self.is_moving() || !all && rng.bool() {
            return false;
        }
        let count = match all || rng.bool() {
            true => self.in_flight.len(),
            false => rng.usize(..=self.in_flight.len()),
        };
        let late = self.in_flight.split_off(count);
        self.arrived.append(&mut self.in_flight);
        self.in_flight = late;
        let mut any = count > 0;
        if self.in_flight.is_empty() {
            if self.reset == ResetState::InFlight {
                self.reset = ResetState::Arrived;
                any = true;
            } else if self.is_shut && !self.has_end_arrived && self.reset == ResetState::None {
                self.has_end_arrived = true;
                any = true;
            }
        }
        any
    }
}

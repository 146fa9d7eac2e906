//! Passive ports: listeners for FTP's data connections and the clients that are expected at them.
//!
//! A client is recognized by its address alone, which must be that of the session's control
//! connection, so that no client receives the data of another. [`PortReservations`] records which
//! session expects its client at which port.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use log::warn;
use slab::Slab;

use crate::kernel::Kernel;
use crate::kernel::errors;
use crate::limits::SHARED_PASSIVE_PORTS;
use crate::server::event_loop::accept::log_accept_failed;
use crate::server::log::escape::Escaped;
use crate::server::net::port_reservations::{PortReservations, PortWaiter, Unmet};
use crate::server::options::Options;
use crate::server::session_id::SessionId;

/// Tokens from here on are passive ports.
pub(super) const FIRST_PASSIVE: usize = usize::MAX / 4 * 3;

/// The open passive ports and their reservations.
pub(super) struct PassivePorts<K: Kernel> {
    ports: Slab<Port<K>>,
    by_address: HashMap<SocketAddr, usize>,
    /// Ports that have not blocked since their last event. Some may be closed by now.
    ready: VecDeque<usize>,
    /// Out of descriptors: no accept before the next sweep, or before a slot is freed.
    paused: bool,
    reservations: PortReservations,
    /// Why the last port could not be opened, for the log.
    open_fault: Option<String>,
    /// The ports to use; `None` lets the system choose them.
    range: Option<(u16, u16)>,
    /// Without a range, the ports that stay open for the next session.
    shared: Vec<usize>,
    /// Announced instead of the local address.
    announced: Option<Ipv4Addr>,
    /// Ports of the range, and a few without one, stay open for the next session.
    keeps_open: bool,
}

struct Port<K: Kernel> {
    listener: K::Listener,
    address: SocketAddr,
    /// It is in the queue of ready ports.
    ready: bool,
}

/// A port that was reserved for a session.
pub(super) struct ReservedPort {
    pub(super) port: usize,
    /// The address to announce.
    pub(super) address: SocketAddr,
}

/// A connection to a passive port from a client that was expected there.
pub(super) struct PassiveAccept<K: Kernel> {
    pub(super) socket: K::Socket,
    pub(super) owner: SessionId,
    /// The port is free for this client and server address again.
    pub(super) freed: (IpAddr, IpAddr),
}

impl<K: Kernel> PassivePorts<K> {
    pub(super) fn new(options: &Options) -> PassivePorts<K> {
        PassivePorts {
            ports: Slab::new(),
            by_address: HashMap::new(),
            ready: VecDeque::new(),
            paused: false,
            reservations: PortReservations::default(),
            open_fault: None,
            range: options.passive_ports,
            shared: Vec::new(),
            announced: options.passive_address,
            keeps_open: true,
        }
    }

    /// Notes that a port has a connection to accept.
    pub(super) fn set_ready(&mut self, port: usize) {
        if let Some(entry) = self.ports.get_mut(port)
            && !std::mem::replace(&mut entry.ready, true)
        {
            self.ready.push_back(port);
        }
    }

    /// Whether a connection can be accepted at once.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty() && !self.paused
    }

    /// Resumes after a shortage of descriptors.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// Reserves a port for one client of `owner`. Returns `None` if all are reserved.
    pub(super) fn reserve(
        &mut self,
        kernel: &K,
        owner: SessionId,
        local: SocketAddr,
        now: Instant,
    ) -> Option<ReservedPort> {
        let port = match self.range {
            None => self.find_shared(kernel, owner.peer.ip(), local)?,
            Some(range) => self.find_free(kernel, owner.peer.ip(), local, range)?,
        };
        self.reservations.reserve(port, owner, now);
        self.open_fault = None;
        Some(self.reserved_port(port))
    }

    /// Renews the reservation of a session that asks for a port again before its client has
    /// connected. Another port would be taken from other sessions during the cool-down of this one.
    pub(super) fn renew(&mut self, port: usize, owner: SessionId, now: Instant) -> ReservedPort {
        self.extend(port, owner, now);
        self.reserved_port(port)
    }

    fn reserved_port(&self, port: usize) -> ReservedPort {
        let mut address = self.ports[port].address;
        if let (Some(announced), true) = (self.announced, address.is_ipv4()) {
            address.set_ip(announced.into());
        }
        ReservedPort { port, address }
    }

    /// Finds a port of the range that is free for a client. The search begins at a random port, so
    /// that the result cannot be predicted.
    fn find_free(
        &mut self,
        kernel: &K,
        client: IpAddr,
        local: SocketAddr,
        (first, last): (u16, u16),
    ) -> Option<usize> {
        let count = u64::from(last - first) + 1;
        let start = kernel.random().ok()? % count;
        for step in 0..count {
            let number = first + ((start + step) % count) as u16;
            let mut address = local;
            address.set_port(number);
            match self.by_address.get(&address) {
                Some(&port) if self.reservations.is_free(port, client) => return Some(port),
                Some(_) => {}
                None => match self.open(kernel, address) {
                    Ok(port) => return Some(port),
                    Err(error) if errors::is_out_of_resources(&error) => return None,
                    Err(_) => {} // another process has the port
                },
            }
        }
        None
    }

    /// Finds a port for a client where the system chooses the ports: a random one of the shared
    /// ports, or a new one while there are few or none is free.
    fn find_shared(&mut self, kernel: &K, client: IpAddr, local: SocketAddr) -> Option<usize> {
        let is_local = |port: &usize| {
            let mut address = self.ports[*port].address;
            address.set_port(local.port());
            address == local
        };
        let is_free = |port: &usize| self.reservations.is_free(*port, client);
        let free = self.shared.iter().copied().filter(is_local).filter(is_free);
        let free: Vec<usize> = free.collect();
        let is_full = self.shared.len() >= SHARED_PASSIVE_PORTS || !self.keeps_open;
        if free.is_empty() || !is_full {
            let mut any = local;
            any.set_port(0);
            if let Ok(port) = self.open(kernel, any) {
                self.share(port, local);
                return Some(port);
            }
        }
        let index = kernel.random().ok()?.checked_rem(free.len() as u64)?;
        Some(free[index as usize])
    }

    /// Keeps a new port open for later sessions, if there are few or instead of an unused port of
    /// another local address.
    fn share(&mut self, port: usize, local: SocketAddr) {
        if !self.keeps_open {
            return;
        }
        if self.shared.len() >= SHARED_PASSIVE_PORTS {
            let replaced = self.shared.iter().position(|&port| {
                let is_elsewhere = self.ports[port].address.ip() != local.ip();
                is_elsewhere && !self.reservations.is_reserved(port)
            });
            let Some(index) = replaced else {
                return;
            };
            let unused = self.shared.swap_remove(index);
            self.close_unused(unused);
        }
        self.shared.push(port);
    }

    fn open(&mut self, kernel: &K, address: SocketAddr) -> io::Result<usize> {
        let opened = self.try_open(kernel, address);
        if let Err(error) = &opened {
            self.open_fault = Some(error.to_string());
        }
        opened
    }

    fn try_open(&mut self, kernel: &K, address: SocketAddr) -> io::Result<usize> {
        let entry = self.ports.vacant_entry();
        let port = entry.key();
        let listener = kernel.listen(address, FIRST_PASSIVE + port)?;
        let address = kernel.listener_address(&listener)?;
        entry.insert(Port {
            listener,
            address,
            ready: false,
        });
        self.by_address.insert(address, port);
        Ok(port)
    }

    /// Queues a session until a port is free for its client.
    pub(super) fn wait(&mut self, owner: SessionId, local: SocketAddr, now: Instant) {
        self.reservations.wait(owner, local, now);
    }

    /// Takes a session out of that queue.
    pub(super) fn cancel_wait(&mut self, owner: SessionId) {
        self.reservations.cancel_wait(owner);
    }

    /// Restarts the time for which a client is expected.
    pub(super) fn extend(&mut self, port: usize, owner: SessionId, now: Instant) {
        self.reservations.extend(port, owner, now);
    }

    /// Releases a reservation whose client has not connected.
    pub(super) fn release(&mut self, port: usize, client: IpAddr, now: Instant) {
        self.reservations.release(port, client, now);
        self.close_unused(port);
    }

    /// Closes the ports, those with reservations as soon as these end: a handover needs them for
    /// the next server process.
    pub(super) fn retire(&mut self) {
        self.keeps_open = false;
        self.shared.clear();
        let ports: Vec<usize> = self.ports.iter().map(|(port, _)| port).collect();
        for port in ports {
            self.close_unused(port);
        }
    }

    fn close_unused(&mut self, port: usize) {
        let is_kept = match self.range {
            Some(_) => self.keeps_open,
            None => self.shared.contains(&port),
        };
        let is_used = is_kept || self.reservations.is_reserved(port);
        if !is_used && let Some(entry) = self.ports.try_remove(port) {
            self.by_address.remove(&entry.address);
            self.reservations.forget(port);
        }
    }

    /// Accepts one connection, from the ready ports in turn. `budget` counts the accepts that are
    /// left in this tick, for all ports together. Connections of other clients are closed.
    pub(super) fn accept_next(
        &mut self,
        kernel: &K,
        budget: &mut usize,
    ) -> Result<Option<PassiveAccept<K>>, OutOfDescriptors> {
        while !self.paused
            && *budget > 0
            && let Some(port) = self.ready.pop_front()
        {
            *budget -= 1;
            // The port of a single session is closed as soon as its client has connected.
            let Some(entry) = self.ports.get_mut(port) else {
                continue;
            };
            match kernel.accept(&entry.listener) {
                Ok((socket, peer)) => {
                    self.ready.push_back(port);
                    if let Some(accepted) = self.admit(port, socket, peer) {
                        return Ok(Some(accepted));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => entry.ready = false,
                Err(error) if errors::is_out_of_resources(&error) => {
                    self.ready.push_back(port);
                    self.paused = true;
                    warn!("event=accept-paused why={}", Escaped(&error.to_string()));
                    return Err(OutOfDescriptors);
                }
                Err(error) => {
                    self.ready.push_back(port);
                    if !errors::is_of_one_connection(&error) {
                        self.paused = true;
                        log_accept_failed(&error);
                    }
                }
            }
        }
        Ok(None)
    }

    fn admit(
        &mut self,
        port: usize,
        socket: K::Socket,
        peer: SocketAddr,
    ) -> Option<PassiveAccept<K>> {
        let at = self.ports[port].address;
        let Some(owner) = self.reservations.redeem(port, peer.ip()) else {
            warn!("event=stranger from={peer} at={at}");
            return None;
        };
        self.close_unused(port);
        Some(PassiveAccept {
            socket,
            owner,
            freed: (peer.ip(), at.ip()),
        })
    }

    /// Logs that a session gets no port, and why.
    pub(super) fn log_no_port(&self, owner: SessionId) {
        let generation = owner.generation;
        let taken = "every port is in use for the client's address";
        let why = Escaped(self.open_fault.as_deref().unwrap_or(taken));
        warn!("session={generation} event=no-passive-port why={why}");
    }

    /// Ends the reservations and the waits that took too long.
    pub(super) fn sweep(&mut self, now: Instant) -> Unmet {
        let unmet = self.reservations.sweep(now);
        for (port, _) in &unmet.reservations {
            self.close_unused(*port);
        }
        unmet
    }

    /// Reserves a port that has become free for the first session that waits between these
    /// addresses.
    pub(super) fn serve_first_waiter(
        &mut self,
        kernel: &K,
        (client, local): (IpAddr, IpAddr),
        now: Instant,
    ) -> Option<(SessionId, ReservedPort)> {
        let mut waiters = self.reservations.waiters().iter().copied();
        let first = waiters.find(|waiter| waiter.addresses() == (client, local))?;
        self.serve(kernel, first, now)
    }

    /// Reserves free ports for the sessions that wait. If there is none for the first session
    /// between two addresses, there is none for the others: searching all ports for each would take
    /// too long.
    pub(super) fn serve_waiters(
        &mut self,
        kernel: &K,
        now: Instant,
    ) -> Vec<(SessionId, ReservedPort)> {
        let (mut served, mut skipped) = (Vec::new(), 0);
        let mut exhausted = HashSet::new();
        while let Some(waiter) = self.reservations.waiters().get(skipped).copied() {
            let addresses = waiter.addresses();
            let found = match exhausted.contains(&addresses) {
                true => None,
                false => self.serve(kernel, waiter, now),
            };
            match found {
                Some(found) => served.push(found),
                None => {
                    exhausted.insert(addresses);
                    skipped += 1;
                }
            }
        }
        served
    }

    fn serve(
        &mut self,
        kernel: &K,
        waiter: PortWaiter,
        now: Instant,
    ) -> Option<(SessionId, ReservedPort)> {
        let reserved = self.reserve(kernel, waiter.owner, waiter.local, now)?;
        self.reservations.cancel_wait(waiter.owner);
        Some((waiter.owner, reserved))
    }

    /// Returns the reservations: port and session.
    pub(super) fn reserved(&self) -> impl Iterator<Item = (usize, SessionId)> {
        self.reservations.reserved()
    }
}

/// An accept failed because no descriptor is left.
pub(super) struct OutOfDescriptors;

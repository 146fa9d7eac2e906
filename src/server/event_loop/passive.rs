//! Where clients come for their data connections: passive listeners are opened, and who comes there is led to his session.
//!
//! A client is known by its address alone: it must be that of the session's own connection, so that nobody takes another's data.
//! Who is awaited where stands in [`PortReservations`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};

use log::{debug, warn};
use slab::Slab;

use crate::domain::error::ErrorCode;
use crate::kernel::Kernel;
use crate::kernel::errors;
use crate::limits::ACCEPTS_PER_TICK_MAX;
use crate::server::event_loop::EventLoop;
use crate::server::log::escape::Escaped;
use crate::server::net::port_reservations::{PortReservations, Waiting};
use crate::server::service::response::Completion;
use crate::server::session_id::SessionId;

/// Tokens from here on are passive listeners; below are the others.
pub(crate) const FIRST_PASSIVE: usize = usize::MAX / 4 * 3;

/// The passive listeners that are open, and who is awaited at them.
pub(crate) struct PassivePorts<K: Kernel> {
    ports: Slab<Port<K>>,
    by_address: HashMap<SocketAddr, usize>,
    /// Those that have not blocked since their last edge, as far as they are still open.
    ready: VecDeque<usize>,
    /// Out of descriptors: no accept before the next sweep, or before a slot is freed.
    paused: bool,
    pub(crate) pairs: PortReservations,
}

struct Port<K: Kernel> {
    handle: K::Listener,
    address: SocketAddr,
    /// It stands among the ready ones.
    ready: bool,
}

impl<K: Kernel> PassivePorts<K> {
    pub(crate) fn new() -> PassivePorts<K> {
        PassivePorts {
            ports: Slab::new(),
            by_address: HashMap::new(),
            ready: VecDeque::new(),
            paused: false,
            pairs: PortReservations::default(),
        }
    }

    /// A listener has something to accept.
    pub(crate) fn notice(&mut self, index: usize) {
        if let Some(port) = self.ports.get_mut(index)
            && !std::mem::replace(&mut port.ready, true)
        {
            self.ready.push_back(index);
        }
    }

    /// Whether one can be accepted from at once.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty() && !self.paused
    }

    /// There may be descriptors again.
    pub(crate) fn resume(&mut self) {
        self.paused = false;
    }

    pub(crate) fn close(&mut self, index: usize) {
        let port = self.ports.remove(index);
        self.by_address.remove(&port.address);
        self.pairs.forget(index);
    }
}

impl<K: Kernel> EventLoop<K> {
    /// A listener at which this session's client, and nobody else from its address, is awaited from now on; `None` where
    /// all are taken.
    pub(crate) fn await_client(&mut self, owner: SessionId, local: SocketAddr) -> Option<usize> {
        let index = match self.options.passive_ports {
            None => {
                let mut any = local;
                any.set_port(0);
                self.open_passive(any).ok()?
            }
            Some((first, last)) => self.find_passive(owner.peer.ip(), local, first, last)?,
        };
        self.passive.pairs.take(index, owner, self.services.now());
        self.services.data_sessions.of(owner).awaited = Some(index);
        Some(index)
    }

    /// A listener of the range that is free for a client, beginning anywhere in it, so that nobody guesses which.
    fn find_passive(
        &mut self,
        client: IpAddr,
        local: SocketAddr,
        first: u16,
        last: u16,
    ) -> Option<usize> {
        let count = u64::from(last - first) + 1;
        let start = self.kernel.random().ok()? % count;
        for step in 0..count {
            let port = first + ((start + step) % count) as u16;
            let mut at = local;
            at.set_port(port);
            match self.passive.by_address.get(&at) {
                Some(&index) if self.passive.pairs.is_free(index, client) => return Some(index),
                Some(_) => {}
                None => match self.open_passive(at) {
                    Ok(index) => return Some(index),
                    Err(error) if errors::is_out_of_resources(&error) => return None,
                    Err(_) => {} // somebody else has the port
                },
            }
        }
        None
    }

    fn open_passive(&mut self, at: SocketAddr) -> io::Result<usize> {
        let entry = self.passive.ports.vacant_entry();
        let index = entry.key();
        let handle = self.kernel.listen(at, FIRST_PASSIVE + index)?;
        let address = self.kernel.listener_address(&handle)?;
        entry.insert(Port {
            handle,
            address,
            ready: false,
        });
        self.passive.by_address.insert(address, index);
        Ok(index)
    }

    /// Closes a listener at which nobody is awaited any more, unless it stays open for the next.
    pub(crate) fn close_unneeded(&mut self, index: usize) {
        let stays = self.options.passive_ports.is_some() && self.relieved_until.is_none();
        let is_open = self.passive.ports.contains(index);
        if is_open && !stays && !self.passive.pairs.is_awaited(index) {
            self.passive.close(index);
        }
    }

    /// Lets go of the ports that another server needs from now on: of the others as soon as nobody is awaited there.
    pub(crate) fn relieve_passive(&mut self) {
        let open: Vec<usize> = self.passive.ports.iter().map(|(index, _)| index).collect();
        for index in open {
            self.close_unneeded(index);
        }
    }

    pub(crate) fn tell_listening(&mut self, owner: SessionId, index: usize) {
        let mut address = self.passive.ports[index].address;
        if let (Some(announced), true) = (self.options.passive_address, address.is_ipv4()) {
            address.set_ip(announced.into());
        }
        debug!(
            "session={} event=listen address={address}",
            owner.generation
        );
        self.services
            .complete(owner, Completion::Listening(Ok(address)));
    }

    /// Who waits for a pair with this client's address at this one of ours is given the one that is free now.
    fn serve_first_waiting(&mut self, client: IpAddr, local: IpAddr) {
        let mut waiting = self.passive.pairs.waiting().iter().copied();
        let first = waiting.find(|waiting| waiting.ends() == (client, local));
        if let Some(first) = first {
            self.serve(first);
        }
    }

    /// Who waits is given what has become free. Where there is nothing for the first of those with the same addresses,
    /// there is nothing for the others: to look through all ports for each would take a turn as long as they are many.
    fn serve_waiting(&mut self) {
        let mut in_vain = HashSet::new();
        let mut skipped = 0;
        while let Some(waiting) = self.passive.pairs.waiting().get(skipped).copied() {
            let ends = waiting.ends();
            if in_vain.contains(&ends) || !self.serve(waiting) {
                in_vain.insert(ends);
                skipped += 1;
            }
        }
    }

    /// Gives one that waits a pair, if there is a free one.
    fn serve(&mut self, waiting: Waiting) -> bool {
        let Some(index) = self.await_client(waiting.owner, waiting.local) else {
            return false;
        };
        self.passive.pairs.leave(waiting.owner);
        self.tell_listening(waiting.owner, index);
        true
    }

    /// Takes who comes to the passive listeners, one from each in turn, up to the turn's bound for all of them.
    pub(crate) fn accept_data(&mut self) {
        for _ in 0..ACCEPTS_PER_TICK_MAX {
            if self.passive.paused {
                return;
            }
            let Some(index) = self.passive.ready.pop_front() else {
                return;
            };
            // One that served a single session was closed as soon as its client had come.
            let Some(port) = self.passive.ports.get_mut(index) else {
                continue;
            };
            match self.kernel.accept(&port.handle) {
                Ok((socket, peer)) => self.admit_data(index, socket, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    port.ready = false;
                    continue;
                }
                Err(error) if errors::is_out_of_resources(&error) => {
                    self.passive.paused = true;
                    self.services.close_unused_files();
                    warn!("event=accept-paused why={}", Escaped(&error.to_string()));
                }
                Err(_) => {}
            }
            self.passive.ready.push_back(index);
        }
    }

    /// Gives a client that is awaited a slot; anybody else's connection is closed, and who is awaited is so still.
    fn admit_data(&mut self, index: usize, socket: K::Socket, peer: SocketAddr) {
        let at = self.passive.ports[index].address;
        let Some(owner) = self.passive.pairs.arrived(index, peer.ip()) else {
            warn!("event=stranger from={peer} at={at}");
            return;
        };
        self.close_unneeded(index);
        self.services.data_sessions.of(owner).awaited = None;
        let added = self.add_data(owner, socket, false);
        let channel = self.services.data_sessions.of(owner);
        if std::mem::take(&mut channel.connecting) {
            let result = added.ok_or(ErrorCode::NoDataConnection).map(drop);
            self.services.complete(owner, Completion::Connected(result));
        }
        self.serve_first_waiting(peer.ip(), at.ip());
    }

    /// Looks after the deadlines of who is awaited and who waits.
    pub(crate) fn sweep_passive(&mut self) {
        let late = self.passive.pairs.sweep(self.services.now());
        for (index, owner) in late.unmet {
            self.close_unneeded(index);
            let channel = self.services.data_sessions.take(owner);
            if channel.connecting {
                let refused = Err(ErrorCode::NoDataConnection);
                self.services
                    .complete(owner, Completion::Connected(refused));
            }
        }
        for owner in late.without {
            self.services
                .complete(owner, Completion::Listening(Err(ErrorCode::NoPassivePort)));
        }
        self.serve_waiting();
    }
}

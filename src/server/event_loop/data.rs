//! The loop's part in data connections: sees to what sessions wish of them, and tells them what has become of it.

use std::net::SocketAddr;

use log::{debug, warn};

use crate::kernel::Kernel;
use crate::limits::QUEUE_TURN;
use crate::protocol::{Refusal, Representation, Via};
use crate::server::Ticket;
use crate::server::conn::data::{Data, Progress};
use crate::server::conn::transfer::{Held, Outgoing};
use crate::server::event_loop::data_sessions::Wish;
use crate::server::event_loop::slot::Slot;
use crate::server::event_loop::{Engine, holder};
use crate::server::log::Escaped;
use crate::server::log::transfer_log::{Direction, Record};
use crate::server::service::Reply;
use crate::storage::Incoming;

impl<K: Kernel> Engine<K> {
    /// Sees to what sessions wish and tells them what they wait for, until nobody wishes or waits for more, or for as long as
    /// others may be kept waiting: who is told takes his next line, which may bring the next wish, without an end.
    pub(crate) fn settle(&mut self) {
        let mut until = None;
        while self.settle_one() {
            let now = self.kernel.now();
            if now >= *until.get_or_insert(now + QUEUE_TURN) {
                return;
            }
        }
    }

    /// The next wish, or else the next reply, if there is one.
    fn settle_one(&mut self) -> bool {
        if let Some((owner, wish)) = self.house.channels.next_wish() {
            self.fulfil(owner, wish);
        } else if let Some((ticket, reply)) = self.house.next_reply() {
            self.deliver(ticket, reply);
        } else {
            return false;
        }
        true
    }

    fn deliver(&mut self, ticket: Ticket, reply: Reply<K>) {
        let Some(key) = holder(&self.connections, ticket) else {
            if let Reply::Answer(_, Held::Incoming(incoming)) = reply {
                self.house.abandon(incoming);
            }
            return;
        };
        if matches!(reply, Reply::Moved(_)) {
            self.house.channels.take(ticket);
        }
        match &mut self.connections[key] {
            Slot::Control(connection) => {
                let outcome = connection.reply(key, reply, &mut self.house, &mut self.scratch);
                self.after_turn(key, outcome);
            }
            Slot::Data(data) => {
                let Reply::Warm(result) = reply else {
                    unreachable!("a data connection asks for nothing else");
                };
                let progress = data.warmed_up(result, &mut self.house);
                self.after_data(key, progress);
            }
        }
    }

    fn fulfil(&mut self, owner: Ticket, wish: Wish<K>) {
        if !self.is_alive(owner) {
            match wish {
                Wish::Receive(incoming, _) => self.house.abandon(incoming),
                Wish::Leave => self.release(owner),
                _ => {}
            }
            return;
        }
        match wish {
            Wish::Listen { local } => {
                self.release(owner);
                match self.await_client(owner, local) {
                    Some(index) => self.tell_listening(owner, index),
                    None => self.passive.pairs.wait(owner, local, self.house.now()),
                }
            }
            Wish::Connect {
                via: Via::Accept, ..
            } => self.connect_by_accepting(owner),
            Wish::Connect {
                via: Via::Dial(to),
                local,
            } => self.dial(owner, local, to),
            Wish::Send(outgoing, representation) => {
                self.begin_sending(owner, outgoing, representation)
            }
            Wish::Receive(incoming, representation) => {
                self.begin_receiving(owner, incoming, representation);
            }
            Wish::Abort => self.abort(owner),
            Wish::Leave => self.release(owner),
            Wish::Distrust => self.distrust(owner),
        }
    }

    fn is_alive(&self, owner: Ticket) -> bool {
        holder(&self.connections, owner).is_some()
    }

    /// Puts a data connection into a slot of its own.
    pub(crate) fn add_data(
        &mut self,
        owner: Ticket,
        mut socket: K::Socket,
        dialled: bool,
    ) -> Option<usize> {
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        if let Err(error) = self.kernel.register(&mut socket, key) {
            let (serial, why) = (owner.serial, error.to_string());
            warn!(
                "session={serial} event=register-failed why={}",
                Escaped(&why)
            );
            return None;
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        let ticket = Ticket {
            key,
            serial,
            peer: owner.peer,
            user: owner.user,
        };
        let data = Data::new(socket, ticket, owner, dialled, self.house.now());
        entry.insert(Slot::Data(Box::new(data)));
        self.data_connections += 1;
        self.house.channels.of(owner).data = Some(key);
        Some(key)
    }

    // What sessions wish.

    fn connect_by_accepting(&mut self, owner: Ticket) {
        let now = self.house.now();
        let channel = self.house.channels.of(owner);
        match (channel.data, channel.awaited) {
            (Some(_), _) => self.house.reply(owner, Reply::Connected(Ok(()))),
            (None, Some(index)) => {
                channel.connecting = true;
                self.passive.pairs.extend(index, owner, now);
            }
            (None, None) => {
                self.release(owner);
                let refused = Err(Refusal::NoDataConnection);
                self.house.reply(owner, Reply::Connected(refused));
            }
        }
    }

    fn dial(&mut self, owner: Ticket, from: SocketAddr, to: SocketAddr) {
        self.release(owner);
        let dialled = match self.kernel.dial(from, to) {
            Ok(socket) => self.add_data(owner, socket, true),
            Err(error) => {
                let (serial, why) = (owner.serial, error.to_string());
                debug!(
                    "session={serial} event=dial-failed to={to} why={}",
                    Escaped(&why)
                );
                None
            }
        };
        match dialled {
            Some(_) => self.house.channels.of(owner).connecting = true,
            None => {
                let refused = Err(Refusal::NoDataConnection);
                self.house.reply(owner, Reply::Connected(refused));
            }
        }
    }

    fn begin_sending(
        &mut self,
        owner: Ticket,
        outgoing: Box<Outgoing<K>>,
        representation: Representation,
    ) {
        let now = self.house.now();
        let (key, data) = self.data_of(owner);
        data.send(outgoing, representation, now);
        self.take_turn(key);
    }

    fn begin_receiving(
        &mut self,
        owner: Ticket,
        incoming: Box<Incoming<K>>,
        representation: Representation,
    ) {
        let now = self.house.now();
        let record = (self.house).record(owner, incoming.path(), Direction::Incoming);
        let (key, data) = self.data_of(owner);
        data.receive(incoming, record, representation, now);
        self.take_turn(key);
    }

    /// The data connection that stands for a session.
    fn data_of(&mut self, owner: Ticket) -> (usize, &mut Data<K>) {
        let channel = self.house.channels.get(owner);
        let key = channel.and_then(|channel| channel.data);
        let key = key.expect("bytes move only where a data connection stands");
        let data = self.connections[key].data();
        (key, data.expect("a channel's slot is a data connection"))
    }

    fn abort(&mut self, owner: Ticket) {
        let aborted = Err(Refusal::Aborted);
        let channel = self.house.channels.get(owner);
        if channel.is_some_and(|channel| channel.committing) {
            return; // too late: it is told what comes of that
        }
        let connecting = channel.is_some_and(|channel| channel.connecting);
        match self.house.pending(owner) {
            Some(Reply::Connected(result)) => *result = aborted,
            Some(_) => return, // too late, too
            None => {
                let reply = match connecting {
                    true => Reply::Connected(aborted),
                    false => Reply::Moved(aborted),
                };
                self.house.reply(owner, reply);
            }
        }
        self.release(owner);
    }

    /// A client that has closed its control connection amid an upload may have been killed: the end of its data is then not
    /// the end of the file.
    fn distrust(&mut self, owner: Ticket) {
        let data = (self.house.channels.get(owner)).and_then(|channel| channel.data);
        let data = data.and_then(|key| self.connections[key].data());
        if data.is_some_and(|data| data.is_receiving()) && self.house.pending(owner).is_none() {
            self.release(owner);
            let lost = Err(Refusal::DataConnectionLost);
            self.house.reply(owner, Reply::Moved(lost));
        }
    }

    /// Lets go of everything that a session has of a data connection.
    pub(crate) fn release(&mut self, owner: Ticket) {
        self.passive.pairs.leave(owner);
        let channel = self.house.channels.take(owner);
        if let Some(index) = channel.awaited {
            let (client, now) = (owner.peer.ip(), self.house.now());
            self.passive.pairs.give_back(index, client, now);
            self.close_unneeded(index);
        }
        if let Some(key) = channel.data {
            let data = self.connections[key].data().expect("a data connection");
            data.close(&mut self.house);
            self.remove_data(key);
        }
    }

    /// The slot of a data connection that is closed is removed behind the turn, when its session may be gone.
    fn remove_data(&mut self, key: usize) {
        self.unqueue(key);
        self.finished.push((key, None));
    }

    // What has become of it.

    pub(crate) fn after_data(&mut self, key: usize, progress: Progress<K>) {
        let data = self.connections[key].data().expect("a data connection");
        let (owner, moved, closed) = (data.owner(), data.moved(), data.is_closed());
        let channel = self.house.channels.of(owner);
        channel.moved = moved;
        if closed {
            channel.data = None;
            self.remove_data(key);
        }
        let reply = match progress {
            Progress::Waiting => return,
            Progress::Again => return self.park_or_enqueue(key),
            Progress::Connected(result) => {
                self.house.channels.of(owner).connecting = false;
                Reply::Connected(result)
            }
            Progress::Moved(result) => {
                self.house.channels.take(owner);
                Reply::Moved(result)
            }
            Progress::Received(incoming, record) => return self.commit(owner, incoming, record),
        };
        self.house.reply(owner, reply);
    }

    /// All of an upload has come, unless its client has left the control connection too, or wants it no more. What it has said
    /// of that may not have been read yet, whatever the control connection waits for.
    fn commit(&mut self, owner: Ticket, incoming: Box<Incoming<K>>, record: Option<Box<Record>>) {
        let control = self.connections[owner.key].control();
        let control = control.expect("no data connection outlives its session");
        if !control.finished {
            let outcome = control.look_for_end(owner.key, &mut self.house, &mut self.scratch);
            self.after_turn(owner.key, outcome);
        }
        if self.house.channels.is_aborting(owner) {
            return self.house.abandon(incoming); // the wish is answered next
        }
        let control = self.connections[owner.key].control();
        if control.is_some_and(|control| control.has_vanished()) {
            self.house.channels.take(owner);
            self.house.abandon(incoming);
            let lost = Err(Refusal::DataConnectionLost);
            return self.house.reply(owner, Reply::Moved(lost));
        }
        self.house.channels.of(owner).committing = true;
        self.house.commit(owner, incoming, record);
    }

    /// Asserts what must hold of data connections between two turns.
    pub(crate) fn check_data(&self) {
        let slots = self
            .connections
            .iter()
            .filter_map(|(key, slot)| match slot {
                Slot::Control(_) => None,
                Slot::Data(data) => Some((key, data)),
            });
        let mut count = 0;
        for (key, data) in slots {
            count += 1;
            let owner = data.owner();
            assert!(self.is_held(owner), "slot {key} has lost its session");
            let channel = self.house.channels.get(owner);
            let same = channel.and_then(|channel| channel.data) == Some(key);
            assert!(same, "slot {key} is not its session's data connection");
        }
        assert_eq!(count, self.data_connections, "data connections are counted");
        for (index, owner) in self.passive.pairs.taken() {
            let channel = self.house.channels.get(owner);
            let same = channel.and_then(|channel| channel.awaited) == Some(index);
            assert!(
                same && self.is_held(owner),
                "listener {index} awaits nobody's client"
            );
        }
        if self.connections.is_empty() {
            assert_eq!(
                self.house.channels.len(),
                0,
                "channels outlive their sessions"
            );
        }
    }

    /// Whether a session stands in its slot.
    fn is_held(&self, owner: Ticket) -> bool {
        match self.connections.get(owner.key) {
            Some(Slot::Control(connection)) => connection.serial() == owner.serial,
            _ => false,
        }
    }
}

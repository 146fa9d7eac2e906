//! The loop's part in data connections: sees to what sessions wish of them, and tells them what has become of it.

use std::net::SocketAddr;

use log::{debug, warn};

use crate::domain::error::ErrorCode;
use crate::kernel::Kernel;
use crate::limits::RUN_QUEUE_BUDGET;
use crate::protocol::step::{DataMode, Representation};
use crate::server::conn::data::{Data, Progress};
use crate::server::conn::transfer::Download;
use crate::server::event_loop::data_sessions::DataCommand;
use crate::server::event_loop::slot::Slot;
use crate::server::event_loop::{EventLoop, holder};
use crate::server::log::escape::Escaped;
use crate::server::log::transfer_log::{Direction, TransferRecord};
use crate::server::net::stream::Stream;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::Completion;
use crate::server::session_id::SessionId;
use crate::storage::StagedUpload;

impl<K: Kernel> EventLoop<K> {
    /// Sees to what sessions wish and tells them what they wait for, until nobody wishes or waits for more, or for as long as
    /// others may be kept waiting: who is told takes his next line, which may bring the next wish, without an end.
    pub(crate) fn settle(&mut self) {
        let mut until = None;
        while self.settle_one() {
            let now = self.kernel.now();
            if now >= *until.get_or_insert(now + RUN_QUEUE_BUDGET) {
                return;
            }
        }
    }

    /// The next wish, or else the next reply, if there is one.
    fn settle_one(&mut self) -> bool {
        if let Some((owner, wish)) = self.services.data_sessions.next_wish() {
            self.fulfil(owner, wish);
        } else if let Some((session_id, reply)) = self.services.next_completion() {
            self.deliver(session_id, reply);
        } else {
            return false;
        }
        true
    }

    fn deliver(&mut self, session_id: SessionId, reply: Completion<K>) {
        let Some(key) = holder(&self.connections, session_id) else {
            if let Completion::Response(_, OpenHandle::Upload(upload)) = reply {
                self.services.discard(upload);
            }
            return;
        };
        if matches!(reply, Completion::TransferDone(_)) {
            self.services.data_sessions.take(session_id);
        }
        match &mut self.connections[key] {
            Slot::Control(connection) => {
                let outcome = connection.reply(key, reply, &mut self.services, &mut self.scratch);
                self.after_turn(key, outcome);
            }
            Slot::Data(data) => {
                let Completion::Prefetched(result) = reply else {
                    unreachable!("a data connection asks for nothing else");
                };
                let progress = data.warmed_up(result, &mut self.services);
                self.after_data(key, progress);
            }
        }
    }

    fn fulfil(&mut self, owner: SessionId, wish: DataCommand<K>) {
        if !self.is_alive(owner) {
            match wish {
                DataCommand::Receive(upload, _) => self.services.discard(upload),
                DataCommand::Leave => self.release(owner),
                _ => {}
            }
            return;
        }
        match wish {
            DataCommand::Listen { local } => {
                self.release(owner);
                match self.await_client(owner, local) {
                    Some(index) => self.tell_listening(owner, index),
                    None => self.passive.pairs.wait(owner, local, self.services.now()),
                }
            }
            DataCommand::Connect {
                via: DataMode::Passive,
                ..
            } => self.connect_by_accepting(owner),
            DataCommand::Connect {
                via: DataMode::Active(to),
                local,
            } => self.dial(owner, local, to),
            DataCommand::Send(download, representation) => {
                self.begin_sending(owner, download, representation)
            }
            DataCommand::Receive(upload, representation) => {
                self.begin_receiving(owner, upload, representation);
            }
            DataCommand::Abort => self.abort(owner),
            DataCommand::Leave => self.release(owner),
            DataCommand::Distrust => self.distrust(owner),
        }
    }

    fn is_alive(&self, owner: SessionId) -> bool {
        holder(&self.connections, owner).is_some()
    }

    /// Puts a data connection into a slot of its own.
    pub(crate) fn add_data(
        &mut self,
        owner: SessionId,
        socket: K::Socket,
        dialled: bool,
    ) -> Option<usize> {
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let mut stream = Stream::new(socket, false);
        if let Err(error) = stream.register(&*self.kernel, key) {
            let (generation, why) = (owner.generation, error.to_string());
            warn!(
                "session={generation} event=register-failed why={}",
                Escaped(&why)
            );
            return None;
        }
        let generation = self.next_serial;
        self.next_serial += 1;
        let session_id = SessionId {
            key,
            generation,
            peer: owner.peer,
            user: owner.user,
        };
        let data = Data::new(stream, session_id, owner, dialled, self.services.now());
        entry.insert(Slot::Data(Box::new(data)));
        self.data_connections += 1;
        self.services.data_sessions.of(owner).data = Some(key);
        Some(key)
    }

    // What sessions wish.

    fn connect_by_accepting(&mut self, owner: SessionId) {
        let now = self.services.now();
        let channel = self.services.data_sessions.of(owner);
        match (channel.data, channel.awaited) {
            (Some(_), _) => self.services.complete(owner, Completion::Connected(Ok(()))),
            (None, Some(index)) => {
                channel.connecting = true;
                self.passive.pairs.extend(index, owner, now);
            }
            (None, None) => {
                self.release(owner);
                let refused = Err(ErrorCode::NoDataConnection);
                self.services
                    .complete(owner, Completion::Connected(refused));
            }
        }
    }

    fn dial(&mut self, owner: SessionId, from: SocketAddr, to: SocketAddr) {
        self.release(owner);
        let dialled = match self.kernel.connect(from, to) {
            Ok(socket) => self.add_data(owner, socket, true),
            Err(error) => {
                let (generation, why) = (owner.generation, error.to_string());
                debug!(
                    "session={generation} event=dial-failed to={to} why={}",
                    Escaped(&why)
                );
                None
            }
        };
        match dialled {
            Some(_) => self.services.data_sessions.of(owner).connecting = true,
            None => {
                let refused = Err(ErrorCode::NoDataConnection);
                self.services
                    .complete(owner, Completion::Connected(refused));
            }
        }
    }

    fn begin_sending(
        &mut self,
        owner: SessionId,
        download: Box<Download<K>>,
        representation: Representation,
    ) {
        let now = self.services.now();
        let (key, data) = self.data_of(owner);
        data.send(download, representation, now);
        self.take_turn(key);
    }

    fn begin_receiving(
        &mut self,
        owner: SessionId,
        upload: Box<StagedUpload<K>>,
        representation: Representation,
    ) {
        let now = self.services.now();
        let record = (self.services).begin_record(owner, upload.path(), Direction::Upload);
        let (key, data) = self.data_of(owner);
        data.receive(upload, record, representation, now);
        self.take_turn(key);
    }

    /// The data connection that stands for a session.
    fn data_of(&mut self, owner: SessionId) -> (usize, &mut Data<K>) {
        let channel = self.services.data_sessions.get(owner);
        let key = channel.and_then(|channel| channel.data);
        let key = key.expect("bytes move only where a data connection stands");
        let data = self.connections[key].data();
        (key, data.expect("a channel's slot is a data connection"))
    }

    fn abort(&mut self, owner: SessionId) {
        let aborted = Err(ErrorCode::Aborted);
        let channel = self.services.data_sessions.get(owner);
        if channel.is_some_and(|channel| channel.committing) {
            return; // too late: it is told what comes of that
        }
        let connecting = channel.is_some_and(|channel| channel.connecting);
        match self.services.undelivered(owner) {
            Some(Completion::Connected(result)) => *result = aborted,
            Some(_) => return, // too late, too
            None => {
                let reply = match connecting {
                    true => Completion::Connected(aborted),
                    false => Completion::TransferDone(aborted),
                };
                self.services.complete(owner, reply);
            }
        }
        self.release(owner);
    }

    /// A client that has closed its control connection amid an upload may have been killed: the end of its data is then not
    /// the end of the file.
    fn distrust(&mut self, owner: SessionId) {
        let data = (self.services.data_sessions.get(owner)).and_then(|channel| channel.data);
        let data = data.and_then(|key| self.connections[key].data());
        if data.is_some_and(|data| data.is_receiving())
            && self.services.undelivered(owner).is_none()
        {
            self.release(owner);
            let lost = Err(ErrorCode::DataConnectionLost);
            self.services
                .complete(owner, Completion::TransferDone(lost));
        }
    }

    /// Lets go of everything that a session has of a data connection.
    pub(crate) fn release(&mut self, owner: SessionId) {
        self.passive.pairs.leave(owner);
        let channel = self.services.data_sessions.take(owner);
        if let Some(index) = channel.awaited {
            let (client, now) = (owner.peer.ip(), self.services.now());
            self.passive.pairs.give_back(index, client, now);
            self.close_unneeded(index);
        }
        if let Some(key) = channel.data {
            let data = self.connections[key].data().expect("a data connection");
            data.close(&mut self.services);
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
        let channel = self.services.data_sessions.of(owner);
        channel.moved = moved;
        if closed {
            channel.data = None;
            self.remove_data(key);
        }
        let reply = match progress {
            Progress::Waiting => return,
            Progress::Again => return self.park_or_enqueue(key),
            Progress::Connected(result) => {
                self.services.data_sessions.of(owner).connecting = false;
                Completion::Connected(result)
            }
            Progress::TransferDone(result) => {
                self.services.data_sessions.take(owner);
                Completion::TransferDone(result)
            }
            Progress::Received(upload, record) => return self.commit(owner, upload, record),
        };
        self.services.complete(owner, reply);
    }

    /// All of an upload has come, unless its client has left the control connection too, or wants it no more. What it has said
    /// of that may not have been read yet, whatever the control connection waits for.
    fn commit(
        &mut self,
        owner: SessionId,
        upload: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
    ) {
        let control = self.connections[owner.key].control();
        let control = control.expect("no data connection outlives its session");
        if !control.finished {
            let outcome = control.look_for_end(owner.key, &mut self.services, &mut self.scratch);
            self.after_turn(owner.key, outcome);
        }
        if self.services.data_sessions.is_aborting(owner) {
            return self.services.discard(upload); // the wish is answered next
        }
        let control = self.connections[owner.key].control();
        if control.is_some_and(|control| control.has_vanished()) {
            self.services.data_sessions.take(owner);
            self.services.discard(upload);
            let lost = Err(ErrorCode::DataConnectionLost);
            return self
                .services
                .complete(owner, Completion::TransferDone(lost));
        }
        self.services.data_sessions.of(owner).committing = true;
        self.services.publish(owner, upload, record);
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
            let channel = self.services.data_sessions.get(owner);
            let same = channel.and_then(|channel| channel.data) == Some(key);
            assert!(same, "slot {key} is not its session's data connection");
        }
        assert_eq!(count, self.data_connections, "data connections are counted");
        for (index, owner) in self.passive.pairs.taken() {
            let channel = self.services.data_sessions.get(owner);
            let same = channel.and_then(|channel| channel.awaited) == Some(index);
            assert!(
                same && self.is_held(owner),
                "listener {index} awaits nobody's client"
            );
        }
        if self.connections.is_empty() {
            assert_eq!(
                self.services.data_sessions.len(),
                0,
                "data_sessions outlive their sessions"
            );
        }
    }

    /// Whether a session stands in its slot.
    fn is_held(&self, owner: SessionId) -> bool {
        match self.connections.get(owner.key) {
            Some(Slot::Control(connection)) => connection.generation() == owner.generation,
            _ => false,
        }
    }
}

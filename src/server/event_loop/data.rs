//! Executes the data commands of sessions and tracks the state of each session's data connection.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use log::{Level, debug, log, warn};

use crate::domain::error::ErrorCode;
use crate::kernel::Kernel;
use crate::limits::ACCEPTS_PER_TICK_MAX;
use crate::protocol::step::DataMode;
use crate::server::conn::data::DataConnection;
use crate::server::conn::data_command::DataCommand;
use crate::server::conn::data_upload::DataUpload;
use crate::server::event_loop::connections::Connections;
use crate::server::event_loop::data_sessions::{DataResult, DataSessions, DataState};
use crate::server::event_loop::passive::{
    OutOfDescriptors, PassiveAccept, PassivePorts, ReservedPort,
};
use crate::server::event_loop::slot::Occupant;
use crate::server::log::escape::Escaped;
use crate::server::log::transfer_log::Direction;
use crate::server::net::stream::Stream;
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::session_id::SessionId;

/// The data connections of all sessions, apart from their slots.
pub(super) struct DataConnections<K: Kernel> {
    pub(super) sessions: DataSessions,
    pub(super) passive: PassivePorts<K>,
}

impl<K: Kernel> DataConnections<K> {
    pub(super) fn new(options: &Options) -> DataConnections<K> {
        DataConnections {
            sessions: DataSessions::default(),
            passive: PassivePorts::new(options),
        }
    }

    /// Executes one command of a session. Its result is reported to `sessions`, at once or later.
    /// Returns the slot of a data connection that has a transfer now.
    pub(super) fn execute(
        &mut self,
        owner: SessionId,
        command: DataCommand<K>,
        connections: &mut Connections<K>,
        services: &mut Services<K>,
    ) -> Option<usize> {
        match command {
            DataCommand::Listen { local } => {
                if let DataState::Reserved { port } = self.sessions.state(owner) {
                    let renewed = self.passive.renew(port, owner, services.now());
                    self.report_listening(owner, renewed);
                    return None;
                }
                self.release(owner, connections, services);
                self.listen(owner, local, services);
                None
            }
            DataCommand::Connect {
                mode: DataMode::Passive,
                ..
            } => {
                self.accept_client(owner, services);
                None
            }
            DataCommand::Connect {
                mode: DataMode::Active(to),
                local,
            } => {
                self.release(owner, connections, services);
                self.dial(owner, local, to, connections, services);
                None
            }
            DataCommand::Send(download, representation) => {
                let (slot, data) = self.connection(owner, connections);
                data.send(download, representation, services.now());
                Some(slot)
            }
            DataCommand::Receive(staged, representation, allocation) => {
                let record =
                    services
                        .transfers()
                        .begin_record(owner, staged.path(), Direction::Upload);
                let (slot, data) = self.connection(owner, connections);
                let upload = DataUpload::new(staged, record, representation, allocation);
                data.receive(upload, services.now());
                Some(slot)
            }
            DataCommand::Abort => {
                self.abort(owner, connections, services);
                None
            }
        }
    }

    /// Returns the data connection of a session that is to transfer something.
    fn connection<'a>(
        &self,
        owner: SessionId,
        connections: &'a mut Connections<K>,
    ) -> (usize, &'a mut DataConnection<K>) {
        let DataState::Open { slot } = self.sessions.state(owner) else {
            panic!("a session transfers only over a data connection");
        };
        let data = connections.data(slot);
        (slot, data.expect("the slot holds the data connection"))
    }

    fn listen(&mut self, owner: SessionId, local: SocketAddr, services: &Services<K>) {
        let now = services.now();
        match self.passive.reserve(services.kernel(), owner, local, now) {
            Some(reserved) => self.report_listening(owner, reserved),
            None => self.passive.wait(owner, local, now),
        }
    }

    fn report_listening(&mut self, owner: SessionId, reserved: ReservedPort) {
        let ReservedPort { port, address } = reserved;
        debug!(
            "session={} event=listen address={address}",
            owner.generation
        );
        self.sessions.set_state(owner, DataState::Reserved { port });
        self.sessions
            .report(owner, DataResult::Listening(Ok(address)));
    }

    /// The session needs its data connection: waits for the client unless it has connected.
    fn accept_client(&mut self, owner: SessionId, services: &Services<K>) {
        match self.sessions.state(owner) {
            DataState::Open { .. } => self.sessions.report(owner, DataResult::Connected(Ok(()))),
            DataState::Reserved { port } => {
                let state = DataState::Accepting { port };
                self.sessions.set_state(owner, state);
                self.passive.extend(port, owner, services.now());
            }
            _ => self.report_no_connection(owner),
        }
    }

    fn dial(
        &mut self,
        owner: SessionId,
        from: SocketAddr,
        to: SocketAddr,
        connections: &mut Connections<K>,
        services: &Services<K>,
    ) {
        let slot = match services.kernel().connect(from, to) {
            Ok(socket) => self.insert(owner, socket, true, connections, services),
            Err(error) => {
                let (generation, why) = (owner.generation, error.to_string());
                let why = Escaped(&why);
                let level = dial_log_level(&error);
                log!(
                    level,
                    "session={generation} event=dial-failed to={to} why={why}"
                );
                None
            }
        };
        match slot {
            Some(slot) => self.sessions.set_state(owner, DataState::Dialing { slot }),
            None => self.report_no_connection(owner),
        }
    }

    fn report_no_connection(&mut self, owner: SessionId) {
        let result = DataResult::Connected(Err(ErrorCode::NoDataConnection));
        self.sessions.report(owner, result);
    }

    /// Puts a data connection into a slot of its own.
    fn insert(
        &mut self,
        owner: SessionId,
        socket: K::Socket,
        is_dialed: bool,
        connections: &mut Connections<K>,
        services: &Services<K>,
    ) -> Option<usize> {
        let generation = connections.next_generation();
        let stream = Stream::new(socket, false);
        let inserted = connections.insert(services.kernel(), stream, |stream, key| {
            let id = SessionId {
                key,
                generation,
                ..owner
            };
            let data = DataConnection::new(stream, id, owner, is_dialed, services.now());
            Occupant::Data(Box::new(data))
        });
        match inserted {
            Ok(slot) => Some(slot),
            Err(error) => {
                log_register_failed(owner.generation, &error);
                None
            }
        }
    }

    /// Accepts connections to the passive ports, a bounded number.
    pub(super) fn accept(&mut self, connections: &mut Connections<K>, services: &mut Services<K>) {
        let mut budget = ACCEPTS_PER_TICK_MAX;
        loop {
            match self.passive.accept_next(services.kernel(), &mut budget) {
                Ok(Some(accepted)) => self.admit(accepted, connections, services),
                Ok(None) => return,
                Err(OutOfDescriptors) => return services.close_unused_files(),
            }
        }
    }

    fn admit(
        &mut self,
        accepted: PassiveAccept<K>,
        connections: &mut Connections<K>,
        services: &Services<K>,
    ) {
        let PassiveAccept {
            socket,
            owner,
            freed,
        } = accepted;
        let is_awaited = matches!(self.sessions.take_state(owner), DataState::Accepting { .. });
        let slot = self.insert(owner, socket, false, connections, services);
        if let Some(slot) = slot {
            self.sessions.set_state(owner, DataState::Open { slot });
        }
        match slot {
            _ if !is_awaited => {}
            Some(_) => self.sessions.report(owner, DataResult::Connected(Ok(()))),
            None => self.report_no_connection(owner),
        }
        let now = services.now();
        let served = self
            .passive
            .serve_first_waiter(services.kernel(), freed, now);
        if let Some((owner, reserved)) = served {
            self.report_listening(owner, reserved);
        }
    }

    /// Ends overdue reservations and waits, then reserves the ports that are free now.
    pub(super) fn sweep(&mut self, services: &Services<K>) {
        let unmet = self.passive.sweep(services.now());
        for (_, owner) in unmet.reservations {
            if let DataState::Accepting { .. } = self.sessions.take_state(owner) {
                self.report_no_connection(owner);
            }
        }
        for owner in unmet.waiters {
            self.passive.log_no_port(owner);
            let result = DataResult::Listening(Err(ErrorCode::NoPassivePort));
            self.sessions.report(owner, result);
        }
        let served = self
            .passive
            .serve_waiters(services.kernel(), services.now());
        for (owner, reserved) in served {
            self.report_listening(owner, reserved);
        }
    }

    fn abort(
        &mut self,
        owner: SessionId,
        connections: &mut Connections<K>,
        services: &mut Services<K>,
    ) {
        let aborted = Err(ErrorCode::Aborted);
        let state = self.sessions.state(owner);
        match self.sessions.pending(owner) {
            // Too late: the upload is being published, or the transfer has ended.
            _ if state == DataState::Publishing => return,
            Some(DataResult::Connected(result)) => *result = aborted,
            Some(_) => return,
            None => {
                let result = match state {
                    DataState::Accepting { .. } | DataState::Dialing { .. } => {
                        DataResult::Connected(aborted)
                    }
                    _ => DataResult::TransferDone(aborted),
                };
                self.sessions.report(owner, result);
            }
        }
        self.release(owner, connections, services);
    }

    /// The client has left its control connection during an upload: it may have been killed, so the
    /// end of its data may not be the end of the file. It is awaited for a short time, for the log,
    /// or like any other if it will decide whether the upload is complete: if `trusts_close`, or if
    /// the client has announced the length.
    pub(super) fn client_left(
        &mut self,
        owner: SessionId,
        trusts_close: bool,
        connections: &mut Connections<K>,
        now: Instant,
    ) {
        if let DataState::Open { slot } = self.sessions.state(owner)
            && let Some(data) = connections.data(slot)
            && !trusts_close
            && !data.upload().is_some_and(DataUpload::is_decided_by_end)
        {
            data.abandon_upload(now);
        }
    }

    /// Releases the data connection and the port of a session. An undelivered result stays.
    pub(super) fn release(
        &mut self,
        owner: SessionId,
        connections: &mut Connections<K>,
        services: &mut Services<K>,
    ) {
        self.passive.cancel_wait(owner);
        match self.sessions.take_state(owner) {
            DataState::Nothing | DataState::Publishing => {}
            DataState::Reserved { port } | DataState::Accepting { port } => {
                let now = services.now();
                self.passive.release(port, owner.peer.ip(), now);
            }
            DataState::Dialing { slot } | DataState::Open { slot } => {
                if let Some(data) = connections.take_data(slot, services) {
                    data.close(services);
                }
            }
        }
    }

    /// Releases the data connection and the port of a session that has ended.
    pub(super) fn remove(
        &mut self,
        owner: SessionId,
        connections: &mut Connections<K>,
        services: &mut Services<K>,
    ) {
        self.release(owner, connections, services);
        self.sessions.remove(owner);
    }
}

/// Returns the level for a failure to dial: a client that does not listen is no concern of the
/// operator, a lack of ports or descriptors is.
fn dial_log_level(error: &io::Error) -> Level {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable | TimedOut => Level::Debug,
        _ => Level::Warn,
    }
}

/// Logs that a socket could not be registered with the poll.
pub(super) fn log_register_failed(generation: u64, error: &io::Error) {
    let why = error.to_string();
    let why = Escaped(&why);
    warn!("session={generation} event=register-failed why={why}");
}

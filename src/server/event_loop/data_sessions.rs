//! The state of each session's data connection. Most sessions have none.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use crate::domain::error::ErrorCode;
use crate::protocol::step::Input;
use crate::server::session_id::SessionId;

/// The state of a session's data connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DataState {
    #[default]
    Nothing,
    /// A passive port is reserved and was announced to the client.
    Reserved { port: usize },
    /// The session waits for its client to connect to that port.
    Accepting { port: usize },
    /// The session waits for its client to answer a connection that the server dialed.
    Dialing { slot: usize },
    /// Connected.
    Open { slot: usize },
    /// The upload was received and a worker publishes it.
    Publishing,
}

/// The result of a data command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataResult {
    Listening(Result<SocketAddr, ErrorCode>),
    Connected(Result<(), ErrorCode>),
    TransferDone(Result<(), ErrorCode>),
}

impl DataResult {
    /// Returns the session's input.
    pub(super) fn input(self) -> Input<'static> {
        match self {
            DataResult::Listening(result) => Input::Listening(result),
            DataResult::Connected(result) => Input::DataConnected(result),
            DataResult::TransferDone(result) => Input::TransferDone(result),
        }
    }
}

/// The sessions that have a data connection, a reserved port or an undelivered result, by
/// generation.
#[derive(Default)]
pub(super) struct DataSessions {
    sessions: HashMap<u64, DataSession>,
    /// Sessions with a result, in the order of the results. Those that ended are skipped.
    ready: VecDeque<SessionId>,
}

#[derive(Default)]
struct DataSession {
    state: DataState,
    /// Not delivered yet.
    result: Option<DataResult>,
}

impl DataSessions {
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn state(&self, owner: SessionId) -> DataState {
        let session = self.sessions.get(&owner.generation);
        session.map_or(DataState::Nothing, |session| session.state)
    }

    pub(super) fn set_state(&mut self, owner: SessionId, state: DataState) {
        self.sessions.entry(owner.generation).or_default().state = state;
    }

    /// Clears the state and returns it. An undelivered result stays.
    pub(super) fn take_state(&mut self, owner: SessionId) -> DataState {
        let Some(session) = self.sessions.get_mut(&owner.generation) else {
            return DataState::Nothing;
        };
        let state = std::mem::take(&mut session.state);
        if session.result.is_none() {
            self.sessions.remove(&owner.generation);
        }
        state
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&mut self, owner: SessionId) {
        self.sessions.remove(&owner.generation);
    }

    /// Queues a result for delivery.
    pub(super) fn report(&mut self, owner: SessionId, result: DataResult) {
        let session = self.sessions.entry(owner.generation).or_default();
        let earlier = session.result.replace(result);
        assert_eq!(earlier, None, "one result at a time");
        self.ready.push_back(owner);
    }

    /// Returns the undelivered result of a session.
    pub(super) fn pending(&mut self, owner: SessionId) -> Option<&mut DataResult> {
        self.sessions.get_mut(&owner.generation)?.result.as_mut()
    }

    /// Whether a session may have a result.
    pub(super) fn has_results(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the next result to deliver.
    pub(super) fn next_result(&mut self) -> Option<(SessionId, DataResult)> {
        while let Some(owner) = self.ready.pop_front() {
            let Some(session) = self.sessions.get_mut(&owner.generation) else {
                continue;
            };
            let result = session.result.take();
            if session.state == DataState::Nothing {
                self.sessions.remove(&owner.generation);
            }
            if let Some(result) = result {
                return Some((owner, result));
            }
        }
        None
    }
}

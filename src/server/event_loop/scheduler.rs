//! Runs time slices and acts on their outcomes.
//!
//! A slot is either blocked, waiting for a completion, or in the run queue, which gives every
//! connection with work the same budget per round.

use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{DRAIN_LINGER_INTERVAL, RATE_LIMIT_TICK, RUN_QUEUE_BUDGET};
use crate::protocol::step::Input;
use crate::server::conn::data::{DataConnection, DataOutcome};
use crate::server::conn::data_command::DataCommand;
use crate::server::conn::outcome::Outcome;
use crate::server::conn::time_slice::TimeSlice;
use crate::server::conn::work::DataStage;
use crate::server::event_loop::connections::Connections;
use crate::server::event_loop::data::DataConnections;
use crate::server::event_loop::data_sessions::{DataResult, DataState};
use crate::server::event_loop::slot::{Occupant, Schedule};
use crate::server::net::scratch::Scratch;
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::Completion;
use crate::server::session_id::SessionId;

/// The connections, the services and the buffers: everything that a time slice needs.
pub(super) struct Scheduler<K: Kernel> {
    pub(super) connections: Connections<K>,
    pub(super) data: DataConnections<K>,
    pub(super) services: Services<K>,
    scratch: Scratch<K>,
    /// When parked connections are looked at next; `None` while there are none.
    next_release: Option<Instant>,
    /// Publish uploads whose client has left before the reply.
    trusts_close: bool,
    /// When lingering connections are looked at next; `None` before a shutdown.
    next_linger_check: Option<Instant>,
}

impl<K: Kernel> Scheduler<K> {
    pub(super) fn new(services: Services<K>, options: &Options) -> Scheduler<K> {
        Scheduler {
            connections: Connections::new(),
            data: DataConnections::new(options),
            services,
            scratch: Scratch::new(),
            next_release: None,
            trusts_close: options.trust_close,
            next_linger_check: None,
        }
    }

    /// Whether the run queue is not empty.
    pub(super) fn has_queued(&self) -> bool {
        self.connections.has_queued()
    }

    /// Returns when the scheduler has work without an event, if it knows.
    pub(super) fn next_due(&self) -> Option<Instant> {
        if self.data.sessions.has_results() {
            return Some(self.services.now());
        }
        let times = [
            self.services.next_due(),
            self.next_release,
            self.next_linger_check,
        ];
        times.into_iter().flatten().min()
    }

    /// Sets the flags of a slot and puts it into the run queue. A session whose data connection has
    /// a transfer is queued like a transfer, so that the end of the data that preceded a line is
    /// seen before the line.
    pub(super) fn handle_event(&mut self, event: Readiness) {
        // Events of freed slots are ignored. A new occupant treats one as a hint.
        let Some(slot) = self.connections.get_mut(event.token) else {
            return;
        };
        match &mut slot.occupant {
            Occupant::Control(control) => control.set_ready(event),
            Occupant::Data(data) => data.set_ready(event),
            Occupant::Closed => return,
        }
        self.connections.enqueue(event.token);
    }

    /// Looks for the client's acknowledgement of a download before its next line: no event reports
    /// it.
    fn look_for_acknowledgement(&mut self, owner: SessionId) {
        if let DataState::Open { slot } = self.data.sessions.state(owner)
            && let Some(data) = self.connections.data(slot)
            && data.is_lingering()
        {
            self.run(slot);
        }
    }

    /// Runs one time slice, unless the slot is closed or queued for one anyway.
    fn run(&mut self, key: usize) {
        if let Some(control) = self.connections.control(key)
            && control.reads_lines_during_transfer()
        {
            let owner = control.session_id(key);
            self.look_for_acknowledgement(owner);
        }
        let Some(slot) = self.connections.get_mut(key) else {
            return;
        };
        if slot.schedule != Schedule::Waiting {
            return;
        }
        match &mut slot.occupant {
            Occupant::Control(control) => {
                let slice = TimeSlice::begin(control, key, &mut self.services, &mut self.scratch);
                let outcome = slice.run();
                self.handle_outcome(key, outcome);
            }
            Occupant::Data(data) => {
                let outcome = data.run_slice(&mut self.services, &mut self.scratch);
                self.handle_data_outcome(key, outcome);
            }
            Occupant::Closed => {}
        }
    }

    /// Begins a time slice of an open control connection, for something other than an event.
    pub(super) fn slice(&mut self, key: usize) -> Option<TimeSlice<'_, K>> {
        let control = self.connections.control(key)?;
        let (services, scratch) = (&mut self.services, &mut self.scratch);
        Some(TimeSlice::begin(control, key, services, scratch))
    }

    /// Acts on the outcome of a control connection's time slice.
    pub(super) fn handle_outcome(&mut self, key: usize, outcome: Outcome<K>) {
        match outcome {
            Outcome::Idle => {}
            Outcome::Again => self.park_or_enqueue(key),
            Outcome::Data(command) => self.execute(key, command),
            Outcome::Close(reason) => {
                let services = &mut self.services;
                return self.connections.close_control(key, reason, services);
            }
        }
        if !self.data.sessions.is_empty() {
            self.end_data_of_closing(key);
        }
    }

    fn park_or_enqueue(&mut self, key: usize) {
        if self.connections.park_or_enqueue(key, &mut self.services) {
            let next = self.services.now() + RATE_LIMIT_TICK;
            self.next_release.get_or_insert(next);
        }
    }

    /// Executes a data command. Later lines are handled from the run queue.
    fn execute(&mut self, key: usize, command: DataCommand<K>) {
        let Some(control) = self.connections.control(key) else {
            return;
        };
        let owner = control.session_id(key);
        let reads_on = control.reads_lines_during_transfer();
        let (connections, services) = (&mut self.connections, &mut self.services);
        let started = self.data.execute(owner, command, connections, services);
        if let Some(slot) = started {
            self.run(slot);
        }
        if reads_on {
            self.connections.enqueue(key);
        }
    }

    /// A data connection does not outlive the dialogue, and does not trust a client that has left
    /// in the middle of an upload.
    fn end_data_of_closing(&mut self, key: usize) {
        let Some(control) = self.connections.control(key) else {
            return;
        };
        let (is_closing, has_left) = (control.is_closing(), control.has_left());
        let owner = control.session_id(key);
        let (connections, services) = (&mut self.connections, &mut self.services);
        if is_closing {
            self.data.release(owner, connections, services);
        } else if has_left && !connections.is_queued(key) {
            let (trusts_close, now) = (self.trusts_close, services.now());
            self.data.client_left(owner, trusts_close, connections, now);
        }
    }

    /// Acts on the outcome of a data connection's time slice.
    pub(super) fn handle_data_outcome(&mut self, key: usize, outcome: DataOutcome) {
        let Some(data) = self.connections.data(key) else {
            return;
        };
        let (owner, transferred) = (data.owner(), data.transferred());
        let upload = data.upload();
        let has_ended = upload.is_some_and(|upload| upload.has_ended)
            || matches!(outcome, DataOutcome::Done(_) | DataOutcome::Received);
        let stage = match has_ended {
            true => DataStage::Ended,
            false => DataStage::Moving,
        };
        if let Some(control) = self.connections.control(owner.key) {
            control.set_data_progress(transferred, stage);
        }
        let sessions = &mut self.data.sessions;
        match outcome {
            DataOutcome::Idle => {}
            DataOutcome::Again => self.park_or_enqueue(key),
            DataOutcome::Connected => {
                sessions.set_state(owner, DataState::Open { slot: key });
                sessions.report(owner, DataResult::Connected(Ok(())));
            }
            DataOutcome::ConnectFailed => {
                sessions.take_state(owner);
                let failed = Err(ErrorCode::NoDataConnection);
                sessions.report(owner, DataResult::Connected(failed));
                self.close_data(key);
            }
            DataOutcome::Done(result) => {
                sessions.take_state(owner);
                sessions.report(owner, DataResult::TransferDone(result));
                self.close_data(key);
            }
            DataOutcome::Unconfirmed => self.discard_unconfirmed(key, owner),
            DataOutcome::Received => {
                sessions.take_state(owner);
                let data = self.connections.take_data(key, &mut self.services);
                if let Some(data) = data {
                    self.publish(owner, *data);
                }
            }
        }
    }

    fn close_data(&mut self, key: usize) {
        if let Some(data) = self.connections.take_data(key, &mut self.services) {
            data.close(&mut self.services);
        }
    }

    /// Publishes a received upload, unless its client has left or aborted it. QUIT, ABOR or the end
    /// may still be unread, so the control connection is read first.
    fn publish(&mut self, owner: SessionId, data: DataConnection<K>) {
        let transferred = data.transferred();
        let Some(upload) = data.into_upload() else {
            return;
        };
        let mut is_aborted = false;
        if let Some(slice) = self.slice(owner.key) {
            let outcome = slice.run_to_end();
            is_aborted = matches!(outcome, Outcome::Data(DataCommand::Abort));
            self.handle_outcome(owner.key, outcome);
        }
        let is_trusted = self.trusts_close || upload.is_confirmed();
        let control = self.connections.control(owner.key);
        let has_left = control.is_none_or(|control| control.has_left());
        if has_left && !is_trusted && !is_aborted {
            upload.log_unconfirmed(owner);
        }
        let Some((staged, record)) = upload.into_parts() else {
            return;
        };
        if is_aborted {
            return self.services.transfers().discard(staged);
        }
        if has_left && !is_trusted {
            self.services.transfers().discard(staged);
            return self.report_lost(owner);
        }
        if let Some(control) = self.connections.control(owner.key) {
            control.set_data_progress(transferred, DataStage::Publishing);
        }
        let sessions = &mut self.data.sessions;
        sessions.set_state(owner, DataState::Publishing);
        self.services.transfers().publish(owner, staged, record);
    }

    /// The client has left during an upload, whose data does not end soon.
    fn discard_unconfirmed(&mut self, key: usize, owner: SessionId) {
        if let Some(upload) = self.connections.data(key).and_then(|data| data.upload()) {
            upload.log_unconfirmed(owner);
        }
        self.data.sessions.take_state(owner);
        self.close_data(key);
        self.report_lost(owner);
    }

    fn report_lost(&mut self, owner: SessionId) {
        let lost = Err(ErrorCode::DataConnectionLost);
        let lost = DataResult::TransferDone(lost);
        self.data.sessions.report(owner, lost);
    }

    /// Accepts connections to the passive ports.
    pub(super) fn accept_data(&mut self) {
        self.data.accept(&mut self.connections, &mut self.services);
    }

    /// Checks the deadlines of port reservations.
    pub(super) fn sweep_data(&mut self) {
        self.data.sweep(&self.services);
    }

    /// Collects the results of the workers since the last tick.
    pub(super) fn collect_completions(&mut self) {
        let connections = &self.connections;
        self.services.collect(|id| connections.awaits(id));
    }

    /// Gives sessions their new access after a reload.
    pub(super) fn apply_reload(&mut self) {
        let Some(revoked) = self.services.take_revoked() else {
            return;
        };
        for (_, control) in self.connections.controls() {
            if let Some(access) = control.access().cloned() {
                control.set_access(self.services.access_after_reload(&access, &revoked));
            }
        }
    }

    /// Delivers completions and the results of data commands, alternately and in order of arrival.
    /// Bounded by [`RUN_QUEUE_BUDGET`], because each delivery can produce the next result.
    pub(super) fn deliver_completions(&mut self) {
        let mut until = None;
        while self.data.sessions.has_results() || self.services.has_completions() {
            self.deliver_data_result();
            self.deliver_completion();
            let now = self.services.kernel().now();
            if now >= *until.get_or_insert(now + RUN_QUEUE_BUDGET) {
                return;
            }
        }
    }

    fn deliver_data_result(&mut self) {
        let Some((owner, result)) = self.data.sessions.next_result() else {
            return;
        };
        if self.connections.awaits(owner)
            && let Some(slice) = self.slice(owner.key)
        {
            let outcome = slice.deliver_data_result(result.input());
            self.handle_outcome(owner.key, outcome);
        }
    }

    fn deliver_completion(&mut self) {
        let Some((id, completion)) = self.services.next_completion() else {
            return;
        };
        if !self.connections.awaits(id) {
            if let Completion::Response(_, OpenHandle::Upload(staged))
            | Completion::Written(Ok(staged)) = completion
            {
                self.services.transfers().discard(staged);
            }
            return;
        }
        if let Completion::TransferDone(_) = completion {
            // An upload over a data connection was published.
            self.data.sessions.take_state(id);
        }
        match self.connections.data(id.key) {
            Some(data) => {
                let outcome = match completion {
                    Completion::Fetched(result) => data.end_fetch(result, &self.services),
                    Completion::Written(result) => data.end_write(result, &mut self.services),
                    _ => DataOutcome::Idle,
                };
                self.handle_data_outcome(id.key, outcome);
            }
            None => {
                if let Some(slice) = self.slice(id.key) {
                    let outcome = slice.deliver(completion);
                    self.handle_outcome(id.key, outcome);
                }
            }
        }
    }

    /// Begins a graceful shutdown: every session that waits for a line ends in its next time slice.
    pub(super) fn drain(&mut self) {
        self.services.drain();
        self.next_linger_check = Some(self.services.now() + DRAIN_LINGER_INTERVAL);
        for key in self.connections.keys() {
            self.connections.enqueue(key);
        }
    }

    /// During a shutdown, lets lingering connections look whether their clients have acknowledged
    /// everything.
    pub(super) fn check_lingering(&mut self) {
        let now = self.services.now();
        if self.next_linger_check.is_none_or(|next| next > now) {
            return;
        }
        self.next_linger_check = Some(now + DRAIN_LINGER_INTERVAL);
        for key in self.connections.keys() {
            let control = self.connections.control(key);
            if control.is_some_and(|control| control.is_lingering()) {
                self.connections.enqueue(key);
            }
        }
    }

    /// Runs the connections whose rate limit has tokens again, for a bounded time.
    pub(super) fn run_released(&mut self) {
        let now = self.services.now();
        if self.next_release.is_none_or(|next| next > now) {
            return;
        }
        self.next_release = None;
        let until = now + RUN_QUEUE_BUDGET;
        while let Some(key) = self.services.rates_mut().unpark() {
            self.connections.begin_slice(key);
            self.run(key);
            if self.services.kernel().now() >= until {
                self.next_release = Some(now);
                break;
            }
        }
        self.services.rates_mut().end_unparking();
        if self.services.rates_mut().parked().next().is_some() {
            self.next_release.get_or_insert(now + RATE_LIMIT_TICK);
        }
    }

    /// Runs the run queue, for a bounded time: then the sockets are polled again, so that a small
    /// request does not wait until every queued connection has used its budget. Lines and transfers
    /// get half of the time each.
    pub(super) fn run_queued(&mut self) {
        self.run_while(Connections::next_line);
        self.run_while(Connections::next_transfer);
    }

    fn run_while(&mut self, next: fn(&mut Connections<K>) -> Option<usize>) {
        let mut until = None;
        while let Some(key) = next(&mut self.connections) {
            self.connections.begin_slice(key);
            self.run(key);
            let now = self.services.kernel().now();
            if now >= *until.get_or_insert(now + RUN_QUEUE_BUDGET) {
                break;
            }
        }
    }

    /// Gives a session an input of the server's own.
    pub(super) fn notify(&mut self, key: usize, input: Input<'static>) {
        if let Some(slice) = self.slice(key) {
            let outcome = slice.notify(input);
            self.handle_outcome(key, outcome);
        }
    }

    /// Lets a data connection check its deadlines.
    pub(super) fn check_data(&mut self, key: usize, options: &Options) {
        if let Some(data) = self.connections.data(key) {
            let (services, scratch) = (&mut self.services, &mut self.scratch);
            let outcome = data.check_deadlines(options, services, scratch);
            self.handle_data_outcome(key, outcome);
        }
    }
}

//! Steps the session and performs the actions that it asks for, within one time slice.

use std::path::Path;
use std::sync::Arc;

use crate::domain::access::Access;
use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::SEND_QUEUE_HIGH_WATER_BYTES;
use crate::protocol::step::{Action, DataMode, Input, LineAhead, Representation};
use crate::server::conn::control::ControlConnection;
use crate::server::conn::data_command::DataCommand;
use crate::server::conn::transfer::{Download, Source, Upload};
use crate::server::conn::upload_writer::UploadWriter;
use crate::server::conn::work::{DataStage, Work};
use crate::server::log::transfer_log::{Direction, TransferRecord};
use crate::server::net::send_queue::SendQueue;
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::{Completion, Handled};
use crate::server::session_id::SessionId;
use crate::storage::{OpenFile, StagedUpload};

/// A control connection with the parts of the server that its session's actions use.
pub(super) struct Dialogue<'a, K: Kernel> {
    pub(super) connection: &'a mut ControlConnection<K>,
    pub(super) session_id: SessionId,
    pub(super) services: &'a mut Services<K>,
    pub(super) send_queue: &'a mut SendQueue<K>,
    /// Bytes that may still be moved in this time slice.
    pub(super) budget: usize,
    /// The command that ends the time slice.
    pub(super) command: Option<DataCommand<K>>,
    /// The session has put off the line at hand.
    pub(super) holds_line: bool,
}

impl<K: Kernel> Dialogue<'_, K> {
    /// Gives the session one input and performs its actions until it waits for something.
    pub(super) fn step(&mut self, input: Input<'_>) {
        let mut opened_now = matches!(input, Input::Response(_));
        let mut action = self.step_session(input);
        while let Some(next) = self.perform(action, opened_now) {
            opened_now = matches!(next, Input::Response(_));
            action = self.step_session(next);
        }
        self.leave();
    }

    /// Ends the session of a user who has logged out, so that it no longer counts. A transfer that
    /// goes on meanwhile still belongs to the user.
    fn leave(&mut self) {
        if !self.connection.session.has_user()
            && !self.connection.reads_lines_during_transfer()
            && let Some(user) = self.connection.user.take()
        {
            self.session_id.user = None;
            self.services.end_session(user);
        }
    }

    /// Gives the session a line. Returns false if it is to be handed in again after the transfer.
    pub(super) fn hand_in(&mut self, line: Input<'_>) -> bool {
        let session = &self.connection.session;
        let is_abort = |line| session.line_ahead(line) == Some(LineAhead::Abort);
        if self.connection.work.has_data_ended() && !matches!(line, Input::Line(l) if is_abort(l)) {
            return false;
        }
        self.holds_line = false;
        self.step(line);
        !self.holds_line
    }

    /// Deducts a cost from the budget of the time slice.
    pub(super) fn spend(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }

    fn step_session(&mut self, input: Input<'_>) -> Action {
        let out = self.send_queue.bytes();
        self.connection.session.step(input, out)
    }

    /// Performs one action and returns its result if that is known at once. `opened_now`: the
    /// session's handle was opened by the input before.
    fn perform(&mut self, action: Action, opened_now: bool) -> Option<Input<'static>> {
        match action {
            Action::ReadLine => {
                self.read_lines(opened_now);
                None
            }
            Action::HoldLine => {
                self.holds_line = true;
                None
            }
            Action::Request(request) => {
                let is_cancellable = request.can_be_cancelled();
                match self.services.handle(self.session_id, request) {
                    Handled::Now(completion) => self.input_of(completion),
                    Handled::Later => {
                        self.connection.work = Work::Request { is_cancellable };
                        None
                    }
                }
            }
            Action::Send { offset, length } => {
                let is_sent = self.send(offset, length, opened_now);
                is_sent.then_some(Input::TransferDone(Ok(())))
            }
            Action::SendData {
                representation,
                offset,
                length,
            } => {
                self.send_data(representation, offset, length);
                None
            }
            Action::Receive { length } => {
                let staged = self.take_upload();
                self.receive(Some(staged), length);
                None
            }
            Action::ReceiveData {
                representation,
                allocation,
            } => {
                let staged = self.take_upload();
                let command = DataCommand::Receive(staged, representation, allocation);
                self.start_transfer(command);
                None
            }
            Action::Discard { length } => {
                self.receive(None, length);
                None
            }
            Action::QueryProgress => {
                let bytes = self.connection.work.data_transferred();
                Some(Input::Progress(bytes))
            }
            Action::Listen => self.listen(),
            Action::Connect(mode) => self.connect(mode),
            Action::Abort => {
                self.await_data_command(DataCommand::Abort);
                None
            }
            Action::Close(reason) => {
                self.close(reason);
                None
            }
        }
    }

    fn read_lines(&mut self, opened_now: bool) {
        if self.connection.reads_lines_during_transfer() {
            return;
        }
        // A handle is dropped if the next line does not use it.
        if !opened_now && let OpenHandle::Upload(staged) = self.connection.take_handle() {
            self.services.transfers().discard(staged);
        }
        self.connection.work = Work::Lines;
    }

    fn listen(&mut self) -> Option<Input<'static>> {
        // The local address is unavailable once the client has disconnected.
        match self.connection.stream.local_address(self.services.kernel()) {
            Ok(local) => {
                self.await_data_command(DataCommand::Listen { local });
                None
            }
            Err(_) => Some(Input::Listening(Err(ErrorCode::NoPassivePort))),
        }
    }

    fn connect(&mut self, mode: DataMode) -> Option<Input<'static>> {
        match self.connection.stream.local_address(self.services.kernel()) {
            Ok(local) => {
                self.start_transfer(DataCommand::Connect { mode, local });
                None
            }
            Err(_) => Some(Input::DataConnected(Err(ErrorCode::NoDataConnection))),
        }
    }

    /// Ends the time slice with a command during which lines are read.
    fn start_transfer(&mut self, command: DataCommand<K>) {
        self.command = Some(command);
        self.connection.work = Work::LinesDuringTransfer {
            transferred: 0,
            stage: DataStage::Moving,
        };
    }

    /// Ends the time slice with a command whose result comes before the next line.
    fn await_data_command(&mut self, command: DataCommand<K>) {
        self.command = Some(command);
        self.connection.work = Work::DataCommand;
    }

    fn close(&mut self, reason: CloseReason) {
        self.connection.begin_close(reason, self.services.now());
    }

    /// Translates a completion into an input for the session and keeps the handle that it opened.
    /// A part of a transfer does not concern the session, which gets no input.
    pub(super) fn input_of(&mut self, completion: Completion<K>) -> Option<Input<'static>> {
        match completion {
            Completion::Response(Response::Authenticated(Some(access)), _) => {
                Some(Input::Response(self.enter(access)))
            }
            Completion::Response(response, handle) => {
                self.connection.handle = handle;
                Some(Input::Response(response))
            }
            Completion::TransferDone(result) => {
                self.connection.work = Work::Lines;
                Some(Input::TransferDone(result))
            }
            Completion::Fetched(_) | Completion::Written(_) => None,
        }
    }

    /// Counts the session as its user's, unless the user has too many.
    fn enter(&mut self, access: Arc<Access>) -> Response {
        if let Some(earlier) = self.connection.user.take() {
            self.services.end_session(earlier);
        }
        match self.services.begin_session(self.session_id, &access.user) {
            Ok(user) => {
                self.connection.user = Some(user);
                self.session_id.user = Some(user);
                self.budget = self.budget.min(self.services.rates_mut().allowance(user));
                Response::Authenticated(Some(access))
            }
            Err(refusal) => Response::Refused(refusal),
        }
    }

    fn take_source(&mut self) -> Source<K> {
        Source::of(self.connection.take_handle()).expect("a session sends only what it opened")
    }

    fn take_upload(&mut self) -> Box<StagedUpload<K>> {
        let OpenHandle::Upload(staged) = self.connection.take_handle() else {
            panic!("a session receives only what it created");
        };
        staged
    }

    /// Sends a range of the open file or listing. Returns true if all of it is in the send queue.
    fn send(&mut self, offset: u64, length: u64, opened_now: bool) -> bool {
        let source = self.take_source();
        let mut record = self.record_of(&source);
        let source = match source {
            Source::File(file) if self.is_sent_mapped(&file, offset, length, opened_now) => {
                if let Some(record) = &mut record {
                    record.add_bytes(length as usize);
                    record.complete();
                }
                let (offset, length) = (offset as usize, length as usize);
                self.send_queue.push_mapped(file, offset, length);
                return true;
            }
            Source::Text(listing) if length <= SEND_QUEUE_HIGH_WATER_BYTES as u64 => {
                let text = &listing.text[offset as usize..(offset + length) as usize];
                self.send_queue.bytes().extend_from_slice(text);
                return true;
            }
            source => source,
        };
        if length == 0 {
            if let Some(record) = &mut record {
                record.complete();
            }
            return true;
        }
        let download = Download::new(source, offset, length, record);
        self.connection.work = Work::Sending(Box::new(download));
        false
    }

    /// Whether a range is sent out of the file's map. A file that was opened in this time slice was
    /// also seen whole in it.
    fn is_sent_mapped(
        &self,
        file: &OpenFile<K>,
        offset: u64,
        length: u64,
        opened_now: bool,
    ) -> bool {
        let kernel = self.services.kernel();
        let is_whole = || {
            let status = kernel.status(file.file());
            status.is_ok_and(|status| status.size >= offset + length)
        };
        let is_mapped = || file.map(kernel).is_some() && (opened_now || is_whole());
        let is_sent_mapped = length > 0 && file.is_inline() && is_mapped();
        (file.device()).record(kernel.take_call_stats(), self.services.now());
        is_sent_mapped
    }

    fn send_data(&mut self, representation: Representation, offset: u64, length: u64) {
        let source = self.take_source();
        let record = self.record_of(&source);
        let download = Box::new(Download::new(source, offset, length, record));
        self.start_transfer(DataCommand::Send(download, representation));
    }

    fn receive(&mut self, staged: Option<Box<StagedUpload<K>>>, length: u64) {
        let record = match &staged {
            Some(staged) => self.record(staged.path(), Direction::Upload),
            None => None,
        };
        self.connection.work = Work::Receiving(Box::new(Upload {
            writer: staged.map(UploadWriter::new),
            record,
            left: length,
        }));
    }

    /// Returns the transfer log's record of a download that begins, if such transfers are logged.
    fn record_of(&self, source: &Source<K>) -> Option<Box<TransferRecord>> {
        match source {
            Source::File(file) => self.record(file.path(), Direction::Download),
            Source::Text(_) => None,
        }
    }

    fn record(&self, path: &Path, direction: Direction) -> Option<Box<TransferRecord>> {
        self.services
            .transfers()
            .begin_record(self.session_id, path, direction)
    }
}

//! One step of the session in a turn of its connection, and what comes of the action that it wishes.
//!
//! Must not know: how bytes get onto the socket and from it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::SEND_QUEUE_HIGH_WATER_BYTES;
use crate::protocol::step::{Action, Input};
use crate::server::conn::control::Work;
use crate::server::conn::control::drive::TimeSlice;
use crate::server::conn::transfer::{Download, Receiving, Source};
use crate::server::event_loop::data_sessions::DataCommand;
use crate::server::log::transfer_log::{Direction, TransferRecord};
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::{Completion, Handled};
use crate::storage::StagedUpload;

impl<K: Kernel> TimeSlice<'_, K> {
    /// One step of the session, and those that follow from what it wishes.
    pub(crate) fn step(&mut self, mut input: Input<'_>) {
        loop {
            let answered = matches!(input, Input::Response(_));
            let action = self
                .connection
                .session
                .step(input, self.scratch.send_queue.bytes());
            input = match action {
                Action::ReadLine => {
                    // What was opened waits for the next line only where this step opened it, or for its data connection.
                    if !answered && !self.connection.engaged {
                        self.drop_held();
                    }
                    self.connection.work = Work::Lines;
                    return;
                }
                Action::Request(request) => match self.services.handle(self.session_id, request) {
                    Handled::Now(completion) => self.unpack(completion),
                    Handled::Later => {
                        self.connection.work = Work::Response;
                        return;
                    }
                },
                Action::Send { offset, length } => {
                    // What was opened in this very step was also seen whole in this turn.
                    match self.begin_sending(offset, length, answered) {
                        true => Input::TransferDone(Ok(())),
                        false => return,
                    }
                }
                Action::SendData {
                    representation,
                    offset,
                    length,
                } => {
                    let source = match self.connection.take_held() {
                        OpenHandle::File(file) => Source::File(file),
                        OpenHandle::Listing(listing) => Source::Text(listing),
                        OpenHandle::Nothing | OpenHandle::Upload(_) => {
                            unreachable!("only what was opened is sent")
                        }
                    };
                    let mut download = Box::new(Download::new(source, offset, length));
                    if let Source::File(file) = &download.source {
                        download.record = self.record(file.path(), Direction::Download);
                    }
                    return self.engage(DataCommand::Send(download, representation));
                }
                Action::Receive { length } => {
                    let upload = self.take_created();
                    return self.begin_receiving(Some(upload), length);
                }
                Action::ReceiveData { representation } => {
                    let upload = self.take_created();
                    return self.engage(DataCommand::Receive(upload, representation));
                }
                Action::Discard { length } => return self.begin_receiving(None, length),
                Action::Listen => {
                    let Some(local) = self.local_address() else {
                        input = Input::Listening(Err(ErrorCode::NoPassivePort));
                        continue;
                    };
                    return self.ask_engine(DataCommand::Listen { local });
                }
                Action::Connect(via) => {
                    let Some(local) = self.local_address() else {
                        input = Input::DataConnected(Err(ErrorCode::NoDataConnection));
                        continue;
                    };
                    return self.engage(DataCommand::Connect { via, local });
                }
                Action::Abort => return self.ask_engine(DataCommand::Abort),
                Action::Close(reason) => {
                    if self.services.data_sessions.get(self.session_id).is_some() {
                        self.services
                            .data_sessions
                            .wish(self.session_id, DataCommand::Leave);
                    }
                    self.connection.engaged = false;
                    self.connection.leave(reason, self.services.now());
                    return;
                }
            };
        }
    }

    /// The event_loop is to do this beside the lines that may come.
    fn engage(&mut self, wish: DataCommand<K>) {
        self.services.data_sessions.wish(self.session_id, wish);
        self.connection.engaged = true;
        self.connection.work = Work::Lines;
    }

    /// The event_loop is to do this before the next line.
    fn ask_engine(&mut self, wish: DataCommand<K>) {
        self.services.data_sessions.wish(self.session_id, wish);
        self.connection.work = Work::Response;
    }

    /// The server's end of the connection; a client that has left may have taken it along.
    fn local_address(&self) -> Option<SocketAddr> {
        let kernel = self.services.kernel();
        self.connection.stream.local_address(kernel).ok()
    }

    /// What was opened and is not wanted is let go of.
    fn drop_held(&mut self) {
        if let OpenHandle::Upload(upload) = self.connection.take_held() {
            self.services.discard(upload);
        }
    }

    /// What a reply means to the session; what it opened is held.
    pub(crate) fn unpack(&mut self, reply: Completion<K>) -> Input<'static> {
        match reply {
            Completion::Response(Response::Authenticated(Some(access)), _) => {
                Input::Response(self.enter(access))
            }
            Completion::Response(answer, held) => {
                self.connection.held = held;
                Input::Response(answer)
            }
            Completion::TransferDone(result) => {
                self.connection.engaged = false;
                Input::TransferDone(result)
            }
            Completion::Listening(result) => Input::Listening(result),
            Completion::Connected(result) => {
                self.connection.engaged = false;
                Input::DataConnected(result)
            }
            Completion::Prefetched(_) => unreachable!("the session does not know of disks"),
        }
    }

    /// Lets the session in, unless its user has too many.
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

    /// Sends what is held; true where all of it stands in the send_queue already.
    fn begin_sending(&mut self, from: u64, length: u64, seen_whole: bool) -> bool {
        let end = from + length;
        let mut record = None;
        let source = match self.connection.take_held() {
            OpenHandle::File(file) => {
                record = self.record(file.path(), Direction::Download);
                let kernel = self.services.kernel();
                if length > 0 && file.map(kernel).is_some() {
                    let whole =
                        seen_whole || kernel.status(file.file()).is_ok_and(|now| now.size >= end);
                    if whole {
                        if let Some(record) = &mut record {
                            record.add_bytes(length as usize);
                            record.complete();
                        }
                        self.scratch
                            .send_queue
                            .push_mapped(file, from as usize, length as usize);
                        return true;
                    }
                }
                Source::File(file)
            }
            OpenHandle::Listing(listing) => {
                if length <= SEND_QUEUE_HIGH_WATER_BYTES as u64 {
                    let text = &listing.text[from as usize..end as usize];
                    self.scratch.send_queue.bytes().extend_from_slice(text);
                    return true;
                }
                Source::Text(listing)
            }
            OpenHandle::Nothing | OpenHandle::Upload(_) => {
                unreachable!("only what was opened is sent")
            }
        };
        if length > 0 {
            let mut download = Download::new(source, from, length);
            download.record = record;
            self.connection.work = Work::Sending(Box::new(download));
        } else if let Some(record) = &mut record {
            record.complete();
        }
        length == 0
    }

    /// A record of a transfer that begins, where they are logged.
    fn record(&self, path: &Path, direction: Direction) -> Option<Box<TransferRecord>> {
        self.services.begin_record(self.session_id, path, direction)
    }

    /// The upload that the last response created.
    fn take_created(&mut self) -> Box<StagedUpload<K>> {
        match self.connection.take_held() {
            OpenHandle::Upload(upload) => upload,
            _ => unreachable!("only a created upload is received"),
        }
    }

    fn begin_receiving(&mut self, upload: Option<Box<StagedUpload<K>>>, length: u64) {
        let record = match &upload {
            Some(upload) => self.record(upload.path(), Direction::Upload),
            None => None,
        };
        self.connection.work = Work::Receiving(Box::new(Receiving {
            upload,
            record,
            left: length,
            failed: None,
        }));
    }
}

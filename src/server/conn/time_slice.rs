//! The time slice of a control connection: lines, then output, then the transfer, else a read.
//!
//! A slice runs until the socket blocks, the budget is spent, the session waits for a completion,
//! or the connection ends. The responses to all lines at hand are gathered into one write.
//!
//! Backpressure: nothing is read while a request is pending or output is stuck. The client's
//! further input stays in the kernel's buffers, so the memory of a session is bounded.

use std::io;

use crate::domain::error::{CloseReason, ErrorCode};
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::{
    COMMAND_COST_BYTES, LINE_BYTES_MAX, LINGER_BYTES_MAX, SEND_QUEUE_HIGH_WATER_BYTES,
    SLICE_BUDGET_BYTES,
};
use crate::protocol::line;
use crate::protocol::line::LineSplit;
use crate::protocol::step::{Input, LineAhead};
use crate::server::conn::actions::Dialogue;
use crate::server::conn::control::{ControlConnection, Rest};
use crate::server::conn::data_command::DataCommand;
use crate::server::conn::outcome::{Outcome, reason_of_write_error};
use crate::server::conn::transfer::Sent;
use crate::server::conn::upload_writer::UploadWriter;
use crate::server::conn::work::Work;
use crate::server::net::input_buffer::InputBuffer;
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Drained, Stream, StreamError};
use crate::server::service::Services;
use crate::server::service::response::Completion;

/// One time slice: a control connection with the event loop's buffers.
pub(crate) struct TimeSlice<'a, K: Kernel> {
    dialogue: Dialogue<'a, K>,
    input: &'a mut InputBuffer,
    /// For bytes of uploads and discarded bytes.
    transfer: &'a mut [u8],
}

/// Why a time slice cannot go on.
enum Stop {
    Blocked,
    Close(CloseReason),
}

impl<'a, K: Kernel> TimeSlice<'a, K> {
    /// Begins a time slice of the connection in slot `key` with the rest of its last one.
    pub(crate) fn begin(
        connection: &'a mut ControlConnection<K>,
        key: usize,
        services: &'a mut Services<K>,
        scratch: &'a mut Scratch<K>,
    ) -> Self {
        let user = connection.rate_limited_by();
        let budget = user.map_or(SLICE_BUDGET_BYTES, |user| {
            services.rates_mut().allowance(user)
        });
        let Scratch {
            input,
            transfer,
            send_queue,
            ..
        } = scratch;
        send_queue.clear();
        if let Some(rest) = connection.rest.take() {
            input.load(&rest.input);
            send_queue.bytes().extend_from_slice(&rest.output);
        }
        TimeSlice {
            dialogue: Dialogue {
                session_id: connection.session_id(key),
                connection,
                services,
                send_queue,
                budget,
                command: None,
                holds_line: false,
            },
            input,
            transfer,
        }
    }

    /// Runs the slice.
    pub(crate) fn run(mut self) -> Outcome<K> {
        let outcome = self.advance();
        self.finish(outcome)
    }

    /// Begins the dialogue. Reads once before the first write, so that the greeting and the
    /// responses to lines that the client sent at once travel together.
    pub(crate) fn run_first(mut self) -> Outcome<K> {
        self.dialogue.step(Input::Begin);
        match self.read_lines() {
            Ok(()) | Err(Stop::Blocked) => self.run(),
            Err(Stop::Close(reason)) => self.finish(Outcome::Close(reason)),
        }
    }

    /// Runs the slice and reads up to the client's end even if no event has announced it yet.
    pub(crate) fn run_to_end(mut self) -> Outcome<K> {
        let announced = self.dialogue.connection.stream.expect_end();
        let outcome = self.advance();
        self.dialogue.connection.stream.restore_end(announced);
        self.finish(outcome)
    }

    /// Gives the session an input that the client has not caused (a timeout, a rejection), then
    /// runs the slice.
    pub(crate) fn notify(mut self, input: Input<'static>) -> Outcome<K> {
        assert!(
            matches!(self.dialogue.connection.work, Work::Lines),
            "the session waits for a line and nothing else"
        );
        self.dialogue.step(input);
        self.run()
    }

    /// Gives the session the result of its data command, then runs the slice.
    pub(crate) fn deliver_data_result(mut self, input: Input<'static>) -> Outcome<K> {
        self.begin_delivery();
        self.dialogue.connection.work = Work::Lines;
        self.dialogue.step(input);
        self.run()
    }

    /// Gives the session the completion that it waits for, then runs the slice.
    pub(crate) fn deliver(mut self, completion: Completion<K>) -> Outcome<K> {
        self.begin_delivery();
        match completion {
            Completion::Fetched(Ok(fetched)) => {
                if let Work::Sending(download) = &mut self.dialogue.connection.work {
                    download.end_fetch(fetched);
                }
            }
            Completion::Written(result) => {
                let id = self.dialogue.session_id;
                let services = &mut *self.dialogue.services;
                if let Work::Receiving(upload) = &mut self.dialogue.connection.work
                    && let Some(writer) = &mut upload.writer
                {
                    writer.end_write(result, services, id, id);
                }
            }
            // Logged once for the device.
            Completion::Fetched(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                return self.finish(Outcome::Close(CloseReason::SendFailed));
            }
            Completion::Fetched(Err(error)) => {
                let reason = self.close_reason(&error);
                return self.finish(Outcome::Close(reason));
            }
            completion => {
                if let Some(input) = self.dialogue.input_of(completion) {
                    self.dialogue.step(input);
                }
            }
        }
        self.run()
    }

    fn begin_delivery(&mut self) {
        let connection = &mut self.dialogue.connection;
        assert!(
            connection.awaits_completion(),
            "a completion without a request"
        );
        connection.active_at = self.dialogue.services.now();
    }

    /// Ends the slice and keeps unused input and unsent output for the next one.
    fn finish(mut self, outcome: Outcome<K>) -> Outcome<K> {
        let command = self.dialogue.command.take();
        if let Outcome::Close(_) = outcome {
            self.input.clear();
            self.dialogue.send_queue.clear();
            if let Some(DataCommand::Receive(staged, ..)) = command {
                self.dialogue.services.transfers().discard(staged);
            }
            return outcome;
        }
        let outcome = command.map_or(outcome, Outcome::Data);
        if self.input.is_empty() && self.dialogue.send_queue.is_empty() {
            return outcome;
        }
        let input = self.input.take_rest();
        let kernel = self.dialogue.services.kernel();
        match self.dialogue.send_queue.take_rest(kernel) {
            Ok(output) => {
                self.dialogue.connection.rest = Some(Box::new(Rest { input, output }));
                outcome
            }
            Err(error) => Outcome::Close(self.close_reason(&error)),
        }
    }

    fn advance(&mut self) -> Outcome<K> {
        loop {
            if self.dialogue.command.is_some() {
                return self.flush_then(Outcome::Idle);
            }
            if self.takes_lines() {
                if self.dialogue.budget < COMMAND_COST_BYTES {
                    return self.flush_then(Outcome::Again);
                }
                if self.take_line() {
                    continue;
                }
            }
            if !self.dialogue.send_queue.is_empty() {
                match self.flush() {
                    Ok(true) => continue,
                    Ok(false) => return Outcome::Idle,
                    Err(error) => return Outcome::Close(self.close_reason(&error)),
                }
            }
            let awaits_worker = self.dialogue.connection.work.awaits_worker();
            let moved = match self.dialogue.connection.work {
                Work::Request { is_cancellable } => self.watch_client(is_cancellable),
                Work::DataCommand => return Outcome::Idle,
                Work::Sending(_) if awaits_worker => self.watch_client(false),
                Work::Receiving(_) if awaits_worker => return Outcome::Idle,
                // A call for no bytes would look like the end of the file or of the input.
                _ if self.dialogue.budget == 0 => return Outcome::Again,
                Work::Lines | Work::LinesDuringTransfer { .. } => self.read_lines(),
                Work::Sending(_) => self.send(),
                Work::Receiving(_) => self.receive(),
                Work::Closing { reason } => self.shutdown(reason),
                Work::Lingering { reason, left } => self.linger(reason, left),
            };
            match moved {
                Ok(()) => {}
                Err(Stop::Blocked) => return Outcome::Idle,
                Err(Stop::Close(reason)) => return Outcome::Close(reason),
            }
        }
    }

    fn takes_lines(&self) -> bool {
        self.dialogue.connection.work.reads_lines()
            && self.dialogue.send_queue.len() < SEND_QUEUE_HIGH_WATER_BYTES
    }

    /// Steps the session by one line at hand. Returns false if there is none.
    fn take_line(&mut self) -> bool {
        let connection = &mut self.dialogue.connection;
        if self.dialogue.services.is_draining() && matches!(connection.work, Work::Lines) {
            self.dialogue.step(Input::Stopping);
            return true;
        }
        if connection.skipping_line && !self.skip_line() {
            return false;
        }
        let replies = self.dialogue.send_queue.bytes();
        let removed = self.input.filter_telnet(replies);
        self.dialogue.spend(removed);
        let at_hand = self.input.at_hand();
        let has_ended = self.dialogue.connection.stream.has_ended();
        let (line, used) = match line::split_until_end(at_hand, has_ended) {
            LineSplit::Line { line, used } => (Input::Line(line), used),
            LineSplit::TooLong => (Input::LineTooLong, 0),
            LineSplit::Incomplete => return false,
        };
        let is_too_long = matches!(line, Input::LineTooLong);
        self.dialogue.spend(COMMAND_COST_BYTES);
        if !self.dialogue.hand_in(line) {
            return self.abort_ahead();
        }
        self.dialogue.connection.skipping_line = is_too_long;
        self.input.consume(used);
        true
    }

    /// Looks for ABOR among the lines that wait for the end of a transfer. It cancels the transfer,
    /// and is answered in its turn. Returns whether there is one.
    fn abort_ahead(&mut self) -> bool {
        let found = self.holds_abort();
        if found {
            self.dialogue.step(Input::AbortAhead);
        }
        found
    }

    fn holds_abort(&self) -> bool {
        let input = self.input.at_hand();
        self.dialogue.connection.has_ahead(LineAhead::Abort, input)
    }

    /// Discards the input at hand up to the end of a line that was too long. Returns true if the
    /// end was found.
    fn skip_line(&mut self) -> bool {
        let is_found = self.input.skip_line();
        self.dialogue.connection.skipping_line = !is_found;
        is_found
    }

    fn flush_then(&mut self, outcome: Outcome<K>) -> Outcome<K> {
        match self.flush() {
            Ok(_) => outcome,
            Err(error) => Outcome::Close(self.close_reason(&error)),
        }
    }

    /// Writes the send queue. Returns false if the stream blocked first.
    fn flush(&mut self) -> io::Result<bool> {
        let work = &self.dialogue.connection.work;
        // The file follows, or the end of the stream, which then travels with the last bytes.
        let more = matches!(work, Work::Sending(_) | Work::Closing { .. });
        while !self.dialogue.send_queue.is_empty() {
            let kernel = self.dialogue.services.kernel();
            let stream = &mut self.dialogue.connection.stream;
            match self.dialogue.send_queue.write(kernel, stream, more) {
                Ok(n) => self.moved(n),
                Err(StreamError::Blocked) => return Ok(false),
                Err(StreamError::Failed(_)) if self.dialogue.connection.outlives_reset() => {
                    self.dialogue.send_queue.clear();
                }
                Err(StreamError::Failed(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Sends a part of the download.
    fn send(&mut self) -> Result<(), Stop> {
        let Dialogue {
            connection,
            services,
            session_id,
            budget,
            ..
        } = &mut self.dialogue;
        let Work::Sending(download) = &mut connection.work else {
            return Ok(());
        };
        match download.send(services.kernel(), &mut connection.stream, *budget) {
            Ok(Sent::Bytes(n)) => {
                let is_done = download.left() == 0;
                self.moved(n);
                if is_done {
                    self.end_transfer(Ok(()));
                }
                Ok(())
            }
            Ok(Sent::Awaits(range)) => {
                services.transfers().fetch(*session_id, range);
                Ok(())
            }
            Err(StreamError::Blocked) => Err(Stop::Blocked),
            Err(StreamError::Failed(error)) => Err(Stop::Close(self.close_reason(&error))),
        }
    }

    /// Receives a part of the upload. Bytes that were read along with a command come first.
    fn receive(&mut self) -> Result<(), Stop> {
        let Dialogue {
            connection,
            services,
            session_id,
            budget,
            ..
        } = &mut self.dialogue;
        let Work::Receiving(upload) = &mut connection.work else {
            return Ok(());
        };
        if upload.left == 0 {
            self.end_receiving();
            return Ok(());
        }
        let most = upload.left.min(*budget as u64) as usize;
        let at_hand = self.input.at_hand();
        let n = if at_hand.is_empty() {
            let buffer = &mut self.transfer[..most];
            let n = read(&mut connection.stream, services.kernel(), buffer)?;
            if n == 0 {
                return Err(Stop::Close(CloseReason::ClientLeft));
            }
            upload.write(&self.transfer[..n], services, *session_id);
            n
        } else {
            let n = most.min(at_hand.len());
            upload.write(&at_hand[..n], services, *session_id);
            self.input.consume(n);
            n
        };
        self.moved(n);
        Ok(())
    }

    /// All announced bytes were received: a worker publishes the file.
    fn end_receiving(&mut self) {
        // The client has sent everything: from here on the upload is published in any case.
        let work = std::mem::replace(&mut self.dialogue.connection.work, Work::PUBLISHING);
        let Work::Receiving(upload) = work else {
            return;
        };
        let failed = upload.writer.as_ref().and_then(UploadWriter::failed);
        match upload.writer.and_then(UploadWriter::into_staged) {
            Some(staged) => {
                let session_id = self.dialogue.session_id;
                let transfers = self.dialogue.services.transfers();
                transfers.publish(session_id, staged, upload.record);
            }
            None => self.end_transfer(failed.map_or(Ok(()), Err)),
        }
    }

    fn end_transfer(&mut self, result: Result<(), ErrorCode>) {
        self.dialogue.connection.work = Work::Lines;
        self.dialogue.step(Input::TransferDone(result));
    }

    /// Reads more input, after the incomplete line at hand.
    fn read_lines(&mut self) -> Result<(), Stop> {
        let connection = &mut self.dialogue.connection;
        if connection.stream.has_ended() {
            return Err(match connection.reads_lines_during_transfer() {
                true => Stop::Blocked,
                false => Stop::Close(CloseReason::ClientLeft),
            });
        }
        // Held lines leave no room.
        if self.input.at_hand().len() > LINE_BYTES_MAX {
            return Err(Stop::Blocked);
        }
        let kernel = self.dialogue.services.kernel();
        let n = match read(&mut connection.stream, kernel, self.input.room()) {
            Err(Stop::Close(_)) if connection.outlives_reset() => return Err(Stop::Blocked),
            n => n?,
        };
        self.input.fill(n);
        self.moved(n);
        Ok(())
    }

    /// Reads on while a worker is awaited, to notice the client's end and, if it `is_cancellable`,
    /// ABOR.
    fn watch_client(&mut self, is_cancellable: bool) -> Result<(), Stop> {
        let connection = &self.dialogue.connection;
        if connection.stream.has_ended() {
            return Err(Stop::Blocked);
        }
        self.read_lines()?;
        if is_cancellable && self.holds_abort() {
            let id = self.dialogue.session_id;
            self.dialogue.services.cancel(id);
            self.dialogue.connection.work = Work::Lines;
            let aborted = Response::Refused(ErrorCode::Aborted);
            self.dialogue.step(Input::Response(aborted));
        }
        Ok(())
    }

    /// Everything is written: shuts the sending half and begins a lingering close.
    fn shutdown(&mut self, reason: CloseReason) -> Result<(), Stop> {
        let connection = &mut self.dialogue.connection;
        let shutdown = connection.stream.shutdown(self.dialogue.services.kernel());
        if connection.stream.has_ended() || shutdown.is_err() {
            return Err(Stop::Close(reason));
        }
        let left = LINGER_BYTES_MAX;
        connection.work = Work::Lingering { reason, left };
        Ok(())
    }

    /// Discards input until the client closes.
    fn linger(&mut self, reason: CloseReason, mut left: u64) -> Result<(), Stop> {
        self.input.clear();
        let most = self.dialogue.budget.min(self.transfer.len());
        let buffer = &mut self.transfer[..most];
        let Dialogue {
            connection,
            services,
            ..
        } = &mut self.dialogue;
        let (kernel, now) = (services.kernel(), services.now());
        match connection.stream.drain(kernel, buffer, &mut left) {
            Ok(Drained::Some(_)) => {
                connection.work = Work::Lingering { reason, left };
                connection.active_at = now;
                self.dialogue.spend(most);
                Ok(())
            }
            Err(StreamError::Blocked)
                if !services.is_draining() || !connection.ends_lingering(kernel, now) =>
            {
                Err(Stop::Blocked)
            }
            _ => Err(Stop::Close(reason)),
        }
    }

    /// Counts bytes that were read or written.
    fn moved(&mut self, n: usize) {
        let connection = &mut self.dialogue.connection;
        connection.active_at = self.dialogue.services.now();
        connection.transferred = connection.transferred.wrapping_add(n as u32);
        if let Some(user) = connection.user {
            self.dialogue.services.rates_mut().consume(user, n);
        }
        self.dialogue.spend(n);
    }

    /// Returns why a failed write closes the connection. A fault of the file is logged.
    fn close_reason(&self, error: &io::Error) -> CloseReason {
        let reason = reason_of_write_error(error);
        if reason == CloseReason::SendFailed {
            let session_id = self.dialogue.session_id;
            self.dialogue.services.log_send_error(session_id, error);
        }
        reason
    }
}

fn read<K: Kernel>(stream: &mut Stream<K>, kernel: &K, buffer: &mut [u8]) -> Result<usize, Stop> {
    stream.read(kernel, buffer).map_err(|error| match error {
        StreamError::Blocked => Stop::Blocked,
        StreamError::Failed(_) => Stop::Close(CloseReason::Reset),
    })
}

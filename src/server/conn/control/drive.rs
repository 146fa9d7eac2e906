//! One turn of a connection: lines, then the send_queue, then the transfer, else a read.
//!
//! It goes on until the socket blocks, the budget is spent, the services has to be waited for, or the end. Whole lines that
//! are at hand are taken first and their sentences gathered; nothing is read while a command is at work or output
//! waits, so that what a client sends ahead stays in the kernel's buffers.
//!
//! Must not know: other connections, what a line or a sentence means.

use std::io;

use zeroize::{Zeroize, Zeroizing};

use crate::domain::error::CloseReason;
use crate::kernel::Kernel;
use crate::kernel::errors;
use crate::limits::{
    COMMAND_COST_BYTES, LINE_READ_BYTES, LINGER_BYTES_MAX, SEND_QUEUE_HIGH_WATER_BYTES,
    SLICE_BUDGET_BYTES,
};
use crate::protocol::line;
use crate::protocol::line::LineSplit;
use crate::protocol::step::Input;
use crate::server::conn::control::{Connection, Rest, Work};
use crate::server::event_loop::data_sessions::DataCommand;
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Drained, StreamError};
use crate::server::service::Services;
use crate::server::session_id::SessionId;

/// One turn: a connection with the loop's buffers in its hands.
pub(crate) struct TimeSlice<'a, K: Kernel> {
    pub(crate) connection: &'a mut Connection<K>,
    pub(crate) session_id: SessionId,
    pub(crate) services: &'a mut Services<K>,
    pub(crate) scratch: &'a mut Scratch<K>,
    /// The input at hand is `scratch.input[start..end]`.
    start: usize,
    end: usize,
    /// Bytes that may still be moved.
    pub(crate) budget: usize,
}

impl<'a, K: Kernel> TimeSlice<'a, K> {
    pub(crate) fn begin(
        connection: &'a mut Connection<K>,
        key: usize,
        services: &'a mut Services<K>,
        scratch: &'a mut Scratch<K>,
    ) -> Self {
        let session_id = connection.session_id(key);
        scratch.send_queue.clear();
        let bounded_by = connection.bounded_by();
        let budget = bounded_by.map_or(SLICE_BUDGET_BYTES, |user| {
            services.rates_mut().allowance(user)
        });
        let mut end = 0;
        if let Some(rest) = connection.rest.take() {
            end = rest.input.len();
            scratch.input[..end].copy_from_slice(&rest.input);
            scratch.send_queue.bytes().extend_from_slice(&rest.output);
        }
        TimeSlice {
            connection,
            session_id,
            services,
            scratch,
            start: 0,
            end,
            budget,
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        let outcome = self.work();
        self.finish(outcome)
    }

    /// Keeps what could not be taken or written for the next turn.
    pub(crate) fn finish(mut self, outcome: Outcome) -> Outcome {
        if let Outcome::Finished(_) = outcome {
            self.forget_input();
            self.scratch.send_queue.clear();
            return outcome;
        }
        if self.start == self.end && self.scratch.send_queue.is_empty() {
            return outcome;
        }
        let input: Zeroizing<Box<[u8]>> =
            Zeroizing::new(self.scratch.input[self.start..self.end].into());
        self.forget_input();
        match self.scratch.send_queue.take_rest(self.services.kernel()) {
            Ok(output) => {
                self.connection.rest = Some(Box::new(Rest { input, output }));
                outcome
            }
            Err(error) => Outcome::Finished(self.ending_of(&error)),
        }
    }

    /// Drops the input at hand, and wipes it: it may be a part of a password, and the buffer is everybody's.
    fn forget_input(&mut self) {
        self.scratch.input[self.start..self.end].zeroize();
        (self.start, self.end) = (0, 0);
    }

    /// The budget is spent: what is gathered still goes, where it can.
    fn flush_then_again(&mut self) -> Outcome {
        match self.flush() {
            Ok(_) => Outcome::Again,
            Err(error) => Outcome::Finished(self.ending_of(&error)),
        }
    }

    fn work(&mut self) -> Outcome {
        loop {
            if matches!(self.connection.work, Work::Lines)
                && self.scratch.send_queue.len() < SEND_QUEUE_HIGH_WATER_BYTES
            {
                if self.budget < COMMAND_COST_BYTES {
                    return self.flush_then_again();
                }
                if self.take_line() {
                    continue;
                }
            }
            if !self.scratch.send_queue.is_empty() {
                match self.flush() {
                    Ok(true) => continue,
                    Ok(false) => return Outcome::Waiting,
                    Err(error) => return Outcome::Finished(self.ending_of(&error)),
                }
            }
            let moved = match self.connection.work {
                Work::Response | Work::Warming(_) => return Outcome::Waiting,
                // A call for no bytes would look like the end of the file or of the client.
                _ if self.budget == 0 => return Outcome::Again,
                Work::Lines => self.receive_lines(),
                Work::Sending(_) => self.send(),
                Work::Receiving(_) => self.receive(),
                Work::Goodbye { reason } => self.shut(reason),
                Work::Linger { .. } => self.linger(),
            };
            match moved {
                Ok(()) => {}
                Err(Stop::Blocked) => return Outcome::Waiting,
                Err(Stop::Finished(reason)) => return Outcome::Finished(reason),
            }
        }
    }

    /// Takes one line that is at hand; false where there is none.
    fn take_line(&mut self) -> bool {
        if self.services.is_draining() && !self.connection.engaged {
            self.step(Input::Stopping);
            return true;
        }
        if self.connection.skipping && !self.skip_line() {
            return false;
        }
        // The line is lent to the session while the rest of this turn is at work: it moves out of the scratch buffer
        // for that long.
        let mut input = std::mem::take(&mut self.scratch.input);
        let begin = self.start;
        let at_hand = &input[self.start..self.end];
        let step = match line::split(at_hand) {
            LineSplit::Line { line, used } => Some((Input::Line(line), used)),
            LineSplit::TooLong => {
                self.connection.skipping = true;
                Some((Input::LineTooLong, 0))
            }
            LineSplit::Incomplete if self.connection.stream.has_ended() => {
                line::last(at_hand).map(|line| (Input::Line(line), at_hand.len()))
            }
            LineSplit::Incomplete => None,
        };
        let found = step.is_some();
        if let Some((line, used)) = step {
            self.start += used;
            self.spend(COMMAND_COST_BYTES);
            self.step(line);
            // Whatever it was: it may be a password that nobody has asked for.
            input[begin..self.start].zeroize();
        }
        self.scratch.input = input;
        found
    }

    /// Drops what is at hand of a line that was too long; true where its end was among it.
    fn skip_line(&mut self) -> bool {
        let at_hand = &self.scratch.input[self.start..self.end];
        let end = at_hand.iter().position(|byte| *byte == b'\n');
        let begin = self.start;
        self.start = end.map_or(self.end, |end| begin + end + 1);
        self.scratch.input[begin..self.start].zeroize();
        self.connection.skipping = end.is_none();
        !self.connection.skipping
    }

    /// Writes the send_queue; false where it blocked before its end.
    fn flush(&mut self) -> io::Result<bool> {
        // The file follows, or after a goodbye the end, which then travels with it.
        let more = matches!(
            self.connection.work,
            Work::Sending(_) | Work::Goodbye { .. }
        );
        while !self.scratch.send_queue.is_empty() {
            let written = self.scratch.send_queue.write(
                self.services.kernel(),
                &mut self.connection.stream,
                more,
            );
            match written {
                Ok(n) => self.moved(n),
                Err(StreamError::Blocked) => return Ok(false),
                Err(StreamError::Failed(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves a part of the download transfer.
    fn send(&mut self) -> Result<(), Stop> {
        let Work::Sending(download) = &mut self.connection.work else {
            unreachable!("called for a sending connection");
        };
        if !self.connection.stream.is_writable() {
            return Err(Stop::Blocked);
        }
        if let Some(cold) = download.cold(self.services.kernel(), self.budget) {
            self.connection.wait_for_disk();
            self.services.prefetch(self.session_id, cold);
            return Err(Stop::Blocked);
        }
        match download.advance(
            self.services.kernel(),
            &mut self.connection.stream,
            self.budget,
        ) {
            Ok(n) => {
                let done = download.left() == 0;
                self.moved(n);
                if done {
                    self.connection.work = Work::Lines;
                    self.step(Input::TransferDone(Ok(())));
                }
                Ok(())
            }
            Err(StreamError::Blocked) => Err(Stop::Blocked),
            Err(StreamError::Failed(error)) => Err(Stop::Finished(self.ending_of(&error))),
        }
    }

    /// Moves a part of the upload transfer: first what was read with the lines before it, then from the socket.
    fn receive(&mut self) -> Result<(), Stop> {
        let Work::Receiving(receiving) = &mut self.connection.work else {
            unreachable!("called for a receiving connection");
        };
        if receiving.left == 0 {
            self.end_receiving();
            return Ok(());
        }
        let most = receiving.left.min(self.budget as u64) as usize;
        let at_hand = most.min(self.end - self.start);
        let n = if at_hand > 0 {
            receiving.take(
                &self.scratch.input[self.start..self.start + at_hand],
                self.services,
                self.session_id,
            );
            self.start += at_hand;
            at_hand
        } else {
            let n = self
                .connection
                .receive(self.services.kernel(), &mut self.scratch.transfer[..most])?;
            if n == 0 {
                return Err(Stop::Finished(CloseReason::ClientLeft));
            }
            let Work::Receiving(receiving) = &mut self.connection.work else {
                unreachable!("a read changes no work");
            };
            receiving.take(&self.scratch.transfer[..n], self.services, self.session_id);
            n
        };
        self.moved(n);
        Ok(())
    }

    /// All announced bytes have come.
    fn end_receiving(&mut self) {
        let Work::Receiving(receiving) =
            std::mem::replace(&mut self.connection.work, Work::Response)
        else {
            unreachable!("called for a receiving connection");
        };
        match receiving.upload {
            Some(upload) => self
                .services
                .publish(self.session_id, upload, receiving.record),
            None => {
                self.connection.work = Work::Lines;
                self.step(Input::TransferDone(receiving.failed.map_or(Ok(()), Err)));
            }
        }
    }

    /// Reads what may be lines, behind the incomplete one at hand.
    pub(crate) fn receive_lines(&mut self) -> Result<(), Stop> {
        if self.connection.stream.has_ended() {
            if !self.connection.engaged {
                return Err(Stop::Finished(CloseReason::ClientLeft));
            }
            // What it left may look like the end of a file that it was sending.
            if self.connection.has_vanished() {
                self.services
                    .data_sessions
                    .wish(self.session_id, DataCommand::Distrust);
            }
            return Err(Stop::Blocked);
        }
        let at_hand = self.end - self.start;
        self.scratch.input.copy_within(self.start..self.end, 0);
        self.scratch.input[at_hand.max(self.start)..self.end].zeroize();
        (self.start, self.end) = (0, at_hand);
        let room = self.end..self.end + LINE_READ_BYTES;
        let n = self
            .connection
            .receive(self.services.kernel(), &mut self.scratch.input[room])?;
        self.end += n;
        self.moved(n);
        Ok(())
    }

    /// Everything owed is written: tells the client that nothing more comes.
    fn shut(&mut self, reason: CloseReason) -> Result<(), Stop> {
        let shut = self.connection.stream.shutdown(self.services.kernel());
        if self.connection.stream.has_ended() || shut.is_err() {
            return Err(Stop::Finished(reason));
        }
        self.connection.work = Work::Linger {
            reason,
            left: LINGER_BYTES_MAX,
        };
        Ok(())
    }

    /// Reads and drops, so that what a client still sends makes no reset that overtakes our last word.
    fn linger(&mut self) -> Result<(), Stop> {
        let Work::Linger { reason, mut left } = self.connection.work else {
            unreachable!("called for a lingering connection");
        };
        let most = self.budget.min(self.scratch.transfer.len());
        self.forget_input();
        let buffer = &mut self.scratch.transfer[..most];
        let kernel = self.services.kernel();
        match self.connection.stream.drain(kernel, buffer, &mut left) {
            Ok(Drained::Some(_)) => {}
            Err(StreamError::Blocked) => return Err(Stop::Blocked),
            Ok(Drained::End | Drained::TooMuch) | Err(StreamError::Failed(_)) => {
                return Err(Stop::Finished(reason));
            }
        }
        self.connection.work = Work::Linger { reason, left };
        self.spend(most);
        Ok(())
    }

    /// Bytes have gone one way or the other.
    fn moved(&mut self, n: usize) {
        self.connection.moved_at = self.services.now();
        self.connection.moved = self.connection.moved.wrapping_add(n as u32);
        if let Some(user) = self.connection.user {
            self.services.rates_mut().consume(user, n);
        }
        self.spend(n);
    }

    fn spend(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }

    /// How a failed write ends the connection; a file's own fault goes to the log.
    pub(crate) fn ending_of(&self, error: &io::Error) -> CloseReason {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CloseReason::FileShrank,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => CloseReason::Reset,
            _ if errors::is_file_truncated(error) => CloseReason::FileShrank,
            _ => {
                self.services.log_send_error(self.session_id, error);
                CloseReason::SendFailed
            }
        }
    }
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An event, an answer or a deadline brings the next turn.
    Waiting,
    /// The budget is spent: to the back of the queue.
    Again,
    /// To be removed.
    Finished(CloseReason),
}

/// Why a turn goes no further.
pub(crate) enum Stop {
    Blocked,
    Finished(CloseReason),
}

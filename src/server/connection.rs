//! One client's socket and its turn: outbox, then transfer, then lines.
//!
//! A turn goes on until the socket blocks, the budget is spent, the house has to be waited for, or the end. Whole lines
//! that are at hand are taken first and their sentences gathered; nothing is read while a command is at work or output
//! waits, so that what a client sends ahead stays in the kernel's buffers.
//!
//! Must not know: other connections, what a line or a sentence means.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::answers::{House, Reply};
use super::outbox::Outbox;
use super::transfer::{Held, Outgoing, Receiving, Source};
use super::{Options, Ticket};
use crate::home::Access;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{
    COMMAND_COST_BYTES, LINE_BYTES_MAX, LINES_READ_BYTES, LINGER_BYTES_MAX, LINGER_TIMEOUT,
    OUTBOX_MARK_BYTES, TRANSFER_BUFFER_BYTES, TURN_BUDGET_BYTES,
};
use crate::protocol::line::{self, Split};
use crate::protocol::{Action, Ending, Input, Over, Session};
use crate::vault::Incoming;

/// One TCP connection in its slot.
pub(super) struct Connection<K: Kernel> {
    socket: K::Socket,
    peer: SocketAddr,
    /// Tells the tenants of a slot apart; the session number of the log.
    serial: u64,
    session: Session,
    work: Work<K>,
    held: Held<K>,
    /// Input that was read and not yet taken.
    inbox: Box<[u8]>,
    /// Output that was due and not yet written.
    outbox: Box<[u8]>,
    readable: bool,
    writable: bool,
    /// The last event told of the end, so that a short read is not yet the last word.
    end_announced: bool,
    /// The client has closed its sending half.
    ended: bool,
    /// It stands in the run queue.
    pub(super) queued: bool,
    /// It is to be removed when the batch of events is through.
    pub(super) finished: bool,
    /// There was no room for its session: it is only told so.
    turned_away: bool,
    opened_at: Instant,
    /// When a byte was last moved either way.
    moved_at: Instant,
}

/// What the connection is at.
enum Work<K: Kernel> {
    /// A line is awaited.
    Lines,
    /// The house is to answer.
    Answer,
    Sending(Outgoing<K>),
    Receiving(Receiving<K>),
    /// What is owed is flushed, then the sending half is shut.
    Goodbye {
        ending: Ending,
        since: Instant,
    },
    /// After our last byte: reading and dropping until the client closes.
    Linger {
        ending: Ending,
        since: Instant,
        left: u64,
    },
}

/// How a turn ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// An event, an answer or a deadline brings the next turn.
    Waiting,
    /// The budget is spent: to the back of the queue.
    Again,
    /// To be removed.
    Finished(Ending),
}

/// The loop's buffers, one set for all connections.
pub(super) struct Scratch<K: Kernel> {
    input: Box<[u8]>,
    transfer: Box<[u8]>,
    outbox: Outbox<K>,
}

impl<K: Kernel> Scratch<K> {
    pub(super) fn new() -> Scratch<K> {
        Scratch {
            input: vec![0; LINE_BYTES_MAX + LINES_READ_BYTES].into(),
            transfer: vec![0; TRANSFER_BUFFER_BYTES].into(),
            outbox: Outbox::new(),
        }
    }
}

impl<K: Kernel> Connection<K> {
    pub(super) fn new(
        socket: K::Socket,
        peer: SocketAddr,
        serial: u64,
        turned_away: bool,
        session: Session,
        now: Instant,
    ) -> Connection<K> {
        Connection {
            socket,
            peer,
            serial,
            session,
            work: Work::Lines,
            held: Held::Nothing,
            inbox: Box::default(),
            outbox: Box::default(),
            readable: false,
            writable: true,
            end_announced: false,
            ended: false,
            queued: false,
            finished: false,
            turned_away,
            opened_at: now,
            moved_at: now,
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn ticket(&self, key: usize) -> Ticket {
        Ticket {
            key,
            serial: self.serial,
            peer: self.peer,
        }
    }

    /// What the kernel told; a hint.
    pub(super) fn notice(&mut self, ready: Readiness) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.end_announced |= ready.ended;
    }

    pub(super) fn is_transferring(&self) -> bool {
        matches!(self.work, Work::Sending(_) | Work::Receiving(_))
    }

    pub(super) fn awaits_answer(&self) -> bool {
        matches!(self.work, Work::Answer)
    }

    pub(super) fn is_turned_away(&self) -> bool {
        self.turned_away
    }

    /// Whether there is nothing to do before an event, an answer or a deadline.
    pub(super) fn is_blocked(&self) -> bool {
        match self.work {
            _ if !self.outbox.is_empty() => !self.writable,
            Work::Answer => true,
            Work::Sending(_) => !self.writable,
            Work::Lines | Work::Receiving(_) | Work::Linger { .. } => !self.readable,
            Work::Goodbye { .. } => false,
        }
    }

    pub(super) fn access(&self) -> Option<&Arc<Access>> {
        self.session.access()
    }

    pub(super) fn reloaded(&mut self, access: Option<Arc<Access>>) {
        self.session.reloaded(access);
    }

    /// What the deadlines ask for now, if anything: an input for the session where a line is awaited, else the end.
    pub(super) fn overdue(&self, now: Instant, options: &Options) -> Option<Overdue> {
        let silent = now.saturating_duration_since(self.moved_at) >= options.idle_timeout;
        match &self.work {
            // The house's own work is what is waited for.
            Work::Answer => None,
            Work::Lines => {
                let login_time = now.saturating_duration_since(self.opened_at);
                let late = !self.session.is_logged_in() && login_time >= options.login_timeout;
                (silent || late).then_some(Overdue::Idle)
            }
            Work::Sending(_) | Work::Receiving(_) => silent.then_some(Overdue::End(Ending::Idle)),
            Work::Goodbye { ending, since } | Work::Linger { ending, since, .. } => {
                let over = now.saturating_duration_since(*since) >= LINGER_TIMEOUT;
                over.then_some(Overdue::End(*ending))
            }
        }
    }

    /// Gives the session one input that no line brought (the first, an idle one, the stop), then takes a turn.
    pub(super) fn tell(
        &mut self,
        key: usize,
        input: Input<'_>,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Turn {
        assert!(
            matches!(self.work, Work::Lines),
            "only who awaits a line is told"
        );
        let mut turn = TurnState::begin(self, key, house, scratch);
        turn.step(input);
        turn.run()
    }

    /// Gives the session what it asked for, then takes a turn.
    pub(super) fn reply(
        &mut self,
        key: usize,
        reply: Reply<K>,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Turn {
        assert!(self.awaits_answer(), "a reply without a question");
        self.moved_at = house.now();
        let mut turn = TurnState::begin(self, key, house, scratch);
        let input = turn.unpack(reply);
        turn.step(input);
        turn.run()
    }

    /// Goes on with what there is.
    pub(super) fn turn(
        &mut self,
        key: usize,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Turn {
        TurnState::begin(self, key, house, scratch).run()
    }

    fn take_held(&mut self) -> Held<K> {
        std::mem::replace(&mut self.held, Held::Nothing)
    }

    fn leave(&mut self, ending: Ending, since: Instant) {
        self.work = Work::Goodbye { ending, since };
    }

    /// Reads once and keeps the flags: readable no longer after a block, nor after a short read of a socket whose end
    /// was not announced. Zero bytes are the end of the client's sending half, now or seen before.
    fn receive(&mut self, kernel: &K, buffer: &mut [u8]) -> Result<usize, Stop> {
        if self.ended {
            return Ok(0);
        }
        if !self.readable {
            return Err(Stop::Blocked);
        }
        match kernel.receive(&self.socket, buffer) {
            Ok(n) => {
                self.ended |= n == 0;
                self.readable = n == buffer.len() || (n > 0 && self.end_announced);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Err(Stop::Blocked)
            }
            Err(_) => Err(Stop::Finished(Ending::Reset)),
        }
    }

    /// Lets go of what a half-done transfer holds, when the connection ends.
    pub(super) fn close(self, key: usize, house: &mut House<K>) {
        if self.awaits_answer() {
            house.forget(self.ticket(key));
        }
        if let Held::Incoming(incoming) = self.held {
            house.abandon(incoming);
        }
        if let Work::Receiving(Receiving {
            incoming: Some(incoming),
            ..
        }) = self.work
        {
            house.abandon(incoming);
        }
    }
}

/// What a deadline asks for.
pub(super) enum Overdue {
    /// The session is to be told that it was idle.
    Idle,
    /// The connection ends without a word.
    End(Ending),
}

/// One turn: a connection with the loop's buffers in its hands.
struct TurnState<'a, K: Kernel> {
    connection: &'a mut Connection<K>,
    ticket: Ticket,
    house: &'a mut House<K>,
    scratch: &'a mut Scratch<K>,
    /// The input at hand is `scratch.input[start..end]`.
    start: usize,
    end: usize,
    /// Bytes that may still be moved.
    budget: usize,
}

impl<'a, K: Kernel> TurnState<'a, K> {
    fn begin(
        connection: &'a mut Connection<K>,
        key: usize,
        house: &'a mut House<K>,
        scratch: &'a mut Scratch<K>,
    ) -> Self {
        let ticket = connection.ticket(key);
        let inbox = std::mem::take(&mut connection.inbox);
        scratch.input[..inbox.len()].copy_from_slice(&inbox);
        scratch.outbox.clear();
        scratch
            .outbox
            .bytes()
            .extend_from_slice(&std::mem::take(&mut connection.outbox));
        TurnState {
            connection,
            ticket,
            house,
            scratch,
            start: 0,
            end: inbox.len(),
            budget: TURN_BUDGET_BYTES,
        }
    }

    fn run(mut self) -> Turn {
        let turn = self.work();
        self.finish(turn)
    }

    /// Keeps what could not be taken or written for the next turn.
    fn finish(self, turn: Turn) -> Turn {
        if let Turn::Finished(_) = turn {
            self.scratch.outbox.clear();
            return turn;
        }
        self.connection.inbox = self.scratch.input[self.start..self.end].into();
        if self.scratch.outbox.is_empty() {
            return turn;
        }
        match self.scratch.outbox.take_rest(self.house.kernel()) {
            Ok(rest) => {
                self.connection.outbox = rest;
                turn
            }
            Err(error) => Turn::Finished(self.ending_of(&error)),
        }
    }

    /// The budget is spent: what is gathered still goes, where it can.
    fn flush_then_again(&mut self) -> Turn {
        match self.flush() {
            Ok(_) => Turn::Again,
            Err(error) => Turn::Finished(self.ending_of(&error)),
        }
    }

    fn work(&mut self) -> Turn {
        loop {
            if matches!(self.connection.work, Work::Lines)
                && self.scratch.outbox.len() < OUTBOX_MARK_BYTES
            {
                if self.budget < COMMAND_COST_BYTES {
                    return self.flush_then_again();
                }
                if self.take_line() {
                    continue;
                }
            }
            if !self.scratch.outbox.is_empty() {
                match self.flush() {
                    Ok(true) => continue,
                    Ok(false) => return Turn::Waiting,
                    Err(error) => return Turn::Finished(self.ending_of(&error)),
                }
            }
            let moved = match self.connection.work {
                Work::Answer => return Turn::Waiting,
                // A call for no bytes would look like the end of the file or of the client.
                _ if self.budget == 0 => return Turn::Again,
                Work::Lines => self.receive_lines(),
                Work::Sending(_) => self.send(),
                Work::Receiving(_) => self.receive(),
                Work::Goodbye { ending, since } => self.shut(ending, since),
                Work::Linger { .. } => self.linger(),
            };
            match moved {
                Ok(()) => {}
                Err(Stop::Blocked) => return Turn::Waiting,
                Err(Stop::Finished(ending)) => return Turn::Finished(ending),
            }
        }
    }

    /// Takes one line that is at hand; false where there is none.
    fn take_line(&mut self) -> bool {
        if self.house.is_draining() {
            self.step(Input::Stopping);
            return true;
        }
        // The line is lent to the session while the rest of this turn is at work: it moves out of the scratch buffer
        // for that long.
        let input = std::mem::take(&mut self.scratch.input);
        let at_hand = &input[self.start..self.end];
        let step = match line::split(at_hand) {
            Split::Line { line, used } => Some((Input::Line(line), used)),
            Split::TooLong => Some((Input::LineTooLong, 0)),
            Split::Missing if self.connection.ended => {
                line::last(at_hand).map(|line| (Input::Line(line), at_hand.len()))
            }
            Split::Missing => None,
        };
        let found = step.is_some();
        if let Some((line, used)) = step {
            self.start += used;
            self.spend(COMMAND_COST_BYTES);
            self.step(line);
        }
        self.scratch.input = input;
        found
    }

    /// One step of the session, and those that follow from what it wishes.
    fn step(&mut self, mut input: Input<'_>) {
        loop {
            let answered = matches!(input, Input::Answer(_));
            let action = self
                .connection
                .session
                .step(input, self.scratch.outbox.bytes());
            input = match action {
                Action::ReadLine => {
                    // What was opened waits for the next line only where this step opened it.
                    if !answered {
                        self.connection.held = Held::Nothing;
                    }
                    self.connection.work = Work::Lines;
                    return;
                }
                Action::Ask(request) => match self.house.ask(self.ticket, request) {
                    Some(reply) => self.unpack(reply),
                    None => {
                        self.connection.work = Work::Answer;
                        return;
                    }
                },
                Action::Send {
                    over: Over::Control,
                    from,
                    length,
                } => {
                    // What was opened in this very step was also seen whole in this turn.
                    match self.begin_sending(from, length, answered) {
                        true => Input::Moved(Ok(())),
                        false => return,
                    }
                }
                Action::Receive {
                    over: Over::Control,
                    length,
                } => {
                    let Held::Incoming(incoming) = self.connection.take_held() else {
                        unreachable!("only what was created is received");
                    };
                    return self.begin_receiving(Some(incoming), length);
                }
                Action::Discard { length } => return self.begin_receiving(None, length),
                Action::Close(ending) => {
                    self.connection.leave(ending, self.house.now());
                    return;
                }
            };
        }
    }

    /// What a reply means to the session; what it opened is held.
    fn unpack(&mut self, reply: Reply<K>) -> Input<'static> {
        match reply {
            Reply::Answer(answer, held) => {
                self.connection.held = held;
                Input::Answer(answer)
            }
            Reply::Committed(result) => Input::Moved(result),
        }
    }

    /// Sends what is held; true where all of it stands in the outbox already.
    fn begin_sending(&mut self, from: u64, length: u64, seen_whole: bool) -> bool {
        let end = from + length;
        let source = match self.connection.take_held() {
            Held::File(file) => {
                let kernel = self.house.kernel();
                if length > 0 && file.map(kernel).is_some() {
                    let whole =
                        seen_whole || kernel.status(file.file()).is_ok_and(|now| now.size >= end);
                    if whole {
                        self.scratch
                            .outbox
                            .push_mapped(file, from as usize, length as usize);
                        return true;
                    }
                }
                Source::File(file)
            }
            Held::Text(listing) => {
                if length <= OUTBOX_MARK_BYTES as u64 {
                    let text = &listing.text[from as usize..end as usize];
                    self.scratch.outbox.bytes().extend_from_slice(text);
                    return true;
                }
                Source::Text(listing)
            }
            Held::Nothing | Held::Incoming(_) => unreachable!("only what was opened is sent"),
        };
        if length > 0 {
            self.connection.work = Work::Sending(Outgoing {
                source,
                offset: from,
                end,
            });
        }
        length == 0
    }

    fn begin_receiving(&mut self, incoming: Option<Box<Incoming<K>>>, length: u64) {
        self.connection.work = Work::Receiving(Receiving {
            incoming,
            left: length,
            failed: None,
        });
    }

    /// Writes the outbox; false where it blocked before its end.
    fn flush(&mut self) -> io::Result<bool> {
        let more = matches!(self.connection.work, Work::Sending(_));
        while !self.scratch.outbox.is_empty() {
            if !self.connection.writable {
                return Ok(false);
            }
            let written =
                self.scratch
                    .outbox
                    .write(self.house.kernel(), &self.connection.socket, more);
            match written {
                Ok(n) => self.moved(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.connection.writable = false
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves a part of the outgoing transfer.
    fn send(&mut self) -> Result<(), Stop> {
        let Work::Sending(outgoing) = &mut self.connection.work else {
            unreachable!("called for a sending connection");
        };
        if !self.connection.writable {
            return Err(Stop::Blocked);
        }
        match outgoing.advance(self.house.kernel(), &self.connection.socket, self.budget) {
            Ok(n) => {
                let done = outgoing.left() == 0;
                self.moved(n);
                if done {
                    self.connection.work = Work::Lines;
                    self.step(Input::Moved(Ok(())));
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.connection.writable = false;
                Err(Stop::Blocked)
            }
            Err(error) => Err(Stop::Finished(self.ending_of(&error))),
        }
    }

    /// Moves a part of the incoming transfer: first what was read with the lines before it, then from the socket.
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
                self.house,
                self.ticket,
            );
            self.start += at_hand;
            at_hand
        } else {
            let n = self
                .connection
                .receive(self.house.kernel(), &mut self.scratch.transfer[..most])?;
            if n == 0 {
                return Err(Stop::Finished(Ending::ClientLeft));
            }
            let Work::Receiving(receiving) = &mut self.connection.work else {
                unreachable!("a read changes no work");
            };
            receiving.take(&self.scratch.transfer[..n], self.house, self.ticket);
            n
        };
        self.moved(n);
        Ok(())
    }

    /// All announced bytes have come.
    fn end_receiving(&mut self) {
        let Work::Receiving(receiving) = std::mem::replace(&mut self.connection.work, Work::Answer)
        else {
            unreachable!("called for a receiving connection");
        };
        match receiving.incoming {
            Some(incoming) => self.house.commit(self.ticket, incoming),
            None => {
                self.connection.work = Work::Lines;
                self.step(Input::Moved(receiving.failed.map_or(Ok(()), Err)));
            }
        }
    }

    /// Reads what may be lines, behind the incomplete one at hand.
    fn receive_lines(&mut self) -> Result<(), Stop> {
        if self.connection.ended {
            return Err(Stop::Finished(Ending::ClientLeft));
        }
        self.scratch.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let room = self.end..self.end + LINES_READ_BYTES;
        let n = self
            .connection
            .receive(self.house.kernel(), &mut self.scratch.input[room])?;
        self.end += n;
        self.moved(n);
        Ok(())
    }

    /// Everything owed is written: tells the client that nothing more comes.
    fn shut(&mut self, ending: Ending, since: Instant) -> Result<(), Stop> {
        let shut = self.house.kernel().shut_sending(&self.connection.socket);
        if self.connection.ended || shut.is_err() {
            return Err(Stop::Finished(ending));
        }
        self.connection.work = Work::Linger {
            ending,
            since,
            left: LINGER_BYTES_MAX,
        };
        Ok(())
    }

    /// Reads and drops, so that what a client still sends makes no reset that overtakes our last word.
    fn linger(&mut self) -> Result<(), Stop> {
        let Work::Linger {
            ending,
            since,
            left,
        } = self.connection.work
        else {
            unreachable!("called for a lingering connection");
        };
        let most = self.budget.min(self.scratch.transfer.len());
        (self.start, self.end) = (0, 0);
        let read = self
            .connection
            .receive(self.house.kernel(), &mut self.scratch.transfer[..most]);
        let left = match read {
            Ok(n) if n > 0 && (n as u64) < left => left - n as u64,
            // A server that stops does not wait for who has nothing more to say.
            Err(Stop::Blocked) if !self.house.is_draining() => return Err(Stop::Blocked),
            _ => return Err(Stop::Finished(ending)),
        };
        self.connection.work = Work::Linger {
            ending,
            since,
            left,
        };
        self.spend(most);
        Ok(())
    }

    /// Bytes have gone one way or the other.
    fn moved(&mut self, n: usize) {
        self.connection.moved_at = self.house.now();
        self.spend(n);
    }

    fn spend(&mut self, cost: usize) {
        self.budget = self.budget.saturating_sub(cost);
    }

    /// How a failed write ends the connection; a file's own fault goes to the log.
    fn ending_of(&self, error: &io::Error) -> Ending {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Ending::FileShrank,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected => Ending::Reset,
            _ if error.raw_os_error() == Some(nix::libc::EFAULT) => Ending::FileShrank,
            _ => {
                self.house.log_broken(self.ticket, error);
                Ending::Broken
            }
        }
    }
}

/// Why a turn goes no further.
enum Stop {
    Blocked,
    Finished(Ending),
}

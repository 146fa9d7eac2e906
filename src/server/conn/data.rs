//! One data connection in its slot: dialled or accepted, then one file or listing over it, then its end.
//!
//! It is closed before its session is told what has become of the transfer. What has gone out counts as gone when the
//! client's kernel has all of it; what comes in ends with the client's sending half.
//!
//! Must not know: which session it belongs to but by its ticket, what is said on the control connection.

use std::io;
use std::time::Instant;

use crate::kernel::{Kernel, Readiness};
use crate::limits::{DATA_CONNECTION_TIMEOUT, LINGER_BYTES_MAX, TURN_BUDGET_BYTES};
use crate::protocol::{Refusal, Representation};
use crate::server::conn::ascii::{Inwards, Outwards};
use crate::server::conn::control::Scratch;
use crate::server::conn::transfer::{Outgoing, Source};
use crate::server::log::transfer_log::Record;
use crate::server::policy::sessions::UserKey;
use crate::server::service::House;
use crate::server::{Options, Ticket};
use crate::storage::Incoming;

/// A data connection.
pub(crate) struct Data<K: Kernel> {
    /// `None` once it is closed; the slot stands until the batch of events is through.
    socket: Option<K::Socket>,
    /// Its own ticket, for the worker that warms a file up.
    ticket: Ticket,
    /// The session that it belongs to.
    owner: Ticket,
    work: Work<K>,
    /// Bytes that have moved, of the file.
    moved: u64,
    readable: bool,
    writable: bool,
    /// The last event told of the end, so that a short read is not yet the last word.
    end_announced: bool,
    /// The client has closed its sending half.
    ended: bool,
    /// It stands in the run queue.
    pub(crate) queued: bool,
    began_at: Instant,
    /// When a byte was last moved either way.
    moved_at: Instant,
}

/// What it is at.
enum Work<K: Kernel> {
    /// The client's side has not answered yet.
    Dialling,
    /// It stands, and the session has not said yet what moves.
    Standing,
    Sending(Sending<K>),
    /// A worker waits for the disk.
    Warming(Sending<K>),
    Receiving(Receiving<K>),
    /// All is written and the sending half shut: reading and dropping until the client has everything.
    Linger {
        /// Bytes that may still be dropped.
        left: u64,
        /// Bytes that the client's kernel has not confirmed, when that was last asked.
        unconfirmed: usize,
    },
    Closed,
}

/// Bytes on their way out.
struct Sending<K: Kernel> {
    outgoing: Box<Outgoing<K>>,
    /// How line ends are converted, where they are.
    ascii: Option<Outwards>,
}

/// Bytes on their way in.
struct Receiving<K: Kernel> {
    incoming: Box<Incoming<K>>,
    /// Where transfers are logged.
    record: Option<Box<Record>>,
    ascii: Option<Inwards>,
}

/// What a turn, or a deadline, has come to.
pub(crate) enum Progress<K: Kernel> {
    /// An event, a worker or a deadline brings the next turn.
    Waiting,
    /// The budget is spent: to the back of the queue.
    Again,
    /// The client's side has answered; where it refused, it is closed.
    Connected(Result<(), Refusal>),
    /// The transfer is over, and it is closed.
    Moved(Result<(), Refusal>),
    /// All has come, or all that the file can take, and it is closed: a worker commits it, or gives back its room before the
    /// session hears of that.
    Received(Box<Incoming<K>>, Option<Box<Record>>),
}

impl<K: Kernel> Data<K> {
    /// One that was accepted, or is being `dialled`, and is registered by the ticket's key.
    pub(crate) fn new(
        socket: K::Socket,
        ticket: Ticket,
        owner: Ticket,
        dialled: bool,
        now: Instant,
    ) -> Data<K> {
        Data {
            socket: Some(socket),
            ticket,
            owner,
            work: match dialled {
                true => Work::Dialling,
                false => Work::Standing,
            },
            moved: 0,
            readable: false,
            writable: true,
            end_announced: false,
            ended: false,
            queued: false,
            began_at: now,
            moved_at: now,
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub(crate) fn owner(&self) -> Ticket {
        self.owner
    }

    /// Bytes that have moved, of the file.
    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    /// Bytes that have moved, where the client is what is waited for.
    pub(crate) fn progress(&self) -> Option<u64> {
        (!self.queued && self.is_transferring()).then_some(self.moved)
    }

    /// Ends a transfer that moves too little.
    pub(crate) fn give_up(&mut self, house: &mut House<K>) -> Progress<K> {
        self.finish(Err(Refusal::DataConnectionIdle), house)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.socket.is_none()
    }

    pub(crate) fn is_receiving(&self) -> bool {
        matches!(self.work, Work::Receiving(_))
    }

    pub(crate) fn is_transferring(&self) -> bool {
        matches!(self.work, Work::Sending(_) | Work::Receiving(_))
    }

    /// Whose rate its turns wait for.
    pub(crate) fn bounded_by(&self) -> Option<UserKey> {
        self.owner.user.filter(|_| self.is_transferring())
    }

    pub(crate) fn awaits_worker(&self) -> bool {
        matches!(self.work, Work::Warming(_))
    }

    /// Whether there is nothing to do before an event, a worker, a deadline or the session's wish.
    pub(crate) fn is_blocked(&self) -> bool {
        match self.work {
            Work::Dialling | Work::Standing | Work::Warming(_) | Work::Closed => true,
            Work::Sending(_) => !self.writable,
            Work::Receiving(_) => !self.readable,
            Work::Linger { .. } => !self.readable || self.ended,
        }
    }

    /// What the kernel told; a hint.
    pub(crate) fn notice(&mut self, ready: Readiness) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.end_announced |= ready.ended;
    }

    /// Begins to send; what is to be sent waits in `outgoing`.
    pub(crate) fn send(
        &mut self,
        outgoing: Box<Outgoing<K>>,
        representation: Representation,
        now: Instant,
    ) {
        // A listing is written as it goes over the wire.
        let converts =
            representation == Representation::Ascii && matches!(outgoing.source, Source::File(_));
        let ascii = converts.then(Outwards::default);
        self.work = Work::Sending(Sending { outgoing, ascii });
        self.moved_at = now;
    }

    /// Begins to receive.
    pub(crate) fn receive(
        &mut self,
        incoming: Box<Incoming<K>>,
        record: Option<Box<Record>>,
        representation: Representation,
        now: Instant,
    ) {
        let ascii = (representation == Representation::Ascii).then(Inwards::default);
        self.work = Work::Receiving(Receiving {
            incoming,
            record,
            ascii,
        });
        self.moved_at = now;
    }

    /// The stretch that was cold is in memory, or could not be read.
    pub(crate) fn warmed_up(
        &mut self,
        result: io::Result<()>,
        house: &mut House<K>,
    ) -> Progress<K> {
        self.moved_at = house.now();
        self.work = match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Warming(sending) => Work::Sending(sending),
            _ => unreachable!("only who warms a file up waits for that"),
        };
        match result {
            Ok(()) => Progress::Again,
            Err(error) => {
                let refusal = self.refusal_of(&error, house);
                self.finish(Err(refusal), house)
            }
        }
    }

    /// Closes it at once, whatever it is at.
    pub(crate) fn close(&mut self, house: &mut House<K>) {
        self.socket = None;
        match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Receiving(receiving) => house.abandon(receiving.incoming),
            Work::Warming(_) => house.forget_cold(self.ticket),
            _ => {}
        }
    }

    /// What the deadlines ask for now.
    pub(crate) fn sweep(
        &mut self,
        options: &Options,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Progress<K> {
        let since = |then| house.now().saturating_duration_since(then);
        let late = since(self.began_at) >= DATA_CONNECTION_TIMEOUT;
        let silent = since(self.moved_at) >= options.idle_timeout;
        match self.work {
            Work::Dialling if late => self.refuse(house),
            // The client may have all by now, and says nothing of that.
            Work::Linger { .. } => match self.turn(house, scratch) {
                Progress::Waiting if silent => self.finish(Err(Refusal::DataConnectionIdle), house),
                progress => progress,
            },
            Work::Sending(_) | Work::Receiving(_) if silent => {
                self.finish(Err(Refusal::DataConnectionIdle), house)
            }
            _ => Progress::Waiting,
        }
    }

    /// Goes on with what there is.
    pub(crate) fn turn(&mut self, house: &mut House<K>, scratch: &mut Scratch<K>) -> Progress<K> {
        let user = self.bounded_by();
        let mut budget = user.map_or(TURN_BUDGET_BYTES, |user| house.allowance(user));
        loop {
            let moved = match &self.work {
                Work::Dialling => return self.dialled(house),
                Work::Standing | Work::Warming(_) | Work::Closed => return Progress::Waiting,
                _ if budget == 0 => return Progress::Again,
                Work::Sending(_) => self.send_on(budget, house, scratch),
                Work::Receiving(_) => self.receive_on(budget, house, scratch),
                Work::Linger { .. } => self.linger_on(budget, house, scratch),
            };
            match moved {
                Ok(n) => {
                    budget = budget.saturating_sub(n);
                    if let Some(user) = user {
                        house.spend(user, n);
                    }
                }
                Err(Stop::Blocked) => return Progress::Waiting,
                Err(Stop::Ended(result)) => return self.finish(result, house),
                Err(Stop::Received(incoming, record)) => {
                    self.close(house);
                    return Progress::Received(incoming, record);
                }
            }
        }
    }

    /// What the client's side has answered.
    fn dialled(&mut self, house: &mut House<K>) -> Progress<K> {
        let socket = self.socket.as_ref().expect("it is open");
        match house.kernel().dialled(socket) {
            Ok(()) => {
                self.work = Work::Standing;
                Progress::Connected(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Progress::Waiting,
            Err(_) => self.refuse(house),
        }
    }

    fn refuse(&mut self, house: &mut House<K>) -> Progress<K> {
        self.close(house);
        Progress::Connected(Err(Refusal::NoDataConnection))
    }

    fn finish(&mut self, result: Result<(), Refusal>, house: &mut House<K>) -> Progress<K> {
        self.close(house);
        Progress::Moved(result)
    }

    /// Moves a part of what goes out.
    fn send_on(
        &mut self,
        budget: usize,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let Work::Sending(sending) = &mut self.work else {
            unreachable!("called for who sends");
        };
        let socket = self.socket.as_ref().expect("it is open");
        let kernel = house.kernel();
        if sending.outgoing.left() == 0 {
            let shut = kernel.shut_sending(socket);
            self.work = Work::Linger {
                left: LINGER_BYTES_MAX,
                unconfirmed: usize::MAX,
            };
            return match shut {
                Ok(()) => Ok(0),
                Err(_) => Err(Stop::Ended(Err(Refusal::DataConnectionLost))),
            };
        }
        if !self.writable {
            return Err(Stop::Blocked);
        }
        if let Some(cold) = sending.outgoing.cold(kernel, budget) {
            house.warm_up(self.ticket, cold);
            self.work = match std::mem::replace(&mut self.work, Work::Closed) {
                Work::Sending(sending) => Work::Warming(sending),
                _ => unreachable!("it was sending just now"),
            };
            return Err(Stop::Blocked);
        }
        let before = sending.outgoing.offset;
        let sent = match &mut sending.ascii {
            None => sending.outgoing.advance(kernel, socket, budget),
            Some(ascii) => sending
                .outgoing
                .advance_text(kernel, socket, ascii, scratch),
        };
        match sent {
            Ok(n) => {
                self.moved += sending.outgoing.offset - before;
                self.moved_at = house.now();
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Err(Stop::Blocked)
            }
            Err(error) => Err(Stop::Ended(Err(self.refusal_of(&error, house)))),
        }
    }

    /// Moves a part of what comes in.
    fn receive_on(
        &mut self,
        budget: usize,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let most = budget.min(scratch.transfer.len());
        let n = self.read(&mut scratch.transfer[..most], house)?;
        let Work::Receiving(receiving) = &mut self.work else {
            unreachable!("called for who receives");
        };
        let bytes = match &mut receiving.ascii {
            None => &scratch.transfer[..n],
            Some(ascii) => {
                scratch.text.clear();
                match n {
                    0 => ascii.end(&mut scratch.text),
                    _ => ascii.convert(&scratch.transfer[..n], &mut scratch.text),
                }
                &scratch.text[..]
            }
        };
        if let Err(refused) = receiving.incoming.write(bytes) {
            let refusal = house.log_refused(self.owner, refused);
            receiving.incoming.spoil(refusal);
            return Err(self.received());
        }
        self.moved += bytes.len() as u64;
        if let Some(record) = &mut receiving.record {
            record.moved(bytes.len());
        }
        match n {
            0 => Err(self.received()),
            n => Ok(n),
        }
    }

    fn received(&mut self) -> Stop<K> {
        match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Receiving(Receiving {
                incoming, record, ..
            }) => Stop::Received(incoming, record),
            _ => unreachable!("it was receiving just now"),
        }
    }

    /// Reads and drops until the client's kernel has confirmed every byte and the end behind them. To close before that
    /// could let a reset overtake them, should the client send anything.
    fn linger_on(
        &mut self,
        budget: usize,
        house: &mut House<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let most = budget.min(scratch.transfer.len());
        let read = match self.ended {
            true => Ok(0),
            false => self.read(&mut scratch.transfer[..most], house),
        };
        let Work::Linger { left, unconfirmed } = &mut self.work else {
            unreachable!("called for who lingers");
        };
        match read {
            Ok(n @ 1..) if (n as u64) < *left => {
                *left -= n as u64;
                Ok(n)
            }
            Ok(1..) => Err(Stop::Ended(Err(Refusal::DataConnectionLost))),
            Ok(0) | Err(Stop::Blocked) => {
                let socket = self.socket.as_ref().expect("it is open");
                match house.kernel().unconfirmed(socket) {
                    Ok(0) => Err(Stop::Ended(Ok(()))),
                    Ok(now) => {
                        if now < *unconfirmed {
                            *unconfirmed = now;
                            self.moved_at = house.now();
                        }
                        Err(Stop::Blocked)
                    }
                    // Where that may not be asked, the client's own end has to do.
                    Err(_) if self.ended => Err(Stop::Ended(Ok(()))),
                    Err(_) => Err(Stop::Blocked),
                }
            }
            Err(stop) => Err(stop),
        }
    }

    /// Reads once and keeps the flags, as a control connection does.
    fn read(&mut self, buffer: &mut [u8], house: &House<K>) -> Result<usize, Stop<K>> {
        if !self.readable {
            return Err(Stop::Blocked);
        }
        let socket = self.socket.as_ref().expect("it is open");
        match house.kernel().receive(socket, buffer) {
            Ok(n) => {
                self.ended |= n == 0;
                self.readable = n == buffer.len() || self.end_announced;
                self.moved_at = house.now();
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Err(Stop::Blocked)
            }
            Err(_) => Err(Stop::Ended(Err(Refusal::DataConnectionLost))),
        }
    }

    /// What a failed write tells the session; a file's own fault goes to the log.
    fn refusal_of(&self, error: &io::Error, house: &House<K>) -> Refusal {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof};
        match error.kind() {
            UnexpectedEof => Refusal::FileShrank,
            ConnectionReset | BrokenPipe | NotConnected | TimedOut => Refusal::DataConnectionLost,
            _ => {
                house.log_broken(self.owner, error);
                Refusal::FileUnreadable
            }
        }
    }
}

/// Why a turn goes no further.
enum Stop<K: Kernel> {
    Blocked,
    Ended(Result<(), Refusal>),
    Received(Box<Incoming<K>>, Option<Box<Record>>),
}

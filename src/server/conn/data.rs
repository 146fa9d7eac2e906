//! One data connection in its slot: dialled or accepted, then one file or listing over it, then its end.
//!
//! It is closed before its session is told what has become of the transfer. What has gone out counts as gone when the
//! client's kernel has all of it; what comes in ends with the client's sending half.
//!
//! Must not know: which session it belongs to but by its session_id, what is said on the control connection.

use std::io;
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{DATA_CONNECTION_TIMEOUT, LINGER_BYTES_MAX, SLICE_BUDGET_BYTES};
use crate::protocol::step::Representation;
use crate::server::conn::ascii::{AsciiDecoder, AsciiEncoder};
use crate::server::conn::transfer::{Download, Source};
use crate::server::log::transfer_log::TransferRecord;
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Drained, Stream, StreamError};
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::session_id::SessionId;
use crate::server::session_id::UserKey;
use crate::storage::StagedUpload;

/// A data connection.
pub(crate) struct Data<K: Kernel> {
    /// `None` once it is closed; the slot stands until the batch of events is through.
    stream: Option<Stream<K>>,
    /// Its own session_id, for the worker that warms a file up.
    session_id: SessionId,
    /// The session that it belongs to.
    owner: SessionId,
    work: Work<K>,
    /// Bytes that have moved, of the file.
    moved: u64,
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
    download: Box<Download<K>>,
    /// How line ends are converted, where they are.
    ascii: Option<AsciiEncoder>,
}

/// Bytes on their way in.
struct Receiving<K: Kernel> {
    upload: Box<StagedUpload<K>>,
    /// Where transfers are logged.
    record: Option<Box<TransferRecord>>,
    ascii: Option<AsciiDecoder>,
}

/// What a turn, or a deadline, has come to.
pub(crate) enum Progress<K: Kernel> {
    /// An event, a worker or a deadline brings the next turn.
    Waiting,
    /// The budget is spent: to the back of the queue.
    Again,
    /// The client's side has answered; where it refused, it is closed.
    Connected(Result<(), ErrorCode>),
    /// The transfer is over, and it is closed.
    TransferDone(Result<(), ErrorCode>),
    /// All has come, or all that the file can take, and it is closed: a worker commits it, or gives back its room before the
    /// session hears of that.
    Received(Box<StagedUpload<K>>, Option<Box<TransferRecord>>),
}

impl<K: Kernel> Data<K> {
    /// One that was accepted, or is being `dialled`, and is registered by the session_id's key.
    pub(crate) fn new(
        stream: Stream<K>,
        session_id: SessionId,
        owner: SessionId,
        dialled: bool,
        now: Instant,
    ) -> Data<K> {
        Data {
            stream: Some(stream),
            session_id,
            owner,
            work: match dialled {
                true => Work::Dialling,
                false => Work::Standing,
            },
            moved: 0,
            queued: false,
            began_at: now,
            moved_at: now,
        }
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.session_id
    }

    pub(crate) fn owner(&self) -> SessionId {
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
    pub(crate) fn give_up(&mut self, services: &mut Services<K>) -> Progress<K> {
        self.finish(Err(ErrorCode::DataConnectionIdle), services)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.stream.is_none()
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
            Work::Sending(_) => !self.stream().is_writable(),
            Work::Receiving(_) => !self.stream().is_readable(),
            Work::Linger { .. } => !self.stream().is_readable() || self.stream().has_ended(),
        }
    }

    /// What the kernel told; a hint.
    pub(crate) fn notice(&mut self, ready: Readiness) {
        if let Some(stream) = &mut self.stream {
            stream.set_ready(ready);
        }
    }

    /// Begins to send; what is to be sent waits in `download`.
    pub(crate) fn send(
        &mut self,
        download: Box<Download<K>>,
        representation: Representation,
        now: Instant,
    ) {
        // A listing is written as it goes over the wire.
        let converts =
            representation == Representation::Ascii && matches!(download.source, Source::File(_));
        let ascii = converts.then(AsciiEncoder::default);
        self.work = Work::Sending(Sending { download, ascii });
        self.moved_at = now;
    }

    /// Begins to receive.
    pub(crate) fn receive(
        &mut self,
        upload: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
        representation: Representation,
        now: Instant,
    ) {
        let ascii = (representation == Representation::Ascii).then(AsciiDecoder::default);
        self.work = Work::Receiving(Receiving {
            upload,
            record,
            ascii,
        });
        self.moved_at = now;
    }

    /// The stretch that was cold is in memory, or could not be read.
    pub(crate) fn warmed_up(
        &mut self,
        result: io::Result<()>,
        services: &mut Services<K>,
    ) -> Progress<K> {
        self.moved_at = services.now();
        self.work = match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Warming(sending) => Work::Sending(sending),
            _ => unreachable!("only who warms a file up waits for that"),
        };
        match result {
            Ok(()) => Progress::Again,
            Err(error) => {
                let refusal = self.refusal_of(&error, services);
                self.finish(Err(refusal), services)
            }
        }
    }

    /// Closes it at once, whatever it is at.
    pub(crate) fn close(&mut self, services: &mut Services<K>) {
        self.stream = None;
        match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Receiving(receiving) => services.discard(receiving.upload),
            Work::Warming(_) => services.cancel_prefetch(self.session_id),
            _ => {}
        }
    }

    /// What the deadlines ask for now.
    pub(crate) fn sweep(
        &mut self,
        options: &Options,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Progress<K> {
        let since = |then| services.now().saturating_duration_since(then);
        let late = since(self.began_at) >= DATA_CONNECTION_TIMEOUT;
        let silent = since(self.moved_at) >= options.idle_timeout;
        match self.work {
            Work::Dialling if late => self.refuse(services),
            // The client may have all by now, and says nothing of that.
            Work::Linger { .. } => match self.turn(services, scratch) {
                Progress::Waiting if silent => {
                    self.finish(Err(ErrorCode::DataConnectionIdle), services)
                }
                progress => progress,
            },
            Work::Sending(_) | Work::Receiving(_) if silent => {
                self.finish(Err(ErrorCode::DataConnectionIdle), services)
            }
            _ => Progress::Waiting,
        }
    }

    /// Goes on with what there is.
    pub(crate) fn turn(
        &mut self,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Progress<K> {
        let user = self.bounded_by();
        let mut budget = user.map_or(SLICE_BUDGET_BYTES, |user| {
            services.rates_mut().allowance(user)
        });
        loop {
            let moved = match &self.work {
                Work::Dialling => return self.dialled(services),
                Work::Standing | Work::Warming(_) | Work::Closed => return Progress::Waiting,
                _ if budget == 0 => return Progress::Again,
                Work::Sending(_) => self.send_on(budget, services, scratch),
                Work::Receiving(_) => self.receive_on(budget, services, scratch),
                Work::Linger { .. } => self.linger_on(budget, services, scratch),
            };
            match moved {
                Ok(n) => {
                    budget = budget.saturating_sub(n);
                    if let Some(user) = user {
                        services.rates_mut().consume(user, n);
                    }
                }
                Err(Stop::Blocked) => return Progress::Waiting,
                Err(Stop::Ended(result)) => return self.finish(result, services),
                Err(Stop::Received(upload, record)) => {
                    self.close(services);
                    return Progress::Received(upload, record);
                }
            }
        }
    }

    /// What the client's side has answered.
    fn dialled(&mut self, services: &mut Services<K>) -> Progress<K> {
        match self.stream().connect_result(services.kernel()) {
            Ok(()) => {
                self.work = Work::Standing;
                Progress::Connected(Ok(()))
            }
            Err(StreamError::Blocked) => Progress::Waiting,
            Err(StreamError::Failed(_)) => self.refuse(services),
        }
    }

    fn refuse(&mut self, services: &mut Services<K>) -> Progress<K> {
        self.close(services);
        Progress::Connected(Err(ErrorCode::NoDataConnection))
    }

    fn finish(&mut self, result: Result<(), ErrorCode>, services: &mut Services<K>) -> Progress<K> {
        self.close(services);
        Progress::TransferDone(result)
    }

    /// Moves a part of what goes out.
    fn send_on(
        &mut self,
        budget: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let Work::Sending(sending) = &mut self.work else {
            unreachable!("called for who sends");
        };
        let stream = self.stream.as_mut().expect("it is open");
        let kernel = services.kernel();
        if sending.download.left() == 0 {
            let shut = stream.shutdown(kernel);
            self.work = Work::Linger {
                left: LINGER_BYTES_MAX,
                unconfirmed: usize::MAX,
            };
            return match shut {
                Ok(()) => Ok(0),
                Err(_) => Err(Stop::Ended(Err(ErrorCode::DataConnectionLost))),
            };
        }
        if !stream.is_writable() {
            return Err(Stop::Blocked);
        }
        if let Some(cold) = sending.download.cold(kernel, budget) {
            services.prefetch(self.session_id, cold);
            self.work = match std::mem::replace(&mut self.work, Work::Closed) {
                Work::Sending(sending) => Work::Warming(sending),
                _ => unreachable!("it was sending just now"),
            };
            return Err(Stop::Blocked);
        }
        let before = sending.download.offset;
        let sent = match &mut sending.ascii {
            None => sending.download.advance(kernel, stream, budget),
            Some(ascii) => sending
                .download
                .advance_text(kernel, stream, ascii, scratch),
        };
        match sent {
            Ok(n) => {
                self.moved += sending.download.offset - before;
                self.moved_at = services.now();
                Ok(n)
            }
            Err(StreamError::Blocked) => Err(Stop::Blocked),
            Err(StreamError::Failed(error)) => {
                Err(Stop::Ended(Err(self.refusal_of(&error, services))))
            }
        }
    }

    /// Moves a part of what comes in.
    fn receive_on(
        &mut self,
        budget: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let most = budget.min(scratch.transfer.len());
        let n = self.read(&mut scratch.transfer[..most], services)?;
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
        if let Err(refused) = receiving.upload.write(bytes) {
            let refusal = services.log_refusal(self.owner, refused);
            receiving.upload.reject(refusal);
            return Err(self.received());
        }
        self.moved += bytes.len() as u64;
        if let Some(record) = &mut receiving.record {
            record.add_bytes(bytes.len());
        }
        match n {
            0 => Err(self.received()),
            n => Ok(n),
        }
    }

    fn received(&mut self) -> Stop<K> {
        match std::mem::replace(&mut self.work, Work::Closed) {
            Work::Receiving(Receiving { upload, record, .. }) => Stop::Received(upload, record),
            _ => unreachable!("it was receiving just now"),
        }
    }

    /// Reads and drops until the client's kernel has confirmed every byte and the end behind them. To close before that
    /// could let a reset overtake them, should the client send anything.
    fn linger_on(
        &mut self,
        budget: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, Stop<K>> {
        let most = budget.min(scratch.transfer.len());
        let Work::Linger { left, unconfirmed } = &mut self.work else {
            unreachable!("called for who lingers");
        };
        let stream = self.stream.as_mut().expect("it is open");
        let lost = Err(Stop::Ended(Err(ErrorCode::DataConnectionLost)));
        match stream.drain(services.kernel(), &mut scratch.transfer[..most], left) {
            Ok(Drained::Some(n)) => {
                self.moved_at = services.now();
                Ok(n)
            }
            Ok(Drained::TooMuch) | Err(StreamError::Failed(_)) => lost,
            Ok(Drained::End) | Err(StreamError::Blocked) => {
                match stream.unsent(services.kernel()) {
                    Ok(0) => Err(Stop::Ended(Ok(()))),
                    Ok(now) => {
                        if now < *unconfirmed {
                            *unconfirmed = now;
                            self.moved_at = services.now();
                        }
                        Err(Stop::Blocked)
                    }
                    // Where that may not be asked, the client's own end has to do.
                    Err(_) if stream.has_ended() => Err(Stop::Ended(Ok(()))),
                    Err(_) => Err(Stop::Blocked),
                }
            }
        }
    }

    fn stream(&self) -> &Stream<K> {
        self.stream.as_ref().expect("it is open")
    }

    fn read(&mut self, buffer: &mut [u8], services: &Services<K>) -> Result<usize, Stop<K>> {
        let stream = self.stream.as_mut().expect("it is open");
        match stream.read(services.kernel(), buffer) {
            Ok(n) => {
                self.moved_at = services.now();
                Ok(n)
            }
            Err(StreamError::Blocked) => Err(Stop::Blocked),
            Err(StreamError::Failed(_)) => Err(Stop::Ended(Err(ErrorCode::DataConnectionLost))),
        }
    }

    /// What a failed write tells the session; a file's own fault goes to the log.
    fn refusal_of(&self, error: &io::Error, services: &Services<K>) -> ErrorCode {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof};
        match error.kind() {
            UnexpectedEof => ErrorCode::FileShrank,
            ConnectionReset | BrokenPipe | NotConnected | TimedOut => ErrorCode::DataConnectionLost,
            _ => {
                services.log_send_error(self.owner, error);
                ErrorCode::FileUnreadable
            }
        }
    }
}

/// Why a turn goes no further.
enum Stop<K: Kernel> {
    Blocked,
    Ended(Result<(), ErrorCode>),
    Received(Box<StagedUpload<K>>, Option<Box<TransferRecord>>),
}

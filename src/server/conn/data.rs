//! A data connection: dialed or accepted, then one file or listing, then its end.
//!
//! Bytes count as sent when the client's kernel has acknowledged them. An upload ends with the
//! client's sending half. The connection is closed before its session learns the result.

use std::io;
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{
    DATA_CONNECTION_TIMEOUT, LINGER_BYTES_MAX, LINGER_TIMEOUT, SLICE_BUDGET_BYTES, SWEEP_INTERVAL,
};
use crate::protocol::step::Representation;
use crate::server::conn::ascii::AsciiEncoder;
use crate::server::conn::data_upload::DataUpload;
use crate::server::conn::transfer::{Download, Sent};
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Drained, Stream, StreamError};
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::file_task::Fetched;
use crate::storage::{StagedUpload, StorageError};

/// A data connection (RFC 959, 3.2).
pub(crate) struct DataConnection<K: Kernel> {
    stream: Stream<K>,
    /// Identifies this connection to the worker that reads or writes for it.
    id: SessionId,
    /// The session that it belongs to.
    owner: SessionId,
    work: DataWork<K>,
    /// Bytes of the file that have moved.
    transferred: u64,
    began_at: Instant,
    /// When a byte last moved.
    active_at: Instant,
}

/// The state of a data connection.
enum DataWork<K: Kernel> {
    /// The server has dialed and the client has not answered.
    Dialing,
    /// Connected. The session has not begun a transfer.
    Ready,
    Sending(DataDownload<K>),
    Receiving(Box<DataUpload<K>>),
    /// Everything is written and the sending half is shut: discards input until the client's kernel
    /// has acknowledged every byte.
    Lingering {
        /// Bytes of input that may still be discarded.
        left: u64,
        /// Unacknowledged bytes at the last look.
        unsent: usize,
    },
}

struct DataDownload<K: Kernel> {
    download: Box<Download<K>>,
    encoder: Option<AsciiEncoder>,
}

/// How a time slice or a deadline of a data connection ended.
pub(crate) enum DataOutcome {
    /// The connection waits for an event, a worker, a deadline or a command.
    Idle,
    /// The budget is spent: the connection belongs at the end of the run queue.
    Again,
    /// The client has answered.
    Connected,
    /// The client has refused, or has not answered in time. The connection is to be closed.
    ConnectFailed,
    /// The transfer has ended. The connection is to be closed.
    Done(Result<(), ErrorCode>),
    /// The client has sent everything and it is written, or writing failed. The connection is to be
    /// closed and the upload published or rejected.
    Received,
    /// The client has left without the end of its data. The connection is to be closed and the
    /// upload discarded.
    Unconfirmed,
}

/// Why a transfer cannot go on.
enum DataStop {
    Blocked,
    Ended(DataOutcome),
}

impl<K: Kernel> DataConnection<K> {
    /// Takes a stream that is registered under the key of `id`.
    pub(crate) fn new(
        stream: Stream<K>,
        id: SessionId,
        owner: SessionId,
        is_dialed: bool,
        now: Instant,
    ) -> DataConnection<K> {
        DataConnection {
            stream,
            id,
            owner,
            work: match is_dialed {
                true => DataWork::Dialing,
                false => DataWork::Ready,
            },
            transferred: 0,
            began_at: now,
            active_at: now,
        }
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    pub(crate) fn owner(&self) -> SessionId {
        self.owner
    }

    /// Returns the bytes of the file that have moved.
    pub(crate) fn transferred(&self) -> u64 {
        self.transferred
    }

    /// Returns the bytes moved so far if the transfer waits for the client.
    pub(crate) fn transfer_progress(&self) -> Option<u64> {
        self.is_transferring().then_some(self.transferred)
    }

    /// Returns the upload that is being received.
    pub(crate) fn upload(&self) -> Option<&DataUpload<K>> {
        match &self.work {
            DataWork::Receiving(upload) => Some(upload),
            _ => None,
        }
    }

    /// Whether everything was sent and only the client's acknowledgement is awaited.
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(self.work, DataWork::Lingering { .. })
    }

    pub(crate) fn is_transferring(&self) -> bool {
        match &self.work {
            DataWork::Sending(sending) => !sending.download.is_fetching(),
            DataWork::Receiving(upload) => !upload.awaits_writer(),
            _ => false,
        }
    }

    /// Whether the transfer cannot go on before a worker has read or written a part of the file.
    fn awaits_worker(&self) -> bool {
        match &self.work {
            DataWork::Sending(sending) => sending.download.is_fetching(),
            DataWork::Receiving(upload) => upload.awaits_writer(),
            _ => false,
        }
    }

    /// Whether a worker reads or writes a part of the file, whose completion is awaited.
    pub(crate) fn has_worker(&self) -> bool {
        match &self.work {
            DataWork::Sending(sending) => sending.download.is_fetching(),
            DataWork::Receiving(upload) => upload.writer.is_writing(),
            _ => false,
        }
    }

    /// Returns the user whose rate limit applies to the time slices.
    pub(crate) fn rate_limited_by(&self) -> Option<UserKey> {
        self.owner.user.filter(|_| self.is_transferring())
    }

    /// Whether only an event, a worker, a deadline or a command can give the connection work.
    pub(crate) fn is_blocked(&self) -> bool {
        match &self.work {
            DataWork::Dialing | DataWork::Ready => true,
            DataWork::Sending(_) | DataWork::Receiving(_) if self.awaits_worker() => true,
            DataWork::Sending(_) => !self.stream.is_writable(),
            DataWork::Receiving(_) => !self.stream.is_readable(),
            DataWork::Lingering { .. } => !self.stream.is_readable() || self.stream.has_ended(),
        }
    }

    /// Sets the readiness that an event reports.
    pub(crate) fn set_ready(&mut self, event: Readiness) {
        self.stream.set_ready(event);
    }

    /// Begins to send. A listing is stored with the line ends of the wire and is not converted.
    pub(crate) fn send(
        &mut self,
        download: Box<Download<K>>,
        representation: Representation,
        now: Instant,
    ) {
        let is_converted = representation == Representation::Ascii && download.is_file();
        let encoder = is_converted.then(AsciiEncoder::default);
        self.work = DataWork::Sending(DataDownload { download, encoder });
        self.active_at = now;
    }

    /// Begins to receive.
    pub(crate) fn receive(&mut self, upload: DataUpload<K>, now: Instant) {
        self.work = DataWork::Receiving(Box::new(upload));
        self.active_at = now;
    }

    /// The control connection has ended. The data is received for a while, up to its end.
    pub(crate) fn abandon_upload(&mut self, now: Instant) {
        if let DataWork::Receiving(upload) = &mut self.work {
            upload.abandoned_at.get_or_insert(now);
        }
    }

    /// Resumes a download whose next range was fetched.
    pub(crate) fn end_fetch(
        &mut self,
        result: io::Result<Fetched>,
        services: &Services<K>,
    ) -> DataOutcome {
        self.active_at = services.now();
        match result {
            Ok(fetched) => {
                if let DataWork::Sending(sending) = &mut self.work {
                    sending.download.end_fetch(fetched);
                }
                DataOutcome::Again
            }
            // The device is stuck, which is logged once.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                DataOutcome::Done(Err(ErrorCode::FileUnreadable))
            }
            Err(error) => DataOutcome::Done(Err(send_error(&error, self.owner, services))),
        }
    }

    /// Resumes an upload after a worker has written.
    pub(crate) fn end_write(
        &mut self,
        result: Result<Box<StagedUpload<K>>, StorageError>,
        services: &mut Services<K>,
    ) -> DataOutcome {
        self.active_at = services.now();
        let ids = (self.id, self.owner);
        match &mut self.work {
            DataWork::Receiving(upload) => match upload.end_write(result, services, ids) {
                // The worker has dropped the file.
                Some(code) => DataOutcome::Done(Err(code)),
                None => DataOutcome::Again,
            },
            _ => DataOutcome::Again,
        }
    }

    /// Closes the connection and cancels its transfer.
    pub(crate) fn close(self, services: &mut Services<K>) {
        if self.has_worker() {
            services.transfers().cancel(self.id);
        }
        if let DataWork::Receiving(upload) = self.work {
            upload.writer.discard(services);
        }
    }

    /// Closes the connection and returns the upload that it has received.
    pub(crate) fn into_upload(self) -> Option<DataUpload<K>> {
        match self.work {
            DataWork::Receiving(upload) => Some(*upload),
            _ => None,
        }
    }

    /// Checks the deadlines. A lingering connection also looks for acknowledgements, which no event
    /// reports.
    pub(crate) fn check_deadlines(
        &mut self,
        options: &Options,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> DataOutcome {
        let since = |then| services.now().saturating_duration_since(then);
        let is_late = since(self.began_at) >= DATA_CONNECTION_TIMEOUT;
        let is_idle = since(self.active_at) >= options.idle_timeout;
        let idle = DataOutcome::Done(Err(ErrorCode::DataConnectionIdle));
        match &self.work {
            DataWork::Dialing if is_late => DataOutcome::ConnectFailed,
            DataWork::Receiving(upload)
                if upload.abandoned_at.is_some_and(|at| {
                    since(at) >= LINGER_TIMEOUT || since(self.active_at) >= SWEEP_INTERVAL
                }) =>
            {
                DataOutcome::Unconfirmed
            }
            DataWork::Lingering { .. } => match self.run_slice(services, scratch) {
                DataOutcome::Idle if is_idle => idle,
                outcome => outcome,
            },
            _ if is_idle && self.is_transferring() => idle,
            _ => DataOutcome::Idle,
        }
    }

    /// Runs one time slice.
    pub(crate) fn run_slice(
        &mut self,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> DataOutcome {
        let user = self.rate_limited_by();
        let mut budget = user.map_or(SLICE_BUDGET_BYTES, |user| {
            services.rates_mut().allowance(user)
        });
        loop {
            let moved = match &self.work {
                DataWork::Dialing => return self.check_connect(services),
                DataWork::Ready => return DataOutcome::Idle,
                DataWork::Sending(_) | DataWork::Receiving(_) if self.awaits_worker() => {
                    return DataOutcome::Idle;
                }
                DataWork::Receiving(upload) if upload.has_ended => return DataOutcome::Received,
                _ if budget == 0 => return DataOutcome::Again,
                DataWork::Sending(sending) if sending.download.left() == 0 => {
                    self.shutdown(services)
                }
                DataWork::Sending(_) => self.send_some(budget, services, scratch),
                DataWork::Receiving(_) => self.receive_some(budget, services, scratch),
                DataWork::Lingering { .. } => self.linger(budget, services, scratch),
            };
            match moved {
                Ok(n) => {
                    budget = budget.saturating_sub(n);
                    if let Some(user) = user {
                        services.rates_mut().consume(user, n);
                    }
                }
                Err(DataStop::Blocked) => return DataOutcome::Idle,
                Err(DataStop::Ended(outcome)) => return outcome,
            }
        }
    }

    fn check_connect(&mut self, services: &Services<K>) -> DataOutcome {
        match self.stream.connect_result(services.kernel()) {
            Ok(()) => {
                self.work = DataWork::Ready;
                DataOutcome::Connected
            }
            Err(StreamError::Blocked) => DataOutcome::Idle,
            Err(StreamError::Failed(_)) => DataOutcome::ConnectFailed,
        }
    }

    /// Sends a part of the download. Returns the bytes written.
    fn send_some(
        &mut self,
        budget: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, DataStop> {
        let DataWork::Sending(sending) = &mut self.work else {
            return Ok(0);
        };
        let (kernel, stream) = (services.kernel(), &mut self.stream);
        let download = &mut sending.download;
        let before = download.offset();
        let sent = match &mut sending.encoder {
            None => download.send(kernel, stream, budget),
            Some(encoder) => download.send_ascii(kernel, stream, budget, encoder, scratch),
        };
        match sent {
            Ok(Sent::Bytes(n)) => {
                self.transferred += download.offset() - before;
                self.active_at = services.now();
                Ok(n)
            }
            Ok(Sent::Awaits(range)) => {
                services.transfers().fetch(self.id, range);
                Err(DataStop::Blocked)
            }
            Err(StreamError::Blocked) => Err(DataStop::Blocked),
            Err(StreamError::Failed(error)) => {
                let code = send_error(&error, self.owner, services);
                Err(DataStop::Ended(DataOutcome::Done(Err(code))))
            }
        }
    }

    /// Everything is written: shuts the sending half and begins a lingering close.
    fn shutdown(&mut self, services: &Services<K>) -> Result<usize, DataStop> {
        if self.stream.shutdown(services.kernel()).is_err() {
            return Err(lost());
        }
        self.work = DataWork::Lingering {
            left: LINGER_BYTES_MAX,
            unsent: usize::MAX,
        };
        Ok(0)
    }

    /// Receives a part of the upload. Returns the bytes read.
    fn receive_some(
        &mut self,
        budget: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, DataStop> {
        let DataWork::Receiving(upload) = &mut self.work else {
            return Ok(0);
        };
        let most = budget.min(scratch.transfer.len());
        let buffer = &mut scratch.transfer[..most];
        let n = match self.stream.read(services.kernel(), buffer) {
            Ok(n) => n,
            Err(StreamError::Blocked) => return Err(DataStop::Blocked),
            Err(StreamError::Failed(_)) => return Err(lost()),
        };
        self.active_at = services.now();
        match upload.take(n, scratch, services, (self.id, self.owner)) {
            Some(stored) => {
                self.transferred += stored as u64;
                Ok(n)
            }
            None => Err(DataStop::Ended(DataOutcome::Received)),
        }
    }

    /// Discards input until the client's kernel has acknowledged every byte and the end. Closing
    /// earlier with unread input would send a reset, which could overtake them.
    fn linger(
        &mut self,
        budget: usize,
        services: &Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, DataStop> {
        let DataWork::Lingering { left, unsent } = &mut self.work else {
            return Ok(0);
        };
        let (kernel, stream) = (services.kernel(), &mut self.stream);
        let most = budget.min(scratch.transfer.len());
        match stream.drain(kernel, &mut scratch.transfer[..most], left) {
            Ok(Drained::Some(n)) => {
                self.active_at = services.now();
                return Ok(n);
            }
            Ok(Drained::TooMuch) | Err(StreamError::Failed(_)) => return Err(lost()),
            Ok(Drained::End) | Err(StreamError::Blocked) => {}
        }
        match stream.unsent(kernel) {
            Ok(0) => Err(DataStop::Ended(DataOutcome::Done(Ok(())))),
            Ok(now) => {
                if now < *unsent {
                    *unsent = now;
                    self.active_at = services.now();
                }
                Err(DataStop::Blocked)
            }
            // The kernel cannot tell: the client's end has to do.
            Err(_) if stream.has_ended() => Err(DataStop::Ended(DataOutcome::Done(Ok(())))),
            Err(_) => Err(DataStop::Blocked),
        }
    }
}

fn lost() -> DataStop {
    DataStop::Ended(DataOutcome::Done(Err(ErrorCode::DataConnectionLost)))
}

/// Translates a failed write into the error of the transfer. A fault of the file is logged.
fn send_error<K: Kernel>(error: &io::Error, owner: SessionId, services: &Services<K>) -> ErrorCode {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut, UnexpectedEof};
    match error.kind() {
        UnexpectedEof => ErrorCode::FileShrank,
        ConnectionReset | BrokenPipe | NotConnected | TimedOut => ErrorCode::DataConnectionLost,
        _ => {
            services.log_send_error(owner, error);
            ErrorCode::FileUnreadable
        }
    }
}

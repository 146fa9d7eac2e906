//! A control connection: its state, its limits in memory, and its deadlines. Its time slices are in
//! [`time_slice`](crate::server::conn::time_slice).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::CloseReason;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{
    CLIENT_LEFT_TIMEOUT, DRAIN_LINGER_TIMEOUT, DRAIN_QUIET_TIME, LINE_BYTES_MAX, LINE_READ_BYTES,
    LINGER_TIMEOUT, MAPPED_FILE_BYTES_MAX, SEND_QUEUE_HIGH_WATER_BYTES,
};
use crate::protocol::line;
use crate::protocol::session::Session;
use crate::protocol::step::LineAhead;
use crate::server::conn::work::{DataStage, Work};
use crate::server::net::stream::Stream;
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::session_id::{SessionId, UserKey};

/// The control connection of one session.
pub(crate) struct ControlConnection<K: Kernel> {
    pub(super) stream: Stream<K>,
    peer: SocketAddr,
    /// Distinguishes successive connections in one slot; the session number of the log.
    generation: u64,
    pub(super) session: Session,
    /// The user, from login on.
    pub(super) user: Option<UserKey>,
    pub(super) work: Work<K>,
    /// The file, listing or upload that the last response opened.
    pub(super) handle: OpenHandle<K>,
    /// Bytes left over from the last time slice. Most connections wait without.
    pub(super) rest: Option<Box<Rest>>,
    /// The rest of a line that was too long is being discarded.
    pub(super) skipping_line: bool,
    admission: Admission,
    /// When the connection was opened or, once it is closing, when that began.
    began_at: Instant,
    /// When a byte was last read or written.
    pub(super) active_at: Instant,
    /// Bytes read and written, modulo 2^32.
    pub(super) transferred: u32,
}

// An idle session may take 256 bytes in all. Without optimization mio's socket is larger.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<ControlConnection<crate::kernel::linux::Linux>>() <= 216);

/// Whether a connection counts as a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    /// A limit is exceeded: the connection closes after the rejection is sent.
    Rejected,
}

/// Bytes that one time slice leaves to the next.
pub(super) struct Rest {
    /// Input that was read and not used. It may be part of a password.
    pub(super) input: Zeroizing<Box<[u8]>>,
    /// Output that the socket did not take.
    pub(super) output: Box<[u8]>,
}

/// An expired deadline.
pub(crate) enum Expired {
    /// The session chooses the message for the idle client.
    Idle,
    /// The connection is closed without a message.
    Close(CloseReason),
}

impl<K: Kernel> ControlConnection<K> {
    pub(crate) fn new(
        stream: Stream<K>,
        peer: SocketAddr,
        generation: u64,
        admission: Admission,
        session: Session,
        now: Instant,
    ) -> ControlConnection<K> {
        ControlConnection {
            stream,
            peer,
            generation,
            session,
            user: None,
            work: Work::Lines,
            handle: OpenHandle::Nothing,
            rest: None,
            skipping_line: false,
            admission,
            began_at: now,
            active_at: now,
            transferred: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn user(&self) -> Option<UserKey> {
        self.user
    }

    pub(crate) fn admission(&self) -> Admission {
        self.admission
    }

    /// Returns the session's identity; `key` is the connection's slot.
    pub(crate) fn session_id(&self, key: usize) -> SessionId {
        SessionId {
            key,
            generation: self.generation,
            peer: self.peer,
            user: self.user,
        }
    }

    /// Sets the readiness that an event reports.
    pub(crate) fn set_ready(&mut self, event: Readiness) {
        self.stream.set_ready(event);
    }

    pub(crate) fn is_transferring(&self) -> bool {
        self.work.is_transferring()
    }

    /// Whether the session waits for a completion of a request, of a part of its transfer or of a
    /// data connection.
    pub(crate) fn awaits_completion(&self) -> bool {
        match self.work {
            Work::Request { .. } | Work::DataCommand | Work::LinesDuringTransfer { .. } => true,
            _ => self.work.has_worker(),
        }
    }

    /// Whether a data connection is being made or in use while lines are read.
    pub(crate) fn reads_lines_during_transfer(&self) -> bool {
        matches!(self.work, Work::LinesDuringTransfer { .. })
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.work.is_closing()
    }

    /// Whether everything is written and only the client's end is awaited.
    pub(crate) fn is_lingering(&self) -> bool {
        matches!(self.work, Work::Lingering { .. })
    }

    /// Whether a shutdown no longer waits for the client's end: it has acknowledged everything and
    /// had time to read it. Further input causes a reset, which could discard what it has not read.
    pub(super) fn ends_lingering(&self, kernel: &K, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        let had_time = since(self.active_at) >= DRAIN_QUIET_TIME
            || since(self.began_at) >= DRAIN_LINGER_TIMEOUT;
        had_time && matches!(self.stream.unsent(kernel), Ok(0))
    }

    /// Whether the client has closed its sending half without saying QUIT first. It may have been
    /// killed, and its upload may be incomplete.
    pub(crate) fn has_left(&self) -> bool {
        let has_ended = self.stream.has_ended();
        has_ended && !self.session.is_quitting() && !self.holds(LineAhead::Quit)
    }

    /// After a reset: whether the session goes on until all of its upload is received, as after the
    /// end of the client's input. A client that closes its socket before it has read a reply causes
    /// a reset.
    pub(super) fn outlives_reset(&mut self) -> bool {
        let is_receiving = self.reads_lines_during_transfer()
            && self.session.is_receiving_data()
            && !self.work.is_publishing_data();
        if is_receiving {
            self.stream.set_ended();
        }
        is_receiving
    }

    /// Whether a certain command is among the lines that wait for the end of a transfer.
    fn holds(&self, command: LineAhead) -> bool {
        let input = self.rest.as_ref().map_or(&[][..], |rest| &rest.input);
        self.has_ahead(command, input)
    }

    /// Whether a certain command is among the lines of an input.
    pub(super) fn has_ahead(&self, command: LineAhead, input: &[u8]) -> bool {
        let mut lines = line::lines(input, self.stream.has_ended());
        lines.any(|line| self.session.line_ahead(line) == Some(command))
    }

    /// Whether the client has closed its sending half, and has sent nothing that waits.
    fn has_nothing_ahead(&self) -> bool {
        self.stream.has_ended() && self.rest.is_none()
    }

    /// Whether the lines that wait for the end of a transfer leave no room for a read.
    fn is_input_full(&self) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|rest| rest.input.len() > LINE_BYTES_MAX)
    }

    /// Whether only an event, a completion or a deadline can give the connection work.
    pub(crate) fn is_blocked(&self) -> bool {
        match self.work {
            _ if self.has_output() => !self.stream.is_writable(),
            Work::DataCommand => true,
            _ if self.work.watches_client() => {
                self.stream.has_ended() || self.is_input_full() || !self.stream.is_readable()
            }
            Work::Receiving(_) if self.work.awaits_worker() => true,
            Work::Sending(_) => !self.stream.is_writable(),
            Work::LinesDuringTransfer { .. } if self.stream.has_ended() => true,
            Work::LinesDuringTransfer { .. } if self.is_input_full() => true,
            Work::Lines
            | Work::LinesDuringTransfer { .. }
            | Work::Request { .. }
            | Work::Receiving(_)
            | Work::Lingering { .. } => !self.stream.is_readable(),
            Work::Closing { .. } => false,
        }
    }

    /// Asserts the invariants of a connection between two ticks.
    pub(crate) fn assert_invariants(&self) {
        // A send queue at its mark takes no further line, so one file and one response exceed it.
        let output_max = SEND_QUEUE_HIGH_WATER_BYTES
            + MAPPED_FILE_BYTES_MAX as usize
            + SEND_QUEUE_HIGH_WATER_BYTES;
        if let Some(rest) = &self.rest {
            let (input, output) = (rest.input.len(), rest.output.len());
            assert!(
                input < LINE_BYTES_MAX + LINE_READ_BYTES,
                "{input} bytes of input are kept"
            );
            assert!(output <= output_max, "{output} bytes of output are kept");
        }
        let has_transfer = matches!(self.work, Work::Sending(_) | Work::Receiving(_));
        assert!(
            !has_transfer || matches!(self.handle, OpenHandle::Nothing),
            "a transfer is in progress while another file is open"
        );
    }

    fn has_output(&self) -> bool {
        let rest = self.rest.as_ref();
        rest.is_some_and(|rest| !rest.output.is_empty())
    }

    /// Returns the user whose rate limit applies to the time slices. None applies while the
    /// connection is closing, nor to commands during a data transfer: ABOR and the end of the
    /// connection must not wait.
    pub(crate) fn rate_limited_by(&self) -> Option<UserKey> {
        let is_exempt = self.is_closing() || self.reads_lines_during_transfer();
        self.user.filter(|_| !is_exempt)
    }

    /// Returns the bytes moved so far if a transfer waits for the client.
    pub(crate) fn transfer_progress(&self) -> Option<u64> {
        let transferred = u64::from(self.transferred);
        self.is_transferring().then_some(transferred)
    }

    /// Notes how many bytes of the file the session's data connection has moved, and the stage of
    /// the transfer.
    pub(crate) fn set_data_progress(&mut self, bytes: u64, reached: DataStage) {
        if let Work::LinesDuringTransfer { transferred, stage } = &mut self.work {
            *transferred = bytes;
            *stage = reached.max(*stage);
        }
    }

    /// Returns the grants of the session; `None` without a valid login.
    pub(crate) fn access(&self) -> Option<&Arc<Access>> {
        self.session.access()
    }

    /// Gives the session its access after a reload; `None` if its login was revoked.
    pub(crate) fn set_access(&mut self, access: Option<Arc<Access>>) {
        self.session.reloaded(access);
    }

    /// Returns the deadline that has expired, if any. `is_queued`: the connection waits for the
    /// event loop, not for its client.
    pub(crate) fn expired(
        &self,
        now: Instant,
        is_queued: bool,
        options: &Options,
    ) -> Option<Expired> {
        let since = |then| now.saturating_duration_since(then);
        let is_idle = !is_queued && since(self.active_at) >= options.idle_timeout;
        match &self.work {
            // A client that has closed its sending half may still read the response, but not for
            // ever: it may have closed altogether.
            _ if self.work.watches_client() && self.has_nothing_ahead() => {
                let is_over = since(self.active_at) >= CLIENT_LEFT_TIMEOUT;
                is_over.then_some(Expired::Close(CloseReason::ClientLeft))
            }
            // The session waits for the server.
            Work::Request { .. } | Work::DataCommand => None,
            Work::Sending(_) | Work::Receiving(_) if self.work.awaits_worker() => None,
            // The data connection has deadlines of its own.
            Work::LinesDuringTransfer { .. } => None,
            Work::Lines => {
                let is_late = since(self.began_at) >= options.login_timeout;
                let no_login = is_late && !self.session.is_logged_in();
                (is_idle || no_login).then_some(Expired::Idle)
            }
            Work::Sending(_) | Work::Receiving(_) => {
                is_idle.then_some(Expired::Close(CloseReason::Idle))
            }
            Work::Closing { reason } | Work::Lingering { reason, .. } => {
                let is_over = since(self.began_at) >= LINGER_TIMEOUT;
                is_over.then_some(Expired::Close(*reason))
            }
        }
    }

    /// Begins the close: pending output is written first.
    pub(super) fn begin_close(&mut self, reason: CloseReason, now: Instant) {
        self.work = Work::Closing { reason };
        self.began_at = now;
    }

    pub(super) fn take_handle(&mut self) -> OpenHandle<K> {
        std::mem::replace(&mut self.handle, OpenHandle::Nothing)
    }

    /// Closes the socket, releases the connection's handles and cancels its pending work.
    pub(crate) fn close(self, key: usize, services: &mut Services<K>) {
        if self.work.has_worker() {
            services.transfers().cancel(self.session_id(key));
        }
        if let Work::Request { .. } = self.work {
            services.cancel(self.session_id(key));
        }
        if let Some(user) = self.user {
            services.end_session(user);
        }
        if let OpenHandle::Upload(staged) = self.handle {
            services.transfers().discard(staged);
        }
        if let Work::Receiving(upload) = self.work
            && let Some(writer) = upload.writer
        {
            writer.discard(services);
        }
    }
}

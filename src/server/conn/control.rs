//! One client's socket, in its slot: what it is at, what it holds, when it is overdue. What it does in a turn stands in
//! [`turn`].
//!
//! Must not know: other connections, what a line or a sentence means.

pub(crate) mod actions;
pub(crate) mod drive;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::error::CloseReason;
use crate::kernel::{Kernel, Readiness};
use crate::limits::{LINE_BYTES_MAX, LINE_READ_BYTES, LINGER_TIMEOUT};
use crate::limits::{MAPPED_FILE_BYTES_MAX, SEND_QUEUE_HIGH_WATER_BYTES};
use crate::protocol::session::Session;
use crate::protocol::step::Input;
pub(crate) use crate::server::conn::control::drive::Outcome;
use crate::server::conn::control::drive::{Stop, TimeSlice};
use crate::server::conn::transfer::{Download, Receiving};
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Stream, StreamError};
use crate::server::options::Options;
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::response::Completion;
use crate::server::session_id::SessionId;
use crate::server::session_id::UserKey;

/// One TCP connection in its slot.
pub(crate) struct Connection<K: Kernel> {
    pub(crate) stream: Stream<K>,
    peer: SocketAddr,
    /// Tells the tenants of a slot apart; the session number of the log.
    generation: u64,
    session: Session,
    /// Whose session it is, once he has logged in.
    user: Option<UserKey>,
    work: Work<K>,
    held: OpenHandle<K>,
    /// What the last turn left over; most connections wait without.
    rest: Option<Box<Rest>>,
    /// A data connection is made, or bytes move over it, while lines are read.
    engaged: bool,
    /// The rest of a line that was too long is thrown away.
    skipping: bool,
    /// It stands in the run queue, or is parked for its rate.
    pub(crate) queued: bool,
    /// It is to be removed when the batch of events is through.
    pub(crate) finished: bool,
    /// There was no room for its session: it is only told so.
    turned_away: bool,
    /// When it was opened, or since it leaves, when its goodbye began.
    began_at: Instant,
    /// When a byte was last moved either way.
    moved_at: Instant,
    /// Bytes that were moved either way, from 0 again behind the largest.
    moved: u32,
}

// Thousands of connections wait at once, and each is allowed 256 bytes in all. Without optimisation mio's socket is larger.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Connection<crate::kernel::linux::Linux>>() <= 216);

/// What one turn leaves to the next.
#[derive(Default)]
struct Rest {
    /// Input that was read and not yet taken. It may be a part of a password.
    input: Zeroizing<Box<[u8]>>,
    /// Output that was due and not yet written.
    output: Box<[u8]>,
}

/// What the connection is at.
enum Work<K: Kernel> {
    /// A line is awaited.
    Lines,
    /// The services is to answer.
    Response,
    /// Boxed, as the next two: a transfer that lasts is worth it, and those who wait are many.
    Sending(Box<Download<K>>),
    /// A worker waits for the disk.
    Warming(Box<Download<K>>),
    Receiving(Box<Receiving<K>>),
    /// What is owed is flushed, then the sending half is shut.
    Goodbye {
        reason: CloseReason,
    },
    /// After our last byte: reading and dropping until the client closes.
    Linger {
        reason: CloseReason,
        left: u64,
    },
}

/// What a deadline asks for.
pub(crate) enum Overdue {
    /// The session is to be told that it was idle.
    Idle,
    /// The connection ends without a word.
    End(CloseReason),
}

impl<K: Kernel> Connection<K> {
    pub(crate) fn new(
        stream: Stream<K>,
        peer: SocketAddr,
        generation: u64,
        turned_away: bool,
        session: Session,
        now: Instant,
    ) -> Connection<K> {
        Connection {
            stream,
            peer,
            generation,
            session,
            user: None,
            work: Work::Lines,
            held: OpenHandle::Nothing,
            rest: None,
            engaged: false,
            skipping: false,
            queued: false,
            finished: false,
            turned_away,
            began_at: now,
            moved_at: now,
            moved: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn session_id(&self, key: usize) -> SessionId {
        SessionId {
            key,
            generation: self.generation,
            peer: self.peer,
            user: self.user,
        }
    }

    /// What the kernel told; a hint.
    pub(crate) fn notice(&mut self, ready: Readiness) {
        self.stream.set_ready(ready);
    }

    pub(crate) fn is_transferring(&self) -> bool {
        matches!(self.work, Work::Sending(_) | Work::Receiving(_))
    }

    pub(crate) fn awaits_answer(&self) -> bool {
        self.engaged || matches!(self.work, Work::Response | Work::Warming(_))
    }

    /// Whether the client has closed its sending half without a word, or all of it is over.
    pub(crate) fn has_vanished(&self) -> bool {
        self.finished || (self.stream.has_ended() && !self.session.is_quitting())
    }

    pub(crate) fn is_turned_away(&self) -> bool {
        self.turned_away
    }

    /// Whether there is nothing to do before an event, an answer or a deadline.
    pub(crate) fn is_blocked(&self) -> bool {
        match self.work {
            _ if self.owes_output() => !self.stream.is_writable(),
            Work::Response | Work::Warming(_) => true,
            Work::Sending(_) => !self.stream.is_writable(),
            Work::Lines if self.engaged && self.stream.has_ended() => true,
            Work::Lines | Work::Receiving(_) | Work::Linger { .. } => !self.stream.is_readable(),
            Work::Goodbye { .. } => false,
        }
    }

    /// Asserts what must hold of it between two turns: what it keeps in memory is bounded, so that an send_queue at its mark
    /// has taken no further line, and a transfer and an open question never exist together.
    pub(crate) fn check(&self) {
        let most = SEND_QUEUE_HIGH_WATER_BYTES
            + MAPPED_FILE_BYTES_MAX as usize
            + SEND_QUEUE_HIGH_WATER_BYTES;
        if let Some(rest) = &self.rest {
            let (input, output) = (rest.input.len(), rest.output.len());
            assert!(
                input < LINE_BYTES_MAX + LINE_READ_BYTES,
                "{input} bytes of input are kept"
            );
            assert!(output <= most, "{output} bytes of output are kept");
        }
        let transfers = self.is_transferring() || matches!(self.work, Work::Warming(_));
        assert!(
            !transfers || matches!(self.held, OpenHandle::Nothing),
            "something else is open beside a transfer"
        );
    }

    fn owes_output(&self) -> bool {
        self.rest
            .as_ref()
            .is_some_and(|rest| !rest.output.is_empty())
    }

    /// Whose session it is, once he has logged in.
    pub(crate) fn user(&self) -> Option<UserKey> {
        self.user
    }

    /// Whose rate its turns wait for. A goodbye waits for none, nor do lines beside a data connection: an ABOR is heard at
    /// once, and so is that the client has left.
    pub(crate) fn bounded_by(&self) -> Option<UserKey> {
        let leaves = matches!(self.work, Work::Goodbye { .. } | Work::Linger { .. });
        self.user.filter(|_| !leaves && !self.engaged)
    }

    /// Bytes that it has moved, where a transfer waits for its client.
    pub(crate) fn progress(&self) -> Option<u64> {
        (!self.queued && self.is_transferring()).then_some(u64::from(self.moved))
    }

    pub(crate) fn access(&self) -> Option<&Arc<Access>> {
        self.session.access()
    }

    pub(crate) fn reloaded(&mut self, access: Option<Arc<Access>>) {
        self.session.reloaded(access);
    }

    /// What the deadlines ask for now, if anything: an input for the session where a line is awaited, else the end.
    pub(crate) fn overdue(&self, now: Instant, options: &Options) -> Option<Overdue> {
        // Who stands in a queue waits for us.
        let silent =
            !self.queued && now.saturating_duration_since(self.moved_at) >= options.idle_timeout;
        match &self.work {
            // The services's own work is what is waited for.
            Work::Response | Work::Warming(_) => None,
            // The data connection has deadlines of its own.
            Work::Lines if self.engaged => None,
            Work::Lines => {
                let login_time = now.saturating_duration_since(self.began_at);
                let late = !self.session.is_logged_in() && login_time >= options.login_timeout;
                (silent || late).then_some(Overdue::Idle)
            }
            Work::Sending(_) | Work::Receiving(_) => {
                silent.then_some(Overdue::End(CloseReason::Idle))
            }
            Work::Goodbye { reason } | Work::Linger { reason, .. } => {
                let over = now.saturating_duration_since(self.began_at) >= LINGER_TIMEOUT;
                over.then_some(Overdue::End(*reason))
            }
        }
    }

    /// Gives the session its first input, then takes a turn. What the client has said already is answered in the same
    /// write.
    pub(crate) fn begin(
        &mut self,
        key: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Outcome {
        let mut turn = TimeSlice::begin(self, key, services, scratch);
        turn.step(Input::Begin);
        match turn.receive_lines() {
            Ok(()) | Err(Stop::Blocked) => turn.run(),
            Err(Stop::Finished(reason)) => turn.finish(Outcome::Finished(reason)),
        }
    }

    /// Gives the session one input that no line brought (an idle one, the stop, that there is no room), then takes a turn.
    pub(crate) fn tell(
        &mut self,
        key: usize,
        input: Input<'_>,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Outcome {
        assert!(
            matches!(self.work, Work::Lines) && !self.engaged,
            "only who awaits a line is told"
        );
        let mut turn = TimeSlice::begin(self, key, services, scratch);
        turn.step(input);
        turn.run()
    }

    /// Gives the session what it asked for, then takes a turn.
    pub(crate) fn reply(
        &mut self,
        key: usize,
        reply: Completion<K>,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Outcome {
        assert!(self.awaits_answer(), "a reply without a question");
        self.moved_at = services.now();
        let mut turn = TimeSlice::begin(self, key, services, scratch);
        match reply {
            Completion::Prefetched(Ok(())) => turn.connection.go_on_sending(),
            Completion::Prefetched(Err(error)) => {
                let reason = turn.ending_of(&error);
                return turn.finish(Outcome::Finished(reason));
            }
            reply => {
                let input = turn.unpack(reply);
                turn.step(input);
            }
        }
        turn.run()
    }

    /// Goes on with what there is.
    pub(crate) fn turn(
        &mut self,
        key: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Outcome {
        TimeSlice::begin(self, key, services, scratch).run()
    }

    /// Goes on as in a turn, and reads up to the end even if no event has told of it yet.
    pub(crate) fn look_for_end(
        &mut self,
        key: usize,
        services: &mut Services<K>,
        scratch: &mut Scratch<K>,
    ) -> Outcome {
        let announced = self.stream.expect_end();
        let outcome = self.turn(key, services, scratch);
        self.stream.restore_end(announced);
        outcome
    }

    fn wait_for_disk(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Lines) {
            Work::Sending(download) => Work::Warming(download),
            _ => unreachable!("only who sends a file waits for it"),
        };
    }

    /// The stretch that was cold is in memory.
    fn go_on_sending(&mut self) {
        self.work = match std::mem::replace(&mut self.work, Work::Lines) {
            Work::Warming(download) => Work::Sending(download),
            _ => unreachable!("only who warms a file up waits for that"),
        };
    }

    fn take_held(&mut self) -> OpenHandle<K> {
        std::mem::replace(&mut self.held, OpenHandle::Nothing)
    }

    fn leave(&mut self, reason: CloseReason, now: Instant) {
        self.work = Work::Goodbye { reason };
        self.began_at = now;
    }

    fn receive(&mut self, kernel: &K, buffer: &mut [u8]) -> Result<usize, Stop> {
        self.stream
            .read(kernel, buffer)
            .map_err(|error| match error {
                StreamError::Blocked => Stop::Blocked,
                StreamError::Failed(_) => Stop::Finished(CloseReason::Reset),
            })
    }

    /// Lets go of what a half-done transfer holds, when the connection ends.
    pub(crate) fn close(self, key: usize, services: &mut Services<K>) {
        match self.work {
            // What the event_loop is to do with a data connection it has let go of.
            Work::Response if !self.engaged => services.cancel(self.session_id(key)),
            Work::Warming(_) => services.cancel_prefetch(self.session_id(key)),
            _ => {}
        }
        if let Some(user) = self.user {
            services.end_session(user);
        }
        if let OpenHandle::Upload(upload) = self.held {
            services.discard(upload);
        }
        if let Work::Receiving(receiving) = self.work
            && let Some(upload) = receiving.upload
        {
            services.discard(upload);
        }
    }
}

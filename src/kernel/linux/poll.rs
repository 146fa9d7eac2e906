//! The poll (epoll(7) through mio), its waker, and signals as events (signalfd(2)).

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use mio::event::{Event, Source};
use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token, Waker};
use nix::sys::signal::{SigSet, Signal as SignalNumber};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::kernel::linux::ffi::{ignore_signal, retry};
use crate::kernel::types::{Readiness, Signal};
use crate::limits;

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);

const EXTERNAL: Token = Token(usize::MAX - 2);

/// Tokens from here on are reserved.
const RESERVED_TOKENS: usize = EXTERNAL.0;

/// Both directions, and urgent data.
const SOCKET_EVENTS: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

/// The poll of the process.
pub(super) struct Poller {
    poll: Mutex<PollState>,
    registry: Registry,
    waker: Waker,
    signals: SignalFd,
    /// Signals raised inside the process.
    raised: Mutex<VecDeque<Signal>>,
    /// Whether there may be a signal, so that a tick without one costs no call.
    has_signals: AtomicBool,
}

struct PollState {
    poll: mio::Poll,
    events: Events,
}

impl Poller {
    /// Opens the poll, and blocks SIGTERM, SIGINT and SIGHUP for [`Poller::next_signal`]. Ignores
    /// SIGPIPE and SIGXFSZ: the calls return EPIPE and EFBIG. Call it before any thread starts,
    /// since threads inherit the blocked signals.
    pub(super) fn new() -> io::Result<Poller> {
        let mut blocked = SigSet::empty();
        for number in [
            SignalNumber::SIGTERM,
            SignalNumber::SIGINT,
            SignalNumber::SIGHUP,
        ] {
            blocked.add(number);
        }
        blocked.thread_block()?;
        for number in [SignalNumber::SIGPIPE, SignalNumber::SIGXFSZ] {
            ignore_signal(number)?;
        }
        let signals =
            SignalFd::with_flags(&blocked, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        let events = Events::with_capacity(limits::EVENTS_PER_TICK_MAX);
        let poller = Poller {
            poll: Mutex::new(PollState { poll, events }),
            registry,
            waker,
            signals,
            raised: Mutex::default(),
            has_signals: AtomicBool::new(false),
        };
        poller.watch_reserved(poller.signals.as_raw_fd(), SIGNALS)?;
        Ok(poller)
    }

    /// Waits for events, and replaces `ready` by them. Calls `external` for events of external
    /// descriptors, once for all of them.
    pub(super) fn poll(
        &self,
        ready: &mut Vec<Readiness>,
        timeout: Option<Duration>,
        external: impl Fn(),
    ) -> io::Result<()> {
        ready.clear();
        let mut state = self.poll.lock().expect("a poll does not panic");
        let PollState { poll, events } = &mut *state;
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut is_external_ready = false;
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                SIGNALS => self.has_signals.store(true, Ordering::Relaxed),
                EXTERNAL => is_external_ready = true,
                token => ready.push(readiness(token, event)),
            }
        }
        drop(state);
        if is_external_ready {
            external();
        }
        Ok(())
    }

    pub(super) fn wake(&self) {
        self.waker.wake().expect("a write to an eventfd succeeds");
    }

    pub(super) fn next_signal(&self) -> Option<Signal> {
        if !self.has_signals.load(Ordering::Relaxed) {
            return None;
        }
        if let Some(signal) = self.raised().pop_front() {
            return Some(signal);
        }
        match retry(|| self.signals.read_signal()) {
            Ok(Some(info)) if info.ssi_signo == SignalNumber::SIGHUP as u32 => Some(Signal::Reload),
            Ok(Some(_)) => Some(Signal::Stop),
            Ok(None) | Err(_) => {
                self.has_signals.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// Adds a signal from inside the process.
    pub(super) fn raise(&self, signal: Signal) {
        self.raised().push_back(signal);
        self.has_signals.store(true, Ordering::Relaxed);
    }

    fn raised(&self) -> MutexGuard<'_, VecDeque<Signal>> {
        self.raised.lock().expect("no holder panics")
    }

    /// Registers a listener.
    pub(super) fn watch_listener(
        &self,
        listener: &mut impl Source,
        token: usize,
    ) -> io::Result<()> {
        assert!(token < RESERVED_TOKENS, "the token is reserved");
        self.registry
            .register(listener, Token(token), Interest::READABLE)
    }

    /// Registers a socket for both directions.
    pub(super) fn watch_socket(&self, socket: &mut impl Source, token: usize) -> io::Result<()> {
        assert!(token < RESERVED_TOKENS, "the token is reserved");
        self.registry.register(socket, Token(token), SOCKET_EVENTS)
    }

    /// Registers a descriptor for reading, with a reserved token.
    fn watch_reserved(&self, fd: RawFd, token: Token) -> io::Result<()> {
        self.registry
            .register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Registers an external descriptor for reading.
    pub(super) fn watch_external(&self, fd: RawFd) -> io::Result<()> {
        self.watch_reserved(fd, EXTERNAL)
    }

    /// Deregisters a descriptor that stays open in another process, and would cause events here
    /// even after it is closed (epoll(7)).
    pub(super) fn unwatch(&self, fd: RawFd) {
        let _ = self.registry.deregister(&mut SourceFd(&fd));
    }
}

fn readiness(token: Token, event: &Event) -> Readiness {
    Readiness {
        token: token.0,
        readable: event.is_readable() || event.is_read_closed() || event.is_error(),
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        ended: event.is_read_closed() || event.is_error() || event.is_priority(),
    }
}

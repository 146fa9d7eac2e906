//! The event loop and the order of one tick, which is the scheduling policy.
//!
//! Readiness is a hint that sets flags; a slot whose flag is false has blocked since. Slots are
//! freed only at the end of a tick.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;

use crate::config::Home;
use crate::domain::error::CloseReason;
use crate::kernel::{Kernel, Milestone, Piece, Readiness, Signal};
use crate::limits::{EVENTS_PER_TICK_MAX, REJECTED_CONNECTIONS_MAX};
use crate::protocol::session::Dialect;
use crate::protocol::step::Input;
use crate::server::conn::control::{Admission, ControlConnection};
use crate::server::event_loop::accept::{AcceptRound, Accepted, Acceptor};
use crate::server::event_loop::connections::Removed;
use crate::server::event_loop::data::log_register_failed;
use crate::server::event_loop::invariants;
use crate::server::event_loop::passive::FIRST_PASSIVE;
use crate::server::event_loop::scheduler::Scheduler;
use crate::server::event_loop::shutdown::{Shutdown, ShutdownStep, Stopped};
use crate::server::event_loop::slot::Occupant;
use crate::server::event_loop::sweep::{Finding, Sweep};
use crate::server::net::stream::Stream;
use crate::server::options::Options;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::service::Services;
use crate::server::workers::lanes::Workers;

/// Tokens from here on are listeners; those below are keys of slots.
const FIRST_LISTENER: usize = usize::MAX / 2;

/// Returns the token that the nth listener is registered with.
pub fn listener_token(index: usize) -> usize {
    FIRST_LISTENER + index
}

/// The event loop with all connections and services.
pub struct EventLoop<K: Kernel> {
    kernel: Arc<K>,
    options: Options,
    acceptor: Acceptor<K>,
    scheduler: Scheduler<K>,
    sweep: Sweep,
    shutdown: Shutdown,
    /// The events of a tick.
    ready: Vec<Readiness>,
}

impl<K: Kernel> EventLoop<K> {
    /// Creates a loop without listeners. `workers` may be without threads, for a simulation.
    pub(crate) fn new(
        kernel: Arc<K>,
        home: Home,
        workers: Workers<K>,
        options: Options,
    ) -> EventLoop<K> {
        let services = Services::new(kernel.clone(), home, workers, options.clone());
        EventLoop {
            sweep: Sweep::new(kernel.now(), &options),
            shutdown: Shutdown::new(options.drain_timeout),
            acceptor: Acceptor::new(),
            scheduler: Scheduler::new(services, &options),
            ready: Vec::with_capacity(EVENTS_PER_TICK_MAX),
            kernel,
            options,
        }
    }

    /// Creates a loop whose jobs run on the caller's thread, by [`EventLoop::run_job`]: for
    /// simulations and benchmarks.
    pub fn without_threads(kernel: Arc<K>, home: Home, options: Options) -> EventLoop<K> {
        let workers = Workers::without_threads(kernel.clone());
        EventLoop::new(kernel, home, workers, options)
    }

    /// Opens a listener for a dialect and returns its address with the port chosen.
    pub fn listen(&mut self, address: SocketAddr, dialect: Dialect) -> io::Result<SocketAddr> {
        let token = listener_token(self.acceptor.listeners());
        self.adopt(self.kernel.listen(address, token)?, dialect)
    }

    /// Takes a listener that was registered with its [`listener_token`].
    pub(crate) fn adopt(
        &mut self,
        handle: K::Listener,
        dialect: Dialect,
    ) -> io::Result<SocketAddr> {
        let address = self.kernel.listener_address(&handle)?;
        self.acceptor.add_listener(handle, dialect);
        Ok(address)
    }

    /// Removes, on workers, the temporary files that an earlier crash has left.
    pub fn sweep_orphans(&mut self) {
        self.scheduler.services.sweep_orphans();
    }

    /// Runs until a signal has stopped the loop.
    ///
    /// # Errors
    /// Fails if the kernel's poll does.
    pub fn run(&mut self) -> io::Result<Stopped> {
        self.kernel.report(Milestone::Ready);
        loop {
            self.tick()?;
            if let Some(stopped) = self.stopped() {
                return Ok(stopped);
            }
        }
    }

    /// Runs one tick.
    ///
    /// # Errors
    /// Fails if the kernel's poll does.
    pub fn tick(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.kernel.poll(&mut ready, Some(self.poll_timeout()))?;
        self.scheduler.services.begin_tick(self.kernel.now());
        while let Some(signal) = self.kernel.next_signal() {
            self.handle_signal(signal);
        }
        for event in &ready {
            self.set_listener_ready(event.token);
        }
        // Before the events of control connections: a command may close the port that a client has
        // just connected to.
        self.accept();
        self.scheduler.accept_data();
        self.scheduler.collect_completions();
        self.scheduler.deliver_completions();
        self.scheduler.apply_reload();
        for event in &ready {
            self.scheduler.handle_event(*event);
        }
        self.ready = ready;
        self.scheduler.check_lingering();
        self.scheduler.run_released();
        self.scheduler.run_queued();
        self.scheduler.deliver_completions();
        if self.now() >= self.sweep.next() {
            self.run_sweep();
        }
        self.remove_closed();
        Ok(())
    }

    /// Returns how long the poll may wait.
    fn poll_timeout(&self) -> Duration {
        let passive = &self.scheduler.data.passive;
        if self.acceptor.is_ready() || passive.is_ready() || self.scheduler.has_queued() {
            return Duration::ZERO;
        }
        let due = self.scheduler.next_due();
        let next = due.map_or(self.sweep.next(), |due| due.min(self.sweep.next()));
        next.saturating_duration_since(self.kernel.now())
    }

    /// Returns the time of this tick.
    fn now(&self) -> Instant {
        self.scheduler.services.now()
    }

    fn set_listener_ready(&mut self, token: usize) {
        if let Some(port) = token.checked_sub(FIRST_PASSIVE) {
            self.scheduler.data.passive.set_ready(port);
        } else if let Some(index) = token.checked_sub(FIRST_LISTENER) {
            self.acceptor.set_ready(index);
        }
    }

    fn handle_signal(&mut self, signal: Signal) {
        let sessions = self.scheduler.connections.len();
        match signal {
            Signal::Reload => {
                if let Some(transfer_log) = &self.options.xferlog {
                    transfer_log.reopen();
                }
                self.scheduler.services.request_reload();
            }
            Signal::Stop => {
                let step = self.shutdown.stop(self.now());
                self.perform_shutdown_step(step);
            }
            Signal::Relieved => {
                info!("event=relieved sessions={sessions}");
                self.acceptor.close_listeners();
                self.scheduler.data.passive.retire();
                self.shutdown.hand_over(self.now());
            }
        }
    }

    fn perform_shutdown_step(&mut self, step: ShutdownStep) {
        let connections = &mut self.scheduler.connections;
        match step {
            ShutdownStep::Drain => {
                info!("event=drain sessions={}", connections.len());
                self.kernel.report(Milestone::Stopping);
                self.acceptor.close_listeners();
                self.scheduler.drain();
            }
            ShutdownStep::CutOff => self.cut_off(),
            ShutdownStep::StopAtOnce => {
                info!("event=stop how=at-once sessions={}", connections.len());
                // The process may outlive the loop, in a call on a disk.
                self.cut_off();
            }
        }
    }

    fn cut_off(&mut self) {
        for key in self.scheduler.connections.keys() {
            self.close_control(key, CloseReason::DrainTimeout);
        }
    }

    /// Accepts connections, a bounded number from each listener.
    fn accept(&mut self) {
        let mut round = AcceptRound::default();
        while let Some(accepted) = self.acceptor.accept_next(&self.kernel, &mut round) {
            self.admit(accepted);
        }
    }

    /// Puts a new connection into a slot, with a session or with the reason why it gets none.
    fn admit(&mut self, accepted: Accepted<K>) {
        let Accepted {
            socket,
            peer,
            dialect,
        } = accepted;
        // A client that sends lines at once may have sent them already.
        let mut stream = Stream::new(socket, true);
        let is_local = dialect != Dialect::Menu && is_local(&stream, peer, &*self.kernel);
        let mut session = dialect.session(peer, is_local);
        let blocked = self.scheduler.services.is_blocked(ClientPrefix::of(peer));
        let first = self.acceptor.first_input(peer, blocked, &self.options);
        let admission = match first {
            Input::Begin => Admission::Admitted,
            _ => Admission::Rejected,
        };
        let is_rejected = admission == Admission::Rejected;
        if is_rejected && self.acceptor.rejected() >= REJECTED_CONNECTIONS_MAX {
            // No slot: a fresh socket takes this one write.
            let mut text = Vec::new();
            session.step(first, &mut text);
            let _ = stream.send(&*self.kernel, &[Piece::Bytes(&text)], false);
            return;
        }
        let now = self.now();
        let connections = &mut self.scheduler.connections;
        let generation = connections.next_generation();
        let inserted = connections.insert(&self.kernel, stream, |stream, _| {
            let control = ControlConnection::new(stream, peer, generation, admission, session, now);
            Occupant::Control(control)
        });
        let key = match inserted {
            Ok(key) => key,
            Err(error) => return log_register_failed(generation, &error),
        };
        info!("session={generation} event=connect from={peer}");
        self.acceptor.add(peer, admission);
        if let Some(slice) = self.scheduler.slice(key) {
            let outcome = match admission {
                Admission::Admitted => slice.run_first(),
                Admission::Rejected => slice.notify(first),
            };
            self.scheduler.handle_outcome(key, outcome);
        }
    }

    /// Checks the deadlines of all connections and of the parts.
    fn run_sweep(&mut self) {
        let now = self.now();
        self.sweep.begin(now);
        self.kernel.report(Milestone::Alive);
        self.scheduler.services.sweep();
        self.acceptor.log_rejections();
        self.resume_accepting();
        self.scheduler.sweep_data();
        for key in self.scheduler.connections.keys() {
            self.sweep_slot(key, now);
        }
        self.sweep.end();
        self.scheduler.deliver_completions();
        if let Some(step) = self.shutdown.sweep(now) {
            self.perform_shutdown_step(step);
        }
    }

    fn sweep_slot(&mut self, key: usize, now: Instant) {
        let Some(slot) = self.scheduler.connections.get(key) else {
            return;
        };
        match self.sweep.check(slot, now, &self.options) {
            Finding::Nothing => {}
            Finding::CloseControl(reason) => self.close_control(key, reason),
            Finding::Notify(input) => self.scheduler.notify(key, input),
            Finding::CheckData => self.scheduler.check_data(key, &self.options),
            Finding::EndData(outcome) => self.scheduler.handle_data_outcome(key, outcome),
        }
    }

    fn close_control(&mut self, key: usize, reason: CloseReason) {
        let Scheduler {
            connections,
            services,
            ..
        } = &mut self.scheduler;
        if connections.control(key).is_some() {
            connections.close_control(key, reason, services);
        }
    }

    /// Frees the slots of connections that were closed in this tick.
    fn remove_closed(&mut self) {
        while let Some(Removed { key, session }) = self.scheduler.connections.remove_closed() {
            self.resume_accepting();
            let Some((control, reason)) = session else {
                continue;
            };
            let Scheduler {
                connections,
                data,
                services,
                ..
            } = &mut self.scheduler;
            data.remove(control.session_id(key), connections, services);
            let (generation, peer) = (control.generation(), control.peer());
            info!("session={generation} event=end reason={}", reason.word());
            self.acceptor.remove(peer, control.admission());
            control.close(key, services);
        }
        let workers = self.scheduler.services.workers();
        if self.scheduler.connections.is_empty()
            && (self.shutdown.is_overdue(self.now()) || workers.pending_publications() == 0)
        {
            self.shutdown.set_empty();
        }
    }

    /// Resumes the listeners after a shortage of descriptors.
    fn resume_accepting(&mut self) {
        self.acceptor.resume();
        self.scheduler.data.passive.resume();
    }

    /// Returns how the loop has ended, once it has.
    pub fn stopped(&self) -> Option<Stopped> {
        self.shutdown.stopped()
    }

    /// Returns the number of connections in slots.
    pub fn connections(&self) -> usize {
        self.scheduler.connections.len()
    }

    /// Returns the number of jobs that wait for a worker.
    pub fn jobs(&self) -> usize {
        self.scheduler.services.workers().queued()
    }

    /// Runs the `n`th waiting job (`n` below [`EventLoop::jobs`]) on the calling thread.
    pub fn run_job(&self, n: usize) {
        self.scheduler.services.workers().run_nth(n);
    }

    /// Starts the `n`th waiting job (`n` below [`EventLoop::jobs`]). The returned function runs it,
    /// on any thread.
    pub fn start_job(&self, n: usize) -> impl FnOnce() + Send + 'static {
        self.scheduler.services.workers().take_nth(n)
    }

    /// Asserts the invariants of all parts between two ticks.
    pub fn assert_invariants(&self) {
        invariants::assert_all(&self.acceptor, &self.scheduler);
    }
}

/// Returns whether a client connected from this machine: from a loopback address, or from the
/// address that it connected to.
fn is_local<K: Kernel>(stream: &Stream<K>, peer: SocketAddr, kernel: &K) -> bool {
    let is_own = |local: SocketAddr| local.ip() == peer.ip();
    peer.ip().is_loopback() || stream.local_address(kernel).is_ok_and(is_own)
}

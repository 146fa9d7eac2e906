//! THE loop: poll, accept, replies, events, queue, sweep, remove.
//!
//! Readiness is a hint that sets flags; a slot whose flag is false has blocked since. Who spent its budget waits in the
//! run queue, so that every slot is either blocked, waiting for the services, or queued. Slots are freed after the batch
//! of events, and a generation tells their tenants apart.
//!
//! Must not know: what connections say, how the services answers.

pub(crate) mod accept;
pub(crate) mod data;
pub(crate) mod data_sessions;
pub(crate) mod invariants;
pub(crate) mod passive;
pub(crate) mod slot;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::info;
use slab::Slab;

use crate::config::Home;
use crate::domain::error::CloseReason;
use crate::kernel::{Kernel, Milestone, Readiness, Signal};
use crate::limits::{EVENTS_PER_TICK_MAX, RATE_LIMIT_TICK, RUN_QUEUE_BUDGET, SWEEP_INTERVAL};
use crate::protocol::session::Dialect;
use crate::protocol::step::Input;
use crate::server::conn::control::{Outcome, Overdue};
use crate::server::event_loop::accept::Acceptor;
use crate::server::event_loop::passive::{FIRST_PASSIVE, PassivePorts};
use crate::server::event_loop::slot::Slot;
use crate::server::net::scratch::Scratch;
use crate::server::options::Options;
use crate::server::policy::stall_detector::StallDetector;
use crate::server::service::Services;
use crate::server::session_id::SessionId;
use crate::server::workers::lanes::Workers;

/// Tokens from here on are listeners; below are the slab's keys.
const FIRST_LISTENER: usize = usize::MAX / 2;

/// The token that the nth listener is registered with.
pub fn listener_token(index: usize) -> usize {
    FIRST_LISTENER + index
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Every session had its end, or the drain's time ran out.
    Drained,
    /// A second signal did not wait for that.
    AtOnce,
}

/// The loop and everything that it goes over.
pub struct EventLoop<K: Kernel> {
    kernel: Arc<K>,
    options: Options,
    door: Acceptor<K>,
    connections: Slab<Slot<K>>,
    /// Those of them that are data connections.
    data_connections: usize,
    passive: PassivePorts<K>,
    /// Keys of those that have given way.
    queue: VecDeque<usize>,
    /// When those who are parked for their rate are looked at next; `None` while nobody is.
    next_release: Option<Instant>,
    paces: StallDetector,
    /// Keys of those that are done, removed after the batch; a session's with its reason.
    finished: Vec<(usize, Option<CloseReason>)>,
    services: Services<K>,
    scratch: Scratch<K>,
    ready: Vec<Readiness>,
    next_serial: u64,
    next_sweep: Instant,
    /// Set where another process serves the listeners: when those who are still here are told of a stop.
    relieved_until: Option<Instant>,
    /// Set by the first stop: when the drain's time is over.
    drain_until: Option<Instant>,
    stopped: Option<Stopped>,
}

impl<K: Kernel> EventLoop<K> {
    /// A loop over no connections yet. `workers` may be without threads, for a simulation.
    pub(crate) fn new(
        kernel: Arc<K>,
        home: Home,
        workers: Workers<K>,
        options: Options,
    ) -> EventLoop<K> {
        let now = kernel.now();
        EventLoop {
            services: Services::new(kernel.clone(), home, workers, options.clone()),
            kernel,
            paces: StallDetector::new(options.min_rate),
            options,
            door: Acceptor::new(),
            connections: Slab::new(),
            data_connections: 0,
            passive: PassivePorts::new(),
            queue: VecDeque::new(),
            next_release: None,
            finished: Vec::new(),
            scratch: Scratch::new(),
            ready: Vec::with_capacity(EVENTS_PER_TICK_MAX),
            next_serial: 1,
            next_sweep: now + SWEEP_INTERVAL,
            relieved_until: None,
            drain_until: None,
            stopped: None,
        }
    }

    /// A loop whose jobs run when [`EventLoop::run_job`] is called, on the caller's thread: for simulations and benches.
    pub fn without_threads(kernel: Arc<K>, home: Home, options: Options) -> EventLoop<K> {
        let workers = Workers::without_threads(kernel.clone());
        EventLoop::new(kernel, home, workers, options)
    }

    /// Opens a listener for a dialect; its address comes back with the port chosen.
    pub fn listen(&mut self, address: SocketAddr, dialect: Dialect) -> io::Result<SocketAddr> {
        let token = listener_token(self.door.listeners());
        self.adopt(self.kernel.listen(address, token)?, dialect)
    }

    /// Takes over a listener that was registered with its [`listener_token`].
    pub(crate) fn adopt(
        &mut self,
        handle: K::Listener,
        dialect: Dialect,
    ) -> io::Result<SocketAddr> {
        let address = self.kernel.listener_address(&handle)?;
        self.door.open(handle, dialect);
        Ok(address)
    }

    /// Removes, beside the service, what an earlier crash left of uploads.
    pub fn sweep_leftovers(&mut self) {
        self.services.sweep_orphans();
    }

    /// Turns until a signal has stopped the loop.
    ///
    /// Fails only where the kernel's poll does, which leaves nothing to go on with.
    pub fn run(&mut self) -> io::Result<Stopped> {
        self.kernel.report(Milestone::Ready);
        loop {
            self.turn()?;
            if let Some(stopped) = self.stopped {
                return Ok(stopped);
            }
        }
    }

    /// One turn of the loop.
    pub fn turn(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.kernel.poll(&mut ready, Some(self.patience()))?;
        self.services.begin_tick(self.kernel.now());
        while let Some(signal) = self.kernel.next_signal() {
            self.obey(signal);
        }
        for event in &ready {
            self.notice(*event);
        }
        self.ready = ready;
        self.accept();
        self.accept_data();
        self.collect();
        self.release_parked();
        self.run_queue();
        self.settle();
        if self.services.now() >= self.next_sweep {
            self.sweep();
        }
        self.remove_finished();
        Ok(())
    }

    /// How long the next poll may wait.
    fn patience(&self) -> Duration {
        if self.door.is_ready() || self.passive.is_ready() || !self.queue.is_empty() {
            return Duration::ZERO;
        }
        let others = [self.services.next_due(), self.next_release];
        let next = (others.into_iter().flatten()).fold(self.next_sweep, Instant::min);
        next.saturating_duration_since(self.kernel.now())
    }

    fn notice(&mut self, event: Readiness) {
        if let Some(index) = event.token.checked_sub(FIRST_PASSIVE) {
            return self.passive.notice(index);
        }
        if let Some(index) = event.token.checked_sub(FIRST_LISTENER) {
            return self.door.notice(index);
        }
        // An event for an empty slot is nothing; for a new tenant it is a hint that turns out false.
        let Some(slot) = self.connections.get_mut(event.token) else {
            return;
        };
        slot.notice(event);
        match slot.is_transferring() {
            true => self.enqueue(event.token),
            false => self.take_turn(event.token),
        }
    }

    fn enqueue(&mut self, key: usize) {
        let queued = self.connections[key].queued();
        if !std::mem::replace(queued, true) {
            self.queue.push_back(key);
        }
    }

    /// Lets a slot go on later: when its user's rate allows it, or in its turn.
    fn park_or_enqueue(&mut self, key: usize) {
        if let Some(user) = self.connections[key].bounded_by()
            && !*self.connections[key].queued()
            && self.services.rates_mut().park(user, key)
        {
            *self.connections[key].queued() = true;
            let next = self.services.now() + RATE_LIMIT_TICK;
            self.next_release.get_or_insert(next);
            return;
        }
        self.enqueue(key);
    }

    /// A turn of what stands in a slot, unless it stands in the queue for one anyway.
    fn take_turn(&mut self, key: usize) {
        let slot = &mut self.connections[key];
        if slot.is_queued() || slot.is_finished() {
            return;
        }
        match slot {
            Slot::Control(connection) => {
                let outcome = connection.turn(key, &mut self.services, &mut self.scratch);
                self.after_turn(key, outcome);
            }
            Slot::Data(data) => {
                let progress = data.turn(&mut self.services, &mut self.scratch);
                self.after_data(key, progress);
            }
        }
    }

    fn after_turn(&mut self, key: usize, outcome: Outcome) {
        match outcome {
            Outcome::Waiting => {}
            Outcome::Again => self.park_or_enqueue(key),
            Outcome::Finished(reason) => self.finish(key, reason),
        }
    }

    /// Notes the end of a connection; it stands until the batch is through.
    fn finish(&mut self, key: usize, reason: CloseReason) {
        let Slot::Control(connection) = &mut self.connections[key] else {
            unreachable!("a data connection has no reason of its own");
        };
        if !std::mem::replace(&mut connection.finished, true) {
            self.finished.push((key, Some(reason)));
        }
    }

    /// What the services has found out since the last turn.
    fn collect(&mut self) {
        let connections = &self.connections;
        self.services
            .collect(|session_id| holder(connections, session_id).is_some());
        self.apply_reload();
        self.settle();
    }

    /// Gives every session its new rights after a reload. Runs before any session takes another step, so
    /// that a login made after the reload is not mistaken for an older one.
    fn apply_reload(&mut self) {
        let Some(revoked) = self.services.take_revoked() else {
            return;
        };
        for (_, slot) in &mut self.connections {
            let Slot::Control(connection) = slot else {
                continue;
            };
            if let Some(access) = connection.access().cloned() {
                connection.reloaded(self.services.access_after_reload(&access, &revoked));
            }
        }
    }

    /// Runs who has waited for his rate, for as long as others may be kept waiting.
    fn release_parked(&mut self) {
        let now = self.services.now();
        if self.next_release.is_none_or(|next| next > now) {
            return;
        }
        self.next_release = None;
        let until = now + RUN_QUEUE_BUDGET;
        while let Some(key) = self.services.rates_mut().unpark() {
            *self.connections[key].queued() = false;
            self.take_turn(key);
            if self.kernel.now() >= until {
                self.next_release = Some(now);
                break;
            }
        }
        self.services.rates_mut().end_unparking();
        if self.services.rates().parked().next().is_some() {
            self.next_release.get_or_insert(now + RATE_LIMIT_TICK);
        }
    }

    /// Runs who has given way, for as long as others may be kept waiting.
    fn run_queue(&mut self) {
        let until = self.services.now() + RUN_QUEUE_BUDGET;
        while let Some(key) = self.queue.pop_front() {
            *self.connections[key].queued() = false;
            self.take_turn(key);
            if self.kernel.now() >= until {
                break;
            }
        }
    }

    /// Walks over all connections for their deadlines.
    fn sweep(&mut self) {
        let now = self.services.now();
        self.next_sweep = now + SWEEP_INTERVAL;
        self.kernel.report(Milestone::Alive);
        self.services.sweep();
        self.door.log_unwanted();
        self.resume_accepting();
        self.sweep_passive();
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.sweep_slot(key, now);
        }
        self.paces.end_sweep();
        self.settle();
        if self.drain_until.is_some_and(|until| now >= until) {
            self.cut_off();
        }
        if self.relieved_until.is_some_and(|until| now >= until) && self.drain_until.is_none() {
            self.drain();
        }
    }

    fn sweep_slot(&mut self, key: usize, now: Instant) {
        let slot = &mut self.connections[key];
        if slot.is_finished() {
            return;
        }
        let is_too_slow = self.paces.is_enabled()
            && slot
                .progress()
                .is_some_and(|(generation, at)| self.paces.is_stalled(generation, at, now));
        match slot {
            // It ends without a word, which would stand among the file's bytes.
            Slot::Control(_) if is_too_slow => self.finish(key, CloseReason::TooSlow),
            Slot::Data(data) if is_too_slow => {
                let progress = data.give_up(&mut self.services);
                self.after_data(key, progress);
            }
            Slot::Control(connection) => match connection.overdue(now, &self.options) {
                None => {}
                Some(Overdue::End(reason)) => self.finish(key, reason),
                Some(Overdue::Idle) => {
                    let outcome =
                        connection.tell(key, Input::Idle, &mut self.services, &mut self.scratch);
                    self.after_turn(key, outcome);
                }
            },
            Slot::Data(data) => {
                let progress = data.sweep(&self.options, &mut self.services, &mut self.scratch);
                self.after_data(key, progress);
            }
        }
    }

    fn obey(&mut self, signal: Signal) {
        match signal {
            Signal::Reload => {
                self.kernel.report(Milestone::Reloading);
                if let Some(xferlog) = &self.options.xferlog {
                    xferlog.reopen();
                }
                self.services.request_reload();
            }
            Signal::Stop if self.drain_until.is_some() => {
                info!("event=stop how=at-once sessions={}", self.connections.len());
                self.stopped = Some(Stopped::AtOnce);
            }
            Signal::Stop => self.drain(),
            // Nobody here is told of it: each session goes on to its own end, if that comes in time.
            Signal::Relieved => {
                info!("event=relieved sessions={}", self.connections.len());
                self.door.close();
                self.relieved_until = Some(self.services.now() + self.options.drain_timeout);
                self.relieve_passive();
            }
        }
    }

    /// Takes nobody in any more, and lets those who are here finish what they are at.
    fn drain(&mut self) {
        info!("event=drain sessions={}", self.connections.len());
        self.kernel.report(Milestone::Stopping);
        self.door.close();
        self.services.drain();
        self.drain_until = Some(self.services.now() + self.options.drain_timeout);
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.enqueue(key);
        }
    }

    /// The drain's time is over: who is still there is told nothing.
    fn cut_off(&mut self) {
        let controls = self
            .connections
            .iter()
            .filter_map(|(key, slot)| match slot {
                Slot::Control(_) => Some(key),
                Slot::Data(_) => None, // it goes with its session
            });
        for key in controls.collect::<Vec<_>>() {
            self.finish(key, CloseReason::DrainTimeout);
        }
    }

    fn remove_finished(&mut self) {
        while let Some((key, reason)) = self.finished.pop() {
            self.unqueue(key);
            let slot = self.connections.remove(key);
            self.resume_accepting();
            let (connection, reason) = match (slot, reason) {
                (Slot::Control(connection), Some(reason)) => (connection, reason),
                _ => {
                    self.data_connections -= 1;
                    continue;
                }
            };
            // What it has of a data connection is removed next.
            self.release(connection.session_id(key));
            let (generation, peer) = (connection.generation(), connection.peer());
            info!("session={generation} event=end reason={}", reason.word());
            self.door.left(peer, connection.is_turned_away());
            connection.close(key, &mut self.services);
        }
        let leaving = self.drain_until.is_some() || self.relieved_until.is_some();
        if leaving && self.connections.is_empty() && self.stopped.is_none() {
            self.stopped = Some(Stopped::Drained);
        }
    }

    /// Takes a slot out of the run queue, or out of those who wait for a rate, while its user is known to the services.
    fn unqueue(&mut self, key: usize) {
        let slot = &mut self.connections[key];
        if !std::mem::take(slot.queued()) {
            return;
        }
        self.queue.retain(|queued| *queued != key);
        if let Some(user) = slot.user() {
            self.services.rates_mut().cancel(user, key);
        }
    }

    /// There may be descriptors again.
    fn resume_accepting(&mut self) {
        self.door.resume();
        self.passive.resume();
    }
}

/// The key of the slot that still holds a session_id and waits for its reply.
fn holder<K: Kernel>(connections: &Slab<Slot<K>>, session_id: SessionId) -> Option<usize> {
    let slot = connections.get(session_id.key)?;
    slot.awaits(session_id).then_some(session_id.key)
}

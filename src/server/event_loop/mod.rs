//! THE loop: poll, accept, replies, events, queue, sweep, remove.
//!
//! Readiness is a hint that sets flags; a slot whose flag is false has blocked since. Who spent its budget waits in the
//! run queue, so that every slot is either blocked, waiting for the house, or queued. Slots are freed after the batch
//! of events, and a serial tells their tenants apart.
//!
//! Must not know: what connections say, how the house answers.

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
use crate::kernel::{Kernel, Milestone, Readiness, Signal};
use crate::limits::{EVENTS_A_TURN, QUEUE_TURN, RATE_TICK, SWEEP_INTERVAL};
use crate::protocol::{Dialect, Ending, Input};
use crate::server::conn::control::{Outcome, Overdue, Scratch};
use crate::server::event_loop::accept::Door;
use crate::server::event_loop::passive::{FIRST_PASSIVE, Passive};
use crate::server::event_loop::slot::Slot;
use crate::server::policy::stall_detector::Paces;
use crate::server::service::House;
use crate::server::workers::Workers;
use crate::server::{Options, Ticket};

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
pub struct Engine<K: Kernel> {
    kernel: Arc<K>,
    options: Options,
    door: Door<K>,
    connections: Slab<Slot<K>>,
    /// Those of them that are data connections.
    data_connections: usize,
    passive: Passive<K>,
    /// Keys of those that have given way.
    queue: VecDeque<usize>,
    /// When those who are parked for their rate are looked at next; `None` while nobody is.
    next_release: Option<Instant>,
    paces: Paces,
    /// Keys of those that are done, removed after the batch; a session's with its ending.
    finished: Vec<(usize, Option<Ending>)>,
    house: House<K>,
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

impl<K: Kernel> Engine<K> {
    /// A loop over no connections yet. `workers` may be without threads, for a simulation.
    pub(crate) fn new(
        kernel: Arc<K>,
        home: Home,
        workers: Workers<K>,
        options: Options,
    ) -> Engine<K> {
        let now = kernel.now();
        Engine {
            house: House::new(kernel.clone(), home, workers, options.clone()),
            kernel,
            paces: Paces::new(options.min_rate),
            options,
            door: Door::new(),
            connections: Slab::new(),
            data_connections: 0,
            passive: Passive::new(),
            queue: VecDeque::new(),
            next_release: None,
            finished: Vec::new(),
            scratch: Scratch::new(),
            ready: Vec::with_capacity(EVENTS_A_TURN),
            next_serial: 1,
            next_sweep: now + SWEEP_INTERVAL,
            relieved_until: None,
            drain_until: None,
            stopped: None,
        }
    }

    /// A loop whose jobs run when [`Engine::run_job`] is called, on the caller's thread: for simulations and benches.
    pub fn without_threads(kernel: Arc<K>, home: Home, options: Options) -> Engine<K> {
        let workers = Workers::without_threads(kernel.clone());
        Engine::new(kernel, home, workers, options)
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
        let address = self.kernel.listening_on(&handle)?;
        self.door.open(handle, dialect);
        Ok(address)
    }

    /// Removes, beside the service, what an earlier crash left of uploads.
    pub fn sweep_leftovers(&mut self) {
        self.house.sweep_leftovers();
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
        self.house.begin_turn(self.kernel.now());
        while let Some(signal) = self.kernel.signal() {
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
        if self.house.now() >= self.next_sweep {
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
        let others = [self.house.next_due(), self.next_release];
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
            && self.house.park(user, key)
        {
            *self.connections[key].queued() = true;
            let next = self.house.now() + RATE_TICK;
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
                let outcome = connection.turn(key, &mut self.house, &mut self.scratch);
                self.after_turn(key, outcome);
            }
            Slot::Data(data) => {
                let progress = data.turn(&mut self.house, &mut self.scratch);
                self.after_data(key, progress);
            }
        }
    }

    fn after_turn(&mut self, key: usize, outcome: Outcome) {
        match outcome {
            Outcome::Waiting => {}
            Outcome::Again => self.park_or_enqueue(key),
            Outcome::Finished(ending) => self.finish(key, ending),
        }
    }

    /// Notes the end of a connection; it stands until the batch is through.
    fn finish(&mut self, key: usize, ending: Ending) {
        let Slot::Control(connection) = &mut self.connections[key] else {
            unreachable!("a data connection has no ending of its own");
        };
        if !std::mem::replace(&mut connection.finished, true) {
            self.finished.push((key, Some(ending)));
        }
    }

    /// What the house has found out since the last turn.
    fn collect(&mut self) {
        let connections = &self.connections;
        self.house
            .collect(|ticket| holder(connections, ticket).is_some());
        self.settle();
        if let Some(kept) = self.house.take_reloaded() {
            self.tell_of_reload(&kept);
        }
    }

    fn tell_of_reload(&mut self, kept: &[String]) {
        for (_, slot) in &mut self.connections {
            let Slot::Control(connection) = slot else {
                continue;
            };
            if let Some(access) = connection.access().cloned() {
                connection.reloaded(self.house.access_after_reload(&access, kept));
            }
        }
    }

    /// Runs who has waited for his rate, for as long as others may be kept waiting.
    fn release_parked(&mut self) {
        let now = self.house.now();
        if self.next_release.is_none_or(|next| next > now) {
            return;
        }
        self.next_release = None;
        let until = now + QUEUE_TURN;
        while let Some(key) = self.house.release() {
            *self.connections[key].queued() = false;
            self.take_turn(key);
            if self.kernel.now() >= until {
                self.next_release = Some(now);
                break;
            }
        }
        self.house.end_release();
        if self.house.parked().next().is_some() {
            self.next_release.get_or_insert(now + RATE_TICK);
        }
    }

    /// Runs who has given way, for as long as others may be kept waiting.
    fn run_queue(&mut self) {
        let until = self.house.now() + QUEUE_TURN;
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
        let now = self.house.now();
        self.next_sweep = now + SWEEP_INTERVAL;
        self.kernel.report(Milestone::Alive);
        self.house.sweep();
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
        let is_too_slow = self.paces.is_watching()
            && slot
                .progress()
                .is_some_and(|(serial, at)| self.paces.is_too_slow(serial, at, now));
        match slot {
            // It ends without a word, which would stand among the file's bytes.
            Slot::Control(_) if is_too_slow => self.finish(key, Ending::TooSlow),
            Slot::Data(data) if is_too_slow => {
                let progress = data.give_up(&mut self.house);
                self.after_data(key, progress);
            }
            Slot::Control(connection) => match connection.overdue(now, &self.options) {
                None => {}
                Some(Overdue::End(ending)) => self.finish(key, ending),
                Some(Overdue::Idle) => {
                    let outcome =
                        connection.tell(key, Input::Idle, &mut self.house, &mut self.scratch);
                    self.after_turn(key, outcome);
                }
            },
            Slot::Data(data) => {
                let progress = data.sweep(&self.options, &mut self.house, &mut self.scratch);
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
                self.house.reload();
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
                self.relieved_until = Some(self.house.now() + self.options.drain_timeout);
                self.relieve_passive();
            }
        }
    }

    /// Takes nobody in any more, and lets those who are here finish what they are at.
    fn drain(&mut self) {
        info!("event=drain sessions={}", self.connections.len());
        self.kernel.report(Milestone::Stopping);
        self.door.close();
        self.house.drain();
        self.drain_until = Some(self.house.now() + self.options.drain_timeout);
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
            self.finish(key, Ending::CutOff);
        }
    }

    fn remove_finished(&mut self) {
        while let Some((key, ending)) = self.finished.pop() {
            self.unqueue(key);
            let slot = self.connections.remove(key);
            self.resume_accepting();
            let (connection, ending) = match (slot, ending) {
                (Slot::Control(connection), Some(ending)) => (connection, ending),
                _ => {
                    self.data_connections -= 1;
                    continue;
                }
            };
            // What it has of a data connection is removed next.
            self.release(connection.ticket(key));
            let (serial, peer) = (connection.serial(), connection.peer());
            info!("session={serial} event=end reason={}", ending.word());
            self.door.left(peer, connection.is_turned_away());
            connection.close(key, &mut self.house);
        }
        let leaving = self.drain_until.is_some() || self.relieved_until.is_some();
        if leaving && self.connections.is_empty() && self.stopped.is_none() {
            self.stopped = Some(Stopped::Drained);
        }
    }

    /// Takes a slot out of the run queue, or out of those who wait for a rate, while its user is known to the house.
    fn unqueue(&mut self, key: usize) {
        let slot = &mut self.connections[key];
        if !std::mem::take(slot.queued()) {
            return;
        }
        self.queue.retain(|queued| *queued != key);
        if let Some(user) = slot.user() {
            self.house.forget_parked(user, key);
        }
    }

    /// There may be descriptors again.
    fn resume_accepting(&mut self) {
        self.door.resume();
        self.passive.resume();
    }
}

/// The key of the slot that still holds a ticket and waits for its reply.
fn holder<K: Kernel>(connections: &Slab<Slot<K>>, ticket: Ticket) -> Option<usize> {
    let slot = connections.get(ticket.key)?;
    slot.awaits(ticket).then_some(ticket.key)
}

//! A model client: says its script at its own pace, cut anywhere, and knows every byte that may come back.
//!
//! It is the peer of one simulated connection. What it hears and cannot account for is a panic.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use log::debug;
use tidegate::kernel::sim::{Peer, Sim};
use tidegate::limits::{LINGER_TIMEOUT, SWEEP_INTERVAL};
use tidegate::protocol::menu::text;
use tidegate::server::Options;

use super::model::{Revoked, World};
use super::replies::{Memory, Part, Reply, Then, replies};
use super::script::{Item, Said};
use crate::support::seeds::one_of;

/// One client.
pub(super) struct Client {
    pub(super) id: usize,
    state: State,
    memory: Memory,
    pace: Pace,
    leaving: Leaving,
    script: VecDeque<Item>,
    /// When the command was said that the next item belongs to, unless that begins a new one.
    goes_on: Option<usize>,
    /// What was said and is not answered yet.
    said: VecDeque<Said>,
    /// Bytes that were said and not sent yet.
    outbox: VecDeque<u8>,
    /// Whether the sending half is shut.
    shut: bool,
    /// Bytes that came and are not accounted for yet.
    inbox: Vec<u8>,
    /// What of the reply at hand has been heard.
    heard: Vec<Heard>,
    body: Option<Body>,
    /// The server has said goodbye.
    dismissed: bool,
    /// Bytes that were moved so far.
    pub(super) moved: usize,
    /// It was told something that takes a fault of the kernel.
    pub(super) has_suffered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It connects at this step.
    Before(usize),
    Connected(Peer),
    Gone,
}

/// How fast it is.
#[derive(Clone, Debug)]
struct Pace {
    /// Chance that it does anything in a step.
    acts: f64,
    /// Bytes sent and received at once at most.
    sends: usize,
    receives: usize,
    /// Items that it says without having an answer.
    ahead: usize,
}

/// How it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// By the end of its script; one that does not make the server close shuts its sending half.
    Orderly,
    /// By a reset at this step.
    Reset(usize),
    /// By closing at this step, whatever is on its way.
    Close(usize),
    /// Not: from this step on it does nothing, until it is hurried.
    Stall(usize),
}

enum Heard {
    Line(String),
    Body(Arc<Vec<u8>>, usize),
}

/// The bytes of a file that are being heard.
struct Body {
    /// What they may be: a file's content from a byte on.
    expected: Vec<(Arc<Vec<u8>>, usize)>,
    length: usize,
    heard: usize,
}

impl Client {
    /// One that does everything at once.
    pub(super) fn brisk(id: usize, script: Vec<Item>) -> Client {
        Client {
            id,
            state: State::Before(0),
            memory: Memory::default(),
            pace: Pace {
                acts: 1.0,
                sends: 1 << 20,
                receives: 1 << 20,
                ahead: 100,
            },
            leaving: Leaving::Orderly,
            script: script.into(),
            goes_on: None,
            said: VecDeque::new(),
            outbox: VecDeque::new(),
            shut: false,
            inbox: Vec::new(),
            heard: Vec::new(),
            body: None,
            dismissed: false,
            moved: 0,
            has_suffered: false,
        }
    }

    /// One with a pace and a way to leave from a seed.
    pub(super) fn new(rng: &mut Rng, id: usize, script: Vec<Item>) -> Client {
        let leaving = match rng.u8(..10) {
            0 => Leaving::Reset(rng.usize(..1500)),
            1 => Leaving::Close(rng.usize(..1500)),
            2 => Leaving::Stall(rng.usize(..1000)),
            _ => Leaving::Orderly,
        };
        let pace = Pace {
            acts: one_of(rng, &[0.1, 0.5, 1.0]),
            sends: one_of(rng, &[1, 7, 100, 4000, 1 << 20]),
            receives: one_of(rng, &[7, 100, 4000, 1 << 20]),
            ahead: one_of(rng, &[1, 2, 100]),
        };
        Client {
            state: State::Before(rng.usize(..200)),
            pace,
            leaving,
            ..Client::brisk(id, script)
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Whether it does nothing now and has not left.
    pub(super) fn is_stalled(&self, step: usize) -> bool {
        matches!(self.leaving, Leaving::Stall(since) if since <= step) && !self.is_gone()
    }

    /// From now on it is as fast as can be.
    pub(super) fn hurry(&mut self) {
        let ahead = self.pace.ahead;
        let brisk = Client::brisk(self.id, Vec::new()).pace;
        self.pace = Pace { ahead, ..brisk };
        if let State::Before(step) = &mut self.state {
            *step = 0;
        }
    }

    /// One that stalls goes on.
    pub(super) fn wake(&mut self) {
        self.leaving = Leaving::Orderly;
    }

    /// What it waits for, for a failure.
    pub(super) fn waits_for(&self) -> String {
        let item = self.said.front().map(|said| &said.item);
        let (id, state, unsent) = (self.id, self.state, self.outbox.len());
        let lines = self.lines();
        format!(
            "client {id}, {state:?}, {unsent} bytes unsent, has said {item:?} and hears {lines:?}"
        )
    }

    /// One step.
    pub(super) fn act(&mut self, rng: &mut Rng, sim: &Sim, world: &mut World, to: SocketAddr) {
        if self.is_stalled(world.step) || rng.f64() >= self.pace.acts {
            return;
        }
        let peer = match self.state {
            State::Before(step) if step <= world.step => return self.connect(sim, world, to),
            State::Connected(peer) => peer,
            State::Before(_) | State::Gone => return,
        };
        match self.leaving {
            Leaving::Reset(step) if step <= world.step => {
                sim.peer_reset(peer);
                self.state = State::Gone;
            }
            Leaving::Close(step) if step <= world.step => {
                sim.peer_close(peer);
                self.state = State::Gone;
            }
            _ => {
                self.say(world, sim);
                self.send(rng, sim, peer);
                self.receive(rng, sim, world, peer);
            }
        }
    }

    fn connect(&mut self, sim: &Sim, world: &World, to: SocketAddr) {
        let from = Ipv4Addr::new(127, 0, 0, 1 + (self.id % 3) as u8);
        match sim.peer_connect(to, IpAddr::V4(from)) {
            Ok(peer) => self.state = State::Connected(peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert!(world.stopping.is_some(), "nobody listens: {error}");
                self.state = State::Gone;
            }
        }
    }

    /// Says what comes next, if it may before an answer.
    fn say(&mut self, world: &World, sim: &Sim) {
        while self.outbox.is_empty() && !self.dismissed && self.said.len() < self.pace.ahead {
            if self.said.iter().any(|said| said.item.is_awaited()) {
                return;
            }
            let Some(item) = self.script.pop_front() else {
                return;
            };
            self.outbox.extend(item.said(world));
            let step = world.step;
            let command = self.goes_on.take().unwrap_or(step);
            self.said.push_back(Said {
                item,
                step,
                command,
                at: sim.elapsed(),
            });
        }
    }

    fn send(&mut self, rng: &mut Rng, sim: &Sim, peer: Peer) {
        let (bytes, _) = self.outbox.as_slices();
        let count = rng.usize(1..=self.pace.sends).min(bytes.len());
        match sim.peer_send(peer, &bytes[..count]) {
            Ok(sent) => {
                self.outbox.drain(..sent);
                self.moved += sent;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The server has closed: why, what it has sent will tell.
            Err(_) => self.outbox.clear(),
        }
        let all_said = self.script.is_empty() && self.outbox.is_empty();
        let goes_on = |said: &Said| said.item.is_awaited() || said.item.is_last();
        if all_said && !self.shut && !self.said.iter().any(goes_on) && !self.dismissed {
            sim.peer_shutdown(peer);
            self.shut = true;
        }
    }

    fn receive(&mut self, rng: &mut Rng, sim: &Sim, world: &mut World, peer: Peer) {
        match sim.peer_receive(peer, rng.usize(1..=self.pace.receives)) {
            Ok(bytes) if bytes.is_empty() => {
                let all_answered = self.said.is_empty() && self.script.is_empty() && self.shut;
                let nothing_begun = self.inbox.is_empty() && self.heard.is_empty();
                let expected = nothing_begun && (all_answered || self.dismissed);
                self.check_end(sim, world, expected, "the end");
                sim.peer_close(peer);
                self.state = State::Gone;
            }
            Ok(bytes) => {
                self.moved += bytes.len();
                self.inbox.extend(bytes);
                self.hear(sim, world);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                self.check_end(sim, world, self.dismissed, &error.to_string());
                sim.peer_close(peer);
                self.state = State::Gone;
            }
        }
    }

    /// Accounts for what has come.
    fn hear(&mut self, sim: &Sim, world: &mut World) {
        loop {
            if let Some(body) = &mut self.body {
                let count = body.hear(&self.inbox, self.id);
                self.inbox.drain(..count);
                if body.heard < body.length {
                    return;
                }
                let (content, from) = body.expected.swap_remove(0);
                self.heard.push(Heard::Body(content, from));
                self.body = None;
            } else {
                let Some(end) = self.inbox.iter().position(|&byte| byte == b'\n') else {
                    return;
                };
                let rest = self.inbox.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.inbox, rest);
                line.pop();
                let line = String::from_utf8(line).expect("sentences are UTF-8");
                assert!(!self.dismissed, "{line} after all for {}", self.waits_for());
                self.dismissed = match &*line {
                    text::STOPPING => world.stopping.is_some(),
                    text::IDLE => world.impatient || is_long(sim),
                    text::LOGIN_REVOKED => self.revoked(world).is_some(),
                    _ => false,
                };
                if self.dismissed {
                    debug!("client={} dismissed={line}", self.id);
                    self.heard.clear();
                    continue;
                }
                self.heard.push(Heard::Line(line));
            }
            self.recognize(sim, world);
        }
    }

    /// Finds the reply to which all that was heard belongs.
    fn recognize(&mut self, sim: &Sim, world: &mut World) {
        let Some(said) = self.said.front() else {
            panic!("told without a question: {}", self.waits_for());
        };
        let (item, step) = (&said.item, said.step);
        let mut possible = Vec::new();
        let all = replies(said, world, &self.memory);
        for reply in &all {
            if let Some(next) = self.follow(reply, sim, world, step) {
                possible.push((reply, next));
            }
        }
        let waits_for = || self.waits_for();
        assert!(
            !possible.is_empty(),
            "{} and expected {all:#?}",
            waits_for()
        );
        let is_whole = |(reply, next): &&(&Reply, usize)| *next == reply.parts.len();
        if let Some((reply, _)) = possible.iter().find(is_whole) {
            debug!("client={} said={item:?} heard={:?}", self.id, self.lines());
            // What was begun is finished; the next command is not.
            let goes_on = matches!(
                item,
                Item::UploadLength { .. } | Item::UploadBytes { .. } | Item::TooLong
            );
            let before = |revoked: Revoked| step > revoked.step && !goes_on;
            assert!(
                !self.revoked(world).is_some_and(before),
                "revoked, and served: {}",
                waits_for()
            );
            self.has_suffered |= reply.is_fault;
            self.dismissed = matches!(reply.then, Then::Closed);
            let then = reply.then.clone();
            let said = self.said.pop_front().expect("it is what was answered");
            if let Some(next) = self.memory.take(&said, then, world) {
                self.script.push_front(next);
                self.goes_on = Some(said.command);
            }
            self.heard.clear();
            return;
        }
        let body = |(reply, next): (&Reply, usize)| match &reply.parts[next] {
            Part::Body(content, from) => Some((content.clone(), *from)),
            _ => None,
        };
        let expected: Vec<_> = possible.into_iter().filter_map(body).collect();
        self.body = expected
            .first()
            .map(|(content, from)| content.len() - from)
            .map(|length| Body {
                expected,
                length,
                heard: 0,
            });
    }

    /// The part of a reply that is to come next, if all that was heard belongs to it.
    fn follow(&self, reply: &Reply, sim: &Sim, world: &World, sent: usize) -> Option<usize> {
        let mut heard = self.heard.iter();
        for (number, part) in reply.parts.iter().enumerate() {
            let Some(next) = heard.next() else {
                return Some(number);
            };
            let fits = match (part, next) {
                (Part::Line(expected), Heard::Line(line)) => expected == line,
                (Part::OneOf(expected), Heard::Line(line)) => expected.contains(&line.as_str()),
                (Part::Begins(expected), Heard::Line(line)) => line.starts_with(expected),
                (Part::Names(path), Heard::Line(line)) => world.lists_names(path, sent, line),
                (Part::Details(path), Heard::Line(line)) => {
                    for _ in 0..world.counts_entries(path, sent, line)? {
                        let Some(Heard::Line(line)) = heard.next() else {
                            return Some(number);
                        };
                        if !world.details(sim, path, sent, line) {
                            return None;
                        }
                    }
                    true
                }
                (Part::Body(content, from), Heard::Body(heard, heard_from)) => {
                    Arc::ptr_eq(content, heard) && from == heard_from
                }
                _ => false,
            };
            if !fits {
                return None;
            }
        }
        heard.next().is_none().then_some(reply.parts.len())
    }

    /// The connection has ended: whether it may have, if it was not `expected`.
    fn check_end(&mut self, sim: &Sim, world: &World, expected: bool, how: &str) {
        debug!("client={} ended={how}", self.id);
        if !expected && !self.may_be_cut(sim, world) {
            assert!(world.faulty, "{how} comes too early: {}", self.waits_for());
            self.has_suffered = true;
        }
    }

    /// Whether the server may end it before its last word, though nothing fails.
    fn may_be_cut(&self, sim: &Sim, world: &World) -> bool {
        // It waits for so long that a goodbye is taken, and no longer.
        let patience = LINGER_TIMEOUT - Duration::from_secs(1);
        let is_long_ago = |at: Duration| sim.elapsed() - at > patience;
        let ends = |said: &Said| {
            let replies = replies(said, world, &self.memory);
            let closes = |reply: &Reply| matches!(reply.then, Then::Closed);
            replies.iter().any(|reply| reply.may_be_cut)
                || is_long_ago(said.at) && replies.iter().any(closes)
        };
        // Answers to earlier logins that were not read either go with the goodbye to the last one that failed.
        let mut logins = (self.said.iter()).filter(|said| matches!(said.item, Item::Login { .. }));
        let last_login = logins.nth(self.memory.logins_left() - 1);
        let is_new = (self.said.iter()).any(|said| matches!(said.item, Item::Greet));
        world.impatient
            || is_long(sim)
            // The listener closes over those who are not let in yet.
            || (world.crowded || world.stopping.is_some()) && is_new
            || world.stopping.is_some_and(is_long_ago)
            || self
                .revoked(world)
                .is_some_and(|revoked| is_long_ago(revoked.at))
            || last_login.is_some_and(|said| is_long_ago(said.at))
            || self.said.iter().any(ends)
    }

    /// Since when its user is none any more.
    fn revoked(&self, world: &World) -> Option<Revoked> {
        let is_me = |revoked: &Revoked| Some(revoked.user) == self.memory.user;
        world.revoked.filter(is_me)
    }

    fn lines(&self) -> Vec<String> {
        let line = |heard: &Heard| match heard {
            Heard::Line(line) => line.clone(),
            Heard::Body(content, from) => format!("({} bytes)", content.len() - from),
        };
        let rest = String::from_utf8_lossy(&self.inbox[..self.inbox.len().min(100)]);
        self.heard
            .iter()
            .map(line)
            .chain([rest.into_owned()])
            .collect()
    }
}

/// Whether the run is so long, as few are, that who has stalled may have been idle for as long as the server waits.
fn is_long(sim: &Sim) -> bool {
    sim.elapsed() > Options::default().idle_timeout - SWEEP_INTERVAL
}

impl Body {
    /// Compares what has come; how many of the bytes belong to it.
    fn hear(&mut self, bytes: &[u8], id: usize) -> usize {
        let count = bytes.len().min(self.length - self.heard);
        self.expected.retain(|(content, from)| {
            let from = from + self.heard;
            content[from..from + count] == bytes[..count]
        });
        assert!(
            !self.expected.is_empty(),
            "client {id} hears other bytes than the file has, among those from {} on",
            self.heard
        );
        self.heard += count;
        count
    }
}

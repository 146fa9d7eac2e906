//! A model client of the menu, the peer of one simulated connection.
//!
//! It sends its script in random fragments at its own pace, and panics on output that the protocol
//! does not allow.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use log::debug;
use tidegate::kernel::sim::{Peer, Sim};
use tidegate::limits::{DRAIN_QUIET_TIME, LINGER_TIMEOUT, SWEEP_INTERVAL};
use tidegate::protocol::menu::text;
use tidegate::server::Options;

use super::model::Model;
use super::replies::{Effect, Part, Reply, SessionModel, replies};
use super::script::{Item, SentItem};
use super::users::Revoked;
use crate::support::seeds::one_of;

pub(super) struct Client {
    pub(super) id: usize,
    state: State,
    session: SessionModel,
    pace: Pace,
    leaving: Leaving,
    script: VecDeque<Item>,
    /// The step of the command that the next item continues, if it continues one.
    continued: Option<usize>,
    /// Items without a reply.
    unanswered: VecDeque<SentItem>,
    /// Bytes of those items that were not sent yet.
    unsent: VecDeque<u8>,
    has_shut_down: bool,
    /// Received bytes that were not parsed yet.
    unparsed: Vec<u8>,
    /// The received parts of the current reply.
    received: Vec<Received>,
    body: Option<Body>,
    /// Whether the server has sent its last message.
    has_goodbye: bool,
    /// The number of bytes sent and received.
    pub(super) moved: usize,
    /// Whether a reply or the end of the connection was due to a fault of the kernel.
    pub(super) saw_fault: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connects at this step.
    Before(usize),
    Connected(Peer),
    Gone,
}

/// The speed of a client.
#[derive(Clone, Debug)]
struct Pace {
    /// The probability of acting in a step.
    acts: f64,
    /// The maximum number of bytes sent and received at once.
    sends: usize,
    receives: usize,
    /// The maximum number of items without a reply.
    pipelined: usize,
}

/// The way in which a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// At the end of its script. Half-closes the connection unless the script makes the server
    /// close it.
    Orderly,
    /// Resets the connection at this step.
    Reset(usize),
    /// Closes the connection at this step.
    Close(usize),
    /// Does nothing from this step on, until [`Client::resume`].
    Stall(usize),
}

enum Received {
    Line(String),
    Body(Arc<Vec<u8>>, usize),
}

/// The content of a file that is being received.
struct Body {
    /// The possible contents, each with its first byte.
    expected: Vec<(Arc<Vec<u8>>, usize)>,
    length: usize,
    received: usize,
}

impl Client {
    /// Creates a client that acts in every step.
    pub(super) fn fast(id: usize, script: Vec<Item>) -> Client {
        Client {
            id,
            state: State::Before(0),
            session: SessionModel::default(),
            pace: Pace {
                acts: 1.0,
                sends: 1 << 20,
                receives: 1 << 20,
                pipelined: 100,
            },
            leaving: Leaving::Orderly,
            script: script.into(),
            continued: None,
            unanswered: VecDeque::new(),
            unsent: VecDeque::new(),
            has_shut_down: false,
            unparsed: Vec::new(),
            received: Vec::new(),
            body: None,
            has_goodbye: false,
            moved: 0,
            saw_fault: false,
        }
    }

    /// Creates a client with a random pace and way to leave.
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
            pipelined: one_of(rng, &[1, 2, 100]),
        };
        Client {
            state: State::Before(rng.usize(..200)),
            pace,
            leaving,
            ..Client::fast(id, script)
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// Returns whether it is connected and does nothing.
    pub(super) fn is_stalled(&self, step: usize) -> bool {
        matches!(self.leaving, Leaving::Stall(since) if since <= step) && !self.is_gone()
    }

    /// Makes it as fast as possible.
    pub(super) fn speed_up(&mut self) {
        let pipelined = self.pace.pipelined;
        let fast = Client::fast(self.id, Vec::new()).pace;
        self.pace = Pace { pipelined, ..fast };
        if let State::Before(step) = &mut self.state {
            *step = 0;
        }
    }

    /// Ends a stall.
    pub(super) fn resume(&mut self) {
        self.leaving = Leaving::Orderly;
    }

    /// Describes its state for the message of a failure.
    pub(super) fn describe(&self) -> String {
        let item = self.unanswered.front().map(|sent| &sent.item);
        let (id, state, unsent) = (self.id, self.state, self.unsent.len());
        let lines = self.lines();
        format!("client {id}, {state:?}, {unsent} bytes unsent, sent {item:?}, received {lines:?}")
    }

    /// One step.
    pub(super) fn act(&mut self, rng: &mut Rng, sim: &Sim, model: &mut Model, to: SocketAddr) {
        if self.is_stalled(model.step) || rng.f64() >= self.pace.acts {
            return;
        }
        let peer = match self.state {
            State::Before(step) if step <= model.step => return self.connect(sim, model, to),
            State::Connected(peer) => peer,
            State::Before(_) | State::Gone => return,
        };
        match self.leaving {
            Leaving::Reset(step) if step <= model.step => {
                sim.peer_reset(peer);
                self.state = State::Gone;
            }
            Leaving::Close(step) if step <= model.step => {
                sim.peer_close(peer);
                self.state = State::Gone;
            }
            _ => {
                self.queue_items(model, sim);
                self.send(rng, sim, peer);
                self.receive(rng, sim, model, peer);
            }
        }
    }

    fn connect(&mut self, sim: &Sim, model: &Model, to: SocketAddr) {
        let from = Ipv4Addr::new(127, 0, 0, 1 + (self.id % 3) as u8);
        match sim.peer_connect(to, IpAddr::V4(from)) {
            Ok(peer) => self.state = State::Connected(peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                assert!(
                    model.stopping.is_some(),
                    "the server does not listen: {error}"
                );
                self.state = State::Gone;
            }
        }
    }

    /// Queues the next items, as far as they need no reply first.
    fn queue_items(&mut self, model: &Model, sim: &Sim) {
        while self.unsent.is_empty()
            && !self.has_goodbye
            && self.unanswered.len() < self.pace.pipelined
        {
            if self.unanswered.iter().any(|sent| sent.item.needs_reply()) {
                return;
            }
            let Some(item) = self.script.pop_front() else {
                return;
            };
            self.unsent.extend(item.bytes(model));
            let step = model.step;
            let command = self.continued.take().unwrap_or(step);
            self.unanswered.push_back(SentItem {
                item,
                step,
                command,
                at: sim.elapsed(),
            });
        }
    }

    fn send(&mut self, rng: &mut Rng, sim: &Sim, peer: Peer) {
        let (bytes, _) = self.unsent.as_slices();
        let count = rng.usize(1..=self.pace.sends).min(bytes.len());
        match sim.peer_send(peer, &bytes[..count]) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                self.moved += sent;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // The server has closed the connection. Its last message has the reason.
            Err(_) => self.unsent.clear(),
        }
        let all_sent = self.script.is_empty() && self.unsent.is_empty();
        let keeps_open = |sent: &SentItem| sent.item.needs_reply() || sent.item.is_last();
        let waits = self.unanswered.iter().any(keeps_open);
        if all_sent && !self.has_shut_down && !waits && !self.has_goodbye {
            sim.peer_shutdown(peer);
            self.has_shut_down = true;
        }
    }

    fn receive(&mut self, rng: &mut Rng, sim: &Sim, model: &mut Model, peer: Peer) {
        match sim.peer_receive(peer, rng.usize(1..=self.pace.receives)) {
            Ok(bytes) if bytes.is_empty() => {
                let all_answered =
                    self.unanswered.is_empty() && self.script.is_empty() && self.has_shut_down;
                let no_partial_reply = self.unparsed.is_empty() && self.received.is_empty();
                let expected = no_partial_reply && (all_answered || self.has_goodbye);
                self.check_end(sim, model, expected, "the end");
                sim.peer_close(peer);
                self.state = State::Gone;
            }
            Ok(bytes) => {
                self.moved += bytes.len();
                self.unparsed.extend(bytes);
                self.parse(sim, model);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => {
                self.check_end(sim, model, self.has_goodbye, &error.to_string());
                sim.peer_close(peer);
                self.state = State::Gone;
            }
        }
    }

    /// Parses the received bytes.
    fn parse(&mut self, sim: &Sim, model: &mut Model) {
        loop {
            if let Some(body) = &mut self.body {
                let count = body.receive(&self.unparsed, self.id);
                self.unparsed.drain(..count);
                if body.received < body.length {
                    return;
                }
                let (content, from) = body.expected.swap_remove(0);
                self.received.push(Received::Body(content, from));
                self.body = None;
            } else {
                let Some(end) = self.unparsed.iter().position(|&byte| byte == b'\n') else {
                    return;
                };
                let rest = self.unparsed.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.unparsed, rest);
                line.pop();
                let line = String::from_utf8(line).expect("messages are UTF-8");
                assert!(
                    !self.has_goodbye,
                    "{line} after the goodbye: {}",
                    self.describe()
                );
                self.has_goodbye = match &*line {
                    text::STOPPING => model.stopping.is_some(),
                    text::IDLE => model.closes_idle || is_long(sim),
                    text::LOGIN_REVOKED => self.revoked(model).is_some(),
                    _ => false,
                };
                if self.has_goodbye {
                    debug!("client={} goodbye={line}", self.id);
                    self.received.clear();
                    continue;
                }
                self.received.push(Received::Line(line));
            }
            self.match_reply(sim, model);
        }
    }

    /// Finds the replies that begin with the received parts, and applies one that is complete.
    fn match_reply(&mut self, sim: &Sim, model: &mut Model) {
        let Some(sent) = self.unanswered.front() else {
            panic!("unsolicited output: {}", self.describe());
        };
        let (item, step) = (&sent.item, sent.step);
        let mut possible = Vec::new();
        let all = replies(sent, model, &self.session);
        for reply in &all {
            if let Some(next) = self.next_part(reply, sim, model, step) {
                possible.push((reply, next));
            }
        }
        let describe = || self.describe();
        assert!(!possible.is_empty(), "{}, expected {all:#?}", describe());
        let is_complete = |(reply, next): &&(&Reply, usize)| *next == reply.parts.len();
        if let Some((reply, _)) = possible.iter().find(is_complete) {
            debug!(
                "client={} sent={item:?} received={:?}",
                self.id,
                self.lines()
            );
            // A revoked user can finish an operation but not begin one.
            let continues = matches!(
                item,
                Item::UploadLength { .. } | Item::UploadBytes { .. } | Item::TooLong
            );
            let is_late = |revoked: Revoked| step > revoked.step && !continues;
            assert!(
                !self.revoked(model).is_some_and(is_late),
                "served a revoked user: {}",
                describe()
            );
            self.saw_fault |= reply.is_fault;
            self.has_goodbye = matches!(reply.effect, Effect::Closed);
            let effect = reply.effect.clone();
            let sent = self.unanswered.pop_front().expect("it was answered");
            if let Some(next) = self.session.apply(&sent, effect, model) {
                self.script.push_front(next);
                self.continued = Some(sent.command);
            }
            self.received.clear();
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
                received: 0,
            });
    }

    /// Returns the number of the next part of a reply, if the received parts belong to it.
    fn next_part(&self, reply: &Reply, sim: &Sim, model: &Model, sent: usize) -> Option<usize> {
        let mut received = self.received.iter();
        for (number, part) in reply.parts.iter().enumerate() {
            let Some(next) = received.next() else {
                return Some(number);
            };
            let fits = match (part, next) {
                (Part::Line(expected), Received::Line(line)) => expected == line,
                (Part::OneOf(expected), Received::Line(line)) => expected.contains(&line.as_str()),
                (Part::Begins(expected), Received::Line(line)) => line.starts_with(expected),
                (Part::Names(path), Received::Line(line)) => model.lists_names(path, sent, line),
                (Part::Details(path), Received::Line(line)) => {
                    for _ in 0..model.counts_entries(path, sent, line)? {
                        let Some(Received::Line(line)) = received.next() else {
                            return Some(number);
                        };
                        if !model.details(sim, path, sent, line) {
                            return None;
                        }
                    }
                    true
                }
                (Part::Body(content, from), Received::Body(found, found_from)) => {
                    Arc::ptr_eq(content, found) && from == found_from
                }
                _ => false,
            };
            if !fits {
                return None;
            }
        }
        received.next().is_none().then_some(reply.parts.len())
    }

    /// Checks that the connection may end, if the end was not expected.
    fn check_end(&mut self, sim: &Sim, model: &Model, expected: bool, how: &str) {
        debug!("client={} ended={how}", self.id);
        if !expected && !self.may_be_cut(sim, model) {
            assert!(model.faulty, "{how} is too early: {}", self.describe());
            self.saw_fault = true;
        }
    }

    /// Returns whether the server may close the connection before its last message, without a
    /// fault.
    fn may_be_cut(&self, sim: &Sim, model: &Model) -> bool {
        // A lingering close ends after this time, even if the goodbye was not read.
        let linger = match model.stopping {
            Some(_) => DRAIN_QUIET_TIME / 2,
            None => LINGER_TIMEOUT - Duration::from_secs(1),
        };
        let is_long_ago = |at: Duration| sim.elapsed() - at > linger;
        let ends = |sent: &SentItem| {
            let replies = replies(sent, model, &self.session);
            let closes = |reply: &Reply| matches!(reply.effect, Effect::Closed);
            replies.iter().any(|reply| reply.may_be_cut)
                || is_long_ago(sent.at) && replies.iter().any(closes)
        };
        // Unread replies to earlier logins are lost with the goodbye of the last failed one.
        let mut logins =
            (self.unanswered.iter()).filter(|sent| matches!(sent.item, Item::Login { .. }));
        let last_login = logins.nth(self.session.logins_left() - 1);
        let is_new = (self.unanswered.iter()).any(|sent| matches!(sent.item, Item::Greet));
        model.closes_idle
            || is_long(sim)
            // Connections that were not accepted are closed with the listener.
            || (model.limits_sessions || model.stopping.is_some()) && is_new
            || model.stopping.is_some_and(is_long_ago)
            || self
                .revoked(model)
                .is_some_and(|revoked| is_long_ago(revoked.at))
            || last_login.is_some_and(|sent| is_long_ago(sent.at))
            || self.unanswered.iter().any(ends)
    }

    /// Returns when its user was removed.
    fn revoked(&self, model: &Model) -> Option<Revoked> {
        let is_me = |revoked: &Revoked| Some(revoked.user) == self.session.user;
        model.revoked.filter(is_me)
    }

    fn lines(&self) -> Vec<String> {
        let line = |received: &Received| match received {
            Received::Line(line) => line.clone(),
            Received::Body(content, from) => format!("({} bytes)", content.len() - from),
        };
        let rest = String::from_utf8_lossy(&self.unparsed[..self.unparsed.len().min(100)]);
        self.received
            .iter()
            .map(line)
            .chain([rest.into_owned()])
            .collect()
    }
}

/// Returns whether the run is so long that the idle timeout of a stalled client can have expired.
fn is_long(sim: &Sim) -> bool {
    sim.elapsed() > Options::default().idle_timeout - SWEEP_INTERVAL
}

impl Body {
    /// Compares received bytes with the possible contents. Returns how many of them belong to the
    /// body.
    fn receive(&mut self, bytes: &[u8], id: usize) -> usize {
        let count = bytes.len().min(self.length - self.received);
        self.expected.retain(|(content, from)| {
            let from = from + self.received;
            content[from..from + count] == bytes[..count]
        });
        assert!(
            !self.expected.is_empty(),
            "client {id} received wrong bytes of a file, at or after {}",
            self.received
        );
        self.received += count;
        count
    }
}

//! A model client of FTP that checks that the replies are true.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use fastrand::Rng;
use tidegate::kernel::sim::{Peer, Sim};

use crate::support::seeds::{once_in, one_of};

/// A client that makes one transfer after another.
pub(super) struct Client {
    id: u8,
    address: IpAddr,
    pub(super) phase: Phase,
    control: Option<Peer>,
    /// Bytes that were not sent over the control connection yet.
    unsent: VecDeque<u8>,
    /// The start of an incomplete line from the control connection.
    line: Vec<u8>,
    transfers: VecDeque<Transfer>,
    data: Option<Peer>,
    /// The listening address of an active transfer.
    listening: Option<SocketAddr>,
    /// The server's address of a passive transfer.
    passive: Option<SocketAddr>,
    /// The bytes received over the data connection.
    received: Vec<u8>,
    /// The number of bytes sent over the data connection.
    sent: usize,
    /// Whether the data connection has ended.
    ended: bool,
    /// Whether ABOR was sent.
    aborted: bool,
    /// The final replies to the command and to ABOR.
    finals: Vec<String>,
    /// The number of steps of this transfer.
    age: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connecting,
    /// Each of the following phases ends with a final reply.
    User,
    Password,
    Type,
    Address,
    Command,
    Moving,
    Leaving,
    Gone,
}

#[derive(Clone)]
struct Transfer {
    name: String,
    content: Arc<Vec<u8>>,
    upload: bool,
    active: bool,
    mishap: Mishap,
    /// The step of the transfer at which the mishap is due.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    None,
    Abort,
    /// The client connects before it sends the command.
    Early,
    /// The client connects late.
    Late,
    /// The client never connects.
    Missing,
    Reset,
    /// The client is killed, which closes all its connections.
    Killed,
}

impl Client {
    pub(super) fn new(rng: &mut Rng, id: u8, contents: &[Arc<Vec<u8>>]) -> Client {
        let mut transfer = |number: u32| {
            let which = rng.usize(..contents.len());
            let upload = rng.bool();
            Transfer {
                name: match upload {
                    true => format!("Mail/upload-{id}-{number}"),
                    false => format!("Mail/file{which}"),
                },
                content: contents[which].clone(),
                upload,
                active: once_in(rng, 3),
                mishap: one_of(
                    rng,
                    &[
                        Mishap::None,
                        Mishap::None,
                        Mishap::None,
                        Mishap::Abort,
                        Mishap::Early,
                        Mishap::Late,
                        Mishap::Missing,
                        Mishap::Reset,
                        Mishap::Killed,
                    ],
                ),
                at: rng.usize(..30),
            }
        };
        Client {
            id,
            transfers: (0..6).map(&mut transfer).collect(),
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + id % 2)),
            phase: Phase::Connecting,
            control: None,
            unsent: VecDeque::new(),
            line: Vec::new(),
            data: None,
            listening: None,
            passive: None,
            received: Vec::new(),
            sent: 0,
            ended: false,
            aborted: false,
            finals: Vec::new(),
            age: 0,
        }
    }

    pub(super) fn act(&mut self, rng: &mut Rng, sim: &Sim, server: SocketAddr, faulty: bool) {
        if self.phase == Phase::Gone || once_in(rng, 4) {
            return;
        }
        let Some(control) = self.control else {
            self.control = sim.peer_connect(server, self.address).ok();
            return;
        };
        if !self.unsent.is_empty() {
            let bytes = self.unsent.make_contiguous();
            let some = rng.usize(1..=bytes.len());
            match sim.peer_send(control, &bytes[..some]) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return self.leave(sim, faulty),
            }
        }
        match sim.peer_receive(control, rng.usize(1..200)) {
            Ok(bytes) if bytes.is_empty() => return self.leave(sim, faulty),
            Ok(bytes) => {
                for byte in bytes {
                    self.line.push(byte);
                    if byte == b'\n' {
                        let line = std::mem::take(&mut self.line);
                        self.receive_line(&String::from_utf8(line).expect("replies are text"));
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return self.leave(sim, faulty),
        }
        if matches!(self.phase, Phase::Command | Phase::Moving) {
            self.age += 1;
            if self.is_killed() {
                return self.restart(sim);
            }
            self.move_data(rng, sim);
            self.finish(sim, faulty);
        }
    }

    fn send_line(&mut self, line: &str) {
        self.unsent.extend(line.bytes());
        self.unsent.extend(b"\r\n");
    }

    /// Processes a line of a reply. Ignores all lines but the last of a final reply.
    fn receive_line(&mut self, line: &str) {
        let is_reply =
            line.as_bytes()[..3].iter().all(u8::is_ascii_digit) && line.as_bytes()[3] == b' ';
        if !is_reply || line.starts_with('1') {
            return;
        }
        let (code, _) = line.split_once(' ').expect("a reply has a code and a text");
        match self.phase {
            Phase::Connecting => {
                assert_eq!(code, "220");
                self.send_line("USER ann");
                self.phase = Phase::User;
            }
            Phase::User => {
                self.send_line("PASS secret");
                self.phase = Phase::Password;
            }
            Phase::Password if code == "230" => {
                self.send_line("TYPE I");
                self.phase = Phase::Type;
            }
            Phase::Password => panic!("the password is right: {line}"),
            Phase::Type => self.next(),
            Phase::Address => self.receive_address(code, line),
            Phase::Command | Phase::Moving => self.finals.push(code.to_owned()),
            Phase::Leaving | Phase::Gone => {}
        }
    }

    /// Starts the next transfer, or sends QUIT.
    fn next(&mut self) {
        let Some(transfer) = self.transfers.front() else {
            self.phase = Phase::Leaving;
            return self.send_line("QUIT");
        };
        let port = 20_000 + u16::from(self.id) * 100 + self.transfers.len() as u16;
        let here = SocketAddr::new(self.address, port);
        let line = match transfer.active {
            true => {
                self.listening = Some(here);
                format!("EPRT |1|{}|{port}|", self.address)
            }
            false => "EPSV".to_owned(),
        };
        self.send_line(&line);
        self.phase = Phase::Address;
    }

    fn receive_address(&mut self, code: &str, line: &str) {
        if let Some(port) = line.split('|').nth(3) {
            let port = port.parse().expect("a port");
            self.passive = Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        let transfer = self.transfers.front().expect("a transfer is in progress");
        assert!(matches!(code, "229" | "200" | "425"), "{line}");
        // A refused EPSV names no port to connect to.
        match transfer.mishap == Mishap::Early && self.passive.is_some() {
            true => self.phase = Phase::Command,
            false => self.command(),
        }
    }

    fn command(&mut self) {
        let transfer = self.transfers.front().expect("a transfer is in progress");
        let verb = if transfer.upload { "STOR" } else { "RETR" };
        let line = format!("{verb} {}", transfer.name);
        self.send_line(&line);
        self.phase = Phase::Moving;
    }

    /// Makes a step of the data connection.
    fn move_data(&mut self, rng: &mut Rng, sim: &Sim) {
        let transfer = self
            .transfers
            .front()
            .expect("a transfer is in progress")
            .clone();
        let is_due = self.age >= transfer.at;
        if transfer.mishap == Mishap::Abort
            && is_due
            && !self.aborted
            && self.phase == Phase::Moving
        {
            self.aborted = true;
            self.send_line("ABOR");
        }
        let connects = match transfer.mishap {
            Mishap::Missing => false,
            Mishap::Late => self.age > 20 * transfer.at,
            _ => true,
        };
        if self.data.is_none() && connects && !self.ended {
            if let Some(here) = self.listening {
                sim.peer_listen(here);
                self.data = sim.peer_accept(here).ok();
            } else if let Some(there) = self.passive {
                match sim.peer_connect(there, self.address) {
                    Ok(peer) => self.data = Some(peer),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Err(_) => self.passive = None,
                }
            }
        }
        if self.phase == Phase::Command && (self.data.is_some() || self.passive.is_none()) && is_due
        {
            self.command();
        }
        let Some(data) = self.data.filter(|_| !self.ended) else {
            return;
        };
        if transfer.mishap == Mishap::Reset && is_due {
            sim.peer_reset(data);
            (self.data, self.ended, self.passive) = (None, true, None);
            return;
        }
        if !transfer.upload {
            match sim.peer_receive(data, rng.usize(1..100_000)) {
                Ok(bytes) if bytes.is_empty() => self.ended = true,
                Ok(bytes) => self.received.extend(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => self.ended = true,
            }
            return;
        }
        let left = &transfer.content[self.sent..];
        if left.is_empty() {
            sim.peer_shutdown(data);
            self.ended = true;
            return;
        }
        let some = rng.usize(1..=left.len());
        match sim.peer_send(data, &left[..some]) {
            Ok(sent) => self.sent += sent,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
    }

    /// Checks the replies once all have arrived, and starts the next transfer.
    fn finish(&mut self, sim: &Sim, faulty: bool) {
        if self.finals.len() < 1 + usize::from(self.aborted) || self.phase != Phase::Moving {
            return;
        }
        let transfer = self
            .transfers
            .front()
            .expect("a transfer is in progress")
            .clone();
        let done = self.finals[0] == "226";
        // A client that resets the connection loses the bytes that it has not read.
        let was_reset = transfer.mishap == Mishap::Reset && self.ended && self.data.is_none();
        if !transfer.upload && done && !was_reset {
            // The bytes arrived before the reply.
            if let Some(data) = self.data {
                while let Ok(bytes) = sim.peer_receive(data, usize::MAX) {
                    if bytes.is_empty() {
                        break;
                    }
                    self.received.extend(bytes);
                }
            }
            assert!(
                self.received == *transfer.content,
                "{}: the download is incomplete",
                self.describe()
            );
        }
        if transfer.upload {
            let tree = sim.tree();
            let found = tree.get(&format!("/srv/{}", transfer.name));
            match found {
                Some(Some(content)) => assert!(
                    **content == *transfer.content && (done || faulty),
                    "{:?} {:?}",
                    self.finals,
                    transfer.name
                ),
                _ => assert!(!done, "{}: the upload is missing", transfer.name),
            }
        }
        if transfer.mishap == Mishap::None && !faulty {
            assert!(
                done || self.finals[0] == "425",
                "{:?} {:?}",
                self.finals,
                transfer.name
            );
        }
        if self.aborted {
            // If it was late, there was nothing to abort.
            assert!(
                matches!(&*self.finals[1], "225" | "226"),
                "{}",
                self.describe()
            );
        }
        self.close_data(sim);
        self.transfers.pop_front();
        self.next();
    }

    /// Describes its state for the message of a failure.
    pub(super) fn describe(&self) -> String {
        let transfer = self.transfers.front();
        let transfer = transfer.map(|transfer| (&transfer.name, transfer.active, transfer.mishap));
        let Client {
            id,
            phase,
            finals,
            age,
            ended,
            ..
        } = self;
        format!("client {id} {phase:?} {transfer:?} {finals:?} age={age} ended={ended}")
    }

    fn close_data(&mut self, sim: &Sim) {
        if let Some(data) = self.data.take() {
            sim.peer_close(data);
        }
        if let Some(here) = self.listening.take() {
            sim.peer_close_listener(here);
        }
        (self.passive, self.ended, self.aborted) = (None, false, false);
        (self.sent, self.age) = (0, 0);
        self.received.clear();
        self.finals.clear();
    }

    fn is_killed(&self) -> bool {
        let transfer = self.transfers.front().expect("a transfer is in progress");
        transfer.mishap == Mishap::Killed && self.age >= transfer.at
    }

    /// Handles the end of the control connection.
    fn leave(&mut self, sim: &Sim, faulty: bool) {
        assert!(
            self.phase == Phase::Leaving || faulty,
            "{}",
            self.describe()
        );
        self.close(sim);
    }

    /// Kills the client and starts it again for the remaining transfers.
    fn restart(&mut self, sim: &Sim) {
        self.close(sim);
        self.unsent.clear();
        self.line.clear();
        self.transfers.pop_front();
        self.phase = Phase::Connecting;
    }

    fn close(&mut self, sim: &Sim) {
        self.close_data(sim);
        if let Some(control) = self.control.take() {
            sim.peer_close(control);
        }
        self.phase = Phase::Gone;
    }
}

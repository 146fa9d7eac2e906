//! The client's side of the menu against the reference server, with pipelined commands in random
//! fragments.

use std::collections::VecDeque;
use std::fs;

use fastrand::Rng;
use sha2::{Digest, Sha256};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::request::QuotaUsage;
use tidegate::protocol::menu::client::{ClientEvent, ClientSession, Violation};
use tidegate::protocol::menu::reply_parser::DetailsEntry;
use tidegate::protocol::menu::session::MenuSession;
use tidegate::protocol::menu::text;
use tidegate::protocol::menu::text::refusal;
use tidegate::protocol::session::Session;

use super::reference_connection::Connection;
use super::reference_services::Services;
use crate::support::Home;
use crate::support::changes::{Change, MODIFIED, change, path_in, plain_home};
use crate::support::seeds::{cut, for_seeds};

/// An owned [`ClientEvent`]. The pieces of a list of names are joined, and a file has its content.
#[derive(Clone, Debug, PartialEq, Eq)]
enum OwnedEvent {
    PasswordWanted,
    LoggedIn,
    LoginFailed,
    Names(String),
    Entries(u64),
    Entry(String, Option<u64>),
    Quotas(u64),
    Quota(QuotaUsage),
    File(Vec<u8>),
    Checksum([u8; 32]),
    Uploaded,
    DirectoryMade,
    Refused(&'static str),
    Goodbye(&'static str),
}

/// A client of the reference server. Both directions are cut into random fragments.
struct Client {
    dialogue: ClientSession,
    server: Connection<Services>,
    random: Rng,
    received: Vec<u8>,
    names: Vec<u8>,
}

impl Client {
    fn new(home: &Home, seed: u64) -> Client {
        Client {
            dialogue: ClientSession::new(),
            server: Connection::new(
                Session::Menu(MenuSession::new()),
                Services::new(home.path(), false, Some(1000)),
            ),
            random: Rng::with_seed(seed),
            received: Vec::new(),
            names: Vec::new(),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        for fragment in cut(&mut self.random, bytes) {
            self.server.receive(fragment);
        }
    }

    /// Parses all output of the server.
    fn receive(&mut self) -> Result<Vec<OwnedEvent>, Violation> {
        let sent = self.server.take_sent();
        let mut fragments: VecDeque<&[u8]> = cut(&mut self.random, &sent).into();
        let mut events = Vec::new();
        loop {
            let parsed = self.dialogue.receive(&self.received)?;
            let used = parsed.used;
            let mut file = None;
            match parsed.event {
                None => match fragments.pop_front() {
                    Some(fragment) => {
                        self.received.drain(..used);
                        self.received.extend_from_slice(fragment);
                        continue;
                    }
                    None => {
                        self.received.drain(..used);
                        return Ok(events);
                    }
                },
                Some(ClientEvent::PasswordWanted) => events.push(OwnedEvent::PasswordWanted),
                Some(ClientEvent::LoggedIn) => events.push(OwnedEvent::LoggedIn),
                Some(ClientEvent::LoginFailed) => events.push(OwnedEvent::LoginFailed),
                Some(ClientEvent::Names { piece, is_last }) => {
                    self.names.extend_from_slice(piece);
                    if is_last {
                        let names = String::from_utf8(std::mem::take(&mut self.names));
                        events.push(OwnedEvent::Names(names.expect("UTF-8")));
                    }
                }
                Some(ClientEvent::Entries(count)) => events.push(OwnedEvent::Entries(count)),
                Some(ClientEvent::Entry(DetailsEntry {
                    name,
                    size,
                    modified,
                })) => {
                    assert_eq!(modified, MODIFIED);
                    events.push(OwnedEvent::Entry(name.to_owned(), size));
                }
                Some(ClientEvent::Quotas(count)) => events.push(OwnedEvent::Quotas(count)),
                Some(ClientEvent::Quota(quota)) => events.push(OwnedEvent::Quota(quota)),
                Some(ClientEvent::File { length }) => file = Some(length as usize),
                Some(ClientEvent::Checksum(hash)) => events.push(OwnedEvent::Checksum(hash)),
                Some(ClientEvent::Uploaded) => events.push(OwnedEvent::Uploaded),
                Some(ClientEvent::DirectoryMade) => events.push(OwnedEvent::DirectoryMade),
                Some(ClientEvent::Refused(refused)) => events.push(OwnedEvent::Refused(refused)),
                Some(ClientEvent::Goodbye(goodbye)) => events.push(OwnedEvent::Goodbye(goodbye)),
            }
            self.received.drain(..used);
            if let Some(length) = file {
                while self.received.len() < length {
                    self.received
                        .extend_from_slice(fragments.pop_front().expect("the file is complete"));
                }
                events.push(OwnedEvent::File(self.received.drain(..length).collect()));
            }
        }
    }

    fn log_in(&mut self) {
        let mut out = Vec::new();
        self.dialogue.login("user2", &mut out).unwrap();
        self.send(&out);
        assert_eq!(self.receive().unwrap(), [OwnedEvent::PasswordWanted]);
        out.clear();
        self.dialogue.password(b"2345", &mut out).unwrap();
        self.send(&out);
        assert_eq!(self.receive().unwrap(), [OwnedEvent::LoggedIn]);
    }
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    for_seeds(&[], 64, |seed| {
        let home = plain_home();
        let padded = b"Uploads/ padded ".to_vec();
        change(&home, &Change::File(padded, b"blanks".to_vec()));
        let mut client = Client::new(&home, seed);
        client.log_in();
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        for number in 0..20 {
            let choice = client.random.usize(..20);
            send_command(
                choice,
                number,
                &mut client.dialogue,
                &home,
                &mut out,
                &mut expected,
            );
        }
        client.dialogue.quit(&mut out);
        expected.push(OwnedEvent::Goodbye(text::GOODBYE_LOGGED_OUT));
        client.send(&out);
        assert_eq!(client.receive().unwrap(), expected);
        assert_eq!(
            client.dialogue.unanswered(),
            1,
            "the goodbye is sent before the last reply"
        );
    });
}

/// Sends one of several commands, and adds the expected events.
fn send_command(
    choice: usize,
    number: usize,
    dialogue: &mut ClientSession,
    home: &Home,
    out: &mut Vec<u8>,
    expected: &mut Vec<OwnedEvent>,
) {
    let joker = || fs::read(path_in(home, b"Movies/Joker")).unwrap();
    let no_file = OwnedEvent::Refused(refusal(ErrorCode::NoSuchFile));
    match choice {
        0..=9 => send_download(choice, number, dialogue, joker(), out, expected),
        10 => {
            dialogue.show_directories(out);
            expected.push(OwnedEvent::Names("Movies, Music, Uploads".to_owned()));
        }
        11 | 12 => {
            dialogue.show_directory("Movies/", out).unwrap();
            expected.push(OwnedEvent::Names("Free Fire, Joker, WAR".to_owned()));
            dialogue.show_details(out);
            expected.push(OwnedEvent::Entries(3));
            for (name, size) in [("Free Fire", 1279), ("Joker", 4096), ("WAR", 1362)] {
                expected.push(OwnedEvent::Entry(name.to_owned(), Some(size)));
            }
        }
        13 => {
            dialogue.show_directory("Nothing", out).unwrap();
            expected.push(OwnedEvent::Refused(refusal(ErrorCode::NoSuchDirectory)));
        }
        14 => {
            dialogue.checksum("Movies/Joker", out).unwrap();
            expected.push(OwnedEvent::Checksum(Sha256::digest(joker()).into()));
            dialogue.checksum("Uploads/ padded ", out).unwrap();
            expected.push(OwnedEvent::Checksum(Sha256::digest(b"blanks").into()));
            dialogue.checksum("Movies/Nothing", out).unwrap();
            expected.push(no_file);
        }
        15 | 16 => {
            dialogue
                .put(&format!("Uploads/New, {number}, 4 bytes"), 5, out)
                .unwrap();
            out.extend(b"QUIT\n");
            expected.push(OwnedEvent::Uploaded);
        }
        17 => {
            dialogue.put("Uploads/Welcome", 5, out).unwrap();
            out.extend(b"QUIT\n");
            expected.push(OwnedEvent::Refused(refusal(ErrorCode::FileExists)));
        }
        18 => {
            let path = format!("Uploads/Box {number} ");
            dialogue.make_directory(&path, out).unwrap();
            expected.push(OwnedEvent::DirectoryMade);
            dialogue.show_directory(&path, out).unwrap();
            expected.push(OwnedEvent::Names(String::new()));
            dialogue.show_details(out);
            expected.push(OwnedEvent::Entries(0));
        }
        _ => {
            dialogue.make_directory("Uploads/Welcome", out).unwrap();
            expected.push(OwnedEvent::Refused(refusal(ErrorCode::FileExists)));
        }
    }
}

/// Sends a download or the rest of one, and adds the expected event.
fn send_download(
    choice: usize,
    number: usize,
    dialogue: &mut ClientSession,
    joker: Vec<u8>,
    out: &mut Vec<u8>,
    expected: &mut Vec<OwnedEvent>,
) {
    let no_file = OwnedEvent::Refused(refusal(ErrorCode::NoSuchFile));
    match choice {
        0 | 1 => {
            dialogue.download("Movies/Joker", out).unwrap();
            expected.push(OwnedEvent::File(joker));
        }
        2 => {
            dialogue.download("Movies/Nothing", out).unwrap();
            expected.push(no_file);
        }
        3 => {
            dialogue.download("Uploads/ padded ", out).unwrap();
            expected.push(OwnedEvent::File(b"blanks".to_vec()));
        }
        4 | 5 => {
            let from = number * 200;
            dialogue.resume("Movies/Joker", from as u64, out).unwrap();
            expected.push(OwnedEvent::File(joker[from..].to_vec()));
        }
        6 | 7 => {
            dialogue.resume("Movies/Nothing", 5, out).unwrap();
            expected.push(no_file);
        }
        8 => {
            dialogue.resume("Movies/Joker", 4097, out).unwrap();
            expected.push(OwnedEvent::Refused(text::BAD_NUMBER));
        }
        _ => {
            dialogue.resume("Uploads/ padded ", 3, out).unwrap();
            expected.push(OwnedEvent::File(b"nks".to_vec()));
        }
    }
}

#[test]
fn too_many_failed_logins_end_the_connection() {
    let home = plain_home();
    let mut client = Client::new(&home, 1);
    let mut events = Vec::new();
    for user in ["nobody", "user1", "", "user1", "nobody"] {
        let mut out = Vec::new();
        client.dialogue.login(user, &mut out).unwrap();
        client.send(&out);
        let mut received = client.receive().unwrap();
        if received == [OwnedEvent::PasswordWanted] {
            out.clear();
            client.dialogue.password(b"QUIT", &mut out).unwrap();
            client.send(&out);
            received = client.receive().unwrap();
        }
        events.extend(received);
    }
    let mut expected = vec![OwnedEvent::LoginFailed; 5];
    expected.push(OwnedEvent::Goodbye(text::TOO_MANY_FAILURES));
    assert_eq!(events, expected);
}

#[test]
fn an_upload_too_large_to_discard_ends_the_connection() {
    let home = plain_home();
    let mut client = Client::new(&home, 1);
    client.log_in();
    let mut out = Vec::new();
    client.dialogue.put("Uploads/New", 1001, &mut out).unwrap();
    client.send(&out);
    assert_eq!(
        client.receive().unwrap(),
        [OwnedEvent::Goodbye(refusal(ErrorCode::NoSpace))]
    );
}

//! The client's side of the menu, against the reference server with pipelined commands in random
//! fragments, and against servers that violate the protocol.

use std::collections::VecDeque;
use std::fs;

use fastrand::Rng;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::request::QuotaUsage;
use tidegate::limits::{LINE_BYTES_MAX, SERVER_LINE_BYTES_MAX};
use tidegate::protocol::menu::client::{ClientEvent, ClientSession, InvalidName, Violation};
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

#[test]
fn invalid_names_are_not_sent() {
    let long = "x".repeat(LINE_BYTES_MAX);
    let fits = "x".repeat(LINE_BYTES_MAX - "DOWNLOAD FILE \n".len());
    let mut dialogue = ClientSession::new();
    let mut out = Vec::new();
    for path in ["", "a\nQUIT", "a\rb", "a\tb", "\u{1b}[2J", "\u{9b}", &long] {
        assert_eq!(
            dialogue.download(path, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.resume(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.put(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
        assert_eq!(
            dialogue.checksum(path, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
    }
    for path in ["Uploads/x ", " Uploads/x"] {
        assert_eq!(
            dialogue.put(path, 1, &mut out),
            Err(InvalidName),
            "{path:?}"
        );
    }
    let one_more = fits.clone() + "x";
    assert_eq!(dialogue.download(&one_more, &mut out), Err(InvalidName));
    assert_eq!(
        dialogue.put("Uploads/x", u64::MAX, &mut out),
        Err(InvalidName)
    );
    assert_eq!(
        dialogue.resume("Movies/x", u64::MAX, &mut out),
        Err(InvalidName)
    );
    assert_eq!(dialogue.login("a\nQUIT", &mut out), Err(InvalidName));
    assert_eq!(dialogue.password(b"a\nQUIT", &mut out), Err(InvalidName));
    assert_eq!(dialogue.password(b"a\r", &mut out), Err(InvalidName));
    assert!(out.is_empty() && dialogue.unanswered() == 0);
    dialogue.download(&fits, &mut out).unwrap();
    assert_eq!(out.len(), LINE_BYTES_MAX);
}

/// Returns a client session that has logged in and sent a command.
fn after_command(send: impl Fn(&mut ClientSession, &mut Vec<u8>)) -> ClientSession {
    let mut dialogue = ClientSession::new();
    let mut out = Vec::new();
    dialogue.login("user1", &mut out).unwrap();
    let greeting = [
        text::FIRST_CHOICE,
        text::ENTER_USERNAME,
        text::ENTER_PASSWORD,
        "",
    ]
    .join("\n");
    let parsed = dialogue.receive(greeting.as_bytes()).unwrap();
    assert_eq!(
        (parsed.used, parsed.event),
        (greeting.len(), Some(ClientEvent::PasswordWanted))
    );
    dialogue.password(b"1234", &mut out).unwrap();
    let welcome = [text::LOGIN_SUCCESSFUL, text::MENU, ""].join("\n");
    let parsed = dialogue.receive(welcome.as_bytes()).unwrap();
    assert_eq!(parsed.event, Some(ClientEvent::LoggedIn));
    assert_eq!(
        dialogue
            .receive(&welcome.as_bytes()[parsed.used..])
            .unwrap()
            .event,
        None
    );
    send(&mut dialogue, &mut out);
    dialogue
}

#[test]
fn protocol_violations_are_detected() {
    type Command = fn(&mut ClientSession, &mut Vec<u8>);
    let nothing: Command = |_, _| {};
    let download: Command = |dialogue, out| dialogue.download("Movies/Joker", out).unwrap();
    let checksum: Command = |dialogue, out| dialogue.checksum("Movies/Joker", out).unwrap();
    let details: Command = |dialogue, out| dialogue.show_details(out);
    let put: Command = |dialogue, out| dialogue.put("Uploads/x", 3, out).unwrap();
    let make: Command = |dialogue, out| dialogue.make_directory("Uploads/x", out).unwrap();
    let hash = "0".repeat(64);
    let cases: Vec<(Command, String)> = vec![
        (nothing, "LENGTH 5".into()),
        (nothing, text::MENU.into()),
        (download, "LENGTH -1".into()),
        (download, "LENGTH 10000000000000000000".into()),
        (download, "LENGTH 5 ".into()),
        (download, "LENGTH".into()),
        (download, "length 5".into()),
        (download, "LENGTH 5\r".into()),
        (download, "ENTRIES 5".into()),
        (download, text::MENU.into()),
        (download, text::ENTER_PASSWORD.into()),
        (download, text::FIRST_CHOICE.into()),
        (download, "No such luck".into()),
        (download, "No such file \u{1b}[2J".into()),
        (download, "Upload failed: No such file".into()),
        (download, String::new()),
        (checksum, format!("SHA-256 {hash} Riddler")),
        (checksum, format!("SHA-256 {hash}0 Joker")),
        (
            checksum,
            format!("SHA-256 {} Joker", hash.replace('0', "A")),
        ),
        (checksum, format!("SHA-256 {}é Joker", &hash[2..])),
        (put, "Upload complete: y, 3 bytes".into()),
        (put, "Upload complete: x, 4 bytes".into()),
        (put, "Upload complete: x, 3".into()),
        (put, "Upload failed: because".into()),
        (put, "Ready to receive 3 bytes".into()),
        (make, "Directory made: ../x".into()),
        (details, "ENTRIES many".into()),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ../../etc/passwd".into(),
        ),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ..".into()),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z .bashrc".into(),
        ),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z a\u{1b}b".into(),
        ),
        (
            details,
            "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z a\u{85}b".into(),
        ),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00Z ".into()),
        (
            details,
            format!("ENTRIES 1\nfile 1 2026-11-22T18:00:00Z {}", "x".repeat(256)),
        ),
        (details, "ENTRIES 1\nfile -1 2026-11-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile - 2026-11-22T18:00:00Z x".into()),
        (
            details,
            "ENTRIES 1\ndirectory 1 2026-11-22T18:00:00Z x".into(),
        ),
        (details, "ENTRIES 1\nlink - 2026-11-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile 1 2026-11-22 x".into()),
        (details, "ENTRIES 1\nfile 1 2026-13-22T18:00:00Z x".into()),
        (details, "ENTRIES 1\nfile 1 2026-11-22T18:00:00.5Z x".into()),
        (
            details,
            format!(
                "ENTRIES 2\ndirectory - 2026-11-22T18:00:00Z x\n{}",
                text::MENU
            ),
        ),
    ];
    for (command, output) in cases {
        let mut dialogue = after_command(command);
        let output = output + "\n";
        let mut rest = output.as_bytes();
        let violation = loop {
            match dialogue.receive(rest) {
                Err(violation) => break violation,
                Ok(parsed) => {
                    assert!(parsed.event.is_some(), "accepted: {output}");
                    rest = &rest[parsed.used..];
                }
            }
        };
        assert!(!violation.to_string().contains(char::is_control));
    }
}

#[test]
fn server_lines_are_bounded_except_name_lists() {
    let mut dialogue =
        after_command(|dialogue, out| dialogue.download("Movies/Joker", out).unwrap());
    let long = vec![b'x'; SERVER_LINE_BYTES_MAX];
    assert_eq!(dialogue.receive(&long).unwrap().event, None);
    assert_eq!(
        dialogue.receive(&[&long[..], b"x"].concat()),
        Err(Violation::LineTooLong)
    );

    let mut dialogue =
        after_command(|dialogue, out| dialogue.show_directory("Movies", out).unwrap());
    let parsed = dialogue.receive(text::FILES.as_bytes()).unwrap();
    assert_eq!((parsed.used, parsed.event), (text::FILES.len(), None));
    for _ in 0..3 {
        let parsed = dialogue.receive(&long).unwrap();
        assert_eq!(
            parsed.event,
            Some(ClientEvent::Names {
                piece: &long,
                is_last: false
            })
        );
        assert_eq!(parsed.used, long.len());
    }
    let end = dialogue.receive(b"y\nPlease").unwrap();
    assert_eq!(
        (end.used, end.event),
        (
            2,
            Some(ClientEvent::Names {
                piece: b"y",
                is_last: true
            })
        )
    );
}

#[test]
fn quotas_are_parsed_as_formatted() {
    let quotas = [None, Some("Free Films"), Some("of 1 bytes")].map(|directory| QuotaUsage {
        directory: directory.map(str::to_owned),
        used: 7,
        limit: 5_000_000_000,
    });
    let mut output = b"QUOTA 3\n".to_vec();
    for quota in &quotas {
        text::append_quota(&mut output, quota);
    }
    text::append_line(&mut output, text::MENU);
    let mut dialogue = after_command(|dialogue, out| dialogue.show_quota(out));
    let mut rest = &output[..];
    let mut events = Vec::new();
    while !rest.is_empty() {
        let parsed = dialogue.receive(rest).unwrap();
        rest = &rest[parsed.used..];
        match parsed.event {
            Some(ClientEvent::Quotas(count)) => events.push(OwnedEvent::Quotas(count)),
            Some(ClientEvent::Quota(quota)) => events.push(OwnedEvent::Quota(quota)),
            other => assert_eq!(other, None),
        }
    }
    let expected = [OwnedEvent::Quotas(3)]
        .into_iter()
        .chain(quotas.map(OwnedEvent::Quota));
    assert_eq!(events, expected.collect::<Vec<_>>());

    let mut none = after_command(|dialogue, out| dialogue.show_quota(out));
    let parsed = none.receive(b"There is no quota for you\n").unwrap();
    assert_eq!(parsed.event, Some(ClientEvent::Quotas(0)));
    for wrong in [
        "user 1 of 2\n",
        "user 1 of x bytes\n",
        "directory 1 of 2 bytes ../x\n",
    ] {
        let mut dialogue = after_command(|dialogue, out| dialogue.show_quota(out));
        dialogue.receive(b"QUOTA 1\n").unwrap();
        assert!(dialogue.receive(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_goodbye_is_accepted_at_any_time_and_is_final() {
    let goodbyes = [text::IDLE, text::STOPPING, text::LOGIN_REVOKED];
    for goodbye in goodbyes
        .into_iter()
        .chain([text::TOO_MANY_SESSIONS, text::LOGIN_BLOCKED])
    {
        let mut dialogue =
            after_command(|dialogue, out| dialogue.download("Movies/Joker", out).unwrap());
        let line = format!("{goodbye}\n");
        assert_eq!(
            dialogue.receive(line.as_bytes()).unwrap().event,
            Some(ClientEvent::Goodbye(goodbye))
        );
        assert!(dialogue.receive(line.as_bytes()).is_err());
    }
    let full = format!("{}\n", text::SERVER_FULL);
    let event = ClientSession::new().receive(full.as_bytes()).unwrap().event;
    assert_eq!(event, Some(ClientEvent::Goodbye(text::SERVER_FULL)));
}

proptest! {
    /// Output is either parsed or rejected, and never parsed twice.
    #[test]
    fn arbitrary_server_output_does_not_panic(
        lines in prop::collection::vec(prop_oneof![
            Just(format!("{}\n", text::MENU)),
            Just(format!("{}\n", text::FILES)),
            Just("LENGTH 3\n".to_owned()),
            Just("ENTRIES 2\n".to_owned()),
            Just("directory - 2026-11-22T18:00:00Z x\n".to_owned()),
            Just("No such file\n".to_owned()),
            Just("Unknown command. 'HELP' lists them.\n".to_owned()),
            Just(format!("{}\n", text::ENTER_OFFSET)),
            "\\PC{0,20}\n",
            "[A-Z]{3,7} [0-9]{0,20}\n",
        ], 0..20),
    ) {
        let mut dialogue = after_command(|dialogue, out| {
            dialogue.resume("Movies/Joker", 3, out).unwrap();
            dialogue.show_directory(" Movies", out).unwrap();
            dialogue.show_details(out);
            dialogue.checksum("Movies/Joker", out).unwrap();
            dialogue.download("Movies/Joker", out).unwrap();
        });
        let bytes = lines.concat().into_bytes();
        let mut rest = &bytes[..];
        while let Ok(parsed) = dialogue.receive(rest) {
            rest = &rest[parsed.used..];
            if parsed.event.is_none() {
                break;
            }
            prop_assert!(parsed.used > 0);
        }
    }
}

//! FTP's session, by operations: a client's lines, a house that answers as it is told, and what befalls its data
//! connections. It never panics, gives each command one final reply of whole lines without control characters, and asks
//! for nothing that an engine could not do at that moment.
//!
//! The first line of an input is the house's: a byte of it decides each answer, over and over. What follows is the
//! client's. A line of one control character is none: 1 is an idle input, 2 the stop, 3 a reload that leaves other
//! rights, 4 one that ends the login, 5 the end of what the data connection is doing.

#![no_main]

use std::iter::Cycle;
use std::path::PathBuf;
use std::slice::Iter;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tidegate::home::Access;
use tidegate::home::credentials::{Account, Secret};
use tidegate::home::directories::{Grant, Rights};
use tidegate::protocol::ftp::Settings;
use tidegate::protocol::line::{Split, split};
use tidegate::protocol::{
    Action, Answer, Dialect, Found, Input, Over, Refusal, Request, Session, Via,
};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (decisions, rest) = input.split_at(end.unwrap_or(0));
    let bytes = rest.get(1..).unwrap_or_default();
    let transcript = Dialogue::play(decisions, bytes);
    let again = Dialogue::play(decisions, bytes);
    assert_eq!(again, transcript, "not a function of its inputs");
});

struct Dialogue<'a> {
    session: Session,
    decisions: Cycle<Iter<'a, u8>>,
    transcript: Vec<u8>,
    /// What the data connection is doing.
    under_way: Option<UnderWay>,
    /// Whether a data connection is awaited.
    listening: bool,
    /// Bytes of what was opened last.
    opened: Option<u64>,
    /// Whether an upload was created and did not begin yet.
    created: bool,
    /// Final replies that have to have come by now, and those that have.
    due: usize,
    given: usize,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Connecting,
    Moving,
}

impl<'a> Dialogue<'a> {
    /// What the client hears.
    fn play(decisions: &'a [u8], mut bytes: &[u8]) -> Vec<u8> {
        let mut decisions = decisions.iter().cycle();
        let first = decisions.next().copied().unwrap_or_default();
        let (local, peer) = match first & 1 {
            0 => ("127.0.0.1:21", "127.0.0.1:40000"),
            _ => ("[::1]:21", "[::1]:40000"),
        };
        let settings = Settings {
            active: first & 2 == 0,
        };
        let [local, peer] = [local, peer].map(|end| end.parse().expect("an address"));
        let mut dialogue = Dialogue {
            session: Dialect::Ftp(settings).session(local, peer),
            decisions,
            transcript: Vec::new(),
            under_way: None,
            listening: false,
            opened: None,
            created: false,
            due: 1,
            given: 0,
            closed: false,
        };
        dialogue.step(match first {
            b'!' => Input::Full,
            b'"' => Input::TurnedAway,
            _ => Input::Begin,
        });
        while !dialogue.closed {
            match split(bytes) {
                Split::Line { line, used } => {
                    bytes = &bytes[used..];
                    dialogue.line(line);
                }
                Split::TooLong => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    bytes = &bytes[end.map_or(bytes.len(), |end| end + 1)..];
                    dialogue.due += 1;
                    dialogue.step(Input::LineTooLong);
                }
                Split::Missing => break,
            }
            // A transfer's own reply is due when it ends, and QUIT's behind that.
            if !dialogue.closed && dialogue.under_way.is_none() {
                assert_eq!(dialogue.given, dialogue.due, "final replies");
            }
        }
        dialogue.transcript
    }

    fn line(&mut self, line: &[u8]) {
        match line {
            // Only a session that waits for a line and nothing else is idle, or told to stop.
            b"\x01" | b"\x02" if self.under_way.is_some() => {}
            b"\x01" => self.step(Input::Idle),
            b"\x02" => self.step(Input::Stopping),
            b"\x03" | b"\x04" => {
                if self.session.access().is_some() {
                    let access = (line == b"\x03").then(|| self.access());
                    self.session.reloaded(access);
                }
            }
            b"\x05" => {
                let result = self.decide_refusal().map_or(Ok(()), Err);
                match self.under_way.take() {
                    Some(UnderWay::Connecting) => self.step(Input::Connected(result)),
                    Some(UnderWay::Moving) => self.step(Input::Moved(result)),
                    None => {}
                }
            }
            line => {
                self.due += 1;
                self.step(Input::Line(line));
            }
        }
    }

    /// Steps until the session waits for the client or for the data connection.
    fn step(&mut self, mut input: Input<'_>) {
        loop {
            let before = self.transcript.len();
            let action = self.session.step(input, &mut self.transcript);
            self.given += final_replies(&self.transcript[before..]);
            input = match action {
                Action::ReadLine => return,
                Action::Close(_) => {
                    self.closed = true;
                    return;
                }
                Action::Ask(Request::Progress) => {
                    assert!(self.under_way.is_some(), "nothing makes progress");
                    Input::Answer(Answer::Progress(self.decide().into()))
                }
                Action::Abort => {
                    self.listening = false;
                    let aborted = Err(Refusal::Aborted);
                    match self.under_way.take() {
                        Some(UnderWay::Connecting) => Input::Connected(aborted),
                        // Sometimes all has just been moved.
                        Some(UnderWay::Moving) if self.decide() == b'w' => Input::Moved(Ok(())),
                        _ => Input::Moved(aborted),
                    }
                }
                action if self.under_way.is_some() => panic!("{action:?} amid a transfer"),
                Action::Ask(request) => Input::Answer(self.answer(request)),
                Action::Listen => {
                    let address = match self.decide() {
                        b'l' => Err(Refusal::NoPort),
                        b'6' => Ok("[::1]:50000".parse().expect("an address")),
                        _ => Ok("127.0.0.1:50000".parse().expect("an address")),
                    };
                    self.listening = address.is_ok();
                    Input::Listening(address)
                }
                Action::Connect(via) => {
                    match via {
                        Via::Accept => assert!(self.listening, "nowhere to accept"),
                        Via::Dial(address) => {
                            assert!(address.ip().is_loopback() && address.port() >= 1024);
                        }
                    }
                    self.listening = false;
                    self.under_way = Some(UnderWay::Connecting);
                    return;
                }
                Action::Send {
                    over, from, length, ..
                } => {
                    let opened = self.opened.take().expect("something that was opened");
                    assert_eq!(from.checked_add(length), Some(opened), "all that is left");
                    if over == Over::Data {
                        self.under_way = Some(UnderWay::Moving);
                        return;
                    }
                    Input::Moved(Ok(()))
                }
                Action::Receive { length, .. } => {
                    assert!(std::mem::take(&mut self.created) && length.is_none());
                    self.under_way = Some(UnderWay::Moving);
                    return;
                }
                Action::Discard { .. } => panic!("FTP throws nothing away"),
            };
        }
    }

    /// The house's answer: one that fits the request.
    fn answer(&mut self, request: Request) -> Answer {
        (self.opened, self.created) = (None, false);
        let refusal = self.decide_refusal();
        match request {
            Request::Verify { .. } => match refusal {
                Some(Refusal::TooManySessions | Refusal::TooManyFailures) => {
                    Answer::Refused(refusal.expect("one of these"))
                }
                refusal => Answer::Verified(refusal.is_none().then(|| self.access())),
            },
            _ if let Some(refusal) = refusal => Answer::Refused(refusal),
            Request::List { .. } => {
                let length = self.length();
                self.opened = Some(length);
                Answer::Listing { length, entries: 1 }
            }
            Request::OpenRead { .. } => {
                let length = self.length();
                self.opened = Some(length);
                Answer::Opened { length }
            }
            Request::Room { .. } => Answer::Free,
            Request::Create { .. } => {
                self.created = true;
                Answer::Created
            }
            Request::CreateUnique { .. } => {
                self.created = true;
                Answer::CreatedAs {
                    name: "unique".into(),
                }
            }
            Request::MakeDirectory { .. } => Answer::Made,
            Request::Checksum { .. } => Answer::Checksum {
                digest: Box::new([self.decide(); 32]),
                end: self.length(),
            },
            Request::Status { .. } => Answer::Found(Found {
                is_directory: self.decide() & 1 > 0,
                size: self.length(),
                modified: i64::from_ne_bytes([0; 8].map(|_: u8| self.decide())),
                identity: (1, 2),
            }),
            Request::Rename { .. }
            | Request::Remove { .. }
            | Request::RemoveDirectory { .. }
            | Request::SetModified { .. } => Answer::Done,
            Request::Space { .. } => Answer::Space(self.length()),
            request => unreachable!("FTP does not ask for {request:?} here"),
        }
    }

    /// Who is logged in and what he may do, a few grants.
    fn access(&mut self) -> Arc<Access> {
        let account = Account {
            user: "user1".into(),
            secret: Secret::Anyone,
        };
        let grants = ["Movies", "Uploads", "Drop box"].map(|name| {
            let rights = self.decide();
            Arc::new(Grant {
                name: name.into(),
                rights: Rights {
                    read: rights & 1 > 0,
                    upload: rights & 2 > 0,
                    change: rights & 4 > 0,
                    quota: None,
                },
                path: PathBuf::from("/srv").join(name),
            })
        });
        let count = usize::from(self.decide()) % (grants.len() + 1);
        Arc::new(Access {
            account: Arc::new(account),
            grants: grants.into_iter().take(count).collect(),
        })
    }

    fn decide(&mut self) -> u8 {
        self.decisions.next().copied().unwrap_or_default()
    }

    /// The length of a file; none is longer than the system counts.
    fn length(&mut self) -> u64 {
        u64::from(self.decide()).pow(8).min(i64::MAX as u64)
    }

    /// A refusal, or none in most cases.
    fn decide_refusal(&mut self) -> Option<Refusal> {
        Some(match self.decide() {
            b'0' => Refusal::NoSuchDirectory,
            b'1' => Refusal::NoSuchFile,
            b'2' => Refusal::FileUnwritable,
            b'3' => Refusal::MayNotChange,
            b'4' => Refusal::FileExists,
            b'5' => Refusal::NoRoom,
            b'6' => Refusal::TooLarge,
            b'7' => Refusal::BeyondEnd,
            b'8' => Refusal::TooManySessions,
            b'9' => Refusal::DataConnectionLost,
            _ => return None,
        })
    }
}

/// Counts the final replies of what was said in one step; every line of them has to be whole and plain.
fn final_replies(mut said: &[u8]) -> usize {
    // The answers to telnet's options stand before a reply.
    while let [255, 252 | 254, _, rest @ ..] = said {
        said = rest;
    }
    let text = std::str::from_utf8(said).expect("replies are UTF-8");
    assert!(text.is_empty() || text.ends_with("\r\n"), "half a line");
    let mut open: Option<&str> = None;
    let mut count = 0;
    for line in text.split_terminator("\r\n") {
        assert!(
            !line.contains(char::is_control),
            "a control character in {line:?}"
        );
        if let Some(code) = open {
            if !line
                .strip_prefix(code)
                .is_some_and(|rest| rest.starts_with(' '))
            {
                assert!(line.starts_with(' '), "{line:?} within a reply");
                continue;
            }
        }
        let (code, rest) = line.split_at_checked(3).expect("a code");
        assert!(code.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
        // A listing stands between the two halves of the reply to STAT, which are said in two steps.
        open = (rest.starts_with('-') && code != "213").then_some(code);
        count += usize::from(!rest.starts_with('-') && !line.starts_with('1'));
    }
    assert_eq!(open, None, "a reply without its last line");
    count
}

//! The menu session, with the server's services simulated. The session never panics, sends complete
//! messages that the client's parser accepts and no control characters, and transfers exactly as
//! many bytes as it announces. Equal inputs give equal output.
//!
//! The bytes of the first line of an input decide the responses of the services, repeatedly. The
//! rest is what the client sends, uploads included. A line of one control character is an event: 1
//! is the idle timeout, 2 the shutdown, 3 a reload that changes the user's rights, 4 one that
//! removes the user.

#![no_main]

use std::iter::Cycle;
use std::path::PathBuf;
use std::slice::Iter;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tidegate::domain::access::{Access, Grant, Rights};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::path::is_name;
use tidegate::domain::request::{QuotaUsage, Request, Response};
use tidegate::limits::{LISTING_BYTES_MAX, LOGIN_FAILURES_MAX};
use tidegate::protocol::line::{LineSplit, last, split};
use tidegate::protocol::menu::command::MenuCommand;
use tidegate::protocol::menu::reply_parser::{Message, parse_message, parse_quota};
use tidegate::protocol::menu::session::MenuSession;
use tidegate::protocol::session::Session;
use tidegate::protocol::step::{Action, Input};

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == b'\n');
    let (decisions, rest) = input.split_at(end.unwrap_or(0));
    let bytes = rest.get(1..).unwrap_or_default();
    let transcript = Dialogue::play(decisions, bytes);
    let again = Dialogue::play(decisions, bytes);
    assert_eq!(again, transcript, "not a function of its inputs");
    check(&transcript);
});

/// Checks that every line is a known message, and that failed logins are limited.
fn check(transcript: &[u8]) {
    let text = std::str::from_utf8(transcript).expect("messages are UTF-8");
    let mut failures = 0;
    for line in text.lines() {
        assert!(
            !line.contains(char::is_control),
            "a control character in {line:?}"
        );
        let message = parse_message(line.as_bytes());
        let is_help = || {
            let mut commands = MenuCommand::ALL.iter();
            line.contains(" - ") && commands.any(|command| line.starts_with(command.words()))
        };
        let is_known = message.is_some() || parse_quota(line.as_bytes()).is_some() || is_help();
        assert!(is_known, "unknown message {line:?}");
        failures += u8::from(message == Some(Message::LoginFailed));
    }
    assert!(failures <= LOGIN_FAILURES_MAX);
}

struct Dialogue<'a> {
    session: Session,
    decisions: Cycle<Iter<'a, u8>>,
    transcript: Vec<u8>,
    /// Length of the last file or listing that was opened.
    opened: u64,
    /// Length in the last `Create` request.
    created: Option<u64>,
}

/// Input that the session waits for.
enum Wait {
    Line,
    Bytes(u64),
    /// Bytes of a refused upload.
    Discard(u64),
    Nothing,
}

impl<'a> Dialogue<'a> {
    /// Returns everything that the session sends.
    fn play(decisions: &'a [u8], mut bytes: &[u8]) -> Vec<u8> {
        let mut dialogue = Dialogue {
            session: Session::Menu(MenuSession::new()),
            decisions: decisions.iter().cycle(),
            transcript: Vec::new(),
            opened: 0,
            created: None,
        };
        let mut wait = match dialogue.decide() {
            b'!' => dialogue.step(Input::ServerFull),
            b'"' => dialogue.step(Input::LoginBlocked),
            _ => dialogue.step(Input::Begin),
        };
        loop {
            wait = match wait {
                Wait::Nothing => break,
                Wait::Bytes(length) | Wait::Discard(length) if length > bytes.len() as u64 => break,
                Wait::Bytes(length) => {
                    bytes = &bytes[length as usize..];
                    let result = dialogue.decide_refusal().map_or(Ok(()), Err);
                    dialogue.step(Input::TransferDone(result))
                }
                Wait::Discard(length) => {
                    bytes = &bytes[length as usize..];
                    dialogue.step(Input::TransferDone(Ok(())))
                }
                Wait::Line => match split(bytes) {
                    LineSplit::Line { line, used } => {
                        bytes = &bytes[used..];
                        dialogue.line(line)
                    }
                    LineSplit::TooLong => dialogue.step(Input::LineTooLong),
                    LineSplit::Incomplete => match last(bytes) {
                        Some(line) => {
                            bytes = b"";
                            dialogue.line(line)
                        }
                        None => break,
                    },
                },
            };
        }
        dialogue.transcript
    }

    fn line(&mut self, line: &[u8]) -> Wait {
        match line {
            b"\x01" => self.step(Input::Idle),
            b"\x02" => self.step(Input::Stopping),
            b"\x03" | b"\x04" => {
                if self.session.access().is_some() {
                    let access = (line == b"\x03").then(|| self.access());
                    self.session.reloaded(access);
                }
                Wait::Line
            }
            line => self.step(Input::Line(line)),
        }
    }

    /// Steps until the session waits for the client.
    fn step(&mut self, mut input: Input<'_>) -> Wait {
        loop {
            let action = self.session.step(input, &mut self.transcript);
            input = match action {
                Action::Request(request) => Input::Response(self.respond(request)),
                Action::Send {
                    offset: from,
                    length,
                } => {
                    assert_eq!(
                        from + length,
                        self.opened,
                        "the rest of the file or listing"
                    );
                    // A listing of names continues a line; files and details begin a new one.
                    if !self.transcript.ends_with(b"\n") {
                        self.transcript.extend_from_slice(b"names");
                    }
                    Input::TransferDone(Ok(()))
                }
                action => {
                    assert!(self.transcript.ends_with(b"\n") || self.transcript.is_empty());
                    return match action {
                        Action::ReadLine => Wait::Line,
                        Action::Receive { length } => {
                            assert_eq!(Some(length), self.created.take());
                            Wait::Bytes(length)
                        }
                        Action::Discard { length } => Wait::Discard(length),
                        _ => Wait::Nothing,
                    };
                }
            };
        }
    }

    /// Returns a response that fits the request.
    fn respond(&mut self, request: Request) -> Response {
        if matches!(request, Request::Authenticate { .. }) {
            return self.verify();
        }
        let refusal = self.decide_refusal();
        match request {
            Request::LookUpUser { .. } => Response::UserLookedUp(refusal.is_none()),
            Request::Quota => Response::Quota(self.quotas()),
            Request::CheckUpload { path: place }
            | Request::Create { path: place, .. }
            | Request::MakeDirectory { path: place }
            | Request::Checksum { path: place, .. }
            | Request::OpenRead { path: place }
                if !place.relative.split('/').all(is_name) =>
            {
                Response::Refused(ErrorCode::InvalidName)
            }
            _ if let Some(refusal) = refusal => Response::Refused(refusal),
            Request::List { .. } => {
                self.opened = u64::from(self.decide()) * LISTING_BYTES_MAX as u64 / 255;
                let entries = self.opened as usize / 2;
                Response::Listing {
                    length: self.opened,
                    entries,
                }
            }
            Request::OpenRead { .. } => {
                self.opened = self.length();
                Response::Opened {
                    length: self.opened,
                }
            }
            Request::CheckUpload { .. } | Request::CheckSpace { .. } => Response::Allowed,
            Request::Create { length, .. } => {
                self.created = length;
                Response::Created
            }
            Request::MakeDirectory { .. } => Response::DirectoryCreated,
            Request::Checksum { .. } => Response::Checksum {
                digest: Box::new([self.decide(); 32]),
                end: 0,
            },
            request => unreachable!("the menu does not send {request:?}"),
        }
    }

    fn verify(&mut self) -> Response {
        match self.decide() {
            b'S' => Response::Refused(ErrorCode::TooManySessions),
            b'T' => Response::Refused(ErrorCode::LoginBlocked),
            b'0'..=b'9' => Response::Authenticated(None),
            _ => Response::Authenticated(Some(self.access())),
        }
    }

    /// Returns a user with up to three grants.
    fn access(&mut self) -> Arc<Access> {
        let grants = ["Movies", "Uploads", "Drop box"].map(|name| {
            let rights = self.decide();
            Arc::new(Grant {
                name: name.into(),
                rights: Rights {
                    read: rights & 1 > 0,
                    upload: rights & 2 > 0,
                    change: rights & 4 > 0,
                    hidden: rights & 8 > 0,
                    quota: None,
                },
                path: PathBuf::from("/srv").join(name),
            })
        });
        let count = usize::from(self.decide()) % (grants.len() + 1);
        Arc::new(Access {
            user: "user1".into(),
            grants: grants.into_iter().take(count).collect(),
        })
    }

    /// Returns up to three quotas.
    fn quotas(&mut self) -> Vec<QuotaUsage> {
        let directories = [None, Some("Movies"), Some("Drop box")];
        let count = usize::from(self.decide()) % (directories.len() + 1);
        let quota = |directory: Option<&str>| QuotaUsage {
            directory: directory.map(str::to_owned),
            used: self.length(),
            limit: self.length(),
        };
        directories.into_iter().take(count).map(quota).collect()
    }

    /// Returns the length of a file, at most the largest `off_t`.
    fn length(&mut self) -> u64 {
        u64::from(self.decide()).pow(8).min(i64::MAX as u64)
    }

    fn decide(&mut self) -> u8 {
        self.decisions.next().copied().unwrap_or_default()
    }

    /// Returns an error for a few decisions and none for the others.
    fn decide_refusal(&mut self) -> Option<ErrorCode> {
        Some(match self.decide() {
            b'0' => ErrorCode::NoSuchDirectory,
            b'1' => ErrorCode::DirectoryUnreadable,
            b'2' => ErrorCode::NoSuchFile,
            b'3' => ErrorCode::FileUnreadable,
            b'4' => ErrorCode::FileUnwritable,
            b'5' => ErrorCode::UploadDenied,
            b'6' => ErrorCode::FileExists,
            b'7' => ErrorCode::DirectoryExists,
            b'8' => ErrorCode::InvalidName,
            b'9' => ErrorCode::NoSpace,
            b'L' => ErrorCode::TooLarge,
            b'Q' => ErrorCode::OverQuota,
            _ => return None,
        })
    }
}

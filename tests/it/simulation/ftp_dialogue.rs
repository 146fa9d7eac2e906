//! An FTP session with input from a client and responses from decisions of the caller.
//!
//! Asserts at each step that each command gets one final reply of complete lines without control
//! characters, and that the session only takes actions that are possible in its state. Both the
//! seeded tests and the fuzz target use it, so it must not depend on the source of its input.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate::domain::access::{Access, Grant, Rights};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::listing::FileStatus;
use tidegate::domain::request::{Request, Response};
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::{Dialect, Session};
use tidegate::protocol::step::{Action, DataMode, Input, LineAhead};

/// The refusals, each with the decision that selects it. All other decisions accept the request.
pub(crate) const REFUSALS: &[(u8, ErrorCode)] = &[
    (b'0', ErrorCode::NoSuchDirectory),
    (b'1', ErrorCode::NoSuchFile),
    (b'2', ErrorCode::FileUnwritable),
    (b'3', ErrorCode::ChangeDenied),
    (b'4', ErrorCode::FileExists),
    (b'5', ErrorCode::NoSpace),
    (b'6', ErrorCode::TooLarge),
    (b'7', ErrorCode::OffsetBeyondEnd),
    (b'8', ErrorCode::TooManySessions),
    (b'9', ErrorCode::DataConnectionLost),
    (b'A', ErrorCode::LoginBlocked),
    (b'B', ErrorCode::InvalidName),
    (b'C', ErrorCode::DirectoryUnreadable),
    (b'D', ErrorCode::DirectoryExists),
    (b'E', ErrorCode::NotEmpty),
    (b'F', ErrorCode::FileUnreadable),
    (b'G', ErrorCode::FileShrank),
    (b'H', ErrorCode::NoDataConnection),
    (b'I', ErrorCode::DataConnectionIdle),
    (b'J', ErrorCode::IntoItself),
    (b'K', ErrorCode::CrossDevice),
    (b'L', ErrorCode::UploadDenied),
    (b'M', ErrorCode::OverQuota),
    (b'N', ErrorCode::UploadTooShort),
];

/// A session and its state.
pub(crate) struct Dialogue<D> {
    peer: SocketAddr,
    session: Session,
    /// Returns the next decision.
    decide: D,
    /// All output of the session.
    sent: Vec<u8>,
    operation: Option<Operation>,
    /// Whether the session listens for a data connection.
    listening: bool,
    /// The length of the file or listing that was opened last.
    opened: Option<u64>,
    /// Whether an upload was created and has not started.
    created: bool,
    /// The lines that the session has put off, `None` for an overlong one.
    held: VecDeque<Option<Vec<u8>>>,
    /// Whether the session has put off the last line.
    holds_line: bool,
    /// The number of final replies that are due.
    due: usize,
    /// The number of final replies that were sent.
    replied: usize,
    closed: bool,
}

/// The current operation on the data connection.
#[derive(Clone, Copy)]
enum Operation {
    Connecting,
    Moving,
}

impl<D: FnMut() -> u8> Dialogue<D> {
    /// Starts a session, or rejects the client, depending on the first decision.
    pub(crate) fn begin(mut decide: D) -> Dialogue<D> {
        let first = decide();
        let peer = match first & 1 {
            0 => "127.0.0.1:40000",
            // The loopback address needs no scope, but the scope must be kept as for a link-local
            // one.
            _ => "[::1%7]:40000",
        };
        let settings = FtpSettings {
            active: match first & 6 {
                0 | 4 => ActiveMode::Enabled,
                2 => ActiveMode::Disabled,
                _ => ActiveMode::Remote,
            },
        };
        let peer = peer.parse().expect("an address");
        let mut dialogue = Dialogue {
            peer,
            session: Dialect::Ftp(settings).session(peer, true),
            decide,
            sent: Vec::new(),
            operation: None,
            listening: false,
            opened: None,
            created: false,
            held: VecDeque::new(),
            holds_line: false,
            due: 1,
            replied: 0,
            closed: false,
        };
        dialogue.step(match first {
            b'!' => Input::ServerFull,
            b'"' => Input::LoginBlocked,
            _ => Input::Begin,
        });
        dialogue
    }

    /// Processes a line from the client.
    pub(crate) fn line(&mut self, line: &[u8]) {
        self.hand_in(Some(line.to_vec()));
    }

    /// Processes an overlong line from the client.
    pub(crate) fn line_too_long(&mut self) {
        self.hand_in(None);
    }

    /// Gives the session a line, or `None` for an overlong one, after those that it holds.
    fn hand_in(&mut self, line: Option<Vec<u8>>) {
        self.due += 1;
        let is_first = self.held.is_empty();
        let is_abort = line
            .as_ref()
            .is_some_and(|line| self.session.line_ahead(line) == Some(LineAhead::Abort));
        self.held.push_back(line);
        if is_first {
            self.release_held();
        } else if is_abort {
            self.step(Input::AbortAhead);
            self.release_held();
        }
    }

    /// Gives the session the lines that it holds, until it holds one again.
    fn release_held(&mut self) {
        while let Some(line) = self.held.pop_front() {
            let input = line
                .as_ref()
                .map_or(Input::LineTooLong, |line| Input::Line(line));
            self.holds_line = false;
            self.step(input);
            if self.closed {
                return;
            }
            if self.holds_line {
                return self.held.push_front(line);
            }
            self.check_replies();
        }
        self.check_replies();
    }

    /// Asserts that every line has its final reply. That of a transfer is due when it ends.
    fn check_replies(&self) {
        if self.operation.is_none() && !self.closed {
            assert_eq!(self.replied + self.held.len(), self.due, "final replies");
        }
    }

    /// Finishes the current operation on the data connection, if any.
    pub(crate) fn data_ends(&mut self) {
        let result = self.decide_refusal().map_or(Ok(()), Err);
        match self.operation.take() {
            Some(Operation::Connecting) => self.step(Input::DataConnected(result)),
            Some(Operation::Moving) => self.step(Input::TransferDone(result)),
            None => return,
        }
        self.release_held();
    }

    /// Expires the idle timeout, unless an operation is in progress.
    pub(crate) fn idle(&mut self) {
        if self.operation.is_none() {
            self.step(Input::Idle);
        }
    }

    /// Starts a graceful shutdown, unless an operation is in progress, which would finish first.
    pub(crate) fn stop(&mut self) {
        if self.operation.is_none() {
            self.step(Input::Stopping);
        }
    }

    /// Reloads the home, which changes the user's rights or removes the user.
    pub(crate) fn reload(&mut self, holds: bool) {
        if self.session.access().is_some() {
            let access = holds.then(|| self.access());
            self.session.reloaded(access);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns all output of the session.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// Steps the session until it waits for the client or for the data connection.
    fn step(&mut self, mut input: Input<'_>) {
        while !self.closed {
            let before = self.sent.len();
            let action = self.session.step(input, &mut self.sent);
            self.replied += final_replies(&self.sent[before..]);
            input = match action {
                Action::ReadLine => return,
                Action::HoldLine => {
                    assert!(self.operation.is_some(), "no operation is in progress");
                    self.holds_line = true;
                    return;
                }
                Action::Close(_) => {
                    self.closed = true;
                    return;
                }
                Action::QueryProgress => {
                    assert!(self.operation.is_some(), "no operation is in progress");
                    Input::Progress((self.decide)().into())
                }
                Action::Abort => {
                    self.listening = false;
                    let aborted = Err(ErrorCode::Aborted);
                    match self.operation.take() {
                        Some(Operation::Connecting) => Input::DataConnected(aborted),
                        // The transfer may have completed just before.
                        Some(Operation::Moving) if (self.decide)() == b'w' => {
                            Input::TransferDone(Ok(()))
                        }
                        _ => Input::TransferDone(aborted),
                    }
                }
                action if self.operation.is_some() => panic!("{action:?} during a transfer"),
                Action::Request(request) => Input::Response(self.respond(request)),
                Action::Listen => {
                    let address = match (self.decide)() {
                        b'l' => Err(ErrorCode::NoPassivePort),
                        b'6' => Ok("[::1]:50000".parse().expect("an address")),
                        _ => Ok("127.0.0.1:50000".parse().expect("an address")),
                    };
                    self.listening = address.is_ok();
                    Input::Listening(address)
                }
                Action::Connect(via) => {
                    match via {
                        DataMode::Passive => assert!(self.listening, "the session does not listen"),
                        DataMode::Active(mut address) => {
                            assert!(!self.listening, "a passive port stays reserved");
                            assert!(address.port() >= 1024);
                            address.set_port(self.peer.port());
                            assert_eq!(address, self.peer, "another address than the client's");
                        }
                    }
                    self.listening = false;
                    self.operation = Some(Operation::Connecting);
                    return;
                }
                Action::Send { offset, length } => {
                    let opened = self.opened.take().expect("a file or listing is open");
                    assert_eq!(
                        offset.checked_add(length),
                        Some(opened),
                        "not up to the end"
                    );
                    Input::TransferDone(Ok(()))
                }
                Action::SendData { offset, length, .. } => {
                    let opened = self.opened.take().expect("a file or listing is open");
                    assert_eq!(
                        offset.checked_add(length),
                        Some(opened),
                        "not up to the end"
                    );
                    self.operation = Some(Operation::Moving);
                    return;
                }
                Action::ReceiveData { .. } => {
                    assert!(std::mem::take(&mut self.created));
                    self.operation = Some(Operation::Moving);
                    return;
                }
                Action::Receive { .. } | Action::Discard { .. } => {
                    panic!("FTP has no data in the control connection")
                }
            };
        }
    }

    /// Returns a possible response to a request.
    fn respond(&mut self, request: Request) -> Response {
        (self.opened, self.created) = (None, false);
        let refusal = self.decide_refusal();
        match request {
            Request::Authenticate { .. } => match refusal {
                Some(refusal @ (ErrorCode::TooManySessions | ErrorCode::LoginBlocked)) => {
                    Response::Refused(refusal)
                }
                refusal => Response::Authenticated(refusal.is_none().then(|| self.access())),
            },
            _ if let Some(refusal) = refusal => Response::Refused(refusal),
            Request::List { .. } => {
                let length = self.length();
                self.opened = Some(length);
                Response::Listing { length, entries: 1 }
            }
            Request::OpenRead { .. } => {
                let length = self.length();
                self.opened = Some(length);
                Response::Opened { length }
            }
            Request::CheckSpace { .. } => Response::Allowed,
            Request::Create { .. } => {
                self.created = true;
                Response::Created
            }
            Request::CreateUnique { .. } => {
                self.created = true;
                Response::CreatedUnique {
                    name: "unique".into(),
                }
            }
            Request::MakeDirectory { .. } => Response::DirectoryCreated,
            Request::Checksum { .. } => Response::Checksum {
                digest: Box::new([(self.decide)(); 32]),
                end: self.length(),
            },
            Request::Status { .. } => Response::Status(FileStatus {
                is_directory: (self.decide)() & 1 > 0,
                size: self.length(),
                modified: i64::from_ne_bytes([0; 8].map(|_: u8| (self.decide)())),
                identity: (1, 2),
            }),
            Request::Rename { .. } | Request::Remove { .. } | Request::RemoveDirectory { .. } => {
                Response::Done
            }
            // As a file system that limits times.
            Request::SetModified { modified, .. } => Response::Modified(modified / 2),
            Request::Space { .. } => Response::Space(self.length()),
            request => unreachable!("FTP does not request {request:?} here"),
        }
    }

    /// Returns a user with a few grants.
    fn access(&mut self) -> Arc<Access> {
        let grants = ["Movies", "Uploads", "Drop box"].map(|name| {
            let rights = (self.decide)();
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
        let count = usize::from((self.decide)()) % (grants.len() + 1);
        Arc::new(Access {
            user: "user1".into(),
            grants: grants.into_iter().take(count).collect(),
        })
    }

    /// Returns the length of a file, at most the largest possible one.
    fn length(&mut self) -> u64 {
        u64::from((self.decide)()).pow(8).min(i64::MAX as u64)
    }

    fn decide_refusal(&mut self) -> Option<ErrorCode> {
        let decision = (self.decide)();
        let mut refusals = REFUSALS.iter();
        refusals.find_map(|&(at, refusal)| (at == decision).then_some(refusal))
    }
}

/// Counts the final replies in the output of one step, and checks all its lines.
fn final_replies(mut output: &[u8]) -> usize {
    // The responses to Telnet options precede a reply.
    while let [255, 252 | 254, _, rest @ ..] = output {
        output = rest;
    }
    let text = std::str::from_utf8(output).expect("replies are UTF-8");
    assert!(
        text.is_empty() || text.ends_with("\r\n"),
        "an incomplete line"
    );
    let mut open: Option<&str> = None;
    let mut count = 0;
    for line in text.split_terminator("\r\n") {
        assert!(
            !line.contains(char::is_control),
            "a control character in {line:?}"
        );
        if let Some(code) = open {
            let rest = line.strip_prefix(code);
            if !rest.is_some_and(|rest| rest.starts_with(' ')) {
                assert!(line.starts_with(' '), "{line:?} within a reply");
                continue;
            }
        }
        let (code, rest) = line.split_at_checked(3).expect("a reply has a code");
        assert!(code.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
        // The reply to STAT is sent in two steps, with the listing between them.
        open = (rest.starts_with('-') && code != "213").then_some(code);
        count += usize::from(!rest.starts_with('-') && !line.starts_with('1'));
    }
    assert_eq!(open, None, "a reply without its last line");
    count
}

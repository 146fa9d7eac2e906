//! FTP's session between a client's lines and a house that answers as it is told, with what has to hold at each step:
//! one final reply of whole, plain lines for each command, and no wish that an event_loop could not see to at that moment.
//!
//! Must not know: where the lines and the decisions come from. The seeds bring them, and so does the fuzzer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tidegate::domain::access::{Access, Grant, Rights};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::listing::FileStatus;
use tidegate::domain::request::{Request, Response};
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::{Dialect, Session};
use tidegate::protocol::step::{Action, DataMode, Input};

/// What the house may refuse with, and the decision that does it. Every other one is no refusal.
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
];

/// A dialogue, and what it has come to.
pub(crate) struct Dialogue<D> {
    peer: SocketAddr,
    session: Session,
    /// What the house decides next.
    decide: D,
    said: Vec<u8>,
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

/// What the data connection is doing, beside the lines.
#[derive(Clone, Copy)]
enum UnderWay {
    Connecting,
    Moving,
}

impl<D: FnMut() -> u8> Dialogue<D> {
    /// A session that was told to begin, or why it may not; the first decision is how it comes to that.
    pub(crate) fn begin(mut decide: D) -> Dialogue<D> {
        let first = decide();
        let peer = match first & 1 {
            0 => "127.0.0.1:40000",
            // On the loopback no link is meant, but as on a link-local address it is not to be lost.
            _ => "[::1%7]:40000",
        };
        let settings = FtpSettings {
            active: first & 2 == 0,
        };
        let peer = peer.parse().expect("an address");
        let mut dialogue = Dialogue {
            peer,
            session: Dialect::Ftp(settings).session(peer),
            decide,
            said: Vec::new(),
            under_way: None,
            listening: false,
            opened: None,
            created: false,
            due: 1,
            given: 0,
            closed: false,
        };
        dialogue.step(match first {
            b'!' => Input::ServerFull,
            b'"' => Input::LoginBlocked,
            _ => Input::Begin,
        });
        dialogue
    }

    /// The client says a line.
    pub(crate) fn line(&mut self, line: &[u8]) {
        self.due += 1;
        self.step(Input::Line(line));
    }

    /// The client says a line over the limit.
    pub(crate) fn line_too_long(&mut self) {
        self.due += 1;
        self.step(Input::LineTooLong);
    }

    /// What the data connection is doing comes to its end, if it does anything.
    pub(crate) fn data_ends(&mut self) {
        let result = self.decide_refusal().map_or(Ok(()), Err);
        match self.under_way.take() {
            Some(UnderWay::Connecting) => self.step(Input::DataConnected(result)),
            Some(UnderWay::Moving) => self.step(Input::TransferDone(result)),
            None => {}
        }
    }

    /// The client has been silent for too long; only who waits for a line and nothing else is idle.
    pub(crate) fn idle(&mut self) {
        if self.under_way.is_none() {
            self.step(Input::Idle);
        }
    }

    /// The server stops; who has something under way is told behind it.
    pub(crate) fn stop(&mut self) {
        if self.under_way.is_none() {
            self.step(Input::Stopping);
        }
    }

    /// A reload leaves who is logged in other rights, or ends his login.
    pub(crate) fn reload(&mut self, holds: bool) {
        if self.session.access().is_some() {
            let access = holds.then(|| self.access());
            self.session.reloaded(access);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// What the client has heard.
    pub(crate) fn said(&self) -> &[u8] {
        &self.said
    }

    /// Steps until the session waits for the client or for the data connection.
    fn step(&mut self, mut input: Input<'_>) {
        while !self.closed {
            let before = self.said.len();
            let action = self.session.step(input, &mut self.said);
            self.given += final_replies(&self.said[before..]);
            input = match action {
                Action::ReadLine => break,
                Action::Close(_) => {
                    self.closed = true;
                    return;
                }
                Action::Request(Request::Progress) => {
                    assert!(self.under_way.is_some(), "nothing makes progress");
                    Input::Response(Response::Progress((self.decide)().into()))
                }
                Action::Abort => {
                    self.listening = false;
                    let aborted = Err(ErrorCode::Aborted);
                    match self.under_way.take() {
                        Some(UnderWay::Connecting) => Input::DataConnected(aborted),
                        // Sometimes all has just been moved.
                        Some(UnderWay::Moving) if (self.decide)() == b'w' => {
                            Input::TransferDone(Ok(()))
                        }
                        _ => Input::TransferDone(aborted),
                    }
                }
                action if self.under_way.is_some() => panic!("{action:?} amid a transfer"),
                Action::Request(request) => Input::Response(self.answer(request)),
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
                        DataMode::Passive => assert!(self.listening, "nowhere to accept"),
                        DataMode::Active(mut address) => {
                            assert!(address.port() >= 1024);
                            address.set_port(self.peer.port());
                            assert_eq!(address, self.peer, "somebody else is dialled");
                        }
                    }
                    self.listening = false;
                    self.under_way = Some(UnderWay::Connecting);
                    return;
                }
                Action::Send { offset, length } => {
                    let opened = self.opened.take().expect("something that was opened");
                    assert_eq!(offset.checked_add(length), Some(opened), "all that is left");
                    Input::TransferDone(Ok(()))
                }
                Action::SendData { offset, length, .. } => {
                    let opened = self.opened.take().expect("something that was opened");
                    assert_eq!(offset.checked_add(length), Some(opened), "all that is left");
                    self.under_way = Some(UnderWay::Moving);
                    return;
                }
                Action::ReceiveData { .. } => {
                    assert!(std::mem::take(&mut self.created));
                    self.under_way = Some(UnderWay::Moving);
                    return;
                }
                Action::Receive { .. } | Action::Discard { .. } => {
                    panic!("FTP throws nothing away")
                }
            };
        }
        // A transfer's own reply is due when it ends, and QUIT's behind that.
        if self.under_way.is_none() {
            assert_eq!(self.given, self.due, "final replies");
        }
    }

    /// The house's answer: one that fits the request.
    fn answer(&mut self, request: Request) -> Response {
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
            Request::Rename { .. }
            | Request::Remove { .. }
            | Request::RemoveDirectory { .. }
            | Request::SetModified { .. } => Response::Done,
            Request::Space { .. } => Response::Space(self.length()),
            request => unreachable!("FTP does not ask for {request:?} here"),
        }
    }

    /// Who is logged in and what he may do, a few grants.
    fn access(&mut self) -> Arc<Access> {
        let grants = ["Movies", "Uploads", "Drop box"].map(|name| {
            let rights = (self.decide)();
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
        let count = usize::from((self.decide)()) % (grants.len() + 1);
        Arc::new(Access {
            user: "user1".into(),
            grants: grants.into_iter().take(count).collect(),
        })
    }

    /// The length of a file; none is longer than the system counts.
    fn length(&mut self) -> u64 {
        u64::from((self.decide)()).pow(8).min(i64::MAX as u64)
    }

    fn decide_refusal(&mut self) -> Option<ErrorCode> {
        let decision = (self.decide)();
        let mut refusals = REFUSALS.iter();
        refusals.find_map(|&(at, refusal)| (at == decision).then_some(refusal))
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
            let rest = line.strip_prefix(code);
            if !rest.is_some_and(|rest| rest.starts_with(' ')) {
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

//! FTP alone, its input and the house's answers from a seed: what is checked of every seed is that it never panics, that each
//! command has exactly one last reply, that replies are whole lines of ASCII and of names without control characters,
//! that no password is repeated, and that the session asks for nothing that the engine could not do at that moment.

use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use tidegate::home::Access;
use tidegate::home::credentials::{Account, Secret};
use tidegate::home::directories::{Grant, Rights};
use tidegate::protocol::ftp::Settings;
use tidegate::protocol::ftp_command::VERBS;
use tidegate::protocol::{
    Action, Answer, Dialect, Found, Input, Over, Refusal, Request, Session, Via,
};

use crate::random::{for_seeds, once_in, one_of};

/// Every seed that ever failed.
const FAILED_ONCE: &[u64] = &[];

/// What every password is made of, to be found where it must not be.
const SECRET: &str = "s3cret";

#[test]
fn any_lines_and_answers_lead_to_one_whole_reply_each() {
    for_seeds(FAILED_ONCE, 256, |seed| {
        let said = play(seed);
        assert_eq!(said, play(seed), "played once more");
    });
}

/// The seeds are of use only as long as they come far.
#[test]
fn the_ftp_seeds_come_everywhere() {
    let said: String = (0..256).map(play).collect();
    for code in [
        "150", "200", "202", "211", "213", "214", "215", "220", "221", "225", "226", "227", "229",
        "230", "250", "257", "331", "350", "421", "425", "426", "450", "451", "452", "500", "501",
        "502", "503", "504", "522", "530", "550", "552", "553", "554",
    ] {
        let line = format!("\n{code} ");
        assert!(said.contains(&line), "no seed leads to {code}");
    }
}

struct Dialogue {
    session: Session,
    random: Rng,
    out: Vec<u8>,
    /// What is under way beside the lines.
    under_way: Option<UnderWay>,
    listening: bool,
    opened: Option<u64>,
    created: bool,
    /// Last replies that are due, one for each line.
    due: usize,
    given: usize,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum UnderWay {
    Connecting,
    Moving,
}

fn play(seed: u64) -> String {
    let mut random = Rng::with_seed(seed);
    let peer = one_of(&mut random, &["127.0.0.1:40000", "[::1]:40000"]);
    let local = match peer.starts_with('[') {
        true => "[::1]:21",
        false => "127.0.0.1:21",
    };
    let active = !once_in(&mut random, 4);
    let dialect = Dialect::Ftp(Settings { active });
    let mut dialogue = Dialogue {
        session: dialect.session(
            local.parse().expect("an address"),
            peer.parse().expect("an address"),
        ),
        random,
        out: Vec::new(),
        under_way: None,
        listening: false,
        opened: None,
        created: false,
        due: 1,
        given: 0,
        closed: false,
    };
    dialogue.step(Input::Begin);
    for _ in 0..150 {
        dialogue.turn();
        if dialogue.closed {
            break;
        }
    }
    let out = String::from_utf8(dialogue.out).expect("replies are UTF-8");
    assert!(!out.contains(SECRET), "a password in {out}");
    out
}

impl Dialogue {
    /// Something happens: a line, the end of what is under way, a reload, silence.
    fn turn(&mut self) {
        match self.under_way {
            Some(UnderWay::Connecting) if once_in(&mut self.random, 2) => {
                self.under_way = None;
                let result = self.result(&[Refusal::NoDataConnection, Refusal::DataConnectionIdle]);
                self.step(Input::Connected(result));
            }
            Some(UnderWay::Moving) if once_in(&mut self.random, 2) => {
                self.under_way = None;
                let result = self.result(&[
                    Refusal::DataConnectionLost,
                    Refusal::FileShrank,
                    Refusal::NoRoom,
                    Refusal::TooLarge,
                    Refusal::FileExists,
                ]);
                self.step(Input::Moved(result));
            }
            None if once_in(&mut self.random, 200) => self.step(Input::Idle),
            None if once_in(&mut self.random, 200) => self.step(Input::Stopping),
            _ if once_in(&mut self.random, 30) && self.session.access().is_some() => {
                let access = some_access(&mut self.random);
                let holds = !once_in(&mut self.random, 8);
                self.session.reloaded(holds.then_some(access));
            }
            _ if once_in(&mut self.random, 50) => {
                self.due += 1;
                self.step(Input::LineTooLong);
            }
            _ => {
                let line = some_line(&mut self.random);
                self.due += 1;
                self.step(Input::Line(&line));
            }
        }
        if self.closed || self.under_way.is_some() {
            return;
        }
        assert_eq!(self.given, self.due, "replies to {:?}", self.said());
    }

    fn step(&mut self, mut input: Input<'_>) {
        loop {
            let before = self.out.len();
            let action = self.session.step(input, &mut self.out);
            self.look_at(before);
            input = match action {
                Action::ReadLine => return,
                Action::Ask(Request::Progress) => {
                    assert!(self.under_way.is_some());
                    Input::Answer(Answer::Progress(self.random.u64(..)))
                }
                action if self.under_way.is_some() => match action {
                    Action::Abort => {
                        let aborted = Err(Refusal::Aborted);
                        match self.under_way.take() {
                            Some(UnderWay::Connecting) => Input::Connected(aborted),
                            _ if once_in(&mut self.random, 3) => Input::Moved(Ok(())),
                            _ => Input::Moved(aborted),
                        }
                    }
                    action => panic!("{action:?} amid a transfer"),
                },
                Action::Ask(request) => Input::Answer(self.answer(request)),
                Action::Listen => {
                    let address = match once_in(&mut self.random, 8) {
                        true => Err(Refusal::NoPort),
                        false => Ok("127.0.0.1:50000".parse().expect("an address")),
                    };
                    self.listening = address.is_ok();
                    Input::Listening(address)
                }
                Action::Connect(via) => {
                    assert!(via != Via::Accept || self.listening, "nowhere to accept");
                    self.listening = false;
                    self.under_way = Some(UnderWay::Connecting);
                    return;
                }
                Action::Send {
                    over, from, length, ..
                } => {
                    let opened = self.opened.take().expect("something that was opened");
                    assert!(from.checked_add(length).is_some_and(|end| end <= opened));
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
                Action::Abort => {
                    self.listening = false;
                    Input::Moved(Err(Refusal::Aborted))
                }
                Action::Close(_) => {
                    self.closed = true;
                    return;
                }
                Action::Discard { .. } => panic!("FTP throws nothing away"),
            };
        }
    }

    /// Counts the last replies of what was said, and looks at each line.
    fn look_at(&mut self, from: usize) {
        // What telnet is answered stands before a reply.
        while let [255, 252, _, ..] = self.out[from..] {
            self.out.drain(from..from + 3);
        }
        let text = String::from_utf8(self.out[from..].to_vec()).expect("replies are UTF-8");
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        let mut open = None;
        for line in text.split_terminator("\r\n") {
            assert!(!line.contains(char::is_control), "{line:?}");
            let is_end = open.as_ref().is_none_or(|code| line.starts_with(code));
            if !is_end {
                assert!(line.starts_with(' '), "{line:?}");
                continue;
            }
            let (code, rest) = line.split_at(3);
            assert!(code.bytes().all(|byte| byte.is_ascii_digit()), "{line:?}");
            if rest.starts_with('-') {
                // A listing stands between the two halves of the reply to STAT.
                open = (code != "213").then(|| format!("{code} "));
                continue;
            }
            open = None;
            self.given += usize::from(!line.starts_with('1'));
        }
    }

    fn said(&self) -> String {
        let from = self.out.len().saturating_sub(400);
        String::from_utf8_lossy(&self.out[from..]).into_owned()
    }

    fn result(&mut self, refusals: &[Refusal]) -> Result<(), Refusal> {
        match once_in(&mut self.random, 3) {
            true => Err(one_of(&mut self.random, refusals)),
            false => Ok(()),
        }
    }

    /// The house's answer: one that fits the request.
    fn answer(&mut self, request: Request) -> Answer {
        let random = &mut self.random;
        (self.opened, self.created) = (None, false);
        let refusals: &[Refusal] = match &request {
            Request::Verify { .. } => {
                let access = some_access(random);
                return Answer::Verified((!once_in(random, 5)).then_some(access));
            }
            Request::Room { .. } => &[Refusal::NoRoom, Refusal::TooLarge],
            Request::List { .. } => &[Refusal::NoSuchDirectory, Refusal::DirectoryUnreadable],
            Request::OpenRead { .. } | Request::Checksum { .. } | Request::Status { .. } => {
                &[Refusal::NoSuchFile, Refusal::FileUnreadable]
            }
            Request::Rename { .. } => &[
                Refusal::MayNotChange,
                Refusal::OtherFileSystem,
                Refusal::IntoItself,
            ],
            Request::Remove { .. } => &[Refusal::MayNotChange, Refusal::NoSuchFile],
            Request::RemoveDirectory { .. } => &[Refusal::NotEmpty, Refusal::NoSuchDirectory],
            Request::Create { .. } | Request::CreateUnique { .. } => &[
                Refusal::BadName,
                Refusal::FileExists,
                Refusal::MayNotUpload,
                Refusal::BeyondEnd,
            ],
            _ => &[Refusal::NoSuchFile],
        };
        if once_in(random, 4) {
            return Answer::Refused(one_of(random, refusals));
        }
        let length = one_of(random, &[0, 1, 10, 5000]);
        match request {
            Request::List { .. } => {
                self.opened = Some(length);
                Answer::Listing { length, entries: 1 }
            }
            Request::OpenRead { .. } => {
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
                let name = "unique".to_owned();
                Answer::CreatedAs { name }
            }
            Request::MakeDirectory { .. } => Answer::Made,
            Request::Checksum { .. } => Answer::Checksum {
                digest: Box::new([random.u8(..); 4]),
                end: length,
            },
            Request::Status { .. } => Answer::Found(Found {
                is_directory: once_in(random, 2),
                size: length,
                modified: random.i64(..),
                identity: (1, 2),
            }),
            Request::Rename { .. }
            | Request::Remove { .. }
            | Request::RemoveDirectory { .. }
            | Request::SetModified { .. } => Answer::Done,
            Request::Space { .. } => Answer::Space(length),
            request => panic!("FTP does not ask for {request:?} here"),
        }
    }
}

/// A line: mostly a command with an argument that may fit it.
fn some_line(random: &mut Rng) -> Vec<u8> {
    const MATTER: &[&str] = &[
        "USER user1",
        "PASS s3cret",
        "PASS s3cret",
        "CWD /Movies",
        "CWD a",
        "CDUP",
        "EPSV",
        "PASV",
        "EPSV",
        "EPSV ALL",
        "EPSV 7",
        "PORT 127,0,0,1,200,1",
        "EPRT |2|::1|2000|",
        "TYPE I",
        "TYPE I",
        "REST 5",
        "RETR /Movies/a",
        "RETR /Movies/a",
        "STOR /Movies/b",
        "STOR /Movies/b",
        "STOU",
        "APPE /Movies/c",
        "LIST",
        "NLST /Movies/*",
        "MLSD /Movies",
        "ABOR",
        "\u{7f}ABOR",
        "STAT",
        "STAT /Movies",
        "RNFR /Movies/a",
        "RNTO /Movies/b",
        "XCRC \"/Movies/a\" 1 2",
        "MFMT 20200101000000 /Movies/a",
        "OPTS HASH SHA-1",
        "OPTS MLST unique;",
        "ALLO 10",
    ];
    const ARGUMENTS: &[&str] = &[
        "",
        "/Movies/a",
        "..",
        "/",
        "a\"b",
        "1",
        "-1",
        "18446744073709551615",
        "a\rb",
        "ü",
        "A",
    ];
    let mut line = match once_in(random, 3) {
        false => one_of(random, MATTER).as_bytes().to_vec(),
        true => {
            let verb = VERBS[random.usize(..VERBS.len())].word;
            // Whoever goes is not heard any more, and that makes short dialogues.
            let verb = if verb == "QUIT" { "NOOP" } else { verb };
            format!("{verb} {}", one_of(random, ARGUMENTS)).into_bytes()
        }
    };
    if once_in(random, 100) {
        line = b"QUIT".to_vec();
    }
    if once_in(random, 8) {
        let at = random.usize(..=line.len());
        let telnet: &[u8] = one_of(random, &[&b"\xff\xf4"[..], b"\xff\xfd\x01", b"\xff", b"\0"]);
        line.splice(at..at, telnet.iter().copied());
    }
    line
}

/// An access of two directories, each with some rights.
fn some_access(random: &mut Rng) -> Arc<Access> {
    let grants = ["Movies", "Docs"].map(|name| {
        let rights = Rights {
            quota: None,
            read: !once_in(random, 4),
            upload: once_in(random, 2),
            change: once_in(random, 2),
        };
        Arc::new(Grant {
            name: name.to_owned(),
            rights,
            path: PathBuf::from("/srv").join(name),
        })
    });
    let account = Account {
        user: "user1".to_owned(),
        secret: Secret::Anyone,
    };
    Arc::new(Access {
        account: Arc::new(account),
        grants: grants.into(),
    })
}

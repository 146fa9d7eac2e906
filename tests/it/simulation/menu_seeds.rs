//! Menu sessions alone, with random input and random responses of the services.
//!
//! For every seed, the session must not panic, must only take actions that are possible in its
//! state, must only send messages that the client can parse and no password, and its output must
//! not depend on the fragmentation of the input.

use std::path::PathBuf;
use std::sync::Arc;

use fastrand::Rng;
use tidegate::domain::access::{Access, Grant, Rights};
use tidegate::domain::error::ErrorCode;
use tidegate::domain::path::GrantedPath;
use tidegate::domain::request::{QuotaUsage, Request, Response};
use tidegate::limits::LINE_BYTES_MAX;
use tidegate::protocol::menu::command::MenuCommand;
use tidegate::protocol::menu::reply_parser::parse_message;
use tidegate::protocol::menu::session::MenuSession;
use tidegate::protocol::session::Session;
use tidegate::protocol::step::Input;

use crate::dialogues::reference_connection::{Connection, Respond};
use crate::support::seeds::{cut, for_seeds, once_in, one_of};

/// Seeds that have failed.
const FAILED_ONCE: &[u64] = &[];

/// The byte that files and listings consist of. No message contains it.
const CONTENT: u8 = 0xfe;

/// A part of every password.
const SECRET: &str = "s3cret";

#[test]
fn menu_output_is_independent_of_fragmentation() {
    for_seeds(FAILED_ONCE, 256, |seed| {
        let inputs = inputs(seed);
        let whole = play(seed, &inputs, |bytes| vec![bytes]);
        assert_eq!(whole, play(seed, &inputs, |bytes| vec![bytes]), "repeated");
        assert_eq!(
            whole,
            play(seed, &inputs, |bytes| bytes.chunks(1).collect()),
            "byte by byte"
        );
        let mut random = Rng::with_seed(seed);
        assert_eq!(
            whole,
            play(seed, &inputs, |bytes| cut(&mut random, bytes)),
            "in fragments"
        );
    });
}

#[test]
fn menu_seeds_reach_every_message() {
    let mut messages = String::new();
    for seed in 0..256 {
        messages += &play(seed, &inputs(seed), |bytes| vec![bytes]).messages;
    }
    let expected = [
        "Login Successfully",
        "Login Failed",
        "LENGTH ",
        "ENTRIES ",
        "SHA-256 ",
        "QUOTA ",
        "Ready to receive ",
        "Upload complete: ",
        "Upload failed: ",
        "Directory made: ",
        "The available directories are: ",
        "The available files are: ",
        "HELP - ",
        "You are already logged in",
        "Please log in first",
        "Unknown command.",
        "Please choose a directory first",
        "There are no files",
        "There are no directories",
        "not a valid number",
        "There is not enough room",
        "Too many failed logins.",
        "line is too long.",
        "Idle for too long.",
        "no longer valid.",
        "shutting down.",
        "Please enter the number of bytes you already have",
        "Connection is terminated. You are logged out.",
    ];
    for words in expected {
        assert!(messages.contains(words), "no seed leads to: {words}");
    }
}

#[test]
#[should_panic(expected = "unexpected input")]
fn closed_session_panics_on_input() {
    let mut session = Session::Menu(MenuSession::new());
    let mut out = Vec::new();
    session.step(Input::Begin, &mut out);
    session.step(Input::Line(b"QUIT"), &mut out);
    session.step(Input::Line(b"QUIT"), &mut out);
}

#[test]
#[should_panic(expected = "unexpected input")]
fn mismatched_response_panics() {
    let mut session = Session::Menu(MenuSession::new());
    let mut out = Vec::new();
    for input in [
        Input::Begin,
        Input::Line(b"LOGIN"),
        Input::Line(b"user1"),
        Input::Response(Response::DirectoryCreated),
    ] {
        session.step(input, &mut out);
    }
}

/// An input of a connection.
enum Event {
    Bytes(Vec<u8>),
    End,
    Idle,
    Stopping,
    Reloaded(Option<Arc<Access>>),
}

/// The output of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Transcript {
    sent: Vec<u8>,
    messages: String,
    requests: Vec<String>,
    is_closed: bool,
}

fn play<'a>(
    seed: u64,
    inputs: &'a [Event],
    mut cut: impl FnMut(&'a [u8]) -> Vec<&'a [u8]>,
) -> Transcript {
    let random = Rng::with_seed(seed.wrapping_add(1_000_000));
    let mut connection = Connection::new(
        Session::Menu(MenuSession::new()),
        RandomServices {
            random,
            refuses_logins: seed.is_multiple_of(8),
            requests: Vec::new(),
        },
    );
    for input in inputs {
        match input {
            Event::Bytes(bytes) => {
                for fragment in cut(bytes) {
                    connection.receive(fragment);
                }
            }
            Event::End => connection.end(),
            Event::Idle if connection.awaits_line() => connection.idle(),
            Event::Stopping if connection.awaits_line() => connection.stop(),
            Event::Reloaded(access)
                if connection.session().access().is_some() && !connection.is_closed() =>
            {
                connection.session().reloaded(access.clone());
            }
            Event::Idle | Event::Stopping | Event::Reloaded(_) => {}
        }
    }
    let messages = String::from_utf8(connection.take_messages()).expect("UTF-8");
    check_messages(&messages);
    Transcript {
        sent: connection.take_sent(),
        messages,
        is_closed: connection.is_closed(),
        requests: std::mem::take(&mut connection.services().requests),
    }
}

fn check_messages(messages: &str) {
    assert!(!messages.contains(SECRET), "a password was sent");
    assert!(messages.ends_with('\n') || messages.is_empty());
    for line in messages.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        let is_help = MenuCommand::ALL
            .iter()
            .any(|command| line.starts_with(command.words()));
        let is_quota = line.starts_with("user ") || line.starts_with("directory ");
        assert!(
            is_help || is_quota || parse_message(line.as_bytes()).is_some(),
            "invalid: {line}"
        );
    }
}

fn random_quotas(random: &mut Rng) -> Vec<QuotaUsage> {
    let directories = [None, Some("Movies".to_owned()), Some("Docs".to_owned())];
    let count = random.usize(..=directories.len());
    let quota = |directory| QuotaUsage {
        directory,
        used: random.u64(..i64::MAX as u64),
        limit: random.u64(..i64::MAX as u64),
        files: None,
    };
    directories.into_iter().take(count).map(quota).collect()
}

/// Services that give random responses, as far as they are possible.
struct RandomServices {
    random: Rng,
    refuses_logins: bool,
    requests: Vec<String>,
}

impl Respond for RandomServices {
    fn respond(&mut self, request: Request, opened: &mut Vec<u8>) -> Response {
        self.requests
            .push(format!("{request:?}").replace(SECRET, ""));
        let random = &mut self.random;
        let refusals = match &request {
            Request::LookUpUser { .. } => return Response::UserLookedUp(!once_in(random, 8)),
            Request::Authenticate { .. } => {
                let is_verified = !self.refuses_logins && !once_in(random, 4);
                return Response::Authenticated(is_verified.then(|| random_access(random)));
            }
            Request::Quota => return Response::Quota(random_quotas(random)),
            Request::CheckSpace { .. } => &[ErrorCode::NoSpace][..],
            Request::List { .. } => &[ErrorCode::NoSuchDirectory, ErrorCode::DirectoryUnreadable],
            Request::OpenRead { .. } | Request::Checksum { .. } => &[
                ErrorCode::NoSuchDirectory,
                ErrorCode::NoSuchFile,
                ErrorCode::FileUnreadable,
            ],
            Request::CheckUpload { .. }
            | Request::Create { .. }
            | Request::MakeDirectory { .. } => &[
                ErrorCode::NoSuchDirectory,
                ErrorCode::UploadDenied,
                ErrorCode::InvalidName,
                ErrorCode::FileExists,
                ErrorCode::DirectoryExists,
                ErrorCode::NoSpace,
                ErrorCode::FileUnwritable,
            ],
            request => unreachable!("the menu does not request {request:?}"),
        };
        // The services refuse control characters, which messages must not contain.
        let is_invalid = match &request {
            Request::OpenRead { path }
            | Request::Checksum { path, .. }
            | Request::CheckUpload { path }
            | Request::Create { path, .. }
            | Request::MakeDirectory { path } => path.relative.contains(char::is_control),
            _ => false,
        };
        if is_invalid || once_in(random, 4) {
            return Response::Refused(one_of(random, refusals));
        }
        let length = one_of(random, &[0, 1, 10, 4096, 5000]);
        match request {
            Request::LookUpUser { .. } | Request::Authenticate { .. } | Request::Quota => {
                unreachable!("handled above")
            }
            Request::List { .. } => {
                opened.resize(length, CONTENT);
                let entries = length.min(7);
                Response::Listing {
                    length: length as u64,
                    entries,
                }
            }
            Request::OpenRead { .. } => {
                opened.resize(length, CONTENT);
                Response::Opened {
                    length: length as u64,
                }
            }
            Request::CheckUpload { .. } | Request::CheckSpace { .. } => Response::Allowed,
            Request::Create { .. } => Response::Created,
            Request::MakeDirectory { .. } => Response::DirectoryCreated,
            Request::Checksum { .. } => Response::Checksum {
                digest: Box::new([random.u8(..); 32]),
                end: length as u64,
            },
            request => unreachable!("the menu does not request {request:?}"),
        }
    }

    fn publish(&mut self, path: &GrantedPath, bytes: &[u8]) -> Result<(), ErrorCode> {
        self.requests.push(format!("publish {path:?} {bytes:?}"));
        match once_in(&mut self.random, 4) {
            true => Err(one_of(
                &mut self.random,
                &[ErrorCode::FileExists, ErrorCode::NoSpace],
            )),
            false => Ok(()),
        }
    }
}

/// Returns random rights on some of three directories.
fn random_access(random: &mut Rng) -> Arc<Access> {
    let mut grants = Vec::new();
    for name in ["Movies", "Docs", "Uploads"] {
        let [read, upload, change] = [once_in(random, 2), once_in(random, 3), once_in(random, 4)];
        if random.usize(..5) < 3 {
            let (name, rights) = (
                name.to_owned(),
                Rights {
                    read,
                    upload,
                    change,
                    hidden: upload != change,
                    quota: None,
                },
            );
            let path = PathBuf::from("/nowhere").join(&name);
            grants.push(Arc::new(Grant { name, rights, path }));
        }
    }
    let user = "user1".to_owned();
    Arc::new(Access { user, grants })
}

fn inputs(seed: u64) -> Vec<Event> {
    let mut random = Rng::with_seed(seed);
    let mut inputs = Vec::new();
    for _ in 0..1 + random.usize(..8) {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(..20) {
            add_input(&mut random, &mut bytes);
        }
        inputs.push(Event::Bytes(bytes));
        inputs.extend(match random.usize(..10) {
            0 => Some(Event::Reloaded(None)),
            1..=3 => Some(Event::Reloaded(Some(random_access(&mut random)))),
            4 if once_in(&mut random, 4) => Some(Event::Idle),
            5 if once_in(&mut random, 4) => Some(Event::Stopping),
            _ => None,
        });
    }
    inputs.push(Event::End);
    inputs
}

/// Appends random input of a client.
fn add_input(random: &mut Rng, out: &mut Vec<u8>) {
    match random.usize(..41) {
        0..=9 => {
            let user = one_of(random, &["user1", "nobody", "", "\u{e4}"]);
            out.extend(format!("LOGIN\n{user}\n{SECRET}{}\n", random.usize(..3)).bytes());
        }
        10..=14 => {
            let length = random.usize(..12);
            out.extend(format!("PUT FILE {length} {}\n", name(random)).bytes());
            out.extend(std::iter::repeat_n(b'\n', length));
        }
        15..=17 => {
            let length = random.usize(..12);
            out.extend(format!("UPLOAD FILE\n{}\n{length}\n", name(random)).bytes());
            out.extend(std::iter::repeat_n(b'x', length));
            out.push(b'\n');
        }
        18..=20 => {
            out.extend(format!("RESUME DOWNLOAD {}\n{}\n", name(random), number(random)).bytes())
        }
        21..=32 => {
            let words = one_of(random, &MenuCommand::ALL[..MenuCommand::ALL.len() - 1]).words();
            let words = if once_in(random, 3) {
                words.to_lowercase()
            } else {
                words.to_owned()
            };
            let end = if once_in(random, 3) { "\r\n" } else { "\n" };
            let name = if once_in(random, 2) { name(random) } else { "" };
            out.extend(format!("{words} {name}{end}").bytes());
        }
        33 => out.extend(format!("{}\n", number(random)).bytes()),
        34 => out.extend(format!("{}\n", name(random)).bytes()),
        35 => out.push(b'\n'),
        36 => out.extend(
            (0..random.usize(..40))
                .map(|_| random.u8(..))
                .collect::<Vec<u8>>(),
        ),
        37 if once_in(random, 4) => {
            out.extend([b'y'].repeat(LINE_BYTES_MAX - 2 + random.usize(..4)))
        }
        38 if once_in(random, 4) => out.extend(b"QUIT\n"),
        _ => out.extend(b"SHOW DIRECTORY Movies\nSHOW DETAILS\n"),
    }
}

fn name(random: &mut Rng) -> &'static str {
    one_of(
        random,
        &[
            "Movies",
            "Movies/",
            "Movies//",
            "Movies/Joker",
            "Docs/Classics",
            "Docs/Classics/Sonnet 18",
            "Uploads/Notes",
            "Joker",
            "Notes",
            ".",
            "..",
            "../x",
            "/",
            "/etc/passwd",
            " blank ",
            "\u{1b}[2J",
            "a\0b",
            "\u{1f40b}",
            "Movies/../Joker",
            "nothing/at/all",
        ],
    )
}

fn number(random: &mut Rng) -> &'static str {
    one_of(
        random,
        &[
            "0",
            "1",
            "10",
            "4096",
            "5001",
            "-1",
            "x",
            "9999999999999999999",
            "10000000000000000000",
        ],
    )
}

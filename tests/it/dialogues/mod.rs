//! Plays the dialogues of `testdata/dialogues`, whose README defines the notation.
//!
//! Each file is played against the session alone, with reference services, and against a server
//! process: unsplit, byte by byte, and in random fragments. The output must match to the byte.

mod client_input;
mod client_session;

mod notation;
pub(crate) mod reference_connection;
mod reference_services;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fastrand::Rng;
use nix::sys::signal::Signal;
use notation::{Dialogue, Event, Stage, all};
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;

use crate::support::changes::{change, make_readable, path_in, plain_home};
use crate::support::seeds::cut;
use crate::support::{Client, FIRST_CHOICE, Home, Server, eventually};
use reference_connection::Connection;
use reference_services::Services;

/// How the client's input is fragmented.
#[derive(Clone, Copy)]
enum Fragments {
    Whole,
    SingleBytes,

    Seed(u64),
}

#[test]
fn sessions_pass_every_dialogue_unsplit() {
    play_all(|dialogue| play_session(dialogue, Fragments::Whole));
}

#[test]
fn sessions_pass_every_dialogue_byte_by_byte() {
    play_all(|dialogue| play_session(dialogue, Fragments::SingleBytes));
}

#[test]
fn sessions_pass_every_dialogue_in_fragments() {
    play_all(|dialogue| {
        play_session(dialogue, Fragments::Seed(1))?;
        play_session(dialogue, Fragments::Seed(2))
    });
}

#[test]
fn servers_pass_every_dialogue_unsplit() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Fragments::Whole));
}

#[test]
fn servers_pass_every_dialogue_byte_by_byte() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Fragments::SingleBytes));
}

#[test]
fn servers_pass_every_dialogue_in_fragments() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Fragments::Seed(3)));
}

#[test]
fn the_reference_dialogue_passes_on_the_example_home() {
    let dialogues = all();
    let of_the_reference = |dialogue: &&Dialogue| dialogue.name.starts_with("reference");
    for dialogue in dialogues.iter().filter(of_the_reference) {
        play_server(dialogue, Home::new(), Fragments::Whole).expect("the reference dialogue");
    }
}

#[test]
fn dialogue_files_are_found() {
    let (ftp, menu): (Vec<_>, Vec<_>) = all().into_iter().partition(|dialogue| dialogue.is_ftp);
    assert!(menu.len() >= 60 && ftp.len() >= 25);
}

/// Plays every dialogue, four at a time, and reports all failures. `TIDEGATE_DIALOGUE` selects one
/// by its file name without `.txt`.
fn play_all(play: impl Fn(&Dialogue) -> Result<(), String> + Sync) {
    let mut dialogues = all();
    if let Ok(name) = std::env::var("TIDEGATE_DIALOGUE") {
        dialogues.retain(|dialogue| dialogue.name == name);
        assert!(!dialogues.is_empty(), "no dialogue is named {name}");
    }
    let next = AtomicUsize::new(0);
    let play_some = || {
        let mut failures = Vec::new();
        while let Some(dialogue) = dialogues.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(failure) = play(dialogue) {
                failures.push(format!("{}: {failure}", dialogue.name));
            }
        }
        failures
    };
    let failures = thread::scope(|scope| {
        let players: Vec<_> = (0..4).map(|_| scope.spawn(play_some)).collect();
        let failures = players
            .into_iter()
            .map(|player| player.join().expect("the thread does not panic"));
        failures.collect::<Vec<_>>().concat()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Plays a dialogue against the session alone.
fn play_session(dialogue: &Dialogue, fragments: Fragments) -> Result<(), String> {
    if dialogue.needs_server {
        return Ok(());
    }
    let home = plain_home();
    prepare(&home, dialogue);
    let mut max_upload = None;
    let mut hide_usernames = false;
    for (option, value) in &dialogue.options {
        match &**option {
            "hide-usernames" => hide_usernames = true,
            "max-upload" => max_upload = value.as_ref().map(|value| value.parse().expect("bytes")),
            "idle-timeout" | "login-timeout" => {} // the reference has no clock
            other => panic!("{}: the reference has no option {other}", dialogue.name),
        }
    }
    let services = Services::new(home.path(), hide_usernames, max_upload);
    let dialect = match dialogue.is_ftp {
        true => Dialect::Ftp(FtpSettings {
            active: ActiveMode::Enabled,
        }),
        false => Dialect::Menu,
    };
    let peer = "127.0.0.1:40000".parse().expect("an address");
    let mut connection = Connection::new(dialect.session(peer, true), services);
    let mut ends = false;
    for stage in &dialogue.stages {
        for fragment in fragments.of(&stage.client) {
            connection.receive(fragment);
        }
        if stage.client_ends {
            connection.end();
        }
        compare(stage, &connection.take_sent())?;
        ends |= stage.server_ends;
        if connection.is_closed() != ends {
            let is = if connection.is_closed() {
                "has"
            } else {
                "has not"
            };
            return Err(format!("line {}: the server {is} closed", stage.at));
        }
        match &stage.then {
            None => {}
            Some(Event::Change(requested)) => change(&home, requested),
            Some(Event::Reload) => reload(&mut connection),
            Some(Event::Idle) => connection.idle(),
            Some(Event::Stop) => connection.stop(),
            Some(Event::Check(path, expected)) => check(&home, path, expected.as_deref())?,
        }
    }
    make_readable(&home.path());
    Ok(())
}

/// Plays a dialogue against a new server process.
fn play_server(dialogue: &Dialogue, home: Home, fragments: Fragments) -> Result<(), String> {
    prepare(&home, dialogue);
    if dialogue.needs_no_root {
        home.chown_to_nobody();
    }
    let options: Vec<String> = dialogue
        .options
        .iter()
        .flat_map(|(option, value)| [format!("--{option}")].into_iter().chain(value.clone()))
        .collect();
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    if dialogue.is_ftp {
        options.extend(["--ftp", "127.0.0.1:0"]);
    }
    let server = Server::with_home(home, &options);
    let mut crowd: Vec<Client> = (0..dialogue.crowd).map(|_| server.connect()).collect();
    for client in &mut crowd {
        client.expect(FIRST_CHOICE);
    }
    let client = server.connect();
    let connection = client.socket();
    for stage in &dialogue.stages {
        let sent = thread::scope(|scope| {
            scope.spawn(|| send(connection, &fragments.of(&stage.client), stage.client_ends));
            receive(connection, stage)
        });
        compare(stage, &sent)?;
        match &stage.then {
            None | Some(Event::Idle) => {} // the server has a clock
            Some(Event::Change(requested)) => change(&server.home, requested),
            Some(Event::Reload) => {
                let reloads = || server.log().matches("event=reload result=").count();
                let before = reloads();
                server.signal(Signal::SIGHUP);
                eventually("the server reloads", || reloads() > before);
            }
            Some(Event::Stop) => server.signal(Signal::SIGTERM),
            Some(Event::Check(path, expected)) => check(&server.home, path, expected.as_deref())?,
        }
    }
    make_readable(&server.home.path());
    Ok(())
}

/// Sends fragments, if possible in one packet each. Stops if the server closes the connection; the
/// comparison with the expected output reports that.
fn send(mut connection: &TcpStream, fragments: &[&[u8]], then_end: bool) {
    for fragment in fragments {
        if connection.write_all(fragment).is_err() {
            return;
        }
    }
    if then_end {
        let _ = connection.shutdown(Shutdown::Write);
    }
}

/// Receives the bytes of a stage. If the server closes the connection in it, receives up to the end
/// to detect additional bytes.
fn receive(connection: &TcpStream, stage: &Stage) -> Vec<u8> {
    let mut sent = Vec::new();
    let expected = stage.server.len() as u64;
    let limit = if stage.server_ends {
        expected + 1000
    } else {
        expected
    };
    if let Err(error) = connection.take(limit).read_to_end(&mut sent) {
        sent.extend(format!("[{error}]").into_bytes());
    }
    sent
}

/// Reloads the reference services and updates the rights of the session.
fn reload(connection: &mut Connection<Services>) {
    connection.services().load();
    if let Some(access) = connection.session().access().cloned() {
        let access = connection.services().access_after_reload(&access);
        connection.session().reloaded(access);
    }
}

fn prepare(home: &Home, dialogue: &Dialogue) {
    for requested in &dialogue.before {
        change(home, requested);
    }
}

fn compare(stage: &Stage, sent: &[u8]) -> Result<(), String> {
    if sent == stage.server {
        return Ok(());
    }
    let same = sent
        .iter()
        .zip(&stage.server)
        .take_while(|(is, expected)| is == expected);
    let from = sent[..same.count()]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    let show = |bytes: &[u8]| {
        bytes[from..]
            .iter()
            .take(400)
            .copied()
            .collect::<Vec<u8>>()
            .escape_ascii()
            .to_string()
    };
    Err(format!(
        "line {}: from byte {from} on the server sent\n  {}\ninstead of\n  {}",
        stage.at,
        show(sent),
        show(&stage.server),
    ))
}

fn check(home: &Home, path: &[u8], expected: Option<&[u8]>) -> Result<(), String> {
    let found = fs::read(path_in(home, path)).ok();
    if found.as_deref() == expected {
        return Ok(());
    }
    Err(format!(
        "{} is {found:?} instead of {expected:?}",
        path.escape_ascii()
    ))
}

impl Fragments {
    fn of(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Fragments::Whole => vec![bytes],
            Fragments::SingleBytes => bytes.chunks(1).collect(),
            Fragments::Seed(seed) => cut(&mut Rng::with_seed(seed), bytes),
        }
    }
}

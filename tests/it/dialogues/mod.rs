//! The dialogues of `testdata/dialogues`: each is a file, played against the pure session over a model of the house and
//! against the running server, whole, byte by byte and in cuts from a seed. What the server sends has to be what the
//! file says, to the byte.
//!
//! `testdata/dialogues/README` tells the notation.

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
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;

use crate::support::changes::{change, make_readable, path_in, plain_home};
use crate::support::seeds::cut;
use crate::support::{Client, FIRST_CHOICE, Home, Server, eventually};
use reference_connection::Connection;
use reference_services::Services;

/// How what the client sends is cut.
#[derive(Clone, Copy)]
enum Cuts {
    Whole,
    Bytes,
    Seed(u64),
}

#[test]
fn sessions_pass_every_dialogue_unsplit() {
    play_all(|dialogue| play_model(dialogue, Cuts::Whole));
}

#[test]
fn sessions_pass_every_dialogue_byte_by_byte() {
    play_all(|dialogue| play_model(dialogue, Cuts::Bytes));
}

#[test]
fn sessions_pass_every_dialogue_in_fragments() {
    play_all(|dialogue| {
        play_model(dialogue, Cuts::Seed(1))?;
        play_model(dialogue, Cuts::Seed(2))
    });
}

#[test]
fn servers_pass_every_dialogue_unsplit() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Cuts::Whole));
}

#[test]
fn servers_pass_every_dialogue_byte_by_byte() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Cuts::Bytes));
}

#[test]
fn servers_pass_every_dialogue_in_fragments() {
    play_all(|dialogue| play_server(dialogue, plain_home(), Cuts::Seed(3)));
}

#[test]
fn the_reference_dialogue_passes_on_the_example_home() {
    let dialogues = all();
    let of_the_reference = |dialogue: &&Dialogue| dialogue.name.starts_with("reference");
    for dialogue in dialogues.iter().filter(of_the_reference) {
        play_server(dialogue, Home::new(), Cuts::Whole).expect("the reference dialogue");
    }
}

#[test]
fn dialogue_files_are_found() {
    let (ftp, menu): (Vec<_>, Vec<_>) = all().into_iter().partition(|dialogue| dialogue.is_ftp);
    assert!(menu.len() >= 60 && ftp.len() >= 25);
}

/// Plays every dialogue, four at a time, and reports all failures. TIDEGATE_DIALOGUE selects one by
/// its file name without `.txt`.
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
            .map(|player| player.join().expect("a player"));
        failures.collect::<Vec<_>>().concat()
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Plays a dialogue against the pure session, its input cut into fragments.
fn play_model(dialogue: &Dialogue, cuts: Cuts) -> Result<(), String> {
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
            "idle-timeout" | "login-timeout" => {} // the model has no clock
            other => panic!("{}: the model has no option {other}", dialogue.name),
        }
    }
    let house = Services::new(home.path(), hide_usernames, max_upload);
    let dialect = match dialogue.is_ftp {
        true => Dialect::Ftp(FtpSettings { active: true }),
        false => Dialect::Menu,
    };
    let peer = "127.0.0.1:40000".parse().expect("an address");
    let mut connection = Connection::new(dialect.session(peer), house);
    let mut ends = false;
    for stage in &dialogue.stages {
        for fragment in cuts.of(&stage.client) {
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
            Some(Event::Change(wanted)) => change(&home, wanted),
            Some(Event::Reload) => reload(&mut connection),
            Some(Event::Idle) => connection.idle(),
            Some(Event::Stop) => connection.stop(),
            Some(Event::Check(path, expected)) => check(&home, path, expected.as_deref())?,
        }
    }
    make_readable(&home.path());
    Ok(())
}

/// Plays a dialogue against a server of its own, what the client sends cut into fragments.
fn play_server(dialogue: &Dialogue, home: Home, cuts: Cuts) -> Result<(), String> {
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
            scope.spawn(|| send(connection, &cuts.of(&stage.client), stage.client_ends));
            receive(connection, stage)
        });
        compare(stage, &sent)?;
        match &stage.then {
            None | Some(Event::Idle) => {} // the server's own clock sees to it
            Some(Event::Change(wanted)) => change(&server.home, wanted),
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

/// Sends fragments, each in a packet of its own as far as that can be had. Where the server has closed meanwhile, what
/// it has sent tells.
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

/// Receives as many bytes as the stage has, and where the server is to close whatever comes up to the end.
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

/// Tells the model's session what a reload of the home makes of its user.
fn reload(connection: &mut Connection<Services>) {
    connection.house().load();
    if let Some(access) = connection.session().access().cloned() {
        let access = connection.house().access_after_reload(&access);
        connection.session().reloaded(access);
    }
}

fn prepare(home: &Home, dialogue: &Dialogue) {
    for wanted in &dialogue.before {
        change(home, wanted);
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

impl Cuts {
    fn of(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Cuts::Whole => vec![bytes],
            Cuts::Bytes => bytes.chunks(1).collect(),
            Cuts::Seed(seed) => cut(&mut Rng::with_seed(seed), bytes),
        }
    }
}

//! The dialogues of `testdata/dialogues`: each is a file, played against the pure session over a model of the house and
//! against the running server, whole, byte by byte and in cuts from a seed. What the server sends has to be what the
//! file says, to the byte.
//!
//! `testdata/dialogues/README` tells the notation.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;

use crate::house::House;
use crate::model::Connection;
use crate::random::Random;
use crate::server::Server;
use crate::world::{Change, World, example};

/// A dialogue, parsed.
struct Dialogue {
    name: String,
    /// What the server is started with: option and value.
    options: Vec<(String, Option<String>)>,
    /// Whether the engine's own doing is its matter, so that the pure session alone cannot play it.
    needs_server: bool,
    /// Whether it is about modes of files, which mean nothing to a server that runs as root.
    needs_no_root: bool,
    /// Connections that stand before this one.
    crowd: usize,
    /// What the home is before the server starts.
    before: Vec<Change>,
    stages: Vec<Stage>,
}

/// A stretch in which the client may send everything ahead, and what happens behind it.
#[derive(Debug, Default)]
struct Stage {
    /// The line of the file where it begins.
    at: usize,
    client: Vec<u8>,
    /// Whether the client closes its sending half then.
    client_ends: bool,
    server: Vec<u8>,
    /// Whether the server closes then.
    server_ends: bool,
    /// What happens when all of that is done.
    then: Option<Event>,
}

#[derive(Debug)]
enum Event {
    Change(Change),
    Reload,
    /// So long a silence that the server has enough of it.
    Idle,
    Stop,
    /// A path relative to the home's `files/`, and what has to be there: these bytes, or nothing.
    Check(Vec<u8>, Option<Vec<u8>>),
}

#[test]
fn the_session_plays_every_dialogue_whole() {
    play_all(|dialogue| play_model(dialogue, |bytes| vec![bytes]));
}

#[test]
fn the_session_plays_every_dialogue_byte_by_byte() {
    play_all(|dialogue| play_model(dialogue, |bytes| bytes.chunks(1).collect()));
}

#[test]
fn the_session_plays_every_dialogue_in_cuts() {
    play_all(|dialogue| {
        for seed in 0..2 {
            let mut random = Random::from_seed(seed);
            play_model(dialogue, |bytes| random.cut(bytes))
                .map_err(|failure| format!("seed {seed}: {failure}"))?;
        }
        Ok(())
    });
}

#[test]
fn the_server_plays_every_dialogue_whole() {
    play_all(|dialogue| play_server(dialogue, &world_of(dialogue), |bytes| vec![bytes]));
}

#[test]
fn the_server_plays_every_dialogue_byte_by_byte() {
    play_all(|dialogue| {
        play_server(dialogue, &world_of(dialogue), |bytes| {
            bytes.chunks(1).collect()
        })
    });
}

#[test]
fn the_server_plays_every_dialogue_in_cuts() {
    play_all(|dialogue| {
        let seed = dialogue.name.len() as u64;
        play_server(dialogue, &world_of(dialogue), |bytes| {
            Random::from_seed(seed).cut(bytes)
        })
    });
}

#[test]
fn the_reference_comes_out_over_the_home_as_it_ships() {
    let world = World::new();
    fs::copy(
        example().join("Credentials"),
        world.home().join("Credentials"),
    )
    .expect("a copy");
    for dialogue in all()
        .iter()
        .filter(|dialogue| dialogue.name.starts_with("reference"))
    {
        play_server(dialogue, &world, |bytes| vec![bytes]).expect("the reference dialogue");
    }
}

#[test]
fn there_are_many_dialogues() {
    assert!(all().len() >= 60);
}

/// Plays every dialogue, several at a time, and tells of all that failed.
fn play_all(play: impl Fn(&Dialogue) -> Result<(), String> + Sync) {
    let dialogues = all();
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
fn play_model<'a>(
    dialogue: &'a Dialogue,
    mut cut: impl FnMut(&'a [u8]) -> Vec<&'a [u8]>,
) -> Result<(), String> {
    if dialogue.needs_server {
        return Ok(());
    }
    let world = world_of(dialogue);
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
    let house = House::new(world.home(), hide_usernames, max_upload);
    let mut connection = Connection::new(house);
    let mut ends = false;
    for stage in &dialogue.stages {
        for fragment in cut(&stage.client) {
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
            Some(Event::Change(change)) => world.change(change).expect("a change of the home"),
            Some(Event::Reload) => reload(&mut connection),
            Some(Event::Idle) => connection.idle(),
            Some(Event::Stop) => connection.stop(),
            Some(Event::Check(path, expected)) => check(&world, path, expected.as_deref())?,
        }
    }
    Ok(())
}

/// Plays a dialogue against a server of its own, what the client sends cut into fragments.
fn play_server<'a>(
    dialogue: &'a Dialogue,
    world: &World,
    mut cut: impl FnMut(&'a [u8]) -> Vec<&'a [u8]>,
) -> Result<(), String> {
    if dialogue.needs_no_root && nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let options = dialogue
        .options
        .iter()
        .flat_map(|(option, value)| [format!("--{option}")].into_iter().chain(value.clone()));
    let server = Server::start(&world.home(), &options.collect::<Vec<_>>());
    let crowd: Vec<TcpStream> = (0..dialogue.crowd).map(|_| server.connect()).collect();
    for mut other in &crowd {
        other
            .read_exact(&mut [0])
            .expect("a greeting for each of the crowd");
    }
    let connection = server.connect();
    for stage in &dialogue.stages {
        let fragments = cut(&stage.client);
        let sent = thread::scope(|scope| {
            scope.spawn(|| send(&connection, &fragments, stage.client_ends));
            receive(&connection, stage)
        });
        compare(stage, &sent)?;
        match &stage.then {
            None | Some(Event::Idle) => {} // the server's own clock sees to it
            Some(Event::Change(change)) => world.change(change).expect("a change of the home"),
            Some(Event::Reload) => server.reload(),
            Some(Event::Stop) => server.signal(Signal::SIGTERM),
            Some(Event::Check(path, expected)) => check(world, path, expected.as_deref())?,
        }
    }
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
fn reload(connection: &mut Connection<House>) {
    connection.house().load();
    if let Some(access) = connection.session().access().cloned() {
        let access = connection.house().access_after_reload(&access);
        connection.session().reloaded(access);
    }
}

fn world_of(dialogue: &Dialogue) -> World {
    let world = World::new();
    for change in &dialogue.before {
        world.change(change).expect("a change of the home");
    }
    world
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

fn check(world: &World, path: &[u8], expected: Option<&[u8]>) -> Result<(), String> {
    let found = fs::read(world.path(path)).ok();
    if found.as_deref() == expected {
        return Ok(());
    }
    Err(format!(
        "{} is {found:?} instead of {expected:?}",
        path.escape_ascii()
    ))
}

fn all() -> Vec<Dialogue> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dialogues");
    let mut dialogues: Vec<Dialogue> = fs::read_dir(folder)
        .expect("the folder of dialogues")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).expect("a dialogue");
            parse(name.clone(), &text).unwrap_or_else(|wrong| panic!("{name}.txt, {wrong}"))
        })
        .collect();
    dialogues.sort_by(|one, other| one.name.cmp(&other.name));
    dialogues
}

fn parse(name: String, text: &str) -> Result<Dialogue, String> {
    let mut dialogue = Dialogue {
        name,
        options: Vec::new(),
        needs_server: false,
        needs_no_root: false,
        crowd: 0,
        before: Vec::new(),
        stages: vec![Stage::default()],
    };
    for (index, line) in text.lines().enumerate() {
        let at = index + 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        parse_line(line, at, &mut dialogue)
            .ok_or_else(|| format!("line {at}: not understood: {line}"))?;
    }
    match dialogue.stages.iter().any(|stage| stage.server_ends) {
        true => Ok(dialogue),
        false => Err("the server never closes".to_owned()),
    }
}

/// Takes up one line; `None` where it is not in the notation.
fn parse_line(line: &str, at: usize, dialogue: &mut Dialogue) -> Option<()> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let has_begun = dialogue.stages[0].at > 0;
    let stage = dialogue.stages.last_mut()?;
    if stage.at == 0 && kind.starts_with(['C', 'S']) {
        stage.at = at;
    }
    let mut event = None;
    match (kind, rest) {
        ("C:", _) => stage
            .client
            .extend(unescape(rest)?.into_iter().chain([b'\n'])),
        ("S:", _) => stage
            .server
            .extend(unescape(rest)?.into_iter().chain([b'\n'])),
        ("C>", _) => stage.client.extend(data(rest)?),
        ("S>", _) => stage.server.extend(data(rest)?),
        ("C!", "end") => stage.client_ends = true,
        ("S!", "end") => stage.server_ends = true,
        ("needs-server", "") => dialogue.needs_server = true,
        ("needs-no-root", "") => dialogue.needs_no_root = true,
        ("crowd", _) => dialogue.crowd = rest.parse().ok()?,
        ("option", _) => dialogue.options.push(match rest.split_once(' ') {
            Some((option, value)) => (option.to_owned(), Some(value.to_owned())),
            None => (rest.to_owned(), None),
        }),
        ("world", _) if !has_begun => dialogue.before.push(parse_change(rest)?),
        ("world", _) => event = Some(Event::Change(parse_change(rest)?)),
        ("now", "reload") => event = Some(Event::Reload),
        ("now", "idle") => event = Some(Event::Idle),
        ("now", "stop") => event = Some(Event::Stop),
        ("check", _) => {
            let mut fields = rest.splitn(3, ' ');
            let (what, path) = (fields.next()?, unescape(fields.next()?)?);
            event = match (what, fields.next()) {
                ("absent", None) => Some(Event::Check(path, None)),
                ("file", Some(bytes)) => Some(Event::Check(path, Some(data(bytes)?))),
                _ => return None,
            };
        }
        _ => return None,
    }
    if event.is_some() {
        stage.then = event;
        dialogue.stages.push(Stage::default());
    }
    Some(())
}

fn parse_change(text: &str) -> Option<Change> {
    let mut fields = text.splitn(3, ' ');
    let (what, path, rest) = (fields.next()?, fields.next()?, fields.next());
    Some(match (what, rest) {
        ("file", Some(bytes)) => Change::File(unescape(path)?, data(bytes)?),
        ("sparse", Some(length)) => Change::Sparse(unescape(path)?, length.parse().ok()?),
        ("directory", None) => Change::Directory(unescape(path)?),
        ("link", Some(target)) => Change::Link(unescape(path)?, unescape(target)?),
        ("fifo", None) => Change::Fifo(unescape(path)?),
        ("unreadable", None) => Change::Unreadable(unescape(path)?),
        ("remove", None) => Change::Remove(unescape(path)?),
        ("add", Some(line)) => {
            Change::AddLine(path.to_owned(), String::from_utf8(unescape(line)?).ok()?)
        }
        ("drop", Some(beginning)) => Change::DropLines(path.to_owned(), beginning.to_owned()),
        _ => return None,
    })
}

/// Raw bytes: `text TEXT`, `repeat COUNT TEXT`, `file PATH` (of the example home, whole) or `file PATH from OFFSET`.
fn data(text: &str) -> Option<Vec<u8>> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    match kind {
        "text" => unescape(rest),
        "repeat" => {
            let (count, text) = rest.split_once(' ')?;
            Some(unescape(text)?.repeat(count.parse().ok()?))
        }
        "file" => {
            let (path, from) = rest.split_once(" from ").unwrap_or((rest, "0"));
            let bytes = fs::read(example().join("files").join(path)).ok()?;
            Some(bytes.get(from.parse().ok()?..)?.to_vec())
        }
        _ => None,
    }
}

/// Text with `\n`, `\r`, `\t`, `\\` and `\xHH` in it as bytes.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [b'r', behind @ ..]) => (b'\r', behind),
            (b'\\', [b't', behind @ ..]) => (b'\t', behind),
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (b'\\', [b'x', high, low, behind @ ..]) => {
                let digits = [*high, *low];
                (
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?,
                    behind,
                )
            }
            (b'\\', _) => return None,
            (byte, behind) => (*byte, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    Some(bytes)
}

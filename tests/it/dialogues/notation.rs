//! Parses the notation of `testdata/dialogues`, which is defined in its README.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::changes::Change;
use crate::support::home::example_file;

/// A parsed dialogue.
pub(super) struct Dialogue {
    pub(super) name: String,
    /// Whether it is an FTP dialogue, whose lines end with CR LF.
    pub(super) is_ftp: bool,
    /// The server's options with their values.
    pub(super) options: Vec<(String, Option<String>)>,
    /// Whether the session alone cannot play it.
    pub(super) needs_server: bool,
    /// Whether it depends on file modes, which do not restrict a server that runs as root.
    pub(super) needs_no_root: bool,
    /// The number of other connections opened first.
    pub(super) crowd: usize,
    /// Changes to the home before the server starts.
    pub(super) before: Vec<Change>,
    pub(super) stages: Vec<Stage>,
}

/// A part of a dialogue that the client can send at once, and the event after it.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// The number of its first line in the file.
    pub(super) at: usize,
    pub(super) client: Vec<u8>,
    /// Whether the client half-closes the connection at its end.
    pub(super) client_ends: bool,
    pub(super) server: Vec<u8>,
    /// Whether the server closes the connection at its end.
    pub(super) server_ends: bool,
    /// The event after its end.
    pub(super) then: Option<Event>,
}

#[derive(Debug)]
pub(super) enum Event {
    Change(Change),
    Reload,
    /// The idle timeout expires.
    Idle,
    Stop,
    /// Checks the content of a served file, or its absence.
    Check(Vec<u8>, Option<Vec<u8>>),
}

/// Returns all dialogues, sorted by name.
pub(super) fn all() -> Vec<Dialogue> {
    let mut dialogues = in_folder("dialogues", false);
    dialogues.extend(in_folder("dialogues/ftp", true));
    dialogues.sort_by(|one, other| one.name.cmp(&other.name));
    dialogues
}

fn in_folder(folder: &str, is_ftp: bool) -> Vec<Dialogue> {
    fs::read_dir(testdata(folder))
        .expect("the folder is readable")
        .map(|entry| entry.expect("its entries are readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy();
            let name = format!("{}{stem}", if is_ftp { "ftp/" } else { "" });
            let text = fs::read_to_string(&path).expect("dialogues are UTF-8");
            parse(name.clone(), is_ftp, &text).unwrap_or_else(|error| panic!("{name}.txt, {error}"))
        })
        .collect()
}

fn parse(name: String, is_ftp: bool, text: &str) -> Result<Dialogue, String> {
    let mut dialogue = Dialogue {
        name,
        is_ftp,
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
        parse_line(line, at, &mut dialogue).ok_or_else(|| format!("line {at}: invalid: {line}"))?;
    }
    match dialogue.stages.iter().any(|stage| stage.server_ends) {
        true => Ok(dialogue),
        false => Err("the server never closes".to_owned()),
    }
}

/// Parses one line. Returns `None` if it is invalid.
fn parse_line(line: &str, at: usize, dialogue: &mut Dialogue) -> Option<()> {
    let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
    let has_begun = dialogue.stages[0].at > 0;
    let line_end: &[u8] = if dialogue.is_ftp { b"\r\n" } else { b"\n" };
    let stage = dialogue.stages.last_mut()?;
    if stage.at == 0 && kind.starts_with(['C', 'S']) {
        stage.at = at;
    }
    let mut event = None;
    match (kind, rest) {
        ("C:", _) => stage.client.extend([&*unescape(rest)?, line_end].concat()),
        ("S:", _) => stage.server.extend([&*unescape(rest)?, line_end].concat()),
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
        ("home", _) if !has_begun => dialogue.before.push(parse_change(rest)?),
        ("home", _) => event = Some(Event::Change(parse_change(rest)?)),
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

/// Returns the bytes of `text TEXT`, `repeat COUNT TEXT`, `file PATH` or `file PATH from OFFSET`. A
/// path names a file of the example home.
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
            let bytes = example_file(path)?;
            Some(bytes.get(from.parse().ok()?..)?.to_vec())
        }
        _ => None,
    }
}

/// Resolves the escapes `\n`, `\r`, `\t`, `\\`, `\xHH`, and `\v` for the server's version.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (byte, tail) = match (first, tail) {
            (b'\\', [b'n', tail @ ..]) => (b'\n', tail),
            (b'\\', [b'r', tail @ ..]) => (b'\r', tail),
            (b'\\', [b'v', tail @ ..]) => {
                bytes.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
                rest = tail;
                continue;
            }
            (b'\\', [b't', tail @ ..]) => (b'\t', tail),
            (b'\\', [b'\\', tail @ ..]) => (b'\\', tail),
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digits = [*high, *low];
                (
                    u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?,
                    tail,
                )
            }
            (b'\\', _) => return None,
            (byte, tail) => (*byte, tail),
        };
        bytes.push(byte);
        rest = tail;
    }
    Some(bytes)
}

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path)
}

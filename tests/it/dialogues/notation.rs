//! The notation of `testdata/dialogues`, as its README tells it. What lies in its folder `ftp` is FTP, the rest the menu's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::changes::Change;

/// A dialogue, parsed.
pub(super) struct Dialogue {
    pub(super) name: String,
    /// Whether it is FTP's, whose lines end with CR LF.
    pub(super) is_ftp: bool,
    /// What the server is started with: option and value.
    pub(super) options: Vec<(String, Option<String>)>,
    /// Whether the event_loop's own doing is its matter, so that the pure session alone cannot play it.
    pub(super) needs_server: bool,
    /// Whether it is about modes of files, which mean nothing to a server that runs as root.
    pub(super) needs_no_root: bool,
    /// Connections that stand before this one.
    pub(super) crowd: usize,
    /// What the home is before the server starts.
    pub(super) before: Vec<Change>,
    pub(super) stages: Vec<Stage>,
}

/// A stretch in which the client may send everything ahead, and what happens behind it.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// The line of the file where it begins.
    pub(super) at: usize,
    pub(super) client: Vec<u8>,
    /// Whether the client closes its sending half then.
    pub(super) client_ends: bool,
    pub(super) server: Vec<u8>,
    /// Whether the server closes then.
    pub(super) server_ends: bool,
    /// What happens when all of that is done.
    pub(super) then: Option<Event>,
}

#[derive(Debug)]
pub(super) enum Event {
    Change(Change),
    Reload,
    /// So long a silence that the server has enough of it.
    Idle,
    Stop,
    /// A path relative to the home's `files/`, and what has to be there: these bytes, or nothing.
    Check(Vec<u8>, Option<Vec<u8>>),
}

/// Every dialogue, in the order of the names.
pub(super) fn all() -> Vec<Dialogue> {
    let mut dialogues = in_folder("dialogues", false);
    dialogues.extend(in_folder("dialogues/ftp", true));
    dialogues.sort_by(|one, other| one.name.cmp(&other.name));
    dialogues
}

fn in_folder(folder: &str, is_ftp: bool) -> Vec<Dialogue> {
    fs::read_dir(testdata(folder))
        .expect("a folder of dialogues")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy();
            let name = format!("{}{stem}", if is_ftp { "ftp/" } else { "" });
            let text = fs::read_to_string(&path).expect("a dialogue");
            parse(name.clone(), is_ftp, &text).unwrap_or_else(|wrong| panic!("{name}.txt, {wrong}"))
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
            let bytes = fs::read(testdata("home/files").join(path)).ok()?;
            Some(bytes.get(from.parse().ok()?..)?.to_vec())
        }
        _ => None,
    }
}

/// Text with `\n`, `\r`, `\t`, `\\` and `\xHH` in it as bytes; `\v` is the server's version.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'n', behind @ ..]) => (b'\n', behind),
            (b'\\', [b'r', behind @ ..]) => (b'\r', behind),
            (b'\\', [b'v', behind @ ..]) => {
                bytes.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
                rest = behind;
                continue;
            }
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

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path)
}

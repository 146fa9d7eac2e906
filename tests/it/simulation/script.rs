//! Random scripts of model clients.

use std::time::Duration;

use fastrand::Rng;
use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::menu::command::MenuCommand;

use super::model::Model;
use super::users::User;
use crate::support::seeds::{once_in, one_of};

/// One command with its input, sent as a whole.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// No input: the server sends the first message.
    Greet,
    /// A username and, unless the server rejects the username at once, a password.
    Login {
        user: String,
        password: Option<String>,
    },
    Directories,
    /// With `short`, the answer to the prompt follows the command on its line.
    Enter {
        path: String,
        short: bool,
    },
    Details,
    Download {
        path: String,
        short: bool,
    },
    Resume {
        path: String,
        from: u64,
        short: bool,
    },
    /// The first step of an upload. The next step is sent after the reply.
    Upload {
        path: String,
        version: usize,
        short: bool,
    },
    UploadLength {
        path: String,
        version: usize,
    },
    UploadBytes {
        path: String,
        version: usize,
    },
    Put {
        path: String,
        version: usize,
    },
    MakeDirectory {
        path: String,
        short: bool,
    },
    Checksum {
        path: String,
        short: bool,
    },
    Help,
    /// An unknown command or an empty line.
    Noise(Vec<u8>),
    /// An empty answer to a prompt.
    Cancel,
    TooLong,
    /// A `QUIT` followed by bytes that the server ignores.
    Quit {
        ignored: usize,
    },
}

/// A sent item.
pub(super) struct SentItem {
    pub(super) item: Item,
    /// The step at which it was sent.
    pub(super) step: usize,
    /// The step at which the command that it belongs to was sent.
    pub(super) command: usize,
    /// The time at which it was sent.
    pub(super) at: Duration,
}

impl Item {
    /// Returns the bytes to send.
    pub(super) fn bytes(&self, model: &Model) -> Vec<u8> {
        let prompted = |command: MenuCommand, answer: &str, short: bool| {
            let between = if short { ' ' } else { '\n' };
            format!("{}{between}{answer}\n", command.words()).into_bytes()
        };
        match self {
            Item::Greet => Vec::new(),
            Item::Login { user, password } => {
                let password = password.as_ref().map(|password| format!("{password}\n"));
                format!("Login\r\n{user}\n{}", password.unwrap_or_default()).into_bytes()
            }
            Item::Directories => b"show  directories\n".to_vec(),
            Item::Enter { path, short } => prompted(MenuCommand::ShowDirectory, path, *short),
            Item::Details => b"SHOW DETAILS\r\n".to_vec(),
            Item::Download { path, short } => prompted(MenuCommand::DownloadFile, path, *short),
            Item::Resume { path, from, short } => {
                let mut bytes = prompted(MenuCommand::ResumeDownload, path, *short);
                bytes.extend(format!("{from}\n").bytes());
                bytes
            }
            Item::Upload { path, short, .. } => prompted(MenuCommand::UploadFile, path, *short),
            Item::UploadLength { path, version } => {
                format!("{}\n", model.content(path, *version).len()).into_bytes()
            }
            Item::UploadBytes { path, version } => model.content(path, *version).to_vec(),
            Item::Put { path, version } => {
                let content = model.content(path, *version);
                let mut bytes = format!("PUT FILE {} {path}\n", content.len()).into_bytes();
                bytes.extend(&*content);
                bytes
            }
            Item::MakeDirectory { path, short } => {
                prompted(MenuCommand::MakeDirectory, path, *short)
            }
            Item::Checksum { path, short } => prompted(MenuCommand::ChecksumFile, path, *short),
            Item::Help => b"help\n".to_vec(),
            Item::Noise(line) => line.clone(),
            Item::Cancel => b"SHOW DIRECTORY\n\n".to_vec(),
            Item::TooLong => Model::long_line(1),
            Item::Quit { ignored } => [&b"QUIT\n"[..], &vec![b'?'; *ignored]].concat(),
        }
    }

    /// Returns whether the next item can only be sent after the reply.
    pub(super) fn needs_reply(&self) -> bool {
        matches!(self, Item::Upload { .. } | Item::UploadLength { .. })
    }

    /// Returns whether it makes the server close the connection.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Item::Quit { .. } | Item::TooLong)
    }
}

/// Returns a random script.
pub(super) fn script(rng: &mut Rng, model: &mut Model, id: usize) -> Vec<Item> {
    let mut script = vec![Item::Greet];
    if once_in(rng, 16) {
        script.extend(vec![wrong_login(model); LOGIN_FAILURES_MAX.into()]);
        return script;
    }
    while once_in(rng, 3) {
        script.push(before_login(rng, model));
    }
    let user = rng.usize(..model.users.len());
    script.push(right_login(model, user));
    for _ in 0..rng.usize(..12) {
        script.push(after_login(rng, model, id, user));
    }
    match rng.u8(..9) {
        0 => script.push(Item::TooLong),
        1..=4 => script.push(Item::Quit { ignored: 0 }),
        5 => {
            let ignored = rng.usize(1..30_000);
            script.push(Item::Quit { ignored });
        }
        6 => script.push(Item::Noise(b"a last line without an end".into())),
        _ => {}
    }
    script
}

pub(super) fn right_login(model: &Model, user: usize) -> Item {
    let User { name, password, .. } = &model.users[user];
    Item::Login {
        user: name.clone(),
        password: Some(password.clone()),
    }
}

pub(super) fn wrong_login(model: &Model) -> Item {
    Item::Login {
        user: model.users[0].name.clone(),
        password: Some("wrong".into()),
    }
}

fn before_login(rng: &mut Rng, model: &Model) -> Item {
    match rng.u8(..8) {
        0 => Item::Login {
            user: "nobody".into(),
            password: model.hides_usernames.then(|| "x".into()),
        },
        1 | 2 => wrong_login(model),
        3 => Item::Help,
        4 => Item::Directories,
        5 => Item::Details,
        6 => Item::Enter {
            path: "Movies".into(),
            short: true,
        },
        _ => noise(rng),
    }
}

fn noise(rng: &mut Rng) -> Item {
    Item::Noise(match rng.u8(..5) {
        0 => b"\n".to_vec(),
        1 => b" \t\r\n".to_vec(),
        2 => Model::long_line(0),
        3 => b"LOGIN please\n".to_vec(),
        _ => b"\xff\xfe make sense\n".to_vec(),
    })
}

fn after_login(rng: &mut Rng, model: &mut Model, id: usize, user: usize) -> Item {
    let short = rng.bool();
    let path = one_of(rng, &FILES).to_owned();
    match rng.u8(..25) {
        0 => Item::Directories,
        1 => Item::Cancel,
        2..=5 => Item::Enter {
            path: one_of(rng, &DIRECTORIES).into(),
            short,
        },
        6 | 7 => Item::Details,
        8..=12 => Item::Download { path, short },
        13 | 14 => Item::Resume {
            path,
            from: one_of(rng, &[0, 1, 100, 5000, 70_000]),
            short,
        },
        15 | 16 => Item::Checksum { path, short },
        17 => Item::Help,
        18 => noise(rng),
        19 => right_login(model, user),
        20 => {
            let path = one_of(rng, &["Mail/made", "Box/made", "Movies/made", "Mail/made "]);
            let path = match path.strip_suffix(' ') {
                Some(path) => format!("{path} {id}"),
                None => path.to_owned(),
            };
            if !path.starts_with("Movies") {
                model.plan_directory(&path);
            }
            Item::MakeDirectory { path, short }
        }
        upload => {
            let directory = one_of(rng, &["Mail", "Box"]);
            let path = match one_of(rng, &["note", "shared", ""]) {
                "" => format!("{directory}/note {id}"),
                name => format!("{directory}/{name}"),
            };
            let longest = one_of(rng, &[10, 5000, 70_000, 600_000]);
            let version = model.plan_upload(rng, &path, longest);
            match upload {
                21 | 22 => Item::Upload {
                    path,
                    version,
                    short,
                },
                _ => Item::Put { path, version },
            }
        }
    }
}

/// Directories that clients request.
const DIRECTORIES: [&str; 11] = [
    "Movies",
    "Movies/",
    "News",
    "Mail",
    "Box",
    "None",
    "Movies/Classics",
    "Movies/Classics/Silent",
    "Movies/Empty/",
    "Movies/Joker",
    "Movies/..",
];

/// Files that clients request.
const FILES: [&str; 34] = [
    "Movies/Joker",
    "Movies/WAR",
    "Movies/Film 0",
    "Movies/Film 1",
    "Movies/Film 2",
    "Movies/Film 3",
    "Movies/Classics/Film 4",
    "Movies/Classics/Film 5",
    "Movies/Classics/Silent/Film 6",
    "Movies/Classics/Silent/Film 7",
    "Movies/inside",
    "Movies/Classics/up",
    "Movies/outside",
    "Movies/absolute",
    "Movies/round",
    "Movies/nowhere",
    "Movies/pipe",
    "Movies/.hidden",
    "Movies/Classics",
    "Movies/Empty/none",
    "Movies/None/none",
    "Movies/../News/Today",
    "News/Today",
    "News/Weather",
    "News/Sport",
    "Mail/note",
    "Mail/shared",
    "Mail/made",
    "Box/note",
    "None/none",
    "Joker",
    "Film 4",
    "Today",
    "note",
];

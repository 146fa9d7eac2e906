//! What a model client says: one thing after the other, from a seed.

use std::time::Duration;

use fastrand::Rng;
use tidegate::limits::LOGIN_FAILURES_MAX;
use tidegate::protocol::menu::command::MenuCommand;

use super::model::{User, World};
use crate::support::seeds::{once_in, one_of};

/// One thing that a client says, all of it at once.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Nothing yet: the server begins.
    Greet,
    /// The password is said behind the name, unless the name will not do.
    Login {
        user: String,
        password: Option<String>,
    },
    Directories,
    /// `short`: the answer to the prompt stands on the command's line.
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
    /// Step by step: each of these is said when the one before has been answered.
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
    /// A line that asks for nothing: no command, or nothing at all.
    Noise(Vec<u8>),
    /// A prompt that is answered by nothing.
    Cancel,
    TooLong,
    /// And more behind it, that nobody will take.
    Quit {
        behind: usize,
    },
}

/// Something that a client has said.
pub(super) struct Said {
    pub(super) item: Item,
    /// When.
    pub(super) step: usize,
    /// When the command was said that it belongs to.
    pub(super) command: usize,
    /// At what time.
    pub(super) at: Duration,
}

impl Item {
    /// The bytes.
    pub(super) fn said(&self, world: &World) -> Vec<u8> {
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
                let mut said = prompted(MenuCommand::ResumeDownload, path, *short);
                said.extend(format!("{from}\n").bytes());
                said
            }
            Item::Upload { path, short, .. } => prompted(MenuCommand::UploadFile, path, *short),
            Item::UploadLength { path, version } => {
                format!("{}\n", world.content(path, *version).len()).into_bytes()
            }
            Item::UploadBytes { path, version } => world.content(path, *version).to_vec(),
            Item::Put { path, version } => {
                let content = world.content(path, *version);
                let mut said = format!("PUT FILE {} {path}\n", content.len()).into_bytes();
                said.extend(&*content);
                said
            }
            Item::MakeDirectory { path, short } => {
                prompted(MenuCommand::MakeDirectory, path, *short)
            }
            Item::Checksum { path, short } => prompted(MenuCommand::ChecksumFile, path, *short),
            Item::Help => b"help\n".to_vec(),
            Item::Noise(line) => line.clone(),
            Item::Cancel => b"SHOW DIRECTORY\n\n".to_vec(),
            Item::TooLong => World::long_line(1),
            Item::Quit { behind } => [&b"QUIT\n"[..], &vec![b'?'; *behind]].concat(),
        }
    }

    /// Whether nothing can be said behind it before it is answered.
    pub(super) fn is_awaited(&self) -> bool {
        matches!(self, Item::Upload { .. } | Item::UploadLength { .. })
    }

    /// Whether it is the last thing that is said.
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Item::Quit { .. } | Item::TooLong)
    }
}

/// A script from a seed.
pub(super) fn script(rng: &mut Rng, world: &mut World, id: usize) -> Vec<Item> {
    let mut script = vec![Item::Greet];
    if once_in(rng, 16) {
        script.extend(vec![wrong_login(world); LOGIN_FAILURES_MAX.into()]);
        return script;
    }
    while once_in(rng, 3) {
        script.push(before_login(rng, world));
    }
    let user = rng.usize(..world.users.len());
    script.push(right_login(world, user));
    for _ in 0..rng.usize(..12) {
        script.push(after_login(rng, world, id, user));
    }
    match rng.u8(..9) {
        0 => script.push(Item::TooLong),
        1..=4 => script.push(Item::Quit { behind: 0 }),
        5 => {
            let behind = rng.usize(1..30_000);
            script.push(Item::Quit { behind });
        }
        6 => script.push(Item::Noise(b"a last line without an end".into())),
        _ => {}
    }
    script
}

pub(super) fn right_login(world: &World, user: usize) -> Item {
    let User { name, password, .. } = &world.users[user];
    Item::Login {
        user: name.clone(),
        password: Some(password.clone()),
    }
}

pub(super) fn wrong_login(world: &World) -> Item {
    Item::Login {
        user: world.users[0].name.clone(),
        password: Some("wrong".into()),
    }
}

fn before_login(rng: &mut Rng, world: &World) -> Item {
    match rng.u8(..8) {
        0 => Item::Login {
            user: "nobody".into(),
            password: world.hidden.then(|| "x".into()),
        },
        1 | 2 => wrong_login(world),
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
        2 => World::long_line(0),
        3 => b"LOGIN please\n".to_vec(),
        _ => b"\xff\xfe make sense\n".to_vec(),
    })
}

fn after_login(rng: &mut Rng, world: &mut World, id: usize, user: usize) -> Item {
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
        19 => right_login(world, user),
        20 => {
            let path = one_of(rng, &["Mail/made", "Box/made", "Movies/made", "Mail/made "]);
            let path = match path.strip_suffix(' ') {
                Some(path) => format!("{path} {id}"),
                None => path.to_owned(),
            };
            if !path.starts_with("Movies") {
                world.plan_directory(&path);
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
            let version = world.plan_upload(rng, &path, longest);
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

/// Directories that may be asked for.
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

/// Files that may be asked for.
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

//! The walls of the house: which words may stand in which room, read off the sources themselves.
//!
//! Comments do not count, nor do test modules: tests may look anywhere.

use std::fs;
use std::path::Path;

/// A word of code that stands only under these paths of `src/`.
const WORDS: &[(&str, &[&str])] = &[
    // Power lives in few lines.
    ("unsafe ", &["kernel/linux"]),
    ("mio::", &["kernel/linux", "process/control_socket.rs"]),
    ("memmap2::", &["kernel/linux"]),
    (
        "nix::sys::",
        &[
            "kernel/linux",
            "process/sandbox",
            "process/control_socket.rs",
            "process/pid_file.rs",
            "storage/testing.rs",
            "cli/prompt.rs",
            "client",
        ],
    ),
    ("landlock::", &["process/sandbox"]),
    ("seccompiler::", &["process/sandbox/seccomp.rs"]),
    ("caps::", &["process/sandbox"]),
    (
        "nix::fcntl::",
        &["kernel/linux", "process/pid_file.rs", "config", "client"],
    ),
    (
        "TcpListener",
        &["kernel/linux", "process/control_socket.rs", "client"],
    ),
    ("TcpStream", &["kernel/linux", "client"]),
    ("UdpSocket", &[]),
    (
        "std::fs",
        &[
            "kernel/linux",
            "process",
            "storage/testing.rs",
            "config",
            "client",
            "cli",
            "server/log/transfer_log.rs",
        ],
    ),
    ("argon2::", &["auth"]),
    // Time is an argument; only who edits a home by hand waits for another who does.
    (
        "Instant::now",
        &["kernel", "client", "process", "config/replace.rs"],
    ),
    ("SystemTime", &["kernel/linux", "client"]),
    (
        "Timestamp::now",
        &[
            "server/log/event.rs",
            "server/log/transfer_log.rs",
            "client",
        ],
    ),
    // Helpers in one file, and one that writes the log.
    (
        "thread::",
        &[
            "server/workers/lanes.rs",
            "storage/testing.rs",
            "server/log/writer.rs",
            "client",
            "cli",
            "config/replace.rs",
        ],
    ),
    // Who speaks with the person at the prompt.
    ("println!", &["cli", "client"]),
    ("stdout()", &["cli", "client"]),
    ("stderr()", &["cli", "client", "server/log/event.rs"]),
    ("std::env", &["main.rs", "cli", "process/systemd.rs"]),
    ("process::exit", &["main.rs", "cli"]),
    // Nothing is left to do.
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
];

/// A room, and the rooms that it may know.
const ROOMS: &[(&str, &[&str])] = &[
    ("domain", &["domain", "limits"]),
    ("protocol", &["domain", "limits", "protocol"]),
    ("auth", &["auth", "limits"]),
    ("config", &["auth", "config", "domain", "limits"]),
    (
        "storage",
        &[
            "domain", "config", "kernel", "limits", "protocol", "storage",
        ],
    ),
    ("kernel", &["kernel", "limits"]),
    ("process", &["kernel", "limits", "process"]),
    (
        "server",
        &[
            "auth", "config", "domain", "kernel", "limits", "protocol", "server", "storage",
        ],
    ),
    ("client", &["client", "domain", "limits", "protocol"]),
    (
        "cli",
        &[
            "auth", "cli", "client", "config", "domain", "kernel", "limits", "process", "protocol",
            "server",
        ],
    ),
];

/// Of what a pure room must not even hear.
const NOT_IN_PROTOCOL: &[&str] = &[
    "std::fs",
    "std::io::Read",
    "std::os",
    "std::time",
    "thread",
    "Mutex",
    "nix::",
    "libc::",
    "Instant",
    "log::",
];

/// Look twice at 600.
const LINES_MAX: usize = 700;

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
    /// Lines of code, with their numbers.
    code: Vec<(usize, String)>,
}

#[test]
fn words_stand_where_they_belong() {
    let mut strays = Vec::new();
    for source in sources() {
        for (word, places) in WORDS {
            let belongs = places.iter().any(|place| source.path.starts_with(place));
            for (number, line) in &source.code {
                if !belongs && line.contains(word) {
                    strays.push(format!("src/{}:{number}: {word}", source.path));
                }
            }
        }
    }
    assert!(strays.is_empty(), "out of place:\n{}", strays.join("\n"));
}

#[test]
fn rooms_know_only_the_rooms_that_they_may_know() {
    let mut strays = Vec::new();
    for source in sources() {
        let room = source.path.split('/').next();
        let Some((_, known)) = ROOMS.iter().find(|(name, _)| room == Some(name)) else {
            continue;
        };
        for (number, line) in &source.code {
            for after in line.split("crate::").skip(1) {
                let room: String = after
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase())
                    .collect();
                if !known.contains(&room.as_str()) {
                    strays.push(format!("src/{}:{number}: crate::{room}", source.path));
                }
            }
        }
    }
    assert!(
        strays.is_empty(),
        "a room that it must not know:\n{}",
        strays.join("\n")
    );
}

#[test]
fn the_protocol_is_a_value() {
    let mut strays = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("protocol/"))
    {
        for (number, line) in &source.code {
            for word in NOT_IN_PROTOCOL.iter().filter(|word| line.contains(*word)) {
                strays.push(format!("src/{}:{number}: {word}", source.path));
            }
        }
    }
    assert!(strays.is_empty(), "not pure:\n{}", strays.join("\n"));
}

#[test]
fn the_protocols_sentences_stand_in_its_text_files_alone() {
    let sources = sources();
    let is_text =
        |source: &&Source| source.path.ends_with("/text.rs") || source.path.ends_with("/reply.rs");
    let sentences: Vec<&str> = (sources.iter().filter(is_text))
        .flat_map(|source| &source.code)
        .filter(|(_, line)| !line.contains(".expect("))
        .flat_map(|(_, line)| line.split('"').skip(1).step_by(2))
        .filter(|literal| literal.len() > 12 && literal.contains(' '))
        .collect();
    assert!(sentences.contains(&"Please choose 'LOGIN' or 'QUIT'") && sentences.len() > 40);
    for source in sources.iter().filter(|source| !is_text(source)) {
        for (number, line) in &source.code {
            for sentence in &sentences {
                let stray = line.contains(&format!("\"{sentence}"));
                assert!(!stray, "src/{}:{number} says {sentence:?}", source.path);
            }
        }
    }
}

#[test]
fn files_begin_with_what_they_are_and_have_an_end() {
    for source in sources() {
        assert!(
            source.text.starts_with("//! "),
            "src/{} does not say what it is",
            source.path
        );
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "src/{} has {lines} lines", source.path);
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src/ can be read") {
            let path = entry.expect("its entries too").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let path = path.strip_prefix(&root).expect("it lies there");
                sources.push(Source {
                    path: path.to_str().expect("sources' names are UTF-8").to_owned(),
                    code: code(&text),
                    text,
                });
            }
        }
    }
    assert!(sources.len() > 20, "only {} sources", sources.len());
    sources
}

/// Lines before the test module that are no comments, without the comments behind them.
fn code(text: &str) -> Vec<(usize, String)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .map(|(number, line)| (number, line.split("// ").next().unwrap_or("").to_owned()))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .collect()
}

//! Words of code that are confined to the files that have the job.

use super::sources::sources;

/// A word and the paths below `src/` that may use it.
const CONFINED: &[(&str, &[&str])] = &[
    ("unsafe ", &["kernel/linux/ffi.rs"]),
    ("allow(unsafe_code)", &["kernel/linux/ffi.rs"]),
    ("mio::", &["kernel/linux"]),
    ("memmap2::", &["kernel/linux"]),
    (
        "nix::",
        &["kernel", "process", "config", "client", "cli/prompt.rs"],
    ),
    (
        "libc::",
        &["kernel/linux", "process", "config", "client/pipe.rs"],
    ),
    ("raw_os_error", &["kernel"]),
    ("Errno", &["kernel", "process", "client"]),
    ("landlock::", &["process/sandbox"]),
    ("seccompiler::", &["process/sandbox"]),
    ("caps::", &["process/sandbox"]),
    ("sd_notify::", &["process/systemd.rs"]),
    ("TcpListener", &["kernel/linux", "process", "client"]),
    ("TcpStream", &["kernel/linux", "client"]),
    ("UdpSocket", &[]),
    (
        "std::fs",
        &[
            "kernel/linux",
            "process",
            "config",
            "client",
            "cli",
            "server/log/transfer_log.rs",
        ],
    ),
    ("argon2::", &["auth"]),
    ("strsim::", &["domain/suggestion.rs"]),
    // Time is an argument: the loop reads the clock once per tick, through the kernel.
    ("Instant::now", &["kernel", "client", "config/replace.rs"]),
    ("SystemTime", &["kernel/linux", "client"]),
    ("Timestamp::now", &["server/log", "client"]),
    (
        "thread::",
        &[
            "server/workers",
            "server/log",
            "client",
            "cli",
            "config/replace.rs",
            "kernel/sim",
            "process/silent_directories.rs",
        ],
    ),
    ("println!", &["cli", "client"]),
    ("stdout()", &["cli", "client"]),
    ("stderr()", &["cli", "client", "server/log"]),
    (
        "std::env",
        &["main.rs", "cli", "process/systemd.rs", "client"],
    ),
    ("process::exit", &["main.rs", "cli"]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
];

/// Words that the sans-IO layers must not contain.
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
    "argon2",
    "password::",
];

/// Socket operations of the kernel that only a stream may call, on any expression.
const STREAM_ONLY: &[&str] = &[
    "kernel.receive(",
    "kernel().receive(",
    "kernel.send_file(",
    "kernel().send_file(",
    ".shutdown_write(",
    ".unacknowledged(",
    "kernel.connect_result(",
    "kernel().connect_result(",
    "kernel.local_address(",
    "kernel().local_address(",
    "kernel.register(",
    "kernel().register(",
    "kernel.send(",
    "kernel().send(",
];

#[test]
fn words_are_confined_to_the_files_that_have_the_job() {
    let mut violations = Vec::new();
    for source in sources("src") {
        let path = source.path.strip_prefix("src/").expect("it is in src");
        for (word, places) in CONFINED {
            let is_allowed = places.iter().any(|place| path.starts_with(place));
            for (number, line) in &source.code {
                if !is_allowed && line.contains(word) {
                    violations.push(format!("{}:{number}: {word}", source.path));
                }
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn dialogues_are_values_without_io() {
    let mut violations = Vec::new();
    for source in sources("src") {
        if !["src/protocol/", "src/domain/"]
            .iter()
            .any(|layer| source.path.starts_with(layer))
        {
            continue;
        }
        for (number, line) in &source.code {
            for word in NOT_IN_PROTOCOL.iter().filter(|word| line.contains(*word)) {
                violations.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn only_the_stream_calls_socket_operations() {
    let mut violations = Vec::new();
    for source in sources("src") {
        if !source.path.starts_with("src/server/") || source.path.ends_with("net/stream.rs") {
            continue;
        }
        for (number, line) in &source.code {
            for word in STREAM_ONLY.iter().filter(|word| line.contains(*word)) {
                violations.push(format!("{}:{number}: {word}", source.path));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_short_file() {
    let sources = sources("src");
    let ffi = (sources.iter()).find(|source| source.path == "src/kernel/linux/ffi.rs");
    let ffi = ffi.expect("kernel/linux/ffi.rs holds all unsafe code");
    let lines = ffi.code.iter().filter(|(_, line)| !line.trim().is_empty());
    let lines = lines.count();
    assert!(lines <= 180, "{lines} lines of code in {}", ffi.path);
}

#[test]
fn messages_to_clients_are_in_the_text_files_only() {
    let sources = sources("src");
    let is_text = |path: &str| {
        path.starts_with("src/protocol/")
            && (path.ends_with("/text.rs") || path.ends_with("/reply.rs"))
    };
    let messages: Vec<&str> = (sources.iter().filter(|source| is_text(&source.path)))
        .flat_map(|source| &source.code)
        .filter(|(_, line)| !line.contains(".expect("))
        .flat_map(|(_, line)| line.split('"').skip(1).step_by(2))
        .filter(|literal| literal.len() > 12 && literal.contains(' '))
        .collect();
    assert!(messages.contains(&"Please choose 'LOGIN' or 'QUIT'") && messages.len() > 40);
    for source in sources.iter().filter(|source| !is_text(&source.path)) {
        for (number, line) in &source.code {
            for message in &messages {
                let is_copy = line.contains(&format!("\"{message}"));
                assert!(!is_copy, "{}:{number} repeats {message:?}", source.path);
            }
        }
    }
}

#[test]
fn files_begin_with_a_module_comment() {
    for source in sources("src") {
        assert!(
            source.text.starts_with("//! "),
            "{} has no module comment",
            source.path
        );
    }
}

#[test]
fn types_have_distinct_names() {
    let mut names: Vec<(String, String)> = Vec::new();
    for source in sources("src") {
        for (number, line) in &source.code {
            let line = line.trim_start_matches("pub").trim_start();
            let line = match line.strip_prefix('(') {
                Some(rest) => rest
                    .split_once(')')
                    .map_or("", |(_, rest)| rest)
                    .trim_start(),
                None => line,
            };
            let kinds = ["struct ", "enum ", "trait "];
            if let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
                names.push((name, format!("{}:{number}", source.path)));
            }
        }
    }
    names.sort();
    let doubles: Vec<String> = (names.windows(2))
        .filter(|pair| pair[0].0 == pair[1].0)
        .map(|pair| format!("{}: {} and {}", pair[0].0, pair[0].1, pair[1].1))
        .collect();
    assert!(
        names.len() > 100 && doubles.is_empty(),
        "{}",
        doubles.join("\n")
    );
}

//! Words of the command line that people type for others, and suggestions for unknown ones.

use argh::CommandInfoWithArgs;

use crate::domain::suggestion::Suggestion;

/// Words of other programs, and the words here that do the same. The first one that exists is
/// suggested.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("--address", &["--listen"]),
    ("--addr", &["--listen"]),
    ("--bind", &["--listen"]),
    ("--host", &["--listen"]),
    ("--port", &["--listen"]),
    ("-l", &["--listen"]),
    ("-p", &["--listen"]),
    ("--ftp-port", &["--ftp"]),
    ("--pasv-ports", &["--passive-ports"]),
    ("--pasv-address", &["--passive-address"]),
    ("--max-clients", &["--max-sessions"]),
    ("--max-connections", &["--max-sessions"]),
    ("--verbose", &["--log-level"]),
    ("--debug", &["--log-level"]),
    ("--dest", &["--into"]),
    ("--dir", &["--into"]),
    ("--out", &["--into"]),
    ("--output", &["--into"]),
    ("-d", &["--into"]),
    ("-o", &["--into"]),
    ("--overwrite", &["--force"]),
    ("--replace", &["--force"]),
    ("-f", &["--force"]),
    ("--resume", &["--continue"]),
    ("-c", &["--continue"]),
    ("-R", &["--recursive"]),
    ("-r", &["--recursive"]),
    ("--parallel", &["--jobs"]),
    ("--threads", &["--jobs"]),
    ("-j", &["--jobs"]),
    ("-q", &["--quiet"]),
    ("--password", &["--password-file", "--password-stdin"]),
    ("--pass", &["--password-file", "--password-stdin"]),
    ("daemon", &["serve"]),
    ("run", &["serve"]),
    ("server", &["serve"]),
    ("start", &["serve"]),
    ("create", &["init"]),
    ("download", &["get"]),
    ("fetch", &["get"]),
    ("send", &["put"]),
    ("upload", &["put"]),
    ("dir", &["ls"]),
    ("list", &["ls"]),
    ("login", &["connect"]),
    ("open", &["connect"]),
    ("man", &["manual"]),
    ("allow", &["grant"]),
    ("deny", &["revoke"]),
    ("adduser", &["user add"]),
    ("useradd", &["user add"]),
    ("deluser", &["user remove"]),
    ("userdel", &["user remove"]),
    ("users", &["user list"]),
    ("create", &["add"]),
    ("new", &["add"]),
    ("del", &["remove"]),
    ("delete", &["remove"]),
    ("rm", &["remove"]),
    ("ls", &["list"]),
    ("password", &["passwd"]),
];

/// Suggests a command for an unknown word at this level: one of it, or one of a command's own
/// commands (`user add` for `add`).
pub(crate) fn command(word: &str, level: &CommandInfoWithArgs) -> Suggestion {
    let here: Vec<&str> = level.commands.iter().map(|sub| sub.name).collect();
    let mut below = Vec::new();
    for sub in &level.commands {
        let own = sub.command.commands.iter();
        below.extend(own.map(|own| (own.name, format!("{} {}", sub.name, own.name))));
    }
    let exists = |name: &str| here.contains(&name) || below.iter().any(|(_, path)| path == name);
    if let Some(name) = synonym(word, exists) {
        return Suggestion::of(name);
    }
    if word.contains('@') && exists("connect") {
        return Suggestion::of(format!("connect {word}"));
    }
    if word.contains('/') && exists("serve") {
        return Suggestion::of(format!("serve {word}"));
    }
    if let Some((_, path)) = below.iter().find(|(name, _)| *name == word) {
        return Suggestion::of(path.as_str());
    }
    Suggestion::new(word, here)
}

/// Suggests an option for an unknown one of this command.
pub(crate) fn option(name: &str, level: &CommandInfoWithArgs) -> Suggestion {
    let known = || level.flags.iter().map(|flag| flag.long);
    match synonym(name, |option| known().any(|known| known == option)) {
        Some(option) => Suggestion::of(option),
        None if name.starts_with("--") => Suggestion::new(name, known()),
        None => Suggestion::default(),
    }
}

/// Returns the commands that have this option, as they are typed after the name of the program.
pub(crate) fn commands_with(option: &str, program: &CommandInfoWithArgs) -> Vec<String> {
    let mut found = Vec::new();
    let mut levels: Vec<(String, &CommandInfoWithArgs)> = vec![(String::new(), program)];
    while let Some((words, level)) = levels.pop() {
        if !words.is_empty() && level.flags.iter().any(|flag| flag.long == option) {
            found.push(words.clone());
        }
        let below = level.commands.iter().rev();
        levels.extend(below.map(|sub| (format!("{words} {}", sub.name), &sub.command)));
    }
    found.iter().map(|words| words.trim().to_owned()).collect()
}

fn synonym(word: &str, exists: impl Fn(&str) -> bool) -> Option<&'static str> {
    let meanings = SYNONYMS.iter().filter(|(typed, _)| *typed == word);
    let mut meanings = meanings.flat_map(|(_, meant)| *meant);
    meanings.find(|name| exists(name)).copied()
}

//! The person at the prompt: the command line, its help, messages and exit statuses. A subcommand a file.
//!
//! Every command ends with 0 when all of it is done, 1 when something failed, 2 for a wrong command line or a fault in a home.
//!
//! Must not know: how a home's files are written, sockets, the wire's words.

#[cfg(feature = "client")]
mod completions;
#[cfg(feature = "client")]
mod connect;
#[cfg(feature = "client")]
mod get;
mod grant;
mod init;
#[cfg(feature = "client")]
mod login;
#[cfg(feature = "client")]
mod ls;
mod manual;
mod prompt;
#[cfg(feature = "client")]
mod put;
mod reload;
mod revoke;
mod serve;
mod user;
mod values;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, FromArgs};

use crate::config::error::{EditError, HomeError};

/// A file server for many users at once, led by a menu over plain netcat.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    name = "tidegate",
    help_triggers("-h", "--help"),
    usage = "[--version] <command> [<args>]"
)]
struct Tidegate {
    /// print name and version
    #[argh(switch)]
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
enum Command {
    Serve(serve::Serve),
    Init(init::Init),
    User(user::User),
    Grant(grant::Grant),
    Revoke(revoke::Revoke),
    #[cfg(feature = "client")]
    Get(get::Get),
    #[cfg(feature = "client")]
    Put(put::Put),
    #[cfg(feature = "client")]
    Ls(ls::Ls),
    #[cfg(feature = "client")]
    Connect(connect::Connect),
    #[cfg(feature = "client")]
    Completions(completions::Completions),
    Manual(manual::Manual),
}

/// Runs the command that `args` ask for, the program's own name not among them, and gives its exit status.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Ok(args) = args
        .map(OsString::into_string)
        .collect::<Result<Vec<_>, _>>()
    else {
        return Failure::wrong("an argument is not UTF-8".into(), "tidegate").tell();
    };
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match parse(&args) {
        Ok(Tidegate { version: true, .. }) => {
            say(concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        Ok(Tidegate {
            command: Some(command),
            ..
        }) => match command {
            Command::Serve(command) => command.run(),
            Command::Init(command) => command.run(),
            Command::User(command) => command.run(),
            Command::Grant(command) => command.run(),
            Command::Revoke(command) => command.run(),
            #[cfg(feature = "client")]
            Command::Get(command) => command.run(),
            #[cfg(feature = "client")]
            Command::Put(command) => command.run(),
            #[cfg(feature = "client")]
            Command::Ls(command) => command.run(),
            #[cfg(feature = "client")]
            Command::Connect(command) => command.run(),
            #[cfg(feature = "client")]
            Command::Completions(command) => command.run(),
            Command::Manual(command) => command.run(),
        },
        Ok(Tidegate { command: None, .. }) => unreachable!("the parser asks for a command"),
        Err(Early::Help(text)) => say(&text),
        Err(Early::Wrong(failure)) => Err(failure),
    };
    done.unwrap_or_else(Failure::tell)
}

/// Why a command ends without having done all of it: its exit status, and what is told on standard error, a line each.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    lines: Vec<String>,
}

impl Failure {
    /// Something failed.
    pub(crate) fn new(line: impl Into<String>) -> Failure {
        Failure {
            status: 1,
            lines: vec![line.into()],
        }
    }

    /// The command line is wrong; `command` is as far as it was understood.
    fn wrong(what: String, command: &str) -> Failure {
        Failure {
            status: 2,
            lines: vec![what, format!("'{command} --help' tells more")],
        }
    }

    /// With one line more.
    pub(crate) fn and(mut self, line: String) -> Failure {
        self.lines.push(line);
        self
    }

    fn tell(self) -> ExitCode {
        self.lines.iter().for_each(|line| tell(line));
        ExitCode::from(self.status)
    }
}

/// Faults in a home.
impl From<Vec<HomeError>> for Failure {
    fn from(faults: Vec<HomeError>) -> Failure {
        Failure {
            status: 2,
            lines: faults.iter().map(ToString::to_string).collect(),
        }
    }
}

/// Faults in a home end a command with 2, all else that hinders a change with 1.
impl From<EditError> for Failure {
    fn from(error: EditError) -> Failure {
        match error {
            EditError::Faults(faults) => faults.into(),
            other => Failure::new(other.to_string()),
        }
    }
}

/// Tells of something that hinders nothing.
pub(crate) fn warn(what: &str) {
    tell(&format!("warning: {what}"));
}

/// A line on standard error. Where nobody can be told, the exit status still tells.
fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("tidegate: {line}\n").as_bytes());
}

/// Writes to standard output, which is all that is left to do.
fn say(text: &str) -> Result<ExitCode, Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::new(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

/// Why there is nothing to run.
enum Early {
    Help(String),
    Wrong(Failure),
}

/// Reads the command line by argh's definitions. What argh leaves out is done before it sees the arguments: `--option=value`, help for
/// the command that it stands behind, and a missing or unknown command told as such.
fn parse(args: &[&str]) -> Result<Tidegate, Early> {
    let mut level: CommandInfoWithArgs = Tidegate::get_args_info();
    let mut command = vec!["tidegate"];
    let mut plain = Vec::with_capacity(args.len());
    let wrong =
        |what: String, command: &[&str]| Early::Wrong(Failure::wrong(what, &command.join(" ")));
    let mut version = false;
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        if matches!(arg, "-h" | "--help") {
            return Err(Early::Help(help(&command)));
        }
        if arg == "--" {
            plain.push(arg);
            plain.extend(args.by_ref());
        } else if arg.starts_with('-') {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (arg, None),
            };
            version |= name == "--version" && command.len() == 1;
            let flag = level.flags.iter().find(|flag| {
                flag.long == name || flag.short.is_some_and(|short| name == format!("-{short}"))
            });
            plain.push(name);
            match (flag.map(|flag| &flag.kind), value) {
                (Some(FlagInfoKind::Option { .. }), value) => {
                    plain.extend(value.or_else(|| args.next()));
                }
                (Some(FlagInfoKind::Switch), None) => {}
                (Some(FlagInfoKind::Switch), Some(_)) => {
                    return Err(wrong(format!("{name} takes no value"), &command));
                }
                (None, _) => return Err(wrong(format!("unknown option '{name}'"), &command)),
            }
        } else if level.commands.is_empty() {
            plain.push(arg);
        } else {
            let Some(at) = level.commands.iter().position(|sub| sub.name == arg) else {
                return Err(wrong(format!("there is no command '{arg}'"), &command));
            };
            level = level.commands.swap_remove(at).command;
            command.push(arg);
            plain.push(arg);
        }
    }
    if !level.commands.is_empty() && !version {
        let names: Vec<&str> = level.commands.iter().map(|sub| sub.name).collect();
        return Err(wrong(
            format!("a command is missing: one of {}", names.join(", ")),
            &command,
        ));
    }
    Tidegate::from_args(&["tidegate"], &plain)
        .map_err(|early| wrong(early.output.trim_end().replace("\n    ", " "), &command))
}

/// The help text of a command, given as the words that lead to it.
fn help(command: &[&str]) -> String {
    let mut args = command[1..].to_vec();
    args.push("--help");
    match Tidegate::from_args(&command[..1], &args) {
        Err(early) => early.output,
        Ok(_) => unreachable!("--help is help on every level"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(args: &[&str]) -> String {
        match parse(args) {
            Err(Early::Wrong(failure)) => {
                assert_eq!(failure.status, 2);
                failure.lines[0].clone()
            }
            _ => panic!("{args:?} is not wrong"),
        }
    }

    #[test]
    fn an_option_may_have_its_value_behind_an_equals_sign() {
        let parsed = parse(&[
            "serve",
            "--max-upload=10MiB",
            "--pid-file",
            "--a=b",
            "--",
            "--home=x",
        ])
        .unwrap_or_else(|_| panic!());
        let shown = format!("{parsed:?}");
        assert!(shown.contains("max_upload: Some(10485760)"), "{shown}");
        assert!(shown.contains(r#"pid_file: Some("--a=b")"#), "{shown}");
        assert!(shown.contains(r#"home: "--home=x""#), "{shown}");
    }

    #[test]
    fn help_is_for_the_command_that_it_stands_behind() {
        for (args, usage) in [
            (&["-h"][..], "Usage: tidegate [--version]"),
            (&["--help", "serve"], "Usage: tidegate [--version]"),
            (&["serve", "-h"], "Usage: tidegate serve ["),
            (
                &["serve", "help", "--hide-usernames", "--help"],
                "Usage: tidegate serve [",
            ),
        ] {
            match parse(args) {
                Err(Early::Help(text)) => assert!(text.starts_with(usage), "{text}"),
                _ => panic!("{args:?} is not help"),
            }
        }
        assert!(
            format!("{:?}", parse(&["serve", "help"]).ok().unwrap()).contains(r#"home: "help""#)
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(wrong(&[]).starts_with("a command is missing: one of "));
        assert_eq!(wrong(&["lisp"]), "there is no command 'lisp'");
        assert_eq!(
            wrong(&["serve", "--hide-usernames=yes", "x"]),
            "--hide-usernames takes no value"
        );
        assert!(wrong(&["serve"]).contains("home"));
        assert!(wrong(&["serve", "a", "b"]).contains('b'));
        assert!(wrong(&["serve", "a", "--listen"]).contains("--listen"));
        assert!(
            wrong(&["serve", "a", "--log-level", "loud"])
                .contains("expected error, warn, info or debug")
        );
        assert_eq!(
            wrong(&["serve", "a", "--nonsense=1"]),
            "unknown option '--nonsense'"
        );
    }
}

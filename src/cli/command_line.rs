//! The command line as a whole: the commands, parsing and help.

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, FromArgs};

#[cfg(feature = "client")]
use crate::cli::completions::CompletionsArgs;
#[cfg(feature = "client")]
use crate::cli::connect::ConnectArgs;
use crate::cli::failure::Failure;
#[cfg(feature = "client")]
use crate::cli::get::GetArgs;
use crate::cli::grant::GrantArgs;
use crate::cli::init::InitArgs;
#[cfg(feature = "client")]
use crate::cli::ls::LsArgs;
use crate::cli::manual::ManualArgs;
#[cfg(feature = "client")]
use crate::cli::put::PutArgs;
use crate::cli::reload::ReloadArgs;
use crate::cli::revoke::RevokeArgs;
use crate::cli::serve::ServeArgs;
use crate::cli::user::UserArgs;
use crate::cli::vocabulary;

/// A file server for many users: a menu over plain netcat, and FTP.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    name = "tidegate",
    help_triggers("-h", "--help"),
    usage = "[--version] <command> [<args>]"
)]
pub(crate) struct CommandLine {
    /// print name and version
    #[argh(switch, short = 'V')]
    #[allow(dead_code)] // handled by `parse`, for every command
    version: bool,

    #[argh(subcommand)]
    command: Option<Command>,
}

#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub(crate) enum Command {
    Serve(ServeArgs),
    Init(InitArgs),
    User(UserArgs),
    Grant(GrantArgs),
    Revoke(RevokeArgs),
    Reload(ReloadArgs),
    #[cfg(feature = "client")]
    Get(GetArgs),
    #[cfg(feature = "client")]
    Put(PutArgs),
    #[cfg(feature = "client")]
    Ls(LsArgs),
    #[cfg(feature = "client")]
    Connect(ConnectArgs),
    #[cfg(feature = "client")]
    Completions(CompletionsArgs),
    Manual(ManualArgs),
}

/// The parsed command line.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Print this text: help or the version.
    Text(String),
    /// Run a command.
    Command(Box<Command>),
}

/// Parses the command line.
///
/// Handles the forms that argh does not support, before argh sees the arguments: `--option=value`,
/// `--help` for the command before it, `help COMMAND`, `--version` anywhere, and messages for a
/// missing or unknown command or option.
pub(crate) fn parse(args: &[&str]) -> Result<Parsed, Failure> {
    let mut scan = Scan {
        level: CommandLine::get_args_info(),
        command: vec!["tidegate"],
        plain: Vec::with_capacity(args.len()),
    };
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        match arg {
            "-h" | "--help" => return help(&scan.command).map(Parsed::Text),
            "-V" | "--version" => return Ok(Parsed::Text(VERSION.into())),
            "help" if !scan.level.commands.is_empty() => {
                for word in args.filter(|arg| !arg.starts_with('-')) {
                    scan.word(word)?;
                }
                return help(&scan.command).map(Parsed::Text);
            }
            "--" => {
                scan.plain.push(arg);
                scan.plain.extend(args.by_ref());
            }
            "-" => scan.word(arg)?,
            _ if arg.starts_with('-') => scan.option(arg, &mut args)?,
            _ => scan.word(arg)?,
        }
    }
    if !scan.level.commands.is_empty() {
        let names: Vec<&str> = scan.level.commands.iter().map(|sub| sub.name).collect();
        let what = format!("missing command; expected one of {}", names.join(", "));
        return Err(scan.failure(&what));
    }
    let parsed = CommandLine::from_args(&["tidegate"], &scan.plain)
        .map_err(|early| scan.failure(&plain_error(&early.output)))?;
    let command = parsed.command.expect("the words contain a command");
    Ok(Parsed::Command(Box::new(command)))
}

const VERSION: &str = concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n");

/// Rewrites an error of argh: a value with its fault, missing arguments in the order of the usage.
fn plain_error(output: &str) -> String {
    let what = output.trim_end().replace("\n    ", " ");
    let what = what.trim_end_matches('.');
    if let Some(names) = what.strip_prefix("Required positional arguments not provided: ") {
        let names: Vec<String> = names.split(' ').map(str::to_uppercase).collect();
        return format!("missing {}", names.join(" "));
    }
    if let Some(argument) = what.strip_prefix("Unrecognized argument: ") {
        return format!("unexpected argument '{argument}'");
    }
    if let Some(option) = what.strip_prefix("No value provided for option ") {
        return format!("{} needs a value", option.trim_matches('\''));
    }
    let rest = (what.strip_prefix("Error parsing positional argument '"))
        .or_else(|| what.strip_prefix("Error parsing option '"));
    match rest.and_then(|rest| rest.split_once("' with value ")) {
        Some((name, fault)) if name.starts_with('-') => format!("{name} {fault}"),
        Some((name, fault)) => format!("{} {fault}", name.to_uppercase()),
        None => what.to_owned(),
    }
}

/// The state of parsing: the arguments so far in argh's form.
struct Scan<'a> {
    /// The innermost command so far.
    level: CommandInfoWithArgs,
    /// The words that lead to it.
    command: Vec<&'a str>,
    plain: Vec<&'a str>,
}

impl<'a> Scan<'a> {
    fn option(
        &mut self,
        arg: &'a str,
        args: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (arg, None),
        };
        let flag = self.level.flags.iter().find(|flag| {
            flag.long == name || flag.short.is_some_and(|short| name == format!("-{short}"))
        });
        self.plain.push(name);
        match (flag.map(|flag| &flag.kind), value) {
            (Some(FlagInfoKind::Option { .. }), value) => {
                self.plain.extend(value.or_else(|| args.next()));
                Ok(())
            }
            (Some(FlagInfoKind::Switch), None) => Ok(()),
            (Some(FlagInfoKind::Switch), Some(_)) => {
                Err(self.failure(&format!("{name} takes no value")))
            }
            (None, _) => Err(self.failure(&self.unknown_option(name))),
        }
    }

    /// Describes an unknown option: a similar one of this command, or the command that has it.
    fn unknown_option(&self, name: &str) -> String {
        let suggestion = vocabulary::option(name, &self.level);
        if suggestion.candidate().is_none()
            && let [command] = &vocabulary::commands_with(name, &CommandLine::get_args_info())[..]
        {
            return format!("unknown option '{name}'; 'tidegate {command}' has it");
        }
        format!("unknown option '{name}'{suggestion}")
    }

    fn word(&mut self, arg: &'a str) -> Result<(), Failure> {
        if !self.level.commands.is_empty() {
            let mut commands = self.level.commands.iter();
            let Some(at) = commands.position(|sub| sub.name == arg) else {
                let suggestion = vocabulary::command(arg, &self.level);
                return Err(self.failure(&format!("unknown command '{arg}'{suggestion}")));
            };
            self.level = self.level.commands.swap_remove(at).command;
            self.command.push(arg);
        }
        self.plain.push(arg);
        Ok(())
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::usage(what, &self.command.join(" "))
    }
}

/// Returns the help of a command, given as the words that lead to it.
fn help(command: &[&str]) -> Result<String, Failure> {
    let mut args = command[1..].to_vec();
    args.push("--help");
    match CommandLine::from_args(&command[..1], &args) {
        Err(early) => Ok(early.output),
        Ok(_) => Err(Failure::usage("no help", "tidegate")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(args: &[&str]) -> String {
        let failure = parse(args).expect_err("a wrong command line");
        assert_eq!(failure.status(), 2);
        failure.first_line().to_owned()
    }

    #[test]
    fn an_option_may_have_its_value_after_an_equals_sign() {
        let parsed = parse(&[
            "serve",
            "--max-upload=10MiB",
            "--pid-file",
            "--a=b",
            "--",
            "--home=x",
        ]);
        let shown = format!("{:?}", parsed.unwrap());
        assert!(shown.contains("max_upload: Some(10485760)"), "{shown}");
        assert!(shown.contains(r#"pid_file: Some("--a=b")"#), "{shown}");
        assert!(shown.contains(r#"home: "--home=x""#), "{shown}");
    }

    #[test]
    fn help_is_for_the_command_before_it() {
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
                Ok(Parsed::Text(text)) => assert!(text.starts_with(usage), "{text}"),
                _ => panic!("{args:?} is not help"),
            }
        }
        for (args, usage) in [
            (&["help"][..], "Usage: tidegate [--version]"),
            (&["help", "serve"], "Usage: tidegate serve ["),
            (&["help", "user", "add"], "Usage: tidegate user add "),
            (&["user", "help", "add"], "Usage: tidegate user add "),
        ] {
            match parse(args) {
                Ok(Parsed::Text(text)) => assert!(text.starts_with(usage), "{text}"),
                _ => panic!("{args:?} is not help"),
            }
        }
        for args in [
            &["-V"][..],
            &["--version"],
            &["serve", "-V"],
            &["user", "add", "--version"],
        ] {
            match parse(args) {
                Ok(Parsed::Text(text)) => assert_eq!(text, VERSION),
                _ => panic!("{args:?} is not the version"),
            }
        }
        let shown = format!("{:?}", parse(&["serve", "help"]).unwrap());
        assert!(shown.contains(r#"home: "help""#));
    }

    #[test]
    fn wrong_command_lines_are_explained() {
        assert!(failure(&[]).starts_with("missing command; expected one of "));
        let lisp = "unknown command 'lisp'; see 'tidegate --help'";
        assert_eq!(failure(&["lisp"]), lisp);
        for (args, what) in [
            (
                &["sevre", "h"][..],
                "unknown command 'sevre' (did you mean 'serve'?)",
            ),
            (
                &["start", "h"],
                "unknown command 'start' (did you mean 'serve'?)",
            ),
            (
                &["/srv/h"],
                "unknown command '/srv/h' (did you mean 'serve /srv/h'?)",
            ),
            (
                &["passwd"],
                "unknown command 'passwd' (did you mean 'user passwd'?)",
            ),
            (
                &["user", "delete"],
                "unknown command 'delete' (did you mean 'remove'?)",
            ),
            (
                &["serve", "h", "--port=1"],
                "unknown option '--port' (did you mean '--listen'?)",
            ),
            (
                &["serve", "h", "--lisen", "1"],
                "unknown option '--lisen' (did you mean '--listen'?)",
            ),
            (
                &["--take-over"],
                "unknown option '--take-over'; 'tidegate serve' has it",
            ),
            (&["serve", "h", "-x"], "unknown option '-x'"),
            (&["serve"], "missing HOME"),
            (&["grant", "h"], "missing USER DIRECTORY RIGHTS"),
            (&["serve", "h", "i"], "unexpected argument 'i'"),
            (&["serve", "h", "--listen"], "--listen needs a value"),
        ] {
            let (said, _) = failure(args)
                .rsplit_once("; see ")
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .unwrap();
            assert_eq!(said, what, "{args:?}");
        }
        assert_eq!(
            failure(&["serve", "--hide-usernames=yes", "x"]),
            "--hide-usernames takes no value; see 'tidegate serve --help'"
        );
        assert_eq!(
            failure(&["serve", "a", "--log-level", "loud"]),
            "--log-level 'loud': expected error, warn, info or debug; see 'tidegate serve --help'"
        );
        assert_eq!(
            failure(&["serve", "a", "--nonsense=1"]),
            "unknown option '--nonsense'; see 'tidegate serve --help'"
        );
    }
}

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
use crate::cli::revoke::RevokeArgs;
use crate::cli::serve::ServeArgs;
use crate::cli::user::UserArgs;

/// A file server for many users: a menu over plain netcat, and FTP.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    name = "tidegate",
    help_triggers("-h", "--help"),
    usage = "[--version] <command> [<args>]"
)]
pub(crate) struct CommandLine {
    /// print name and version
    #[argh(switch)]
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
/// `--help` for the command before it, and messages for a missing or unknown command or option.
pub(crate) fn parse(args: &[&str]) -> Result<Parsed, Failure> {
    let mut scan = Scan {
        level: CommandLine::get_args_info(),
        command: vec!["tidegate"],
        plain: Vec::with_capacity(args.len()),
        wants_version: false,
    };
    let mut args = args.iter().copied();
    while let Some(arg) = args.next() {
        match arg {
            "-h" | "--help" => return help(&scan.command).map(Parsed::Text),
            "--" => {
                scan.plain.push(arg);
                scan.plain.extend(args.by_ref());
            }
            _ if arg.starts_with('-') => scan.option(arg, &mut args)?,
            _ => scan.word(arg)?,
        }
    }
    if !scan.level.commands.is_empty() && !scan.wants_version {
        let names: Vec<&str> = scan.level.commands.iter().map(|sub| sub.name).collect();
        let what = format!("missing command; expected one of {}", names.join(", "));
        return Err(scan.failure(&what));
    }
    let parsed = CommandLine::from_args(&["tidegate"], &scan.plain).map_err(|early| {
        let what = early.output.trim_end().replace("\n    ", " ");
        scan.failure(what.trim_end_matches('.'))
    })?;
    Ok(match parsed.command {
        Some(command) if !parsed.version => Parsed::Command(Box::new(command)),
        _ => Parsed::Text(concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n").into()),
    })
}

/// The state of parsing: the arguments so far in argh's form.
struct Scan<'a> {
    /// The innermost command so far.
    level: CommandInfoWithArgs,
    /// The words that lead to it.
    command: Vec<&'a str>,
    plain: Vec<&'a str>,
    wants_version: bool,
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
        self.wants_version |= name == "--version" && self.command.len() == 1;
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
            (None, _) => Err(self.failure(&format!("unknown option '{name}'"))),
        }
    }

    fn word(&mut self, arg: &'a str) -> Result<(), Failure> {
        if !self.level.commands.is_empty() {
            let mut commands = self.level.commands.iter();
            let Some(at) = commands.position(|sub| sub.name == arg) else {
                return Err(self.failure(&format!("unknown command '{arg}'")));
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
        let shown = format!("{:?}", parse(&["serve", "help"]).unwrap());
        assert!(shown.contains(r#"home: "help""#));
    }

    #[test]
    fn wrong_command_lines_are_explained() {
        assert!(failure(&[]).starts_with("missing command; expected one of "));
        let lisp = "unknown command 'lisp'; see 'tidegate --help'";
        assert_eq!(failure(&["lisp"]), lisp);
        assert_eq!(
            failure(&["serve", "--hide-usernames=yes", "x"]),
            "--hide-usernames takes no value; see 'tidegate serve --help'"
        );
        assert!(failure(&["serve"]).contains("home"));
        assert!(failure(&["serve", "a", "b"]).contains('b'));
        assert!(failure(&["serve", "a", "--listen"]).contains("--listen"));
        assert!(
            failure(&["serve", "a", "--log-level", "loud"])
                .contains("expected error, warn, info or debug")
        );
        assert_eq!(
            failure(&["serve", "a", "--nonsense=1"]),
            "unknown option '--nonsense'; see 'tidegate serve --help'"
        );
    }
}

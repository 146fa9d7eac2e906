//! The command line: one file per command, with its options, messages and exit status.

mod command_line;
#[cfg(feature = "client")]
mod completions;
#[cfg(feature = "client")]
mod connect;
mod failure;
#[cfg(feature = "client")]
mod get;
mod grant;
mod init;
#[cfg(feature = "client")]
mod login;
#[cfg(feature = "client")]
mod ls;
mod manual;
mod output;
mod prompt;
#[cfg(feature = "client")]
mod put;
mod reload;
mod reload_request;
mod revoke;
mod run_dir;
mod serve;
#[cfg(feature = "client")]
mod transfers;
mod user;
mod values;
mod vocabulary;

use std::ffi::OsString;
use std::process::ExitCode;

use argh::ArgsInfo;

use crate::cli::command_line::{Command, CommandLine, Parsed, parse};
use crate::cli::failure::Failure;
use crate::cli::output::print;

/// Runs the command of `args`, without the name of the program, and returns its exit status.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Result<Vec<_>, _> = args.map(OsString::into_string).collect();
    let result = match args {
        Ok(args) => run_command(&args.iter().map(String::as_str).collect::<Vec<_>>()),
        Err(_) => Err(Failure::usage("an argument is not valid UTF-8", "tidegate")),
    };
    result.unwrap_or_else(Failure::report)
}

fn run_command(args: &[&str]) -> Result<ExitCode, Failure> {
    let command = match parse(args)? {
        Parsed::Text(text) => return print(&text),
        Parsed::Command(command) => command,
    };
    match *command {
        Command::Serve(args) => serve::run(args),
        Command::Init(args) => args.run(),
        Command::User(args) => args.run(),
        Command::Grant(args) => args.run(),
        Command::Revoke(args) => args.run(),
        Command::Reload(args) => args.run(),
        #[cfg(feature = "client")]
        Command::Get(args) => args.run(),
        #[cfg(feature = "client")]
        Command::Put(args) => args.run(),
        #[cfg(feature = "client")]
        Command::Ls(args) => args.run(),
        #[cfg(feature = "client")]
        Command::Connect(args) => args.run(),
        #[cfg(feature = "client")]
        Command::Completions(args) => args.run(&CommandLine::get_args_info()),
        Command::Manual(args) => args.run(&CommandLine::get_args_info()),
    }
}

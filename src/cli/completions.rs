//! `tidegate completions`: what a shell completes, out of the options' own definitions.

use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};
use argh_complete::Generator;

use crate::cli::{Failure, Tidegate, say};

/// write a shell's completions to standard output
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "completions", help_triggers("-h", "--help"))]
pub(crate) struct Completions {
    /// the shell: bash, zsh, fish or nushell
    #[argh(positional, from_str_fn(shell))]
    shell: Shell,
}

#[derive(Clone, Copy, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Nushell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let program = Tidegate::get_args_info();
        let generate = match self.shell {
            Shell::Bash => argh_complete::bash::Bash::generate,
            Shell::Zsh => argh_complete::zsh::Zsh::generate,
            Shell::Fish => argh_complete::fish::Fish::generate,
            Shell::Nushell => argh_complete::nushell::Nushell::generate,
        };
        say(&generate("tidegate", &program))
    }
}

fn shell(value: &str) -> Result<Shell, String> {
    match value {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        "nushell" => Ok(Shell::Nushell),
        _ => Err("expected bash, zsh, fish or nushell".into()),
    }
}

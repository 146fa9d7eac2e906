//! `tidegate completions`: shell completions, generated from the definitions of the options.

use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs};
use argh_complete::Generator;

use crate::cli::failure::Failure;
use crate::cli::output::print;

/// print completions for a shell
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "completions", help_triggers("-h", "--help"))]
pub(crate) struct CompletionsArgs {
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

impl CompletionsArgs {
    pub(crate) fn run(self, program: &CommandInfoWithArgs) -> Result<ExitCode, Failure> {
        let generate = match self.shell {
            Shell::Bash => argh_complete::bash::Bash::generate,
            Shell::Zsh => argh_complete::zsh::Zsh::generate,
            Shell::Fish => argh_complete::fish::Fish::generate,
            Shell::Nushell => argh_complete::nushell::Nushell::generate,
        };
        print(&generate("tidegate", program))
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

//! `tidegate manual`: the manual page (man(7)), generated from the definitions of the options.

use std::fmt::Write;
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, FromArgs, Optionality};

use crate::cli::failure::Failure;
use crate::cli::output::print;

/// print the manual page; view it with man -l -
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "manual", help_triggers("-h", "--help"))]
pub(crate) struct ManualArgs {}

impl ManualArgs {
    pub(crate) fn run(self, program: &CommandInfoWithArgs) -> Result<ExitCode, Failure> {
        print(&page(program))
    }
}

/// The sections that are not generated.
const SECTIONS: &str = r#".SH EXIT STATUS
.TP
.B 0
Success.
.TP
.B 1
Something failed, with one line on standard error for each failure.
.TP
.B 2
The command line is wrong, or the home has a fault.
.SH ENVIRONMENT
.TP
.B TIDEGATE_PASSWORD
The password for
.BR get ", " put ", " ls " and " connect
without
.BR \-\-password\-file .
Without either, the password is read from the terminal.
.SH FILES
.TP
.I HOME/Credentials
The users and their password hashes.
.TP
.I HOME/Directories
The grants and limits of the users.
.TP
.I HOME/files
The granted directories without a path of their own.
.TP
.IR NAME .part
An incomplete download.
"#;

fn page(program: &CommandInfoWithArgs) -> String {
    let mut page = format!(
        ".TH TIDEGATE 1 \"\" \"tidegate {}\"\n.SH NAME\ntidegate \\- {}\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        escape(program.description)
    );
    page.push_str(".B tidegate\n[\\-\\-version] [\\-\\-help]\n");
    page.push_str(".I command\n[\\fIoption\\fR ...] [\\fIargument\\fR ...]\n");
    page.push_str(".SH OPTIONS\n");
    page.push_str(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrint help for a command.\n");
    append_arguments(&mut page, program);
    page.push_str(".SH COMMANDS\n");
    append_commands(&mut page, "tidegate", program);
    page.push_str(SECTIONS);
    page
}

fn append_commands(page: &mut String, words: &str, command: &CommandInfoWithArgs) {
    for sub in &command.commands {
        let words = format!("{words} {}", sub.name);
        if sub.command.commands.is_empty() {
            append(page, format_args!(".SS {}\n", escape(&words)));
            append(
                page,
                format_args!("{}.\n.P\n", escape(&sentence(sub.command.description))),
            );
            append_synopsis(page, &words, &sub.command);
            append_arguments(page, &sub.command);
        }
        append_commands(page, &words, &sub.command);
    }
}

fn append_synopsis(page: &mut String, words: &str, command: &CommandInfoWithArgs) {
    append(page, format_args!(".B {}\n", escape(words)));
    if !command.flags.is_empty() {
        page.push_str("[\\fIoption\\fR ...]\n");
    }
    for positional in command.positionals {
        let name = escape(positional.name);
        let (before, after) = match positional.optionality {
            Optionality::Required => ("", ""),
            Optionality::Optional => ("[", "]"),
            Optionality::Repeating | Optionality::Greedy => ("", " ..."),
        };
        append(page, format_args!("{before}\\fI{name}\\fR{after}\n"));
    }
}

fn append_arguments(page: &mut String, command: &CommandInfoWithArgs) {
    for positional in command.positionals {
        append(
            page,
            format_args!(
                ".TP\n.I {}\n{}.\n",
                escape(positional.name),
                escape(&sentence(positional.description))
            ),
        );
    }
    for flag in command
        .flags
        .iter()
        .filter(|flag| !flag.hidden && flag.long != "--help")
    {
        let value = match flag.kind {
            FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", escape(arg_name)),
            FlagInfoKind::Switch => String::new(),
        };
        append(
            page,
            format_args!(
                ".TP\n\\fB{}\\fR{value}\n{}.\n",
                escape(flag.long),
                escape(&sentence(flag.description))
            ),
        );
    }
}

fn append(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("writing to a string never fails");
}

/// A description as a sentence, without the full stop.
fn sentence(description: &str) -> String {
    let mut rest = description.trim_end_matches('.').chars();
    let first = rest.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(rest).collect()
}

/// Escapes text for man(7).
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

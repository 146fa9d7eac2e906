//! `tidegate manual`: the manual page, out of the options' own definitions. man(7) tells its language.

use std::fmt::Write;
use std::process::ExitCode;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind, FromArgs, Optionality};

use crate::cli::{Failure, Tidegate, say};

/// write the manual page to standard output, for man -l -
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "manual", help_triggers("-h", "--help"))]
pub(crate) struct Manual {}

impl Manual {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        say(&page(&Tidegate::get_args_info()))
    }
}

/// What the definitions do not tell.
const REST: &str = r#".SH EXIT STATUS
.TP
.B 0
All of it was done.
.TP
.B 1
Something failed: a line on standard error for each failure.
.TP
.B 2
The command line is wrong, or there is a fault in a home.
.SH ENVIRONMENT
.TP
.B TIDEGATE_PASSWORD
The password of
.BR get ", " put ", " ls " and " connect ,
where no
.B \-\-password\-file
is given. Without either it is asked for.
.SH FILES
.TP
.I HOME/Credentials
Who may come in.
.TP
.I HOME/Directories
What each of them may see.
.TP
.I HOME/files
The directories.
.TP
.IR NAME .part
A download that is not whole yet.
"#;

fn page(program: &CommandInfoWithArgs) -> String {
    let mut page = format!(
        ".TH TIDEGATE 1 \"\" \"tidegate {}\"\n.SH NAME\ntidegate \\- {}\n.SH SYNOPSIS\n",
        env!("CARGO_PKG_VERSION"),
        plain(program.description)
    );
    page.push_str(".B tidegate\n[\\-\\-version] [\\-\\-help]\n.I command\n[\\fIoption\\fR ...] [\\fIargument\\fR ...]\n");
    page.push_str(".SH OPTIONS\n");
    page.push_str(".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nShow what a command takes.\n");
    append_arguments(&mut page, program);
    page.push_str(".SH COMMANDS\n");
    append_commands(&mut page, "tidegate", program);
    page.push_str(REST);
    page
}

fn append_commands(page: &mut String, words: &str, command: &CommandInfoWithArgs) {
    for sub in &command.commands {
        let words = format!("{words} {}", sub.name);
        if sub.command.commands.is_empty() {
            append(page, format_args!(".SS {}\n", plain(&words)));
            append(
                page,
                format_args!("{}.\n.P\n", plain(&sentence(sub.command.description))),
            );
            append_synopsis(page, &words, &sub.command);
            append_arguments(page, &sub.command);
        }
        append_commands(page, &words, &sub.command);
    }
}

fn append_synopsis(page: &mut String, words: &str, command: &CommandInfoWithArgs) {
    append(page, format_args!(".B {}\n", plain(words)));
    if !command.flags.is_empty() {
        page.push_str("[\\fIoption\\fR ...]\n");
    }
    for positional in command.positionals {
        let name = plain(positional.name);
        let (before, behind) = match positional.optionality {
            Optionality::Required => ("", ""),
            Optionality::Optional => ("[", "]"),
            Optionality::Repeating | Optionality::Greedy => ("", " ..."),
        };
        append(page, format_args!("{before}\\fI{name}\\fR{behind}\n"));
    }
}

fn append_arguments(page: &mut String, command: &CommandInfoWithArgs) {
    for positional in command.positionals {
        append(
            page,
            format_args!(
                ".TP\n.I {}\n{}.\n",
                plain(positional.name),
                plain(&sentence(positional.description))
            ),
        );
    }
    for flag in command
        .flags
        .iter()
        .filter(|flag| !flag.hidden && flag.long != "--help")
    {
        let value = match flag.kind {
            FlagInfoKind::Option { arg_name } => format!(" \\fI{}\\fR", plain(arg_name)),
            FlagInfoKind::Switch => String::new(),
        };
        append(
            page,
            format_args!(
                ".TP\n\\fB{}\\fR{value}\n{}.\n",
                plain(flag.long),
                plain(&sentence(flag.description))
            ),
        );
    }
}

fn append(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text)
        .expect("a String takes every character");
}

/// A description with the capital letter that a sentence has.
fn sentence(description: &str) -> String {
    let mut rest = description.trim_end_matches('.').chars();
    let first = rest.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(rest).collect()
}

/// Text that the page's language takes as it stands.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

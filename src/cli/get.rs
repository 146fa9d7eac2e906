//! `tidegate get`: downloads.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::login::login;
use crate::cli::{Failure, say, tell, values};
use crate::client::error::Error;
use crate::client::get::{Options, get};
use crate::client::login::Login;
use crate::client::progress::Progress;
use crate::client::remote::Remote;

/// download files into a folder, each under its own name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "get", help_triggers("-h", "--help"))]
pub(crate) struct Get {
    /// the server, as USER@HOST or USER@HOST:PORT; the port is 2100 if not given
    #[argh(positional)]
    remote: Remote,

    /// what to download, as DIRECTORY/FILE; may hold * and ?
    #[argh(positional, arg_name = "path")]
    paths: Vec<String>,

    /// the folder to download into; downloads if not given
    #[argh(option, arg_name = "dir", default = "PathBuf::from(\"downloads\")")]
    into: PathBuf,

    /// replace files that are there
    #[argh(switch)]
    force: bool,

    /// resume what an earlier transfer left, and prove the whole
    #[argh(switch, long = "continue")]
    resume: bool,

    /// take directories along
    #[argh(switch)]
    recursive: bool,

    /// files at once, over as many connections, up to 256; 1 if not given
    #[argh(option, arg_name = "n", default = "1", from_str_fn(values::jobs))]
    jobs: usize,

    /// show failures alone
    #[argh(switch)]
    quiet: bool,

    /// seconds without a byte moving that are a failure; 60 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(60)",
        from_str_fn(values::seconds_from_one)
    )]
    timeout: Duration,

    /// a file whose first line is the password, which else is in TIDEGATE_PASSWORD or asked for
    #[argh(option, arg_name = "file")]
    password_file: Option<PathBuf>,
}

impl Get {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if self.paths.is_empty() {
            return Err(Failure::wrong("a path is missing".into(), "tidegate get"));
        }
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = Options {
            into: self.into,
            force: self.force,
            resume: self.resume,
            recursive: self.recursive,
            jobs: self.jobs,
            quiet: self.quiet,
        };
        finish(&login, get(&login, &self.paths, &options, tell), self.quiet)
    }
}

/// Ends a run of transfers: with their sum, unless that is not wanted.
pub(super) fn finish(
    login: &Login,
    done: Result<Progress, Error>,
    is_quiet: bool,
) -> Result<ExitCode, Failure> {
    let progress = done.map_err(|error| Failure::new(format!("{}: {error}", login.remote)))?;
    if !is_quiet {
        say(&format!("{}\n", progress.summary()))?;
    }
    match progress.is_whole() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

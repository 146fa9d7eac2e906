//! `tidegate get`: downloads files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::{Failure, print_error};
use crate::cli::login::login;
use crate::cli::transfers::finish;
use crate::cli::values;
use crate::client::get::{GetOptions, get};
use crate::client::remote::Remote;

/// download files
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "get", help_triggers("-h", "--help"))]
pub(crate) struct GetArgs {
    /// the server: USER@HOST or USER@HOST:PORT (default port 2100)
    #[argh(positional)]
    remote: Remote,

    /// the files to download: DIRECTORY/FILE, with * and ? as wildcards
    #[argh(positional, arg_name = "path")]
    paths: Vec<String>,

    /// the local directory for downloads (default: downloads)
    #[argh(option, arg_name = "dir", default = "PathBuf::from(\"downloads\")")]
    into: PathBuf,

    /// replace existing files
    #[argh(switch)]
    force: bool,

    /// resume interrupted downloads and verify the complete files by checksum
    #[argh(switch, long = "continue")]
    resume: bool,

    /// download directories with their content
    #[argh(switch)]
    recursive: bool,

    /// concurrent transfers, each over its own connection, at most 256 (default: 1)
    #[argh(option, arg_name = "n", default = "1", from_str_fn(values::jobs))]
    jobs: usize,

    /// show failures only
    #[argh(switch)]
    quiet: bool,

    /// seconds without traffic after which the command fails (default: 60)
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(60)",
        from_str_fn(values::seconds_from_one)
    )]
    timeout: Duration,

    /// a file with the password in its first line (default: the variable TIDEGATE_PASSWORD, else a
    /// prompt)
    #[argh(option, arg_name = "file")]
    password_file: Option<PathBuf>,
}

impl GetArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if self.paths.is_empty() {
            return Err(Failure::usage("missing PATH", "tidegate get"));
        }
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = GetOptions {
            into: self.into,
            force: self.force,
            resume: self.resume,
            recursive: self.recursive,
            jobs: self.jobs,
            quiet: self.quiet,
        };
        finish(
            &login,
            get(&login, &self.paths, &options, print_error),
            self.quiet,
        )
    }
}

//! `tidegate put`: uploads.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::get::finish;
use crate::cli::login::login;
use crate::cli::{Failure, tell, values};
use crate::client::put::{Options, put};
use crate::client::remote::Remote;

/// upload files into a directory, each under its own name
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "put", help_triggers("-h", "--help"))]
pub(crate) struct Put {
    /// the server, as USER@HOST or USER@HOST:PORT; the port is 2100 if not given
    #[argh(positional)]
    remote: Remote,

    /// the server's directory to upload into
    #[argh(positional)]
    directory: String,

    /// what to upload
    #[argh(positional, arg_name = "file")]
    files: Vec<PathBuf>,

    /// replace files that are there
    #[argh(switch)]
    force: bool,

    /// take folders along, and make directories that are missing
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

impl Put {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if self.files.is_empty() {
            return Err(Failure::wrong("a file is missing".into(), "tidegate put"));
        }
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = Options {
            force: self.force,
            recursive: self.recursive,
            jobs: self.jobs,
            quiet: self.quiet,
        };
        let done = put(&login, &self.directory, &self.files, &options, tell);
        finish(&login, done, self.quiet)
    }
}

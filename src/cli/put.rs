//! `tidegate put`: uploads files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::{Failure, print_error};
use crate::cli::login::login;
use crate::cli::transfers::finish;
use crate::cli::values;
use crate::client::put::{PutOptions, put};
use crate::client::remote::Remote;

/// upload files
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "put", help_triggers("-h", "--help"))]
pub(crate) struct PutArgs {
    /// the server: USER@HOST or USER@HOST:PORT (default port 2100)
    #[argh(positional)]
    remote: Remote,

    /// the directory on the server
    #[argh(positional)]
    directory: String,

    /// the local files
    #[argh(positional, arg_name = "file")]
    files: Vec<PathBuf>,

    /// replace existing files
    #[argh(switch)]
    force: bool,

    /// upload directories with their content, and create missing directories
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

impl PutArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        if self.files.is_empty() {
            return Err(Failure::usage("missing FILE", "tidegate put"));
        }
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = PutOptions {
            force: self.force,
            recursive: self.recursive,
            jobs: self.jobs,
            quiet: self.quiet,
        };
        let result = put(&login, &self.directory, &self.files, &options, print_error);
        finish(&login, result, self.quiet)
    }
}

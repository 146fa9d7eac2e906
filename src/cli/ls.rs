//! `tidegate ls`: lists directories.

use std::io;
use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::{Failure, print_error};
use crate::cli::login::login;
use crate::cli::values;
use crate::client::error::ClientError;
use crate::client::list::{ListFormat, list};
use crate::client::remote::Remote;
use crate::client::sanitized::Sanitized;

/// list a directory, or the granted directories
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "ls", help_triggers("-h", "--help"))]
pub(crate) struct LsArgs {
    /// the server: USER@HOST or USER@HOST:PORT (default port 2100)
    #[argh(positional)]
    remote: Remote,

    /// a directory or files, with * and ? as wildcards (default: the granted directories)
    #[argh(positional)]
    path: Option<String>,

    /// show exact sizes in bytes
    #[argh(switch)]
    bytes: bool,

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

impl LsArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let out = io::stdout();
        let format = match out.is_terminal() {
            true => ListFormat::Table { exact: self.bytes },
            false => ListFormat::Plain,
        };
        let path = self.path.as_deref();
        let mut status = ExitCode::SUCCESS;
        let mut out = BufWriter::new(out.lock());
        let listed = list(&login, path, format, &mut out, |path, why| {
            print_error(&format!("{}: {why}", Sanitized(path)));
            status = ExitCode::FAILURE;
        });
        listed.map_err(|error| match (&error, path) {
            (ClientError::Refused(_) | ClientError::Local(_), Some(path)) => {
                Failure::of_client(Sanitized(path), &error)
            }
            _ => Failure::of_client(&login.remote, &error),
        })?;
        Ok(status)
    }
}

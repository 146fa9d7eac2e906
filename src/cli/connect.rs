//! `tidegate connect`: an interactive session.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::{Failure, print_error};
use crate::cli::login::login;
use crate::cli::values;
use crate::client::connect::{ConnectOptions, connect};
use crate::client::remote::Remote;

/// open an interactive session with history and completion
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "connect", help_triggers("-h", "--help"))]
pub(crate) struct ConnectArgs {
    /// the server: USER@HOST or USER@HOST:PORT (default port 2100)
    #[argh(positional)]
    remote: Remote,

    /// the local directory for downloads (default: downloads)
    #[argh(option, arg_name = "dir", default = "PathBuf::from(\"downloads\")")]
    into: PathBuf,

    /// replace existing files
    #[argh(switch)]
    force: bool,

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

impl ConnectArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let remote = self.remote.to_string();
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = ConnectOptions {
            into: self.into,
            force: self.force,
        };
        connect(Rc::new(login), options, print_error)
            .map_err(|error| Failure::of_client(&remote, &error))?;
        Ok(ExitCode::SUCCESS)
    }
}

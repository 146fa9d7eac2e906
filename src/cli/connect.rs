//! `tidegate connect`: the dialogue for a person.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::login::login;
use crate::cli::{Failure, tell, values};
use crate::client::connect::{Options, connect};
use crate::client::remote::Remote;

/// talk with a server, with history and completion
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "connect", help_triggers("-h", "--help"))]
pub(crate) struct Connect {
    /// the server, as USER@HOST or USER@HOST:PORT; the port is 2100 if not given
    #[argh(positional)]
    remote: Remote,

    /// the folder to download into; downloads if not given
    #[argh(option, arg_name = "dir", default = "PathBuf::from(\"downloads\")")]
    into: PathBuf,

    /// replace files that are there
    #[argh(switch)]
    force: bool,

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

impl Connect {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let remote = self.remote.to_string();
        let login = login(self.remote, self.password_file.as_deref(), self.timeout)?;
        let options = Options {
            into: self.into,
            force: self.force,
        };
        connect(Rc::new(login), options, tell)
            .map_err(|error| Failure::new(format!("{remote}: {error}")))?;
        Ok(ExitCode::SUCCESS)
    }
}

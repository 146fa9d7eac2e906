//! `tidegate revoke`: a grant taken back.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::reload::Reload;
use crate::cli::{Failure, values};
use crate::config::edit;

/// take a grant back
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "revoke", help_triggers("-h", "--help"))]
pub(crate) struct Revoke {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// whose: a user's name, or * for everybody's
    #[argh(positional, from_str_fn(values::user_or_everybody))]
    user: String,

    /// the name that the user sees
    #[argh(positional, from_str_fn(values::directory))]
    directory: String,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Revoke {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(&self.home, self.reload, self.pid_file, "tidegate revoke")?;
        edit::revoke(&self.home, &self.user, &self.directory)?;
        reload.run()
    }
}

//! `tidegate reload`: makes the running server read its home again.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::Failure;
use crate::cli::output::{print, warn};
use crate::cli::reload_request::failure;
use crate::cli::run_dir::run_dir;
use crate::cli::values;
use crate::process::control::client;

/// make the running server of a home read it again, and report the result
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "reload", help_triggers("-h", "--help"))]
pub(crate) struct ReloadArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,
}

impl ReloadArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let run_dir = run_dir(self.run_dir, &self.home);
        let warnings =
            client::reload(&run_dir.control_socket()).map_err(|error| failure(error, ""))?;
        warnings.iter().for_each(|warning| warn(warning));
        print(&format!(
            "the running server has reloaded {}\n",
            self.home.display()
        ))
    }
}

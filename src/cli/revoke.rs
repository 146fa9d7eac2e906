//! `tidegate revoke`: removes a grant.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::Failure;
use crate::cli::reload_request::{ReloadOptions, ReloadRequest};
use crate::cli::values;
use crate::config::edit;

/// remove a grant
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "revoke", help_triggers("-h", "--help"))]
pub(crate) struct RevokeArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// the user name of the grant, or * for the grant to every user
    #[argh(positional, from_str_fn(values::user_or_all))]
    user: String,

    /// the name of the directory as users see it
    #[argh(positional, from_str_fn(values::directory))]
    directory: String,

    /// make the running server of the home reload it, and wait for the result
    #[argh(switch)]
    reload: bool,

    /// the run directory of that server (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    run_dir: Option<PathBuf>,

    /// a pid file of that server, to signal it instead; the result is in its log
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl RevokeArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate revoke",
        )?;
        edit::revoke(&self.home, &self.user, &self.directory)?;
        reload.run()
    }
}

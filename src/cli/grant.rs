//! `tidegate grant`: grants a directory to a user.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::Failure;
use crate::cli::output::warn;
use crate::cli::reload_request::{ReloadOptions, ReloadRequest};
use crate::cli::values;
use crate::config::edit;
use crate::domain::access::Rights;

/// grant a directory to a user
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "grant", help_triggers("-h", "--help"))]
pub(crate) struct GrantArgs {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// a user name, or * for every user; an earlier grant of the directory to this user is replaced
    #[argh(positional, from_str_fn(values::user_or_all))]
    user: String,

    /// the name of the directory as users see it
    #[argh(positional, from_str_fn(values::directory))]
    directory: String,

    /// a comma-separated list of read (list and download), upload (add new files), change (add,
    /// replace, rename, delete), hidden (the same for names that begin with a dot) and quota=SIZE
    /// or quota=SIZE/FILES (maximum size of the directory, and number of files and directories)
    #[argh(positional, from_str_fn(values::rights))]
    rights: Rights,

    /// the path of the directory, absolute or relative to the home (default: files/DIRECTORY, which
    /// is created)
    #[argh(positional, from_str_fn(values::path))]
    path: Option<String>,

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

impl GrantArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reload = ReloadRequest::new(
            &self.home,
            ReloadOptions {
                reload: self.reload,
                run_dir: self.run_dir,
                pid_file: self.pid_file,
            },
            "tidegate grant",
        )?;
        let path = self.path.as_deref();
        let warnings = edit::grant(&self.home, &self.user, &self.directory, self.rights, path)?;
        warnings.iter().for_each(|warning| warn(warning));
        reload.run()
    }
}

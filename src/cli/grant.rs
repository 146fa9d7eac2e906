//! `tidegate grant`: a directory for a user.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::reload::Reload;
use crate::cli::{Failure, values, warn};
use crate::config::edit;
use crate::domain::access::Rights;

/// grant a directory to a user, in place of an earlier grant of the two
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "grant", help_triggers("-h", "--help"))]
pub(crate) struct Grant {
    /// the home
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// whom: a user's name, or * for everybody
    #[argh(positional, from_str_fn(values::user_or_everybody))]
    user: String,

    /// the name that the user sees
    #[argh(positional, from_str_fn(values::directory))]
    directory: String,

    /// one or more of read (list and download), upload (add new files) and change (add, replace, rename, delete), parted by commas; quota=BYTES among them bounds what the directory may hold
    #[argh(positional)]
    rights: Rights,

    /// where it lies, absolute or relative to the home; files/DIRECTORY, which is made, if not given
    #[argh(positional, from_str_fn(values::path))]
    path: Option<String>,

    /// tell the home's server to take the change up
    #[argh(switch)]
    reload: bool,

    /// where that server keeps its process id, if not in the home
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,
}

impl Grant {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let reload = Reload::new(&self.home, self.reload, self.pid_file, "tidegate grant")?;
        let path = self.path.as_deref();
        let warnings = edit::grant(&self.home, &self.user, &self.directory, self.rights, path)?;
        warnings.iter().for_each(|warning| warn(warning));
        reload.run()
    }
}

//! `--reload` and `--pid-file`, which every command that changes a home knows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::Failure;
use crate::process::pid_file;

/// Which server is told of a change, if any.
pub(crate) struct Reload(Option<PathBuf>);

impl Reload {
    /// What the two options of `command` ask for; before anything is changed.
    pub(crate) fn new(
        home: &Path,
        reload: bool,
        pid_file: Option<PathBuf>,
        command: &str,
    ) -> Result<Reload, Failure> {
        match (reload, pid_file) {
            (true, file) => Ok(Reload(Some(
                file.unwrap_or_else(|| pid_file::of_home(home)),
            ))),
            (false, None) => Ok(Reload(None)),
            (false, Some(_)) => Err(Failure::wrong(
                "--pid-file says nothing without --reload".into(),
                command,
            )),
        }
    }

    /// Tells the server, after the change.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Some(file) = self.0 else {
            return Ok(ExitCode::SUCCESS);
        };
        match pid_file::signal_reload(&file) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::new(format!(
                "the change is made, but not taken up: {error}"
            ))),
        }
    }
}

//! The options `--reload` and `--pid-file` of the commands that edit a home.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::process::pid_file;

/// The pid file of the server to reload, if any.
pub(crate) struct ReloadRequest(Option<PathBuf>);

impl ReloadRequest {
    /// Checks the two options of `command`. Called before anything is changed.
    pub(crate) fn new(
        home: &Path,
        reload: bool,
        pid_file: Option<PathBuf>,
        command: &str,
    ) -> Result<ReloadRequest, Failure> {
        match (reload, pid_file) {
            (true, file) => Ok(ReloadRequest(Some(
                file.unwrap_or_else(|| pid_file::of_home(home)),
            ))),
            (false, None) => Ok(ReloadRequest(None)),
            (false, Some(_)) => Err(Failure::usage("--pid-file requires --reload", command)),
        }
    }

    /// Signals the server. Called after the change.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let Some(file) = self.0 else {
            return Ok(ExitCode::SUCCESS);
        };
        match pid_file::signal_reload(&file) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(Failure::new(format!(
                "the home was changed, but no server has reloaded it: {error}"
            ))),
        }
    }
}

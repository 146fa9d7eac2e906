//! The options `--reload`, `--run-dir` and `--pid-file` of the commands that edit a home.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::failure::{Failure, print_error};
use crate::cli::output::warn;
use crate::cli::run_dir::run_dir;
use crate::process::control::client::{RequestError, reload};
use crate::process::pid_file;
use crate::process::run_dir::RunDir;

/// What to do about the running server after a home was changed.
pub(crate) struct ReloadRequest {
    home: PathBuf,
    run_dir: RunDir,
    action: ReloadAction,
}

enum ReloadAction {
    /// Mention a server that still has the old accounts.
    Mention,
    /// Ask the server of the run directory, and wait for the result.
    Ask,
    /// Signal the server that has locked this file.
    Signal(PathBuf),
}

/// The values of the options.
pub(crate) struct ReloadOptions {
    pub(crate) reload: bool,
    pub(crate) run_dir: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
}

impl ReloadRequest {
    /// Checks the options of `command`. Called before anything is changed.
    pub(crate) fn new(
        home: &Path,
        options: ReloadOptions,
        command: &str,
    ) -> Result<ReloadRequest, Failure> {
        let action = match (options.reload, options.pid_file) {
            (true, Some(file)) => ReloadAction::Signal(file),
            (true, None) => ReloadAction::Ask,
            (false, None) => ReloadAction::Mention,
            (false, Some(_)) => {
                return Err(Failure::usage("--pid-file requires --reload", command));
            }
        };
        Ok(ReloadRequest {
            home: home.to_path_buf(),
            run_dir: run_dir(options.run_dir, home),
            action,
        })
    }

    /// Makes the server reload the home. Called after the change.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let changed = "the home was changed, but";
        match self.action {
            ReloadAction::Mention => self.mention(),
            ReloadAction::Ask => reload(&self.run_dir.control_socket())
                .map_err(|error| failure(error, changed))?
                .iter()
                .for_each(|warning| warn(warning)),
            ReloadAction::Signal(file) => pid_file::signal_reload(&file).map_err(|error| {
                Failure::new(format!("{changed} no server has reloaded it: {error}"))
            })?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn mention(&self) {
        if !self.run_dir.is_in_use() {
            return;
        }
        let option = match self.run_dir.is_given() {
            true => format!(" --run-dir {}", self.run_dir.path().display()),
            false => String::new(),
        };
        let home = self.home.display();
        print_error(&format!(
            "the running server has the old accounts: tidegate reload {home}{option}"
        ));
    }
}

/// Describes why a server has not reloaded its home, or not all of it. `begin` is the begin of a
/// sentence, or empty.
pub(crate) fn failure(error: RequestError, begin: &str) -> Failure {
    let begin = match begin {
        "" => String::new(),
        begin => format!("{begin} "),
    };
    match error {
        RequestError::Refused { why, faults } => {
            // A single fault is part of the reason.
            let faults = if faults.len() > 1 { faults } else { Vec::new() };
            let lines = faults.into_iter().chain([format!("{begin}{why}")]);
            Failure::from_lines(lines.collect())
        }
        RequestError::NoServer { .. } if begin.is_empty() => Failure::new(error.to_string()),
        RequestError::NoServer { .. } => {
            Failure::new(format!("{begin}no server has reloaded it: {error}"))
        }
        RequestError::Connection(_) => Failure::new(format!("{begin}{error}")),
    }
}

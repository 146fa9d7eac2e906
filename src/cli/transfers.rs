//! The common end of `get` and `put`.

use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::progress::Progress;

/// Prints the summary of a run of transfers, unless `is_quiet`, and returns the exit status.
pub(crate) fn finish(
    login: &Login,
    result: Result<Progress, Error>,
    is_quiet: bool,
) -> Result<ExitCode, Failure> {
    let progress = result.map_err(|error| Failure::new(format!("{}: {error}", login.remote)))?;
    if !is_quiet {
        print(&format!("{}\n", progress.summary()))?;
    }
    match progress.is_whole() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

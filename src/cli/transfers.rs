//! The common end of `get` and `put`.

use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::progress::TransferProgress;

/// Prints the summary of a run of transfers, unless `is_quiet`, and returns the exit status.
pub(crate) fn finish(
    login: &RemoteLogin,
    result: Result<TransferProgress, ClientError>,
    is_quiet: bool,
) -> Result<ExitCode, Failure> {
    let progress = result.map_err(|error| Failure::of_client(&login.remote, &error))?;
    if !is_quiet {
        print(&format!("{}\n", progress.summary()))?;
    }
    match progress.is_successful() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

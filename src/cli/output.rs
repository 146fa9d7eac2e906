//! Standard output, and warnings.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use crate::cli::failure::{Failure, print_error};

/// Prints the result of a command to standard output.
pub(crate) fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a warning to standard error.
pub(crate) fn warn(what: &str) {
    print_error(&format!("warning: {what}"));
}

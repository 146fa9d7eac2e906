//! Why a command fails: its exit status and its messages.

use std::io;
use std::io::Write;
use std::process::ExitCode;

use crate::config::error::{EditError, HomeError};

/// The failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    /// Messages for standard error, one line each.
    lines: Vec<String>,
}

impl Failure {
    /// Creates a failure with exit status 1.
    pub(crate) fn new(line: impl Into<String>) -> Failure {
        Failure {
            status: 1,
            lines: vec![line.into()],
        }
    }

    /// Creates a failure for a wrong command line, with exit status 2. `command` is the command as
    /// far as it was recognized.
    pub(crate) fn usage(what: impl AsRef<str>, command: &str) -> Failure {
        Failure {
            status: 2,
            lines: vec![format!("{}; see '{command} --help'", what.as_ref())],
        }
    }

    /// Adds a line.
    pub(crate) fn and(mut self, line: String) -> Failure {
        self.lines.push(line);
        self
    }

    /// Prints the messages and returns the exit status.
    pub(crate) fn report(self) -> ExitCode {
        self.lines.iter().for_each(|line| print_error(line));
        ExitCode::from(self.status)
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    #[cfg(test)]
    pub(crate) fn first_line(&self) -> &str {
        &self.lines[0]
    }
}

/// Faults in a home, with exit status 2.
impl From<Vec<HomeError>> for Failure {
    fn from(faults: Vec<HomeError>) -> Failure {
        Failure {
            status: 2,
            lines: faults.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Failure {
        match error {
            EditError::Faults(faults) => faults.into(),
            other => Failure::new(other.to_string()),
        }
    }
}

/// Prints one line to standard error. If that fails, only the exit status reports the failure.
pub(crate) fn print_error(line: &str) {
    let _ = io::stderr().write_all(format!("tidegate: {line}\n").as_bytes());
}

//! Why a command fails: its exit status and its messages.

#[cfg(feature = "client")]
use std::fmt::Display;
use std::io;
use std::io::Write;
use std::process::ExitCode;

#[cfg(feature = "client")]
use crate::client::error::ClientError;
use crate::config::error::{EditError, HomeError};
use crate::domain::io_reason::io_reason;
use crate::kernel::linux::end_by_broken_pipe;

/// The status by which a shell reports the end by SIGPIPE.
const BROKEN_PIPE_STATUS: u8 = 128 + 13;

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

    /// Creates a failure with exit status 1 and several messages.
    pub(crate) fn from_lines(lines: Vec<String>) -> Failure {
        Failure { status: 1, lines }
    }

    /// Creates a failure for a wrong command line, with exit status 2. `command` is the command as
    /// far as it was recognized.
    pub(crate) fn usage(what: impl AsRef<str>, command: &str) -> Failure {
        Failure {
            status: 2,
            lines: vec![format!("{}; see '{command} --help'", what.as_ref())],
        }
    }

    /// Creates the failure to write to standard output. Without a message if its reader has gone,
    /// as in `tidegate ls … | head`.
    pub(crate) fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::broken_pipe(),
            _ => {
                let reason = io_reason(error);
                Failure::new(format!("cannot write to standard output: {reason}"))
            }
        }
    }

    /// Creates a failure without a message: the process ends by SIGPIPE, which a shell reports as
    /// status 141.
    pub(crate) fn broken_pipe() -> Failure {
        Failure {
            status: BROKEN_PIPE_STATUS,
            lines: Vec::new(),
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
        if self.status == BROKEN_PIPE_STATUS {
            end_by_broken_pipe();
        }
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

#[cfg(feature = "client")]
impl Failure {
    /// Creates the failure of a client command: `place` is prepended unless the error names its
    /// own.
    pub(crate) fn of_client(place: impl Display, error: &ClientError) -> Failure {
        match error {
            ClientError::OutputClosed => Failure::broken_pipe(),
            ClientError::NoServer(_) | ClientError::Output(_) => Failure::new(error.to_string()),
            _ => Failure::new(format!("{place}: {error}")),
        }
    }
}

/// Prints one line to standard error. If that fails, only the exit status reports the failure.
pub(crate) fn print_error(line: &str) {
    let _ = io::stderr().write_all(format!("tidegate: {line}\n").as_bytes());
}

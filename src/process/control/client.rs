//! Requests to a running server, from commands.

use std::io;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use thiserror::Error;

use crate::domain::io_reason::io_reason;
use crate::process::control::message::{ControlAnswer, ControlRequest};

/// How long a command waits for the next answer. Longer than the server waits for a file system
/// that does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Maximum length of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Why a request failed.
#[derive(Debug, Error)]
pub enum RequestError {
    /// No server listens on the socket.
    #[error(
        "no server answers at {path}: {}; name its run directory with --run-dir",
        io_reason(source)
    )]
    NoServer {
        /// The control socket.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The connection failed.
    #[error("the running server has not answered: {}", io_reason(.0))]
    Connection(io::Error),
    /// The server's reason, and what it has not applied.
    #[error("{why}")]
    Refused {
        /// The reason.
        why: String,
        /// The faults, a line each.
        faults: Vec<String>,
    },
}

/// Asks the server whose control socket is at `path` to read its home again, and waits for the
/// result. Returns warnings.
pub fn reload(path: &Path) -> Result<Vec<String>, RequestError> {
    let mut stream = connect(path).map_err(|source| RequestError::NoServer {
        path: path.display().to_string(),
        source,
    })?;
    let sent = stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| stream.write_all(&ControlRequest::Reload.to_line()));
    // A server that refuses this user answers before it reads.
    if let Err(error) = sent
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(RequestError::Connection(error));
    }
    let mut lines = BufReader::new(stream);
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    loop {
        let answer = next_answer(&mut lines).map_err(RequestError::Connection)?;
        faults.extend(answer.fault);
        warnings.extend(answer.warning);
        if let Some(why) = answer.error {
            return Err(RequestError::Refused { why, faults });
        }
        if answer.end {
            return Ok(warnings);
        }
    }
}

/// Reads one answer.
pub(super) fn next_answer(lines: &mut impl BufRead) -> io::Result<ControlAnswer> {
    let mut line = Vec::new();
    match lines.take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(_) if line.ends_with(b"\n") => ControlAnswer::parse(&line),
        // The first bytes of version 0.1.0, which has no lines.
        Ok(_) if line.first() == Some(&0) => ControlAnswer::parse(&line),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it has closed the connection",
        )),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it does not answer in time",
        )),
        Err(error) => Err(error),
    }
}

/// Connects to a socket, also if its path is too long for an address (unix(7), `sun_path`).
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short_path(path, |path| UnixStream::connect(path))
}

/// Calls `act` with `path`, or with another path of the same file that is short enough for the
/// address of a socket.
pub(super) fn with_short_path<T>(
    path: &Path,
    act: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    /// Bytes of an address (unix(7)), the final null byte included.
    const ADDRESS_BYTES: usize = 108;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return act(path);
    };
    if path.as_os_str().len() < ADDRESS_BYTES {
        return act(path);
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(directory, flags, Mode::empty())?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&opened);
    act(&Path::new("/proc/self/fd").join(fd.to_string()).join(name))
}

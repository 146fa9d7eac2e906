//! The server that a run measures, and the command line that starts it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::Pinning;
use crate::server::ftp_peers;
use crate::server::home::BenchHome;
use crate::server::http_peers;
use crate::server::kind::ServerKind;

/// The server under load and its placement.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) kind: ServerKind,
    pub(crate) pinning: Pinning,
    /// The program of [`ServerKind::Before`].
    pub(crate) before: Option<PathBuf>,
}

impl Target {
    /// The same target with another server.
    pub(crate) fn with_kind(&self, kind: ServerKind) -> Target {
        Target {
            kind,
            ..self.clone()
        }
    }

    /// Returns the command that starts the server over `home`, and its address if the command line
    /// determines it.
    pub(crate) fn command(&self, home: &BenchHome) -> io::Result<(Command, Option<SocketAddr>)> {
        let Some(program) = self.kind.peer_program().map(Path::new) else {
            return Ok((self.own_command(home)?, None));
        };
        // The peers cannot report a port chosen by the system, so use one that was free a moment
        // ago.
        let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
        let port = address.port();
        let command = match self.kind {
            ServerKind::Nginx => http_peers::nginx(program, home, port, None)?,
            ServerKind::NginxChunks => http_peers::nginx(program, home, port, Some("256k"))?,
            ServerKind::Lighttpd => http_peers::lighttpd(program, home, port)?,
            ServerKind::PureFtpd => ftp_peers::pure_ftpd(program, home, port)?,
            ServerKind::Pyftpdlib => ftp_peers::pyftpdlib(program, home, port),
            _ => ftp_peers::vsftpd(program, home, port)?,
        };
        Ok((command, Some(address)))
    }

    /// The command of a server that prints its address.
    fn own_command(&self, home: &BenchHome) -> io::Result<Command> {
        if self.kind == ServerKind::Baseline {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("baseline").arg(home.directory());
            return Ok(command);
        }
        if !self.kind.is_before() {
            let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
            return tidegate(program, self.kind.is_ftp(), home);
        }
        match &self.before {
            Some(program) => tidegate(program, self.kind.is_ftp(), home),
            None => Err(io::Error::other(
                "no earlier build given; use '--before PROGRAM'",
            )),
        }
    }
}

fn tidegate(program: &Path, is_ftp: bool, home: &BenchHome) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.arg("serve").arg(home.path()).args([
        "--log-level",
        "error",
        "--max-sessions",
        "100000",
    ]);
    // All clients come from loopback, and some fail logins continuously. An early build has no
    // login throttle.
    if help_mentions(program, "--max-failures")? {
        command.args(["--max-failures", "0"]);
    }
    match is_ftp {
        false => command.args(["--listen", "127.0.0.1:0"]),
        // Sessions share these ports. Each port costs a descriptor, so a larger range leaves fewer
        // for sessions.
        true => command.args(["--ftp", "127.0.0.1:0", "--passive-ports", "20000-20499"]),
    };
    Ok(command)
}

fn help_mentions(program: &Path, option: &str) -> io::Result<bool> {
    let output = Command::new(program)
        .args(["serve", "--help"])
        .output()
        .map_err(|error| cannot_start(program, &error))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains(option))
}

/// The error for a program that cannot be started.
pub(crate) fn cannot_start(program: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("cannot start {}: {error}", program.display()),
    )
}

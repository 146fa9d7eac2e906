//! The servers that the bench can start.

use std::str::FromStr;

use crate::client::wire_protocol::WireProtocol;

/// A server that the bench can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerKind {
    /// tidegate, by the menu.
    Tidegate,
    /// An earlier build of tidegate, by the menu.
    Before,
    /// A minimal loop around `sendfile`, part of the bench.
    Baseline,
    /// nginx with one worker and an open-file cache, `sendfile_max_chunk` at its default.
    Nginx,
    /// nginx with `sendfile_max_chunk 256k`.
    NginxChunks,
    /// lighttpd in one process.
    Lighttpd,
    /// tidegate, by FTP.
    TidegateFtp,
    /// An earlier build of tidegate, by FTP.
    BeforeFtp,
    /// vsftpd in its one-process model, which needs anonymous users.
    Vsftpd,
    /// pure-ftpd, two processes per session.
    PureFtpd,
    /// pyftpdlib, one process.
    Pyftpdlib,
}

impl ServerKind {
    const ALL: [ServerKind; 11] = [
        ServerKind::Tidegate,
        ServerKind::Before,
        ServerKind::Baseline,
        ServerKind::Nginx,
        ServerKind::NginxChunks,
        ServerKind::Lighttpd,
        ServerKind::TidegateFtp,
        ServerKind::BeforeFtp,
        ServerKind::Vsftpd,
        ServerKind::PureFtpd,
        ServerKind::Pyftpdlib,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::Tidegate => "tidegate",
            ServerKind::Before => "before",
            ServerKind::Baseline => "baseline",
            ServerKind::Nginx => "nginx",
            ServerKind::NginxChunks => "nginx-256k",
            ServerKind::Lighttpd => "lighttpd",
            ServerKind::TidegateFtp => "tidegate-ftp",
            ServerKind::BeforeFtp => "before-ftp",
            ServerKind::Vsftpd => "vsftpd",
            ServerKind::PureFtpd => "pure-ftpd",
            ServerKind::Pyftpdlib => "pyftpdlib",
        }
    }

    pub(crate) fn protocol(self) -> WireProtocol {
        match self {
            ServerKind::Tidegate | ServerKind::Before => WireProtocol::Menu,
            ServerKind::Baseline
            | ServerKind::Nginx
            | ServerKind::NginxChunks
            | ServerKind::Lighttpd => WireProtocol::HTTP,
            ServerKind::TidegateFtp
            | ServerKind::BeforeFtp
            | ServerKind::PureFtpd
            | ServerKind::Pyftpdlib => WireProtocol::Ftp { anonymous: false },
            ServerKind::Vsftpd => WireProtocol::Ftp { anonymous: true },
        }
    }

    pub(crate) fn is_ftp(self) -> bool {
        matches!(self.protocol(), WireProtocol::Ftp { .. })
    }

    /// Returns whether this is the earlier build given with `--before`.
    pub(crate) fn is_before(self) -> bool {
        matches!(self, ServerKind::Before | ServerKind::BeforeFtp)
    }

    /// Returns the program of a peer, or `None` for tidegate and the baseline.
    pub(crate) fn peer_program(self) -> Option<&'static str> {
        match self {
            ServerKind::Tidegate
            | ServerKind::TidegateFtp
            | ServerKind::Before
            | ServerKind::BeforeFtp
            | ServerKind::Baseline => None,
            ServerKind::Nginx | ServerKind::NginxChunks => Some("/usr/sbin/nginx"),
            ServerKind::Lighttpd => Some("/usr/sbin/lighttpd"),
            ServerKind::Vsftpd => Some("/usr/sbin/vsftpd"),
            ServerKind::PureFtpd => Some(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/bench-peers/pure-ftpd/usr/sbin/pure-ftpd"
            )),
            ServerKind::Pyftpdlib => Some(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/bench-peers/pyftpdlib/bin/python"
            )),
        }
    }
}

impl FromStr for ServerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<ServerKind, String> {
        ServerKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| {
                let names: Vec<&str> = ServerKind::ALL.iter().map(|kind| kind.name()).collect();
                format!(
                    "unknown server '{name}', expected one of {}",
                    names.join(", ")
                )
            })
    }
}

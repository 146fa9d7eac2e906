//! The sets of cases: scenarios as given on the command line, with the servers to measure.

use crate::server::kind::ServerKind;
use crate::server::kind::ServerKind::{
    Baseline, Lighttpd, Nginx, NginxChunks, PureFtpd, Pyftpdlib, Tidegate, TidegateFtp, Vsftpd,
};

/// A scenario with its options, and the servers that it measures.
pub(crate) type CaseDefinition = (&'static str, &'static [ServerKind]);

/// Servers of small downloads, where `sendfile_max_chunk` has no effect.
const SMALL: &[ServerKind] = &[Tidegate, Baseline, Nginx, Lighttpd];
/// Servers of large downloads.
const LARGE: &[ServerKind] = &[Tidegate, Baseline, Nginx, NginxChunks, Lighttpd];
/// Servers that also take uploads.
const COMPLETE: &[ServerKind] = &[Tidegate, Nginx, Lighttpd];
/// FTP servers.
const FTP_SERVERS: &[ServerKind] = &[TidegateFtp, Vsftpd, PureFtpd, Pyftpdlib];
/// Servers whose event loop is measured.
const EVENT_LOOPS: &[ServerKind] = &[Tidegate, Nginx, NginxChunks, Lighttpd];

/// The default set.
pub(crate) const CASES: &[CaseDefinition] = &[
    ("download --sessions 64 --size 1024", SMALL),
    ("download --sessions 1000 --size 1024", SMALL),
    ("download --sessions 64 --size 16384", SMALL),
    ("download --sessions 64 --size 65536", SMALL),
    ("download --sessions 1 --size 10485760", LARGE),
    ("download --sessions 10 --size 10485760", LARGE),
    ("download --sessions 100 --size 10485760", LARGE),
    ("download --sessions 1000 --size 10485760", LARGE),
    ("download --sessions 1 --size 10485760 --discard", LARGE),
    ("download --sessions 100 --size 10485760 --discard", LARGE),
    ("upload --sessions 1 --folder /dev/shm", COMPLETE),
    ("upload --sessions 100 --folder /dev/shm", COMPLETE),
    ("login --concurrency 64", COMPLETE),
    ("login --concurrency 64 --cold", &[Tidegate]),
    ("idle --sessions 9000", COMPLETE),
    ("churn", EVENT_LOOPS),
    ("latency", EVENT_LOOPS),
    ("latency --greedy 100", EVENT_LOOPS),
    ("latency --slow 1000", EVENT_LOOPS),
    ("latency --stalled 1000 --greedy 10", EVENT_LOOPS),
    ("latency --listing 2", &[Tidegate]),
    ("cold --folder /var/tmp", EVENT_LOOPS),
];

/// The set of `--ftp`. A download is EPSV, a data connection, RETR and the 226 reply; a login is
/// USER, PASS, TYPE and QUIT.
pub(crate) const FTP_CASES: &[CaseDefinition] = &[
    ("download --sessions 64 --size 1024", FTP_SERVERS),
    ("download --sessions 1 --size 10485760", FTP_SERVERS),
    ("download --sessions 100 --size 10485760", FTP_SERVERS),
    ("download --sessions 1000 --size 10485760", FTP_SERVERS),
    ("upload --sessions 1 --folder /dev/shm", FTP_SERVERS),
    ("upload --sessions 100 --folder /dev/shm", FTP_SERVERS),
    ("login --concurrency 64", FTP_SERVERS),
    ("idle --sessions 9000", &[TidegateFtp, Pyftpdlib]),
    ("idle --sessions 200", &[Vsftpd, PureFtpd]),
];

/// Additional cases of `--full`, which need much time or memory.
pub(crate) const FULL_CASES: &[CaseDefinition] = &[
    ("download --sessions 1000 --size 65536", SMALL),
    ("download --sessions 1 --size 1073741824", LARGE),
    (
        "download --sessions 9000 --size 65536 --receive-buffer 32768",
        COMPLETE,
    ),
    ("download --sessions 19000 --size 1024", &[Tidegate]),
    ("upload --sessions 1 --folder /var/tmp", COMPLETE),
    ("latency --failing 50", &[Tidegate]),
    ("latency --greedy 100 --failing 50", &[Tidegate]),
];

/// Returns the static name of a case in any set.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    [CASES, FULL_CASES, FTP_CASES]
        .into_iter()
        .flatten()
        .map(|(case, _)| *case)
        .find(|case| *case == name)
}

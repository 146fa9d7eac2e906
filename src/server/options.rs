//! The options of a running server, as the operator set them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{FAILURE_WINDOW, FAILURES_MAX, SESSIONS_MAX};
use crate::server::log::transfer_log::TransferLog;

/// What an operator may set.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ask every name for a password, so that nobody learns which exist.
    pub hide_usernames: bool,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Sessions at once from one address; 0 is no limit.
    pub max_per_address: usize,
    /// Failed logins of one user from one address after which they are turned away; 0 is no limit.
    pub max_failures: u32,
    /// How long a failed login counts.
    pub failure_window: Duration,
    /// How long no byte may move.
    pub idle_timeout: Duration,
    /// How long a connection may take to log in.
    pub login_timeout: Duration,
    /// Bytes a second that a transfer has to move; 0 is no floor.
    pub min_rate: u64,
    /// Bytes a second of all who have logged in, both ways together.
    pub max_rate: Option<u64>,
    /// Bytes of the largest upload.
    pub max_upload: Option<u64>,
    /// Bytes that uploads leave free in a file system.
    pub keep_free: u64,
    /// How long a stop waits for work to be finished.
    pub drain_timeout: Duration,
    /// The first and the last port at which FTP's clients are awaited; without them the system chooses one each time.
    pub passive_ports: Option<(u16, u16)>,
    /// What FTP's clients over IPv4 are told to come to, where it is another address than the one that they came to.
    pub passive_address: Option<Ipv4Addr>,
    /// Where transfers are logged.
    pub xferlog: Option<Arc<TransferLog>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hide_usernames: false,
            max_sessions: SESSIONS_MAX,
            max_per_address: 0,
            max_failures: FAILURES_MAX,
            failure_window: FAILURE_WINDOW,
            idle_timeout: Duration::from_secs(300),
            login_timeout: Duration::from_secs(60),
            min_rate: 0,
            max_rate: None,
            max_upload: None,
            keep_free: 0,
            drain_timeout: Duration::from_secs(30),
            passive_ports: None,
            passive_address: None,
            xferlog: None,
        }
    }
}

//! The options of a running server, as the operator set them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{DISK_TIMEOUT, FAILURE_WINDOW, FAILURES_MAX, SESSIONS_MAX};
use crate::server::log::transfer_log::TransferLog;

/// The options of `tidegate serve` that the server itself needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Ask for a password whatever the username, so that clients cannot find out which users exist.
    pub hide_usernames: bool,
    /// Maximum concurrent sessions.
    pub max_sessions: usize,
    /// Maximum concurrent sessions per client address; 0 for no limit.
    pub max_per_address: usize,
    /// Failed logins of one user from one address before that pair is blocked; 0 for no limit.
    pub max_failures: u32,
    /// Time for which a failed login counts.
    pub failure_window: Duration,
    /// Time without traffic after which a session ends.
    pub idle_timeout: Duration,
    /// Time within which a client must log in.
    pub login_timeout: Duration,
    /// Minimum rate of a transfer in bytes per second; 0 for no minimum.
    pub min_rate: u64,
    /// Maximum rate of all logged-in users together, both directions, in bytes per second.
    pub max_rate: Option<u64>,
    /// Maximum size of an upload in bytes.
    pub max_upload: Option<u64>,
    /// Bytes that uploads leave free on a file system.
    pub keep_free: u64,
    /// Time after which a call on a file system that has not returned makes its device stuck.
    pub disk_timeout: Duration,
    /// Time that a graceful shutdown allows for transfers to finish.
    pub drain_timeout: Duration,
    /// First and last port of the range for passive data connections; `None` for ports chosen by
    /// the system.
    pub passive_ports: Option<(u16, u16)>,
    /// IPv4 address announced to FTP clients for data connections, where it differs from the
    /// address that they connected to (NAT).
    pub passive_address: Option<Ipv4Addr>,
    /// Publish an FTP upload whose client closes both connections without waiting for the reply.
    pub trust_close: bool,
    /// The transfer log, if there is one.
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
            disk_timeout: DISK_TIMEOUT,
            drain_timeout: Duration::from_secs(30),
            passive_ports: None,
            passive_address: None,
            trust_close: false,
            xferlog: None,
        }
    }
}

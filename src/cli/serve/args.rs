//! The options of `tidegate serve`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use log::LevelFilter;

use crate::cli::values;
use crate::limits;
use crate::process::sandbox::rules::SandboxMode;
use crate::protocol::ftp::active_mode::ActiveMode;
use crate::protocol::ftp::session::FtpSettings;
use crate::protocol::session::Dialect;
use crate::server::log::Format;
use crate::server::{Options, TransferLog};

/// run the server
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "serve", help_triggers("-h", "--help"))]
pub(crate) struct ServeArgs {
    /// the home: a directory with the files Credentials and Directories
    #[argh(positional, from_str_fn(values::home))]
    pub(super) home: PathBuf,

    /// address of a menu listener: ADDR:PORT, HOST:PORT, :PORT (all addresses) or PORT (loopback);
    /// repeatable; port 0 lets the system choose (default without --ftp: 127.0.0.1:2100)
    #[argh(option, arg_name = "addr:port", from_str_fn(values::listen_address))]
    listen: Vec<SocketAddr>,

    /// address of an FTP listener, in the same forms; repeatable; port 0 lets the system choose
    #[argh(option, arg_name = "addr:port", from_str_fn(values::listen_address))]
    ftp: Vec<SocketAddr>,

    /// port range for passive FTP data connections (default: ports chosen by the system)
    #[argh(option, arg_name = "low-high", from_str_fn(values::ports))]
    passive_ports: Option<(u16, u16)>,

    /// the IPv4 address announced for passive FTP data connections, for servers behind NAT
    /// (default: the address that the client connected to)
    #[argh(option, arg_name = "addr", from_str_fn(values::ipv4_address))]
    passive_address: Option<Ipv4Addr>,

    /// refuse active FTP data connections (PORT and EPRT)
    #[argh(switch)]
    pub(super) no_active_ftp: bool,

    /// allow active FTP data connections to clients on the server's own machine (default: only if
    /// every FTP listener has a loopback address)
    #[argh(switch)]
    pub(super) allow_loopback_active: bool,

    /// keep an FTP upload whose client closes its connections without waiting for the reply, as
    /// some cameras do; an upload cut off by a crash of its client is then kept, too
    #[argh(switch)]
    trust_close: bool,

    /// ask for a password whether or not the user exists
    #[argh(switch)]
    hide_usernames: bool,

    /// maximum concurrent sessions; capped by RLIMIT_NOFILE, a share of which is reserved for open
    /// files and data connections (default: 10000)
    #[argh(option, arg_name = "n", from_str_fn(values::from_one))]
    pub(super) max_sessions: Option<usize>,

    /// maximum concurrent sessions per client address (IPv6: per /64 prefix); 0 is unlimited
    /// (default: 0)
    #[argh(option, arg_name = "n", default = "0", from_str_fn(values::number))]
    max_per_address: usize,

    /// failed logins of a user from one address before this pair is blocked for a time; twice as
    /// many block the whole address; 0 never blocks (default: 10)
    #[argh(
        option,
        arg_name = "n",
        default = "limits::FAILURES_MAX",
        from_str_fn(values::number)
    )]
    max_failures: u32,

    /// seconds for which a failed login counts (default: 300)
    #[argh(
        option,
        arg_name = "seconds",
        default = "limits::FAILURE_WINDOW",
        from_str_fn(values::seconds_from_one)
    )]
    failure_window: Duration,

    /// seconds without traffic after which a session ends (default: 300)
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(300)",
        from_str_fn(values::seconds_from_one)
    )]
    idle_timeout: Duration,

    /// seconds within which a client must log in (default: 60)
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(60)",
        from_str_fn(values::seconds_from_one)
    )]
    login_timeout: Duration,

    /// minimum bytes per second of a transfer, averaged over a minute; slower connections are
    /// closed; 0 is no minimum (default: 0)
    #[argh(option, arg_name = "bytes", default = "0", from_str_fn(values::bytes))]
    min_rate: u64,

    /// maximum bytes per second of all logged-in users together, both directions (default:
    /// unlimited)
    #[argh(option, arg_name = "bytes", from_str_fn(values::bytes_from_one))]
    max_rate: Option<u64>,

    /// maximum size of an upload, such as 10M or 10MiB (default: unlimited)
    #[argh(option, arg_name = "bytes", from_str_fn(values::bytes))]
    max_upload: Option<u64>,

    /// bytes that uploads leave free on a file system, such as 1G (default: 0)
    #[argh(option, arg_name = "bytes", default = "0", from_str_fn(values::bytes))]
    keep_free: u64,

    /// seconds after which a file system that does not answer is treated as stuck: requests to it
    /// fail at once until it answers again (default: 10)
    #[argh(
        option,
        arg_name = "seconds",
        default = "limits::DISK_TIMEOUT",
        from_str_fn(values::seconds_from_one)
    )]
    disk_timeout: Duration,

    /// seconds that a graceful shutdown allows for transfers to finish (default: 30)
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(30)",
        from_str_fn(values::seconds)
    )]
    drain_timeout: Duration,

    /// an additional pid file, locked while the server runs
    #[argh(option, arg_name = "file")]
    pub(super) pid_file: Option<PathBuf>,

    /// directory of the pid file, lock and control socket; a second server needs another one
    /// (default: TIDEGATE_RUN_DIR, or else the home)
    #[argh(option, arg_name = "dir", from_str_fn(values::directory_path))]
    pub(super) run_dir: Option<PathBuf>,

    /// take over the listeners of the running server of this run directory, which then finishes its
    /// sessions and exits
    #[argh(switch)]
    pub(super) take_over: bool,

    /// user that a server started by root changes to: a name, UID or UID:GID (default: the owner of
    /// the home)
    #[argh(option, arg_name = "name")]
    pub(super) user: Option<String>,

    /// permissions that new files and directories do not get (default: the inherited umask with 022
    /// added)
    #[argh(option, arg_name = "octal", from_str_fn(values::umask))]
    pub(super) umask: Option<u32>,

    /// sandbox: off, try (as much as the kernel supports) or require (all of it, or the server does
    /// not start) (default: try)
    #[argh(
        option,
        arg_name = "mode",
        default = "SandboxMode::Try",
        from_str_fn(sandbox_mode)
    )]
    pub(super) sandbox: SandboxMode,

    /// lowest level to log: error, warn, info or debug (default: info)
    #[argh(
        option,
        arg_name = "level",
        default = "LevelFilter::Info",
        from_str_fn(level)
    )]
    pub(super) log_level: LevelFilter,

    /// format of the log: text or json (default: text)
    #[argh(
        option,
        arg_name = "format",
        default = "Format::Text",
        from_str_fn(format)
    )]
    pub(super) log_format: Format,

    /// a file for a transfer log in xferlog format; SIGHUP reopens it
    #[argh(option, arg_name = "file")]
    pub(super) xferlog: Option<PathBuf>,
}

impl ServeArgs {
    /// The addresses to listen on, each with its dialect.
    pub(super) fn addresses(&self) -> Vec<(SocketAddr, Dialect)> {
        let menu = self.listen.iter().map(|address| (*address, Dialect::Menu));
        let ftp = self.ftp.iter();
        menu.chain(ftp.map(|address| (*address, self.ftp_dialect())))
            .collect()
    }

    pub(super) fn ftp_dialect(&self) -> Dialect {
        let active = match self.no_active_ftp {
            true => ActiveMode::Disabled,
            false => ActiveMode::Enabled,
        };
        Dialect::Ftp(FtpSettings { active })
    }

    /// The number of passive ports that stay open.
    pub(super) fn passive_port_count(&self) -> u64 {
        let shared = limits::SHARED_PASSIVE_PORTS as u64;
        self.passive_ports.map_or(shared, |(first, last)| {
            u64::from(last) + 1 - u64::from(first)
        })
    }

    /// Warnings about options that have no effect, or less than they seem to have.
    pub(super) fn warnings(&self, speaks_ftp: bool) -> Vec<String> {
        if speaks_ftp {
            let contradiction = self.no_active_ftp && self.allow_loopback_active;
            let contradiction = contradiction
                .then(|| "--allow-loopback-active has no effect with --no-active-ftp".into());
            let range = self.passive_range_warning();
            return range.into_iter().chain(contradiction).collect();
        }
        let given = [
            (self.passive_ports.is_some(), "--passive-ports"),
            (self.passive_address.is_some(), "--passive-address"),
            (self.no_active_ftp, "--no-active-ftp"),
            (self.allow_loopback_active, "--allow-loopback-active"),
            (self.trust_close, "--trust-close"),
        ];
        let given = given.iter().filter(|(is_given, _)| *is_given);
        let warning = |(_, option): &(bool, &str)| {
            format!("{option} has no effect without FTP; add --ftp ADDR:PORT")
        };
        given.map(warning).collect()
    }

    /// One port serves one transfer of each client address at a time.
    fn passive_range_warning(&self) -> Option<String> {
        let (low, high) = self.passive_ports?;
        let ports = self.passive_port_count();
        let (sessions, whose) = match (self.max_per_address, self.max_sessions) {
            (0, None) => (limits::PASSIVE_PORTS_ADVISED, "set --max-per-address"),
            (0, Some(limit)) => (limit, "lower --max-sessions"),
            (limit, _) => (limit, "lower --max-per-address"),
        };
        (ports < sessions as u64).then(|| {
            let noun = if ports == 1 { "port" } else { "ports" };
            format!(
                "--passive-ports {low}-{high} has {ports} {noun}, and each session of one client \
                 address needs its own for a transfer; widen it to {sessions} ports or {whose}"
            )
        })
    }

    /// The options of the server itself.
    pub(super) fn into_options(self, xferlog: Option<Arc<TransferLog>>) -> Options {
        Options {
            hide_usernames: self.hide_usernames,
            max_sessions: self.max_sessions.unwrap_or(limits::SESSIONS_MAX),
            max_per_address: self.max_per_address,
            max_failures: self.max_failures,
            failure_window: self.failure_window,
            idle_timeout: self.idle_timeout,
            login_timeout: self.login_timeout,
            min_rate: self.min_rate,
            max_rate: self.max_rate,
            max_upload: self.max_upload,
            keep_free: self.keep_free,
            disk_timeout: self.disk_timeout,
            drain_timeout: self.drain_timeout,
            passive_ports: self.passive_ports,
            passive_address: self.passive_address,
            trust_close: self.trust_close,
            xferlog,
        }
    }
}

fn format(value: &str) -> Result<Format, String> {
    match value {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("expected text or json".into()),
    }
}

fn sandbox_mode(value: &str) -> Result<SandboxMode, String> {
    value.parse()
}

fn level(value: &str) -> Result<LevelFilter, String> {
    match value {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        _ => Err("expected error, warn, info or debug".into()),
    }
}

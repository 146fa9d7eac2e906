//! `tidegate serve`: the server.

mod handover;

use std::io;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::serve::handover::{Handover, Listening};
use crate::cli::{Failure, values};
use crate::config::Home;
use crate::config::sandbox_scope::SandboxScope;
use crate::kernel::linux;
use crate::kernel::linux::Linux;
use crate::limits;
use crate::process::sandbox::{Demand, Reach, Sandbox, become_user};
use crate::process::systemd::Supervisor;
use crate::protocol::ftp::session;
use crate::protocol::session::Dialect;
use crate::server;
use crate::server::log::{Escaped, Format};
use crate::server::{Options, Stopped, TransferLog};

/// How long the end waits for somebody to read the rest of the log.
const LOG_PATIENCE: Duration = Duration::from_millis(500);

/// serve a home to everybody whom it lets in
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "serve", help_triggers("-h", "--help"))]
pub(crate) struct Serve {
    /// the home: a folder with the files Credentials and Directories
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,

    /// where to listen for the menu, as ADDR:PORT; may be given again; 127.0.0.1:2100 if neither this nor --ftp is given; a port 0
    /// is chosen by the system
    #[argh(option, arg_name = "addr:port")]
    listen: Vec<SocketAddr>,

    /// where to listen for FTP, as ADDR:PORT; may be given again
    #[argh(option, arg_name = "addr:port")]
    ftp: Vec<SocketAddr>,

    /// ports at which FTP's clients are awaited for their data, as LOW-HIGH; the system's choice if not given
    #[argh(option, arg_name = "low-high", from_str_fn(values::ports))]
    passive_ports: Option<(u16, u16)>,

    /// the IPv4 address at which FTP's clients are told to come for their data; the one that they came to if not given
    #[argh(option, arg_name = "addr")]
    passive_address: Option<Ipv4Addr>,

    /// never connect to FTP's clients, even where they ask for it by PORT or EPRT
    #[argh(switch)]
    no_active_ftp: bool,

    /// ask for a password whether or not there is such a user
    #[argh(switch)]
    hide_usernames: bool,

    /// sessions at once; 10000 if not given, less where the limit of open files is lower
    #[argh(option, arg_name = "n", from_str_fn(values::from_one))]
    max_sessions: Option<usize>,

    /// sessions at once from one address (of IPv6, one /64); 0, which is no limit, if not given
    #[argh(option, arg_name = "n", default = "0")]
    max_per_address: usize,

    /// failed logins of a user from one address after which they are turned away for a while, and all from that address after twice
    /// as many; 0 turns nobody away; 10 if not given
    #[argh(option, arg_name = "n", default = "limits::FAILURES_MAX")]
    max_failures: u32,

    /// seconds that a failed login counts; 300 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "limits::FAILURE_WINDOW",
        from_str_fn(values::seconds_from_one)
    )]
    failure_window: Duration,

    /// seconds without a byte either way after which a session ends; 300 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(300)",
        from_str_fn(values::seconds_from_one)
    )]
    idle_timeout: Duration,

    /// seconds that a login may take; 60 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(60)",
        from_str_fn(values::seconds_from_one)
    )]
    login_timeout: Duration,

    /// bytes a second that a transfer has to move over a minute, or the connection closes; 0, which is no floor, if not given
    #[argh(option, arg_name = "bytes", default = "0", from_str_fn(values::bytes))]
    min_rate: u64,

    /// bytes a second of all who have logged in, both ways together; no limit if not given
    #[argh(option, arg_name = "bytes", from_str_fn(values::bytes_from_one))]
    max_rate: Option<u64>,

    /// bytes of the largest upload, such as 10M or 10MiB; no limit if not given
    #[argh(option, arg_name = "bytes", from_str_fn(values::bytes))]
    max_upload: Option<u64>,

    /// bytes that uploads leave free in a file system, such as 1G; 0 if not given
    #[argh(option, arg_name = "bytes", default = "0", from_str_fn(values::bytes))]
    keep_free: u64,

    /// seconds that a stopping server grants to what is under way; 30 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(30)",
        from_str_fn(values::seconds)
    )]
    drain_timeout: Duration,

    /// a file for the process id, locked while the server runs, beside the home's own
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,

    /// take the listeners of the server that runs over this home, which lets its sessions end and then ends
    #[argh(switch)]
    take_over: bool,

    /// the user that a server which root starts becomes; the owner of the home if not given
    #[argh(option, arg_name = "name")]
    user: Option<String>,

    /// how far the server closes itself in: off, try (as far as the kernel can) or require (or it does not start); try if not given
    #[argh(
        option,
        arg_name = "demand",
        default = "Demand::Try",
        from_str_fn(demand)
    )]
    sandbox: Demand,

    /// the least that is logged: error, warn, info or debug; info if not given
    #[argh(
        option,
        arg_name = "level",
        default = "log::LevelFilter::Info",
        from_str_fn(level)
    )]
    log_level: log::LevelFilter,

    /// how the log is written: text or json; text if not given
    #[argh(
        option,
        arg_name = "format",
        default = "Format::Text",
        from_str_fn(format)
    )]
    log_format: Format,

    /// a file for a line a transfer, in the form of xferlog; opened anew on SIGHUP
    #[argh(option, arg_name = "file")]
    xferlog: Option<PathBuf>,
}

impl Serve {
    pub(crate) fn run(mut self) -> Result<ExitCode, Failure> {
        let (mut home, mut warn_of) = Home::load(&self.home)?;
        let cannot_start = |error: io::Error| Failure::new(format!("cannot start: {error}"));
        let failed = |error: io::Error| Failure::new(error.to_string());
        // The kernel blocks the signals that it watches, which must be before the log's thread is started.
        let mut kernel = Linux::new().map_err(cannot_start)?;
        kernel.report_to(Supervisor::of_environment().map_err(cannot_start)?);
        let mut succession = Handover::of(&self.home, self.take_over).map_err(failed)?;
        let listeners = succession
            .listeners(&kernel, self.addresses(), self.ftp_dialect())
            .map_err(failed)?;
        let speaks_ftp = listeners
            .iter()
            .any(|(_, dialect)| *dialect != Dialect::Menu);
        warn_of.extend(self.fit_sessions(speaks_ftp).map_err(cannot_start)?);

        // From here on with the powers of the user alone, who has to be able to read the home.
        let user = become_user(self.user.as_deref(), &self.home).map_err(cannot_start)?;
        if user.has_changed() {
            (home, _) = Home::load(&self.home).map_err(|faults| {
                Failure::from(faults).and(format!("the server would run as {user}"))
            })?;
        }
        if user.is_root() {
            warn_of.push(
                "this server runs AS ROOT, since its home is root's: whoever takes it over has the machine. Give the home \
                 to another user, or name one with --user"
                    .into(),
            );
        }
        succession
            .hold(home.path(), self.pid_file.as_deref())
            .map_err(failed)?;
        succession.prepare(&kernel, &listeners).map_err(failed)?;
        warn_of.extend(succession.take_warnings());
        let reach = Reach {
            read: home.readable_paths(),
            write: home.writable_paths(),
            log: Vec::from_iter(self.xferlog.as_deref().map(folder_of)),
            listen: speaks_ftp,
            connect: speaks_ftp && !self.no_active_ftp,
        };
        let fence = SandboxScope::new(&reach.read, &reach.write);
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let mut sandbox = Sandbox::new(self.sandbox, reach, user).map_err(failed)?;
        warn_of.extend(sandbox.close_files().map_err(failed)?);
        if sandbox.holds_files() {
            home.set_sandbox_scope(Arc::new(fence));
        }

        let log = server::log::start(self.log_level, self.log_format).map_err(cannot_start)?;
        for what in warn_of {
            warn(&what);
        }
        let stopped = self.serve(kernel, home, listeners, processors, succession, sandbox);
        log.flush(LOG_PATIENCE);
        match stopped.map_err(failed)? {
            Stopped::Drained => Ok(ExitCode::SUCCESS),
            Stopped::AtOnce => Ok(ExitCode::FAILURE),
        }
    }

    fn serve(
        self,
        kernel: Linux,
        home: Home,
        listeners: Vec<Listening>,
        processors: usize,
        mut succession: Handover,
        mut sandbox: Sandbox,
    ) -> io::Result<Stopped> {
        let xferlog = match &self.xferlog {
            None => None,
            Some(path) => {
                let say = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                Some(Arc::new(TransferLog::open(path).map_err(say)?))
            }
        };
        let options = Options {
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
            drain_timeout: self.drain_timeout,
            passive_ports: self.passive_ports,
            passive_address: self.passive_address,
            xferlog,
        };
        let dialects: Vec<Dialect> = listeners.iter().map(|(_, dialect)| *dialect).collect();
        let (mut event_loop, listening) =
            server::start(kernel, home, options, listeners, processors)?;
        for address in &listening {
            if !address.ip().to_canonical().is_loopback() {
                warn(&format!(
                    "{address} can be reached from other machines, and passwords go over it in clear"
                ));
            }
        }
        // Every thread runs by now.
        for what in sandbox.close_calls()? {
            warn(&what);
        }
        log::info!("event=sandbox {sandbox}");
        for what in succession.complete() {
            warn(&what);
        }
        announce(listening.iter().zip(dialects))?;
        let stopped = event_loop.run()?;
        succession.end();
        if stopped == Stopped::AtOnce {
            // Its drop would wait for what the workers are at, such as a disk that hangs. The end of the process does not.
            std::mem::forget(event_loop);
        }
        Ok(stopped)
    }

    /// Where to listen as the options have it, each place with what is spoken there.
    fn addresses(&self) -> Vec<(SocketAddr, Dialect)> {
        let menu = self.listen.iter().map(|address| (*address, Dialect::Menu));
        let ftp = self
            .ftp
            .iter()
            .map(|address| (*address, self.ftp_dialect()));
        menu.chain(ftp).collect()
    }

    fn ftp_dialect(&self) -> Dialect {
        let active = !self.no_active_ftp;
        Dialect::Ftp(session::FtpSettings { active })
    }

    /// Raises the limit of open files and fits the sessions to it; what is to be told where those are fewer.
    fn fit_sessions(&mut self, speaks_ftp: bool) -> io::Result<Option<String>> {
        let descriptors = linux::raise_descriptor_limit()?;
        let ports = |(first, last): (u16, u16)| u64::from(last) + 1 - u64::from(first);
        let passive = speaks_ftp.then(|| self.passive_ports.map_or(0, ports));
        let fitted = server::fit_sessions(self.max_sessions, descriptors, passive);
        let fewer = fitted < self.max_sessions.unwrap_or(limits::SESSIONS_MAX);
        self.max_sessions = Some(fitted);
        Ok(fewer.then(|| {
            format!(
                "at most {fitted} sessions at once, since at most {descriptors} files may be open"
            )
        }))
    }
}

/// Says, a line each, that connections can come.
fn announce<'a>(listening: impl Iterator<Item = (&'a SocketAddr, Dialect)>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (address, dialect) in listening {
        let name = match dialect {
            Dialect::Menu => "menu",
            Dialect::Ftp(_) => "ftp",
        };
        writeln!(out, "listening on {address} ({name})")?;
    }
    out.flush()
}

/// Tells the operator by the log of what is no fault and yet hardly meant.
fn warn(what: &str) {
    log::warn!("event=warning what={}", Escaped(what));
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

fn format(value: &str) -> Result<Format, String> {
    match value {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        _ => Err("expected text or json".into()),
    }
}

fn demand(value: &str) -> Result<Demand, String> {
    value.parse()
}

fn level(value: &str) -> Result<log::LevelFilter, String> {
    match value {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        _ => Err("expected error, warn, info or debug".into()),
    }
}

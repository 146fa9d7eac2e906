//! `tidegate serve`: runs the server.
//!
//! The order of a start matters, because each step gives up privileges that earlier ones need: read
//! the home and open the listeners, change the user, lock the pid files, restrict the files, start
//! the threads, restrict the system calls, serve.

mod args;
mod listeners;

use std::collections::HashSet;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

pub(crate) use crate::cli::serve::args::ServeArgs;

use crate::cli::failure::Failure;
use crate::cli::run_dir::run_dir;
use crate::cli::serve::listeners::{Listening, announce, name_of};
use crate::config::Home;
use crate::config::permissions::write_warnings;
use crate::config::sandbox_scope::SandboxScope;
use crate::domain::io_reason::io_reason;
use crate::kernel::linux::Linux;
use crate::kernel::{Kernel, linux};
use crate::limits::SESSIONS_MAX;
use crate::process::handover::Handover;
use crate::process::sandbox::Sandbox;
use crate::process::sandbox::rules::SandboxRules;
use crate::process::silent_directories::silent_directories;
use crate::process::systemd::{Notifier, has_passed_sockets};
use crate::process::user::{ProcessUser, become_user, set_umask};
use crate::protocol::session::Dialect;
use crate::server;
use crate::server::log::Escaped;
use crate::server::{Stopped, TransferLog};

/// Time that the process waits at exit for the log to be written.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Time in which a granted directory has to answer at the start.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that is ready to start its threads.
struct Prepared {
    args: ServeArgs,
    kernel: Linux,
    home: Home,
    listeners: Vec<Listening>,
    handover: Handover,
    sandbox: Sandbox,
    /// The number of processors, which cannot be looked up in the sandbox.
    processors: usize,
}

pub(crate) fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let (level, format) = (args.log_level, args.log_format);
    let (prepared, warnings) = prepare(args)?;
    let log = server::log::start(level, format).map_err(cannot_start)?;
    warnings.iter().for_each(|warning| warn(warning));
    let stopped = serve(prepared);
    log.flush(LOG_FLUSH_TIMEOUT);
    match stopped.map_err(failed)? {
        Stopped::Drained => Ok(ExitCode::SUCCESS),
        Stopped::AtOnce => Ok(ExitCode::FAILURE),
    }
}

fn cannot_start(error: io::Error) -> Failure {
    Failure::new(format!("cannot start: {error}"))
}

fn failed(error: io::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Does everything that must be done before the first thread is started. Returns warnings for the
/// log.
fn prepare(mut args: ServeArgs) -> Result<(Prepared, Vec<String>), Failure> {
    set_umask(args.umask);
    let (home, _) = Home::load_where(&args.home, &|_| false)?;
    // Blocks the signals that it watches; every thread inherits that, the log's too.
    let mut kernel = Linux::new().map_err(cannot_start)?;
    let notifier = Notifier::from_env().map_err(cannot_start)?;
    kernel.on_milestone(Box::new(move |milestone| notifier.notify(milestone)));
    let run_dir = run_dir(args.run_dir.take(), &args.home);
    let mut handover =
        Handover::begin(run_dir.clone(), args.take_over, has_passed_sockets()).map_err(failed)?;
    let mut listeners =
        listeners::open(&kernel, &mut handover, args.addresses(), args.ftp_dialect())
            .map_err(failed)?;
    if !args.allow_loopback_active {
        listeners::restrict_active_mode(&kernel, &mut listeners).map_err(failed)?;
    }
    let speaks_ftp = listeners
        .iter()
        .any(|(_, dialect)| *dialect != Dialect::Menu);
    let mut warnings = args.warnings(speaks_ftp);
    warnings.extend(fit_sessions(&mut args, speaks_ftp).map_err(cannot_start)?);

    let user = become_user(args.user.as_deref(), &args.home).map_err(cannot_start)?;
    let silent = silent_directories(
        home.granted_paths(),
        |path| kernel.mount_of(path),
        LOOK_TIMEOUT,
    );
    let may_look = |path: &Path| !silent.contains(path);
    // Checks that this user can read the home and the granted directories.
    let (mut home, home_warnings) = Home::load_where(&args.home, &may_look)
        .map_err(|faults| Failure::from(faults).and(format!("the server would run as {user}")))?;
    warnings.extend(home_warnings);
    warnings.extend(silent.iter().map(|path| silent_warning(path)));
    warnings.extend(root_warning(&user));
    handover
        .lock_pid_files(args.pid_file.as_deref())
        .map_err(failed)?;
    if run_dir.is_given() {
        warnings.extend(write_warnings(run_dir.path()));
    }
    let offered = listeners.iter();
    let offered = offered.map(|(listener, dialect)| (listener, name_of(*dialect)));
    handover.offer(&kernel, offered).map_err(failed)?;
    warnings.extend(handover.take_warnings());

    let scope = SandboxScope::new(&home.readable_paths(), &home.writable_paths(), &may_look);
    let mut rules = sandbox_rules(&args, &home, speaks_ftp);
    // The home is not among these: its files must outlive a server that an attacker controls.
    rules.remove = Vec::from_iter(run_dir.is_given().then(|| run_dir.path().to_owned()));
    rules.silent = silent;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let mut sandbox = Sandbox::new(args.sandbox, rules, user).map_err(failed)?;
    warnings.extend(sandbox.restrict_files().map_err(failed)?);
    if sandbox.restricts_files() {
        home.set_sandbox_scope(Arc::new(scope));
    }
    let prepared = Prepared {
        args,
        kernel,
        home,
        listeners,
        handover,
        sandbox,
        processors,
    };
    Ok((prepared, warnings))
}

/// Raises the limit of open files and reduces the number of sessions to fit. Returns a
/// warning if that is less than requested.
fn fit_sessions(args: &mut ServeArgs, speaks_ftp: bool) -> io::Result<Option<String>> {
    let descriptors = linux::raise_descriptor_limit()?;
    let passive_ports = speaks_ftp.then(|| args.passive_port_count());
    let fitted = server::fit_sessions(args.max_sessions, descriptors, passive_ports);
    let is_less = fitted < args.max_sessions.unwrap_or(SESSIONS_MAX);
    args.max_sessions = Some(fitted);
    Ok(is_less.then(|| {
        format!(
            "limited to {fitted} concurrent sessions, because at most {descriptors} files may be open"
        )
    }))
}

fn root_warning(user: &ProcessUser) -> Option<String> {
    user.is_root().then(|| {
        "this server runs AS ROOT, because root owns the home: an attacker who controls it \
         controls the machine. Give the home to another user, or name one with --user"
            .into()
    })
}

fn silent_warning(path: &Path) -> String {
    format!(
        "the file system of '{}' does not answer; requests for it fail until it does",
        path.display()
    )
}

fn sandbox_rules(args: &ServeArgs, home: &Home, speaks_ftp: bool) -> SandboxRules {
    SandboxRules {
        read: home.readable_paths(),
        write: home.writable_paths(),
        silent: HashSet::new(),
        remove: Vec::new(),
        log: Vec::from_iter(args.xferlog.as_deref().map(directory_of)),
        listen: speaks_ftp,
        connect: speaks_ftp && !args.no_active_ftp,
    }
}

/// Starts the threads, completes the handover and runs the event loop.
fn serve(prepared: Prepared) -> io::Result<Stopped> {
    let Prepared {
        args,
        kernel,
        home,
        listeners,
        mut handover,
        mut sandbox,
        processors,
    } = prepared;
    let xferlog = args.xferlog.as_deref().map(open_transfer_log).transpose()?;
    let options = args.into_options(xferlog);
    let dialects: Vec<Dialect> = listeners.iter().map(|(_, dialect)| *dialect).collect();
    let (mut event_loop, addresses) = server::start(kernel, home, options, listeners, processors)?;
    for address in &addresses {
        if !address.ip().to_canonical().is_loopback() {
            warn(&format!(
                "{address} is reachable from other machines, and passwords are sent unencrypted"
            ));
        }
    }
    // All threads are running now.
    sandbox.restrict_calls()?.iter().for_each(|what| warn(what));
    log::info!("event=sandbox {sandbox}");
    handover.complete()?;
    announce(addresses.iter().zip(dialects))?;
    let stopped = event_loop.run();
    handover.end();
    let stopped = stopped?;
    if stopped == Stopped::AtOnce {
        // Dropping it would wait for the workers, which may hang on a disk. All sockets are closed.
        std::mem::forget(event_loop);
    }
    Ok(stopped)
}

fn open_transfer_log(path: &Path) -> io::Result<Arc<TransferLog>> {
    let log = TransferLog::open(path).map_err(|error| {
        let (shown, reason) = (path.display(), io_reason(&error));
        let what = format!(
            "cannot open the transfer log {shown}: {reason}; create its directory, or choose \
             another file with --xferlog"
        );
        io::Error::new(error.kind(), what)
    })?;
    Ok(Arc::new(log))
}

/// The directory of a file.
fn directory_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(directory) if directory != Path::new("") => directory.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Logs a warning for the operator.
fn warn(what: &str) {
    log::warn!("event=warning what={}", Escaped(what));
}

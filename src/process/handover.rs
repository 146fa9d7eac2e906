//! The run directory of this process, and the handover from one server process to the next:
//! listeners, pid files and the control socket.
//!
//! A server started with `--take-over` connects to the running one, inherits its listeners, and
//! serves once that one has released its locks. Every server offers its own listeners to the one
//! after it. Any other second server in a run directory is refused.

use std::fmt::Display;
use std::fs;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use crate::domain::io_reason::io_reason;
use crate::kernel::linux::Linux;
use crate::process::control::predecessor::Predecessor;
use crate::process::control::server;
use crate::process::control::server::ControlSocket;
use crate::process::held_files::HeldFiles;
use crate::process::pid_file::{PidFile, UnlockedPidFile};
use crate::process::run_dir::RunDir;

/// The locks and sockets that a server process holds, and its relation to the processes before and
/// after it.
pub struct Handover {
    run_dir: RunDir,
    /// The running server, until it is relieved.
    predecessor: Option<Predecessor>,
    /// Whether the service manager has passed sockets, so that a second server is intended.
    has_passed_sockets: bool,
    /// The control socket, until it is polled.
    control: Option<UnixListener>,
    /// Whether this process has bound the control socket, or has received it.
    owns_control: bool,
    /// The pid files that the predecessor has locked.
    awaited: Vec<UnlockedPidFile>,
    held: HeldFiles,
    /// Warnings from before the log was started.
    warnings: Vec<String>,
}

impl Handover {
    /// Begins a start: with `take_over`, connects to the running server.
    ///
    /// # Errors
    /// With `take_over` if no server answers or it refuses; without it, if a server uses the run
    /// directory and `has_passed_sockets` is false.
    pub fn begin(
        run_dir: RunDir,
        take_over: bool,
        has_passed_sockets: bool,
    ) -> io::Result<Handover> {
        if !take_over && !has_passed_sockets && run_dir.is_in_use() {
            return Err(already_running(&run_dir));
        }
        let connect = || {
            let path = run_dir.control_socket();
            Predecessor::connect(&path).map_err(|error| {
                let what = format!(
                    "cannot take over from a running server: {}: {}; start without \
                     --take-over if none is running",
                    path.display(),
                    io_reason(&error)
                );
                io::Error::new(error.kind(), what)
            })
        };
        Ok(Handover {
            predecessor: take_over.then(connect).transpose()?,
            run_dir,
            has_passed_sockets,
            control: None,
            owns_control: false,
            awaited: Vec::new(),
            held: HeldFiles::default(),
            warnings: Vec::new(),
        })
    }

    /// The addresses and dialects of the predecessor's listeners; `None` without a predecessor.
    pub fn inherited_addresses(&self) -> Option<Vec<(SocketAddr, String)>> {
        let addresses = self.predecessor.as_ref()?.addresses();
        let addresses = addresses.map(|(address, dialect)| (address, dialect.to_owned()));
        Some(addresses.collect())
    }

    /// Returns the predecessor's listener with this address and dialect.
    pub fn claim(&mut self, address: SocketAddr, dialect: &str) -> Option<OwnedFd> {
        self.predecessor.as_mut()?.claim(address, dialect)
    }

    /// Locks the pid file of the run directory and the one of `--pid-file`, and binds the control
    /// socket. Prepares for it only while the predecessor holds the locks. Called as the user of
    /// the server and before the sandbox is entered.
    ///
    /// # Errors
    /// If another server has locked a file. If a file cannot be created, unless it is in the home
    /// and the run directory was not given: then it is a warning.
    pub fn lock_pid_files(&mut self, pid_file: Option<&Path>) -> io::Result<()> {
        let own = self.run_dir.pid_file();
        match self.lock_run_dir(&own) {
            Err(error) if self.run_dir.is_given() => {
                let path = self.run_dir.path().display();
                return Err(io::Error::new(
                    error.kind(),
                    format!(
                        "cannot use the run directory {path}: {}; give it to the server's user, \
                         or choose another one with --run-dir",
                        io_reason(&error)
                    ),
                ));
            }
            Err(error) => self.warnings.push(format!(
                "no command can reach this server, because {}: {}; choose a run directory with \
                 --run-dir",
                own.display(),
                io_reason(&error)
            )),
            Ok(true) => {}
            Ok(false) if self.has_passed_sockets => self.warnings.push(format!(
                "another server keeps {}, so no command can reach this one; choose another run \
                 directory with --run-dir",
                own.display()
            )),
            Ok(false) => return Err(already_running(&self.run_dir)),
        }
        let Some(path) = pid_file.filter(|path| *path != own) else {
            return Ok(());
        };
        let failed = |what: &dyn Display| io::Error::other(format!("{}: {what}", path.display()));
        if self.predecessor.is_some() {
            let opened = UnlockedPidFile::open(path).map_err(|error| failed(&io_reason(&error)))?;
            self.awaited.push(opened);
            return Ok(());
        }
        let file = PidFile::lock(path).map_err(|error| failed(&io_reason(&error)))?;
        let file = file.ok_or_else(|| failed(&"another process has locked the pid file"))?;
        self.held.push(file);
        Ok(())
    }

    /// Returns whether the run directory is free for this server.
    fn lock_run_dir(&mut self, own: &Path) -> io::Result<bool> {
        if let Some(predecessor) = &self.predecessor {
            self.control = Some(predecessor.control_socket()?);
            self.owns_control = true;
            self.awaited.push(UnlockedPidFile::open(own)?);
            return Ok(true);
        }
        self.run_dir.create()?;
        let Some(file) = PidFile::lock(own)? else {
            return Ok(false);
        };
        self.held.push(file);
        let path = self.run_dir.control_socket();
        match server::bind(&path) {
            Ok(socket) => {
                self.control = Some(socket);
                self.owns_control = true;
            }
            Err(error) if self.run_dir.is_given() => return Err(error),
            Err(error) => self.warnings.push(format!(
                "no command can reach this server, because {}: {}; choose a run directory with \
                 --run-dir",
                path.display(),
                io_reason(&error)
            )),
        }
        Ok(true)
    }

    /// Returns the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        mem::take(&mut self.warnings)
    }

    /// Answers requests on the control socket from now on, and offers the listeners, each with its
    /// dialect, to the next server.
    pub fn offer<'a, L: AsRawFd + Send + Sync + 'static>(
        &mut self,
        kernel: &Linux,
        listeners: impl Iterator<Item = (&'a Arc<L>, &'static str)>,
    ) -> io::Result<()> {
        let Some(control) = self.control.take() else {
            return Ok(());
        };
        let listeners = listeners
            .map(|(listener, dialect)| (Arc::downgrade(listener), dialect))
            .collect();
        let fd = control.as_raw_fd();
        let socket = ControlSocket::new(control, listeners, self.held.clone())?;
        kernel.set_control(&fd, Box::new(socket))
    }

    /// Completes the handover from the predecessor when this server is ready: relieves it and locks
    /// the pid files.
    ///
    /// # Errors
    /// If the predecessor goes on serving, or another server was faster. This one must not serve
    /// then.
    pub fn complete(&mut self) -> io::Result<()> {
        let Some(predecessor) = self.predecessor.take() else {
            return Ok(());
        };
        let control = self.owns_control;
        self.owns_control = false;
        predecessor.relieve().map_err(|error| {
            let reason = io_reason(&error);
            let what = format!("the running server has not handed over: {reason}");
            io::Error::new(error.kind(), what)
        })?;
        for file in mem::take(&mut self.awaited) {
            match file.lock()? {
                Some(file) => self.held.push(file),
                None => return Err(already_running(&self.run_dir)),
            }
        }
        self.owns_control = control;
        log::info!("event=take-over result=done");
        Ok(())
    }

    /// Removes the pid files and the control socket and releases the locks, at the end of the
    /// process. After a handover to another server there is nothing to remove.
    pub fn end(&self) {
        if self.held.is_released() {
            return;
        }
        if self.owns_control {
            // The sandbox may forbid it. A socket without a process refuses connections.
            let _ = fs::remove_file(self.run_dir.control_socket());
        }
        self.held.remove();
    }
}

fn already_running(run_dir: &RunDir) -> io::Error {
    let path = run_dir.path().display();
    io::Error::other(format!(
        "another server is running on {path}. Replace it with --take-over, or choose another run \
         directory with --run-dir DIR."
    ))
}

//! The handover of a home from one server process to the next: listeners, pid files and the control
//! socket.
//!
//! A server started with `--take-over` connects to the running one, inherits its listeners, and
//! waits for its locks. Every server offers its own listeners to the one after it.

use std::fmt::Display;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::kernel::linux::Linux;
use crate::process::control_socket;
use crate::process::control_socket::{ControlSocket, Predecessor};
use crate::process::pid_file;
use crate::process::pid_file::{PidFile, UnlockedPidFile};

/// The locks and sockets that a server process holds of its home, and its relation to the processes
/// before and after it.
pub struct Handover {
    /// The running server, until it is relieved.
    predecessor: Option<Predecessor>,
    /// The socket for the next server, until it is polled.
    control: Option<UnixListener>,
    /// The pid files that the predecessor has locked.
    awaited: Vec<UnlockedPidFile>,
    held: HeldFiles,
    /// Warnings from before the log was started.
    warnings: Vec<String>,
}

/// The locked pid files, shared with the control socket, which releases them.
#[derive(Clone, Default)]
struct HeldFiles(Arc<Mutex<Vec<PidFile>>>);

impl HeldFiles {
    fn lock(&self) -> MutexGuard<'_, Vec<PidFile>> {
        self.0.lock().expect("no holder panics")
    }
}

impl Handover {
    /// Begins a start: with `take_over`, connects to the running server.
    ///
    /// # Errors
    /// If no server answers, or it refuses.
    pub fn begin(home: &Path, take_over: bool) -> io::Result<Handover> {
        let path = control_path(home);
        let connect = || {
            Predecessor::connect(&path).map_err(|error| {
                let what = format!(
                    "cannot take over from a running server: {}: {error}; start without \
                     --take-over if none is running",
                    path.display()
                );
                io::Error::new(error.kind(), what)
            })
        };
        Ok(Handover {
            predecessor: take_over.then(connect).transpose()?,
            control: None,
            awaited: Vec::new(),
            held: HeldFiles::default(),
            warnings: Vec::new(),
        })
    }

    /// The addresses and tags of the predecessor's listeners; `None` without a predecessor.
    pub fn inherited_addresses(&self) -> Option<Vec<(SocketAddr, u8)>> {
        let predecessor = self.predecessor.as_ref()?;
        Some(predecessor.addresses().collect())
    }

    /// Returns the predecessor's listener with this address and tag.
    pub fn claim(&mut self, address: SocketAddr, tag: u8) -> Option<OwnedFd> {
        self.predecessor.as_mut()?.claim(address, tag)
    }

    /// Locks the home's pid file and the one of `--pid-file`, and binds the control socket.
    /// Prepares for it only while the predecessor holds the locks. Called as the user of the server
    /// and before the sandbox is entered. A failure with the home's own file is a warning.
    ///
    /// # Errors
    /// If the file of `--pid-file` cannot be locked.
    pub fn lock_pid_files(&mut self, home: &Path, pid_file: Option<&Path>) -> io::Result<()> {
        let own = pid_file::of_home(home);
        if let Err(error) = self.lock_home(home, &own) {
            let own = own.display();
            self.warnings.push(format!(
                "'--reload' cannot find this server: {own}: {error}"
            ));
        }
        let Some(path) = pid_file.filter(|path| *path != own) else {
            return Ok(());
        };
        let failed = |what: &dyn Display| io::Error::other(format!("{}: {what}", path.display()));
        if self.predecessor.is_some() {
            let opened = UnlockedPidFile::open(path).map_err(|error| failed(&error))?;
            self.awaited.push(opened);
            return Ok(());
        }
        let file = PidFile::lock(path).map_err(|error| failed(&error))?;
        let file = file.ok_or_else(|| failed(&"another process has locked the pid file"))?;
        self.held.lock().push(file);
        Ok(())
    }

    fn lock_home(&mut self, home: &Path, own: &Path) -> io::Result<()> {
        if let Some(predecessor) = &self.predecessor {
            self.control = Some(predecessor.control_socket()?);
            self.awaited.push(UnlockedPidFile::open(own)?);
            return Ok(());
        }
        let Some(file) = PidFile::lock(own)? else {
            self.warnings.push(format!(
                "another server of this home is running; it keeps {}",
                own.display()
            ));
            return Ok(());
        };
        self.held.lock().push(file);
        let path = control_path(home);
        match control_socket::bind(&path) {
            Ok(socket) => self.control = Some(socket),
            Err(error) => self.warnings.push(format!(
                "'--take-over' cannot find this server: {}: {error}",
                path.display()
            )),
        }
        Ok(())
    }

    /// Returns the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        mem::take(&mut self.warnings)
    }

    /// Offers the listeners, with their tags, to the next server from now on.
    pub fn offer<'a, L: AsRawFd + Send + Sync + 'static>(
        &mut self,
        kernel: &Linux,
        listeners: impl Iterator<Item = (&'a Arc<L>, u8)>,
    ) -> io::Result<()> {
        let Some(control) = self.control.take() else {
            return Ok(());
        };
        let held = self.held.clone();
        let release = move || {
            for file in held.lock().drain(..) {
                if let Err(error) = file.unlock() {
                    let why = error.to_string();
                    log::warn!("event=take-over result=lock-kept why={why:?}");
                }
            }
        };
        let listeners = listeners
            .map(|(listener, tag)| (Arc::downgrade(listener), tag))
            .collect();
        let fd = control.as_raw_fd();
        let mut socket = ControlSocket::new(control, listeners, Box::new(release))?;
        kernel.on_readable(&fd, Box::new(move |poll| socket.handle_readable(poll)))
    }

    /// Completes the handover from the predecessor when this server is ready: relieves it and locks
    /// the pid files. Returns warnings.
    pub fn complete(&mut self) -> Vec<String> {
        let Some(predecessor) = self.predecessor.take() else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        match predecessor.relieve() {
            Ok(()) => log::info!("event=take-over result=done"),
            Err(error) => warnings.push(format!(
                "the previous server did not confirm the handover: {error}"
            )),
        }
        for file in mem::take(&mut self.awaited) {
            match file.lock() {
                Ok(Some(file)) => self.held.lock().push(file),
                Ok(None) => warnings.push(
                    "another process has locked the pid file; '--reload' cannot find this server"
                        .into(),
                ),
                Err(error) => {
                    warnings.push(format!("'--reload' cannot find this server: {error}"));
                }
            }
        }
        warnings
    }

    /// Unlocks and removes the pid files that are still held, at the end of the process.
    pub fn end(&self) {
        self.held.lock().clear();
    }
}

/// The path of the control socket.
fn control_path(home: &Path) -> PathBuf {
    home.join(".tidegate.sock")
}

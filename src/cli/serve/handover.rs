//! Who served this home before this server, and who will after it: the sockets that it begins with, and what it holds of the
//! home until the next one comes.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::kernel::Kernel;
use crate::kernel::linux;
use crate::kernel::linux::Linux;
use crate::process::control_socket;
use crate::process::control_socket::TakeOver;
use crate::process::pid_file;
use crate::process::pid_file::{Opened, PidFile};
use crate::protocol::session::Dialect;
use crate::server;

/// Where to listen if nobody says.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2100);

/// A socket that listens, and what is spoken there.
pub(crate) type Listening = (<Linux as Kernel>::Listener, Dialect);

/// How the next server knows what was spoken there.
const MENU: u8 = b'm';
const FTP: u8 = b'f';

/// The place of a server in the row of those of its home.
pub(crate) struct Handover {
    /// The server that is taken over from, until it is relieved.
    predecessor: Option<TakeOver>,
    /// Where the next one asks.
    control: Option<UnixListener>,
    /// Its predecessor's locks.
    awaited: Vec<Opened>,
    held: Arc<Mutex<Vec<PidFile>>>,
    /// What is to be told once there is a log.
    warnings: Vec<String>,
}

impl Handover {
    /// The first of a row, or, with `take_over`, the next one.
    ///
    /// # Errors
    /// Where there is nobody to take over from.
    pub(crate) fn of(home: &Path, take_over: bool) -> io::Result<Handover> {
        let path = control_of(home);
        let ask = || {
            TakeOver::ask(&path).map_err(|error| {
                let say = format!(
                    "there is no server to take over from: {}: {error}",
                    path.display()
                );
                io::Error::new(error.kind(), say)
            })
        };
        Ok(Handover {
            predecessor: take_over.then(ask).transpose()?,
            control: None,
            awaited: Vec::new(),
            held: Arc::default(),
            warnings: Vec::new(),
        })
    }

    /// The listeners at these addresses: those of the predecessor where it has them, and all of them where none are given;
    /// else those that a supervisor has opened and new ones. `ftp` is that dialect as it is to be spoken.
    pub(crate) fn listeners(
        &mut self,
        kernel: &Linux,
        given: Vec<(SocketAddr, Dialect)>,
        ftp: Dialect,
    ) -> io::Result<Vec<Listening>> {
        let mut opened: Vec<Listening> = Vec::new();
        for (socket, name) in linux::passed_sockets()? {
            let dialect = if name == "ftp" { ftp } else { Dialect::Menu };
            opened.push((
                kernel.adopt(socket, server::listener_token(opened.len()))?,
                dialect,
            ));
        }
        let addresses = match &self.predecessor {
            Some(predecessor) if given.is_empty() => predecessor
                .addresses()
                .map(|(address, tag)| (address, if tag == FTP { ftp } else { Dialect::Menu }))
                .collect(),
            None if given.is_empty() && opened.is_empty() => vec![(DEFAULT_ADDRESS, Dialect::Menu)],
            _ => given,
        };
        for (address, dialect) in addresses {
            let token = server::listener_token(opened.len());
            let inherited = self.predecessor.as_mut();
            let listener = match inherited.and_then(|old| old.take(address, tag(dialect))) {
                Some(socket) => kernel.adopt(socket, token)?,
                None => server::listen(kernel, address, token)?,
            };
            opened.push((listener, dialect));
        }
        Ok(opened)
    }

    /// Locks the home, where that can be, and the pid file that was asked for; or makes ready to, where the predecessor still holds them.
    /// As the user that serves, and before the sandbox is closed.
    pub(crate) fn hold(&mut self, home: &Path, asked: Option<&Path>) -> io::Result<()> {
        let own = pid_file::of_home(home);
        if let Err(error) = self.hold_own(home, &own) {
            self.warnings.push(format!(
                "no '--reload' will find this server: {}: {error}",
                own.display()
            ));
        }
        let Some(asked) = asked.filter(|asked| *asked != own) else {
            return Ok(());
        };
        let say = |what: &dyn Display| io::Error::other(format!("{}: {what}", asked.display()));
        if self.predecessor.is_some() {
            self.awaited
                .push(Opened::open(asked).map_err(|error| say(&error))?);
            return Ok(());
        }
        let file = PidFile::take(asked).map_err(|error| say(&error))?;
        self.keep(file.ok_or_else(|| say(&"another process holds it"))?);
        Ok(())
    }

    fn hold_own(&mut self, home: &Path, own: &Path) -> io::Result<()> {
        if let Some(predecessor) = &self.predecessor {
            self.control = Some(predecessor.control.try_clone()?);
            self.awaited.push(Opened::open(own)?);
            return Ok(());
        }
        let Some(file) = PidFile::take(own)? else {
            self.warnings.push(format!(
                "another server of this home runs: {} is left to it",
                own.display()
            ));
            return Ok(());
        };
        self.keep(file);
        let path = control_of(home);
        match control_socket::open(&path) {
            Ok(socket) => self.control = Some(socket),
            Err(error) => self.warnings.push(format!(
                "no '--take-over' will find this server: {}: {error}",
                path.display()
            )),
        }
        Ok(())
    }

    fn keep(&self, file: PidFile) {
        self.held.lock().expect("nobody panics with it").push(file);
    }

    /// What is to be told.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// From now on the next server can ask for these listeners.
    pub(crate) fn prepare(&mut self, kernel: &Linux, listeners: &[Listening]) -> io::Result<()> {
        let Some(control) = self.control.take() else {
            return Ok(());
        };
        let held = self.held.clone();
        let release = move || {
            for file in held.lock().expect("nobody panics with it").drain(..) {
                if let Err(error) = file.leave() {
                    let why = error.to_string();
                    log::warn!("event=take-over result=lock-kept why={why:?}");
                }
            }
        };
        let listeners = listeners
            .iter()
            .map(|(listener, dialect)| (listener, tag(*dialect)));
        kernel.hand_over(control, listeners, Box::new(release))
    }

    /// The end: what is still held is given up.
    pub(crate) fn end(&self) {
        self.held.lock().expect("nobody panics with it").clear();
    }

    /// This server serves: the predecessor is relieved, and its locks are taken.
    pub(crate) fn complete(&mut self) -> Vec<String> {
        let Some(predecessor) = self.predecessor.take() else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        match predecessor.complete() {
            Ok(()) => log::info!("event=take-over result=done"),
            Err(error) => warnings.push(format!(
                "the server that was taken over from gives no answer: {error}"
            )),
        }
        for file in std::mem::take(&mut self.awaited) {
            match file.take() {
                Ok(Some(file)) => self.keep(file),
                Ok(None) => warnings.push(
                    "a pid file is still another process's: no '--reload' will find this server"
                        .into(),
                ),
                Err(error) => {
                    warnings.push(format!("no '--reload' will find this server: {error}"))
                }
            }
        }
        warnings
    }
}

fn tag(dialect: Dialect) -> u8 {
    match dialect {
        Dialect::Menu => MENU,
        Dialect::Ftp(_) => FTP,
    }
}

/// Where the server of a home is asked for its listeners.
fn control_of(home: &Path) -> PathBuf {
    home.join(".tidegate.sock")
}

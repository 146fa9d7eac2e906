//! What a supervisor is told of the server's life, in systemd's words (sd_notify(3)), and the sockets that it has opened.
//!
//! The socket is connected before the server closes itself in, and never again.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

use crate::kernel::Milestone;

/// The end of the wire to a supervisor, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: bool,
}

impl Supervisor {
    /// The one that the environment names, in NOTIFY_SOCKET, and whether it awaits a sign of life, in WATCHDOG_USEC.
    ///
    /// # Errors
    /// Where there should be one, and it cannot be connected to.
    pub fn of_environment() -> io::Result<Supervisor> {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Supervisor::default());
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Supervisor {
            socket: Some(socket),
            watchdog: sd_notify::watchdog_enabled().is_some(),
        })
    }

    /// Tells it. One that does not listen is not waited for.
    pub fn tell(&self, milestone: Milestone) {
        let Some(socket) = &self.socket else {
            return;
        };
        let states = match milestone {
            // The number too: a server that has taken over was not started by the supervisor.
            Milestone::Ready => vec![NotifyState::Ready, NotifyState::MainPid(std::process::id())],
            Milestone::Reloading => {
                let since = NotifyState::monotonic_usec_now();
                [NotifyState::Reloading].into_iter().chain(since).collect()
            }
            Milestone::Stopping => vec![NotifyState::Stopping],
            Milestone::Alive if self.watchdog => vec![NotifyState::Watchdog],
            Milestone::Alive => return,
        };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        let _ = socket.send(text.as_bytes());
    }
}

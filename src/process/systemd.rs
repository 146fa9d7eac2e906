//! The service manager: notifications (sd_notify(3)) and socket activation (sd_listen_fds(3)).

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

use crate::kernel::Milestone;
use crate::kernel::linux::own_inherited;

/// Sends notifications to the service manager, if there is one.
///
/// Has its own socket, connected before the sandbox is entered; `sd_notify::notify` opens one for
/// every message.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: bool,
}

impl Notifier {
    /// Connects to the socket in `NOTIFY_SOCKET`. `WATCHDOG_USEC` enables the watchdog.
    ///
    /// # Errors
    /// If the variable is set and the socket cannot be connected to.
    pub fn from_env() -> io::Result<Notifier> {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Notifier::default());
        };
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Notifier {
            socket: Some(socket),
            watchdog: sd_notify::watchdog_enabled().is_some(),
        })
    }

    /// Sends the notification for a milestone. Never blocks; a full socket drops it.
    pub fn notify(&self, milestone: Milestone) {
        let Some(socket) = &self.socket else {
            return;
        };
        let states = match milestone {
            // With the process id: a server that has taken over was not started by the service
            // manager.
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

/// Whether the service manager has opened sockets for this process. False once they are taken.
pub fn has_passed_sockets() -> bool {
    let number = |name| env::var(name).ok()?.parse::<u32>().ok();
    number("LISTEN_PID") == Some(std::process::id())
        && number("LISTEN_FDS").is_some_and(|count| count > 0)
}

/// Takes the sockets that the service manager has opened for this process, with their names. Works
/// once.
///
/// # Errors
/// If `LISTEN_FDS` announces descriptors that are not open.
pub fn activation_sockets() -> io::Result<Vec<(OwnedFd, String)>> {
    let sockets = sd_notify::listen_fds_with_names()?;
    sockets
        .map(|(fd, name)| Ok((own_inherited(fd)?, name)))
        .collect()
}

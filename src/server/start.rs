//! Starting the server: listeners, worker threads and the event loop.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::Home;
use crate::kernel::{Kernel, OpenMode};
use crate::limits::{
    DESCRIPTORS_RESERVED, DISK_THREADS, SESSIONS_MAX, TRANSFER_SHARE, TRANSFER_SHARE_MIN,
};
use crate::protocol::session::Dialect;
use crate::server::event_loop::EventLoop;
use crate::server::options::Options;
use crate::server::workers::lanes::Workers;

/// Opens a listener with the token of its index ([`crate::server::listener_token`]). Separate from
/// [`start`] because binding to a low port may take privileges that are dropped before [`start`].
///
/// # Errors
/// The address cannot be bound.
pub fn listen<K: Kernel>(kernel: &K, address: SocketAddr, token: usize) -> io::Result<K::Listener> {
    kernel.listen(address, token).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Starts the worker threads and returns the event loop with the addresses of its listeners, ports
/// resolved. [`EventLoop::run`] then serves each listener in its dialect. `processors` is a
/// parameter because a sandboxed server cannot look it up. No thread is started after this call.
///
/// # Errors
/// A thread cannot be started, or the kernel has no `openat2` (before Linux 5.6).
pub fn start<K: Kernel>(
    kernel: K,
    home: Home,
    options: Options,
    listeners: Vec<(K::Listener, Dialect)>,
    processors: usize,
) -> io::Result<(EventLoop<K>, Vec<SocketAddr>)> {
    check_open_beneath(&kernel, home.path())?;
    let kernel = Arc::new(kernel);
    let workers = Workers::start(kernel.clone(), DISK_THREADS, processors)?;
    let mut event_loop = EventLoop::new(kernel, home, workers, options);
    let addresses = listeners
        .into_iter()
        .map(|(listener, dialect)| event_loop.adopt(listener, dialect))
        .collect::<io::Result<_>>()?;
    event_loop.sweep_orphans();
    Ok((event_loop, addresses))
}

/// Checks at the start that files can be opened at all, instead of failing at every download.
fn check_open_beneath<K: Kernel>(kernel: &K, home: &Path) -> io::Result<()> {
    let root = kernel.open_root(home)?;
    match kernel.open_beneath(&root, "", OpenMode::Path) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("openat2 failed: {error}; tidegate needs Linux 5.6 or later"),
        )),
    }
}

/// Returns the number of sessions that a limit of `descriptors` open files has room for.
///
/// Without an explicit `requested` number, a quarter of the descriptors is reserved for open files
/// and, with FTP, another quarter for data connections. An operator who asks for a number may know
/// that few sessions transfer at once: then each share is a thirty-second. `passive_ports` is the
/// size of the passive port range; `None` without FTP.
pub fn fit_sessions(
    requested: Option<usize>,
    descriptors: u64,
    passive_ports: Option<u64>,
) -> usize {
    let available = descriptors.saturating_sub(DESCRIPTORS_RESERVED + passive_ports.unwrap_or(0));
    let share = match requested {
        Some(_) => available / TRANSFER_SHARE_MIN,
        None => available / TRANSFER_SHARE,
    };
    let shares = if passive_ports.is_some() { 2 } else { 1 };
    let fitting = usize::try_from(available - share * shares).unwrap_or(usize::MAX);
    requested.unwrap_or(SESSIONS_MAX).min(fitting.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_leave_descriptors_for_transfers() {
        assert_eq!(fit_sessions(None, 1_000_000, Some(1_000)), SESSIONS_MAX);
        assert_eq!(fit_sessions(None, 1_056, None), 768);
        assert_eq!(fit_sessions(None, 1_066, Some(10)), 512);
        assert_eq!(fit_sessions(Some(100), 1_056, None), 100);
        assert_eq!(fit_sessions(Some(1_000), 1_056, None), 992);
        assert_eq!(fit_sessions(Some(1_000), 1_066, Some(10)), 960);
        assert_eq!(fit_sessions(Some(19_000), 20_000, None), 19_000);
        assert_eq!(fit_sessions(None, 8, Some(100)), 1);
    }
}

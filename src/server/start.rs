//! Opening listeners and starting the workers and the event loop.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::config::Home;
use crate::kernel::{Kernel, Open};
use crate::limits::{DESCRIPTORS_RESERVED, DISK_THREADS, SESSIONS_MAX};
use crate::protocol::session::Dialect;
use crate::server::event_loop::EventLoop;
use crate::server::options::Options;
use crate::server::workers::Workers;

/// Opens a listener, for the nth with [`listener_token`]. Apart from [`start`], since it may take powers that a server gives up
/// before it starts.
///
/// Fails where the address cannot be listened to.
pub fn listen<K: Kernel>(kernel: &K, address: SocketAddr, token: usize) -> io::Result<K::Listener> {
    let say = |error: io::Error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    };
    kernel.listen(address, token).map_err(say)
}

/// Starts the workers; [`EventLoop::run`] then serves whoever comes to the listeners, each for its dialect. Their addresses come
/// back with the ports chosen. How many `processors` there are is told, since a server that is closed in cannot look it
/// up. No thread is started later on.
///
/// Fails where no thread can be started, or the kernel is too old.
pub fn start<K: Kernel>(
    kernel: K,
    home: Home,
    options: Options,
    listeners: Vec<(K::Listener, Dialect)>,
    processors: usize,
) -> io::Result<(EventLoop<K>, Vec<SocketAddr>)> {
    can_open_beneath(&kernel, home.path())?;
    let kernel = Arc::new(kernel);
    let workers = Workers::start(kernel.clone(), DISK_THREADS, processors)?;
    let mut event_loop = EventLoop::new(kernel, home, workers, options);
    let listening = listeners
        .into_iter()
        .map(|(listener, dialect)| event_loop.adopt(listener, dialect))
        .collect::<io::Result<_>>()?;
    event_loop.sweep_leftovers();
    Ok((event_loop, listening))
}

/// Whether this kernel knows the one call by which files are opened: better said at the start than at each download.
fn can_open_beneath<K: Kernel>(kernel: &K, home: &Path) -> io::Result<()> {
    let root = kernel.open_root(home)?;
    match kernel.open_beneath(&root, "", Open::Look) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("openat2 fails, which Linux has since 5.6: {error}"),
        )),
    }
}

/// How many sessions a limit of open files leaves room for. Where nobody has asked for a number, a quarter is left to the
/// files that they download and upload, and with FTP another to their data connections; who asks for one may know that his
/// sessions have few files open at once, and leaves a thirty-second of each at least. `passive` is how many ports data
/// connections are awaited at; `None` without FTP.
pub fn fit_sessions(asked: Option<usize>, descriptors: u64, passive: Option<u64>) -> usize {
    let reserved = DESCRIPTORS_RESERVED + passive.unwrap_or(0);
    let room = descriptors.saturating_sub(reserved);
    let share = room / if asked.is_some() { 32 } else { 4 };
    let shares = if passive.is_some() { 2 } else { 1 };
    let room = usize::try_from(room - share * shares).unwrap_or(usize::MAX);
    asked.unwrap_or(SESSIONS_MAX).min(room.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_keep_a_quarter_of_the_descriptors_unless_more_sessions_are_asked_for() {
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

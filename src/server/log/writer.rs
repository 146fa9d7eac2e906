//! The threads that write the logs.

use std::io;
use std::thread;

/// Starts a detached thread that writes a log.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn spawn_writer(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(run).map(|_| ())
}

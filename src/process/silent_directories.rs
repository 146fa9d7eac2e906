//! Directories on file systems that do not answer.
//!
//! At the start the server looks at the granted directories, and a call on a mount whose server or
//! daemon hangs never returns. A thread therefore looks at them, and is left alone if it does not
//! come back.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::libc;

/// Returns the paths whose status cannot be read within `timeout`. Of each mount, as `mount_of`
/// numbers them, at most one path is waited for.
pub fn silent_directories(
    paths: Vec<PathBuf>,
    mount_of: impl Fn(&Path) -> u64,
    timeout: Duration,
) -> HashSet<PathBuf> {
    let mut mounts = HashSet::new();
    let mut silent = HashSet::new();
    for path in paths {
        let mount = mount_of(&path);
        if mounts.contains(&mount) || !answers(&path, timeout) {
            mounts.insert(mount);
            silent.insert(path);
        }
    }
    silent
}

fn answers(path: &Path, timeout: Duration) -> bool {
    let path = path.to_owned();
    within(timeout, move || drop(fs::metadata(path))).is_some()
}

/// Opens a directory for reference only (O_PATH), which for a mount point asks nothing of its file
/// system; `None` if that fails or takes longer than `timeout`.
pub(super) fn open_path(path: &Path, timeout: Duration) -> Option<File> {
    let path = path.to_owned();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_PATH);
    within(timeout, move || options.open(path))?.ok()
}

/// Makes a call in a thread of its own; `None` if it takes longer than `timeout` or if there is no
/// thread.
fn within<T: Send + 'static>(
    timeout: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().name("look".into()).spawn(move || {
        // A late result has no receiver.
        let _ = sender.send(call());
    });
    let thread = thread.ok()?;
    let result = receiver.recv_timeout(timeout).ok()?;
    // The sandbox is to find a single thread.
    let _ = thread.join();
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_answer_and_late_calls_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let paths = vec![folder.path().to_owned(), folder.path().join("missing")];
        let silent = silent_directories(paths, |_| 0, Duration::from_secs(10));
        assert!(silent.is_empty(), "a missing directory is an answer");
        assert!(open_path(folder.path(), Duration::from_secs(10)).is_some());
        assert!(open_path(&folder.path().join("missing"), Duration::from_secs(10)).is_none());
        let (hold, held) = mpsc::channel::<()>();
        let late = within(Duration::from_millis(1), move || held.recv().is_err());
        assert_eq!(late, None);
        drop(hold);
    }
}

//! The devices of the granted directories.
//!
//! A directory counts as remote until a worker has opened it. Workers open all of them again from
//! time to time, since a mount may come, go or be replaced while the server runs.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::kernel::Kernel;
use crate::limits::{ROOT_OPEN_MAX, ROOTS_CHECK_INTERVAL};
use crate::server::service::context::Context;
use crate::server::workers::file_task::{FileTask, FindDevice};
use crate::server::workers::job::{Job, Lane, Task};

/// The checks of the granted directories and of the home.
pub(crate) struct Roots {
    /// The directories that a worker opens, and since when.
    pending: HashMap<PathBuf, Instant>,
    next_check: Instant,
}

impl Roots {
    pub(crate) fn new(now: Instant) -> Roots {
        Roots {
            pending: HashMap::new(),
            next_check: now,
        }
    }

    /// Lets workers open the directories of the current configuration.
    pub(crate) fn reload<K: Kernel>(&mut self, context: &Context<K>) {
        let paths = paths(context);
        context.devices.retain_roots(|path| paths.contains(path));
        self.check(paths, context);
    }

    /// Lets workers open the directories again when it is time; call once per second.
    pub(crate) fn sweep<K: Kernel>(&mut self, context: &Context<K>) {
        // The directory may be hidden by a mount that hangs: the event loop must not open it.
        for (path, since) in &self.pending {
            let is_late = context.now.saturating_duration_since(*since) >= ROOT_OPEN_MAX;
            if is_late && context.device(path).is_inline() {
                context.devices.set_root(path, context.devices.beyond(path));
            }
        }
        if context.now >= self.next_check {
            self.check(paths(context), context);
        }
    }

    /// Notes that a worker has opened a directory, or failed to.
    pub(crate) fn finish(&mut self, path: &Path) {
        self.pending.remove(path);
    }

    fn check<K: Kernel>(&mut self, paths: BTreeSet<PathBuf>, context: &Context<K>) {
        self.next_check = context.now + ROOTS_CHECK_INTERVAL;
        for path in paths {
            // One that hangs is not tried again by a second thread.
            if let Entry::Vacant(pending) = self.pending.entry(path.clone()) {
                pending.insert(context.now);
                let find = FindDevice {
                    path,
                    devices: context.devices.clone(),
                };
                let lane = Lane::Device(context.devices.beyond(&find.path));
                let job = Job::detached(lane, Task::File(FileTask::FindDevice(find)));
                context.workers.submit(job);
            }
        }
    }
}

/// Returns the granted directories and the home, sorted.
fn paths<K: Kernel>(context: &Context<K>) -> BTreeSet<PathBuf> {
    let granted = context.home.granted_paths().into_iter();
    granted.chain([context.home.path().to_owned()]).collect()
}

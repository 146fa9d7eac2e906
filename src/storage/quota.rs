//! Quotas: how much granted directories hold, and reservations for uploads in progress.
//!
//! A directory is counted once by a walk. From then on its usage is updated whenever the server
//! publishes, moves or removes something. An upload reserves its bytes before it writes them, so
//! that the uploads of all sessions together stay within the limits. Removed bytes are not
//! reserved again: replacing a file needs room for the difference only.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::error::ErrorCode;
use crate::domain::step::Step;
use crate::kernel::Kernel;
use crate::storage::error::FileFault;
use crate::storage::storage_use::StorageUse;
use crate::storage::walk::SizeWalk;

/// The usage of all counted directories, shared by the event loop and the workers. Its locks are
/// held for arithmetic and, by workers, for one check of a name and one change of it.
#[derive(Debug, Default)]
pub struct QuotaLedger {
    usages: Mutex<BTreeMap<PathBuf, DirectoryUsage>>,
    /// By device: held while a worker checks a name there and then creates, replaces, moves or
    /// removes it. So no file's bytes are subtracted twice, and no file is replaced that the worker
    /// has not seen. A device that hangs holds up no other.
    changing: Mutex<HashMap<u64, Arc<Mutex<()>>>>,
}

/// The usage of one directory: everything below it.
#[derive(Debug, Default)]
struct DirectoryUsage {
    /// The published part; `None` before the first scan.
    published: Option<StorageUse>,
    /// The reserved part, not yet published.
    reserved: StorageUse,
    /// During a scan: what was published since it began.
    published_since: Option<StorageUse>,
    /// During a scan: whether anything has changed since it began.
    is_changed: bool,
}

impl DirectoryUsage {
    fn total(&self) -> StorageUse {
        self.published.unwrap_or_default().plus(self.reserved)
    }

    fn apply(&mut self, added: StorageUse, removed: StorageUse) {
        self.published = (self.published).map(|used| used.plus(added).minus(removed));
        self.published_since = (self.published_since).map(|used| used.plus(added));
        self.is_changed = true;
    }
}

/// A limit on the content of some directories together.
#[derive(Clone, Debug)]
pub struct QuotaLimit {
    /// Counted directories, none below another.
    pub paths: Vec<PathBuf>,
    /// Bytes that they may hold.
    pub max_bytes: u64,
    /// Files and directories that they may hold.
    pub max_files: Option<u64>,
}

impl QuotaLedger {
    /// Counts these directories and no others. Directories that were counted before keep their
    /// usage.
    pub fn track(&self, paths: impl Iterator<Item = PathBuf>) {
        let mut usages = self.usages();
        let mut old = std::mem::take(&mut *usages);
        *usages = paths
            .map(|path| {
                let usage = old.remove(&path).unwrap_or_default();
                (path, usage)
            })
            .collect();
    }

    /// All counted directories.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.usages().keys().cloned().collect()
    }

    /// Whether the first scan of these directories is complete.
    pub fn is_counted(&self, paths: &[PathBuf]) -> bool {
        let usages = self.usages();
        let mut found = paths.iter().filter_map(|path| usages.get(path));
        found.all(|usage| usage.published.is_some())
    }

    /// The usage of these directories together, reservations included.
    pub fn usage(&self, paths: &[PathBuf]) -> StorageUse {
        total(&self.usages(), paths)
    }

    /// Bytes that can still be added within all these limits: none where no file can.
    pub fn left(&self, limits: &[QuotaLimit]) -> u64 {
        let usages = self.usages();
        let left = |limit: &QuotaLimit| {
            let used = total(&usages, &limit.paths);
            match limit.max_files.is_none_or(|max| used.files < max) {
                true => limit.max_bytes.saturating_sub(used.bytes),
                false => 0,
            }
        };
        limits.iter().map(left).min().unwrap_or(u64::MAX)
    }

    /// A reservation of nothing yet for a change at `path`, within these limits.
    pub fn reserve(
        self: &Arc<QuotaLedger>,
        path: &Path,
        limits: Vec<QuotaLimit>,
    ) -> QuotaReservation {
        QuotaReservation {
            to: self.counted_above(path),
            from: Vec::new(),
            ledger: self.clone(),
            limits,
            replaced: StorageUse::default(),
            reserved: StorageUse::default(),
        }
    }

    /// The same for a move. Limits that count the source already do not apply.
    pub fn reserve_move(
        self: &Arc<QuotaLedger>,
        from: &Path,
        to: &Path,
        limits: Vec<QuotaLimit>,
    ) -> QuotaReservation {
        let is_new = |limit: &QuotaLimit| !limit.paths.iter().any(|path| from.starts_with(path));
        let mut reservation = self.reserve(to, limits.into_iter().filter(is_new).collect());
        reservation.from = self.counted_above(from);
        reservation
    }

    /// The counted directories that contain a path.
    fn counted_above(&self, path: &Path) -> Vec<PathBuf> {
        let usages = self.usages();
        let above = path.ancestors().filter(|path| usages.contains_key(*path));
        above.map(Path::to_owned).collect()
    }

    fn usages(&self) -> MutexGuard<'_, BTreeMap<PathBuf, DirectoryUsage>> {
        lock(&self.usages)
    }
}

/// Locks a mutex. A panic of another holder leaves these values consistent, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn total(usages: &BTreeMap<PathBuf, DirectoryUsage>, paths: &[PathBuf]) -> StorageUse {
    paths
        .iter()
        .filter_map(|path| usages.get(path))
        .map(DirectoryUsage::total)
        .fold(StorageUse::default(), StorageUse::plus)
}

/// The reservation of one upload, directory or move. Dropping it releases the unpublished part.
#[derive(Debug)]
pub struct QuotaReservation {
    ledger: Arc<QuotaLedger>,
    /// The counted directories that contain the new path.
    to: Vec<PathBuf>,
    /// The counted directories that contain the old path of a move.
    from: Vec<PathBuf>,
    limits: Vec<QuotaLimit>,
    /// The part that the change will remove.
    replaced: StorageUse,
    /// The reserved part, beyond `replaced`.
    reserved: StorageUse,
}

/// The effect of a change on usage.
#[derive(Clone, Copy, Debug)]
pub struct UsageChange {
    /// The published or moved part.
    pub added: StorageUse,
    /// The replaced or removed part.
    pub removed: StorageUse,
}

impl QuotaReservation {
    /// Whether a move changes the usage of any directory.
    pub fn changes_usage(&self) -> bool {
        self.to != self.from
    }

    /// Whether any limit applies.
    pub fn is_limited(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Sets what the change will replace at the new path, for which nothing needs to be reserved.
    pub fn set_replaced(&mut self, replaced: StorageUse) {
        self.replaced = replaced;
    }

    /// Raises the reservation to that for a change which adds `added` and removes what
    /// [`QuotaReservation::set_replaced`] has set; a larger one stays as it is.
    ///
    /// # Errors
    /// [`ErrorCode::OverQuota`] where a limit would be exceeded; the reservation is unchanged.
    pub fn grow_to(&mut self, added: StorageUse) -> Result<(), ErrorCode> {
        let more = added.minus(self.replaced).minus(self.reserved);
        if more == StorageUse::default() {
            return Ok(());
        }
        let mut usages = self.ledger.usages();
        // A limit that was exceeded before, by other means, prevents only what adds to it.
        let fits = |limit: &QuotaLimit| {
            let total = total(&usages, &limit.paths).plus(more);
            (more.bytes == 0 || total.bytes <= limit.max_bytes)
                && (more.files == 0 || limit.max_files.is_none_or(|max| total.files <= max))
        };
        if !self.limits.iter().all(fits) {
            return Err(ErrorCode::OverQuota);
        }
        for path in self.growing() {
            if let Some(usage) = usages.get_mut(path) {
                usage.reserved = usage.reserved.plus(more);
            }
        }
        self.reserved = self.reserved.plus(more);
        Ok(())
    }

    /// Runs `change`, which publishes, replaces, moves or removes a file of a device
    /// ([`Status::device`]) while no other worker does, then adds its effect to the usage and
    /// releases the reservation. `change` can raise the reservation first, and should not wait for
    /// the disk.
    ///
    /// [`Status::device`]: crate::kernel::Status::device
    pub fn settle<K: Kernel, E>(
        &mut self,
        (kernel, device): (&K, u64),
        change: impl FnOnce(&mut QuotaReservation) -> Result<UsageChange, E>,
    ) -> Result<(), E> {
        let changing = lock(&self.ledger.changing)
            .entry(device)
            .or_default()
            .clone();
        let _changing = kernel.lock_changes(&changing);
        let result = change(self);
        if let Ok(UsageChange { added, removed }) = result {
            self.apply(added, removed);
        }
        self.release();
        result.map(drop)
    }

    fn apply(&self, added: StorageUse, removed: StorageUse) {
        let mut usages = self.ledger.usages();
        for path in &self.to {
            if let Some(usage) = usages.get_mut(path) {
                let added = match self.from.contains(path) {
                    true => StorageUse::default(),
                    false => added,
                };
                usage.apply(added, removed);
            }
        }
        for path in self.from.iter().filter(|path| !self.to.contains(path)) {
            if let Some(usage) = usages.get_mut(path) {
                usage.apply(StorageUse::default(), added);
            }
        }
    }

    fn release(&mut self) {
        let reserved = std::mem::take(&mut self.reserved);
        if reserved == StorageUse::default() {
            return;
        }
        let mut usages = self.ledger.usages();
        for path in self.growing() {
            if let Some(usage) = usages.get_mut(path) {
                usage.reserved = usage.reserved.minus(reserved);
            }
        }
    }

    /// The counted directories whose usage grows.
    fn growing(&self) -> impl Iterator<Item = &PathBuf> {
        self.to.iter().filter(|path| !self.from.contains(path))
    }
}

impl Drop for QuotaReservation {
    fn drop(&mut self) {
        self.release();
    }
}

/// A scan of one counted directory; one step visits one directory in it.
pub struct UsageScan<K: Kernel> {
    ledger: Arc<QuotaLedger>,
    walk: SizeWalk<K>,
}

impl<K: Kernel> UsageScan<K> {
    /// Begins a scan of the directory at `root`. Returns `None` during another scan of it, or
    /// where the directory is not counted.
    pub fn begin(ledger: &Arc<QuotaLedger>, root: &Path) -> Option<UsageScan<K>> {
        let mut usages = ledger.usages();
        let usage = usages
            .get_mut(root)
            .filter(|usage| usage.published_since.is_none())?;
        usage.published_since = Some(StorageUse::default());
        usage.is_changed = false;
        Some(UsageScan {
            ledger: ledger.clone(),
            walk: SizeWalk::new(root, ""),
        })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.walk.root()
    }

    /// Visits one more directory. Directories that cannot be read are left out.
    pub fn step(&mut self, kernel: &K) -> Step<()> {
        let step = self.walk.step(kernel);
        if step == Step::Done(()) {
            self.record();
        }
        step
    }

    /// The first error of the scan.
    pub fn into_fault(self) -> Option<FileFault> {
        self.walk.into_fault()
    }

    /// Records the result. After a change during a later scan, which the walk may have seen or not,
    /// the usage kept so far is the better number. What could not be walked never lowers it.
    fn record(&mut self) {
        let mut usages = self.ledger.usages();
        if let Some(usage) = usages.get_mut(self.walk.root()) {
            let since = usage.published_since.take().unwrap_or_default();
            let found = self.walk.total().plus(since);
            usage.published = Some(match usage.published {
                Some(known) if usage.is_changed => known,
                Some(known) if self.walk.fault().is_some() => known.max(found),
                _ => found,
            });
        }
    }
}

#[cfg(test)]
mod tests;

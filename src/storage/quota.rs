//! Quotas: how many bytes granted directories hold, and reservations for uploads in progress.
//!
//! A directory is counted once by a walk. From then on its usage is updated whenever the server
//! publishes, moves or removes a file. An upload reserves its bytes before it writes them, so that
//! the uploads of all sessions together stay within the limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::error::ErrorCode;
use crate::domain::step::Step;
use crate::kernel::Kernel;
use crate::storage::error::FileFault;
use crate::storage::walk::SizeWalk;

/// The usage of all counted directories, shared by the event loop and the workers. Its locks are
/// held for arithmetic and, by workers, for one check of a name and one change of it.
#[derive(Debug, Default)]
pub struct QuotaLedger {
    usages: Mutex<BTreeMap<PathBuf, DirectoryUsage>>,
    /// Held while a worker checks a name and then creates, replaces, moves or removes it. So no
    /// file's bytes are subtracted twice, and no file is replaced that the worker has not seen.
    changing: Mutex<()>,
}

/// The usage of one directory and everything below it, in bytes.
#[derive(Debug, Default)]
struct DirectoryUsage {
    /// Bytes of published files; `None` before the first scan.
    published: Option<u64>,
    /// Bytes that are reserved and not yet published.
    reserved: u64,
    /// During a scan: bytes published since it began.
    published_since: Option<u64>,
    /// During a scan: whether anything has changed since it began.
    is_changed: bool,
}

impl DirectoryUsage {
    fn total(&self) -> u64 {
        self.published.unwrap_or(0).saturating_add(self.reserved)
    }

    fn apply(&mut self, added: u64, removed: u64) {
        self.published =
            (self.published).map(|bytes| bytes.saturating_add(added).saturating_sub(removed));
        self.published_since = (self.published_since).map(|bytes| bytes.saturating_add(added));
        self.is_changed = true;
    }
}

/// A limit on the bytes of some directories together.
#[derive(Clone, Debug)]
pub struct QuotaLimit {
    /// Counted directories, none below another.
    pub paths: Vec<PathBuf>,
    /// Bytes that they may hold.
    pub max_bytes: u64,
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

    /// Bytes in these directories, reservations included.
    pub fn bytes(&self, paths: &[PathBuf]) -> u64 {
        total(&self.usages(), paths)
    }

    /// Bytes that can still be added within all these limits.
    pub fn left(&self, limits: &[QuotaLimit]) -> u64 {
        let usages = self.usages();
        let left =
            |limit: &QuotaLimit| limit.max_bytes.saturating_sub(total(&usages, &limit.paths));
        limits.iter().map(left).min().unwrap_or(u64::MAX)
    }

    /// Reserves `bytes` for a new file at `path`, within these limits.
    ///
    /// # Errors
    /// [`ErrorCode::OverQuota`] where a limit would be exceeded.
    pub fn reserve(
        self: &Arc<QuotaLedger>,
        path: &Path,
        limits: Vec<QuotaLimit>,
        bytes: u64,
    ) -> Result<QuotaReservation, ErrorCode> {
        let mut reservation = QuotaReservation {
            to: self.counted_above(path),
            from: Vec::new(),
            ledger: self.clone(),
            limits,
            bytes: 0,
        };
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    /// A reservation of no bytes yet for a move. Limits that count the source already do not apply.
    pub fn reserve_move(
        self: &Arc<QuotaLedger>,
        from: &Path,
        to: &Path,
        limits: Vec<QuotaLimit>,
    ) -> QuotaReservation {
        let is_new = |limit: &QuotaLimit| !limit.paths.iter().any(|path| from.starts_with(path));
        QuotaReservation {
            to: self.counted_above(to),
            from: self.counted_above(from),
            ledger: self.clone(),
            limits: limits.into_iter().filter(is_new).collect(),
            bytes: 0,
        }
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

fn total(usages: &BTreeMap<PathBuf, DirectoryUsage>, paths: &[PathBuf]) -> u64 {
    paths
        .iter()
        .filter_map(|path| usages.get(path))
        .map(DirectoryUsage::total)
        .fold(0, u64::saturating_add)
}

/// Bytes reserved for one file or one move. Dropping it releases the bytes that were not
/// published.
#[derive(Debug)]
pub struct QuotaReservation {
    ledger: Arc<QuotaLedger>,
    /// The counted directories that contain the new path.
    to: Vec<PathBuf>,
    /// The counted directories that contain the old path of a move.
    from: Vec<PathBuf>,
    limits: Vec<QuotaLimit>,
    bytes: u64,
}

/// The effect of a change on usage, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct UsageChange {
    /// Bytes published or moved.
    pub added: u64,
    /// Bytes of the file that was replaced or removed.
    pub removed: u64,
}

impl QuotaReservation {
    /// Whether a move changes the usage of any directory.
    pub fn changes_usage(&self) -> bool {
        self.to != self.from
    }

    /// Raises the reservation to `bytes`; a larger one stays as it is.
    ///
    /// # Errors
    /// [`ErrorCode::OverQuota`] where a limit would be exceeded; the reservation is unchanged.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        let mut usages = self.ledger.usages();
        let fits = |limit: &QuotaLimit| {
            total(&usages, &limit.paths).saturating_add(more) <= limit.max_bytes
        };
        if !self.limits.iter().all(fits) {
            return Err(ErrorCode::OverQuota);
        }
        for path in self.growing() {
            if let Some(usage) = usages.get_mut(path) {
                usage.reserved = usage.reserved.saturating_add(more);
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Runs `change`, which publishes, replaces, moves or removes a file while no other worker
    /// does, then adds its effect to the usage and releases the reservation. `change` can raise the
    /// reservation first, and should not wait for the disk.
    pub fn settle<E>(
        &mut self,
        change: impl FnOnce(&mut QuotaReservation) -> Result<UsageChange, E>,
    ) -> Result<(), E> {
        let ledger = self.ledger.clone();
        let _changing = lock(&ledger.changing);
        let result = change(self);
        if let Ok(UsageChange { added, removed }) = result {
            self.apply(added, removed);
        }
        self.release();
        result.map(drop)
    }

    fn apply(&self, added: u64, removed: u64) {
        let mut usages = self.ledger.usages();
        for path in &self.to {
            if let Some(usage) = usages.get_mut(path) {
                let added = if self.from.contains(path) { 0 } else { added };
                usage.apply(added, removed);
            }
        }
        for path in self.from.iter().filter(|path| !self.to.contains(path)) {
            if let Some(usage) = usages.get_mut(path) {
                usage.apply(0, added);
            }
        }
    }

    fn release(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut usages = self.ledger.usages();
        for path in self.growing() {
            if let Some(usage) = usages.get_mut(path) {
                usage.reserved = usage.reserved.saturating_sub(self.bytes);
            }
        }
        self.bytes = 0;
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
#[derive(Debug)]
pub struct UsageScan {
    ledger: Arc<QuotaLedger>,
    walk: SizeWalk,
}

impl UsageScan {
    /// Begins a scan of the directory at `root`. Returns `None` during another scan of it, or
    /// where the directory is not counted.
    pub fn begin(ledger: &Arc<QuotaLedger>, root: &Path) -> Option<UsageScan> {
        let mut usages = ledger.usages();
        let usage = usages
            .get_mut(root)
            .filter(|usage| usage.published_since.is_none())?;
        usage.published_since = Some(0);
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
    pub fn step<K: Kernel>(&mut self, kernel: &K) -> Step<()> {
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
    /// the usage kept so far is the better number.
    fn record(&mut self) {
        let mut usages = self.ledger.usages();
        if let Some(usage) = usages.get_mut(self.walk.root()) {
            let since = usage.published_since.take().unwrap_or(0);
            if usage.published.is_none() || !usage.is_changed {
                usage.published = Some(self.walk.bytes().saturating_add(since));
            }
        }
    }
}

#[cfg(test)]
mod tests;

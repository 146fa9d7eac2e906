//! How much granted directories hold, where somebody has a quota: counted by a walk, then kept up by what is published, moved
//! and removed. What is on its way is claimed before its first byte, so that all together never are too much.
//!
//! Must not know: users, sessions, why a directory is counted.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::domain::error::ErrorCode;
use crate::kernel::{Kernel, Kind, Open};
use crate::storage::Fault;
use crate::storage::upload::is_temporary;

/// What the counted directories hold. Shared by the loop and the workers; its locks are held for arithmetic, and by workers for
/// one look at a name and one change of it.
#[derive(Debug, Default)]
pub struct QuotaLedger {
    accounts: Mutex<BTreeMap<PathBuf, Account>>,
    /// Held by who looks at what a name has and gives, replaces, moves or removes it, so that no two give the same bytes back, and
    /// nobody replaces what he has not seen.
    changing: Mutex<()>,
}

/// One directory with all below it, in bytes.
#[derive(Debug, Default)]
struct Account {
    /// What is published; `None` before the first count.
    used: Option<u64>,
    /// What may still come of what is on its way.
    claimed: u64,
    /// While a count goes on: what has been published since it began.
    counting: Option<u64>,
    /// While a count goes on: whether anything has changed since it began.
    is_changed: bool,
}

/// So many bytes may lie in these directories together.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Counted directories, none below another.
    pub paths: Vec<PathBuf>,
    /// Bytes.
    pub most: u64,
}

impl QuotaLedger {
    /// Counts these directories from now on and no others; those that were counted already stay so.
    pub fn take_up(&self, paths: impl Iterator<Item = PathBuf>) {
        let mut accounts = self.accounts();
        let mut old = std::mem::take(&mut *accounts);
        *accounts = paths
            .map(|path| {
                let account = old.remove(&path).unwrap_or_default();
                (path, account)
            })
            .collect();
    }

    /// All counted directories.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.accounts().keys().cloned().collect()
    }

    /// Whether these have been counted.
    pub fn is_counted(&self, paths: &[PathBuf]) -> bool {
        let accounts = self.accounts();
        let mut of_them = paths.iter().filter_map(|path| accounts.get(path));
        of_them.all(|account| account.used.is_some())
    }

    /// Bytes in these, claims included.
    pub fn bytes(&self, paths: &[PathBuf]) -> u64 {
        bytes(&self.accounts(), paths)
    }

    /// Bytes that may still come within these bounds.
    pub fn left(&self, bounds: &[Bound]) -> u64 {
        let accounts = self.accounts();
        let left = |bound: &Bound| bound.most.saturating_sub(bytes(&accounts, &bound.paths));
        bounds.iter().map(left).min().unwrap_or(u64::MAX)
    }

    /// Claims `bytes` for a file to be at `path`, within these bounds.
    ///
    /// # Errors
    /// [`ErrorCode::OverQuota`] where it would be too much.
    pub fn claim(
        self: &Arc<QuotaLedger>,
        path: &Path,
        bounds: Vec<Bound>,
        bytes: u64,
    ) -> Result<Claim, ErrorCode> {
        let mut claim = Claim {
            paths: self.around(path),
            from: Vec::new(),
            ledger: self.clone(),
            bounds,
            bytes: 0,
        };
        claim.cover(bytes)?;
        Ok(claim)
    }

    /// A claim, of nothing yet, for what is to be moved, within those of these bounds that it does not count for already.
    pub fn claim_move(
        self: &Arc<QuotaLedger>,
        from: &Path,
        to: &Path,
        bounds: Vec<Bound>,
    ) -> Claim {
        let is_new = |bound: &Bound| !bound.paths.iter().any(|path| from.starts_with(path));
        Claim {
            paths: self.around(to),
            from: self.around(from),
            ledger: self.clone(),
            bounds: bounds.into_iter().filter(is_new).collect(),
            bytes: 0,
        }
    }

    /// The counted directories that a path lies in.
    fn around(&self, path: &Path) -> Vec<PathBuf> {
        let accounts = self.accounts();
        let around = path.ancestors().filter(|path| accounts.contains_key(*path));
        around.map(Path::to_owned).collect()
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Account>> {
        lock(&self.accounts)
    }
}

/// A panic while a lock is held leaves nothing half-done here, so that the lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

fn bytes(accounts: &BTreeMap<PathBuf, Account>, paths: &[PathBuf]) -> u64 {
    paths
        .iter()
        .filter_map(|path| accounts.get(path))
        .map(|account| account.used.unwrap_or(0).saturating_add(account.claimed))
        .fold(0, u64::saturating_add)
}

/// Bytes that may come, for one file. Dropped, it gives back what did not.
#[derive(Debug)]
pub struct Claim {
    ledger: Arc<QuotaLedger>,
    /// The counted directories that the file lies in, or will.
    paths: Vec<PathBuf>,
    /// Those that what is moved has lain in.
    from: Vec<PathBuf>,
    bounds: Vec<Bound>,
    bytes: u64,
}

/// What a change has come to, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Settled {
    /// Of what has been published, or moved.
    pub come: u64,
    /// Of what was there before, and was replaced or removed.
    pub gone: u64,
}

impl Claim {
    /// Whether a move changes what anything counts.
    pub fn is_between(&self) -> bool {
        self.paths != self.from
    }

    /// Claims as many more as it takes to have `bytes`.
    ///
    /// # Errors
    /// [`ErrorCode::OverQuota`] where it would be too much; what was claimed before stays so.
    pub fn cover(&mut self, bytes: u64) -> Result<(), ErrorCode> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        let mut accounts = self.ledger.accounts();
        let is_free =
            |bound: &Bound| self::bytes(&accounts, &bound.paths).saturating_add(more) <= bound.most;
        if !self.bounds.iter().all(is_free) {
            return Err(ErrorCode::OverQuota);
        }
        for path in self.claimed() {
            if let Some(account) = accounts.get_mut(path) {
                account.claimed = account.claimed.saturating_add(more);
            }
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Lets `change` publish, replace, move or remove something while nobody else does, and takes up what came of it. It may claim
    /// more before, and should not wait for the disk.
    pub fn settle<E>(
        mut self,
        change: impl FnOnce(&mut Claim) -> Result<Settled, E>,
    ) -> Result<(), E> {
        let ledger = self.ledger.clone();
        let _changing = lock(&ledger.changing);
        let Settled { come, gone } = change(&mut self)?;
        let mut accounts = ledger.accounts();
        let mut take_up = |path: &Path, come: u64, gone: u64| {
            if let Some(account) = accounts.get_mut(path) {
                account.used =
                    (account.used).map(|used| used.saturating_add(come).saturating_sub(gone));
                account.counting = account.counting.map(|since| since.saturating_add(come));
                account.is_changed = true;
            }
        };
        for path in &self.paths {
            match self.from.contains(path) {
                true => take_up(path, 0, gone),
                false => take_up(path, come, gone),
            }
        }
        for path in self.from.iter().filter(|path| !self.paths.contains(path)) {
            take_up(path, 0, come);
        }
        // The drop gives back what was claimed.
        Ok(())
    }

    /// The counted directories whose bytes become more.
    fn claimed(&self) -> impl Iterator<Item = &PathBuf> {
        self.paths.iter().filter(|path| !self.from.contains(path))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut accounts = self.ledger.accounts();
            for path in self.claimed() {
                if let Some(account) = accounts.get_mut(path) {
                    account.claimed = account.claimed.saturating_sub(self.bytes);
                }
            }
        }
    }
}

/// A walk through one counted directory; a step is one directory in it.
#[derive(Debug)]
pub struct Count {
    ledger: Arc<QuotaLedger>,
    walk: Walk,
    fault: Option<Fault>,
}

impl Count {
    /// A walk through the directory at `root`; `None` where one goes on already, or it is not one that is counted.
    pub fn begin(ledger: &Arc<QuotaLedger>, root: &Path) -> Option<Count> {
        let mut accounts = ledger.accounts();
        let account = accounts
            .get_mut(root)
            .filter(|account| account.counting.is_none())?;
        account.counting = Some(0);
        account.is_changed = false;
        Some(Count {
            ledger: ledger.clone(),
            walk: Walk::new(root, ""),
            fault: None,
        })
    }

    /// Walks one more directory; `false` when all is counted. What cannot be walked is left out.
    pub fn step<K: Kernel>(&mut self, kernel: &K) -> bool {
        match self.walk.step(kernel) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(fault) => {
                self.fault.get_or_insert(fault);
                return true;
            }
        }
        self.end();
        false
    }

    /// The first thing that went wrong on the way.
    pub fn into_fault(self) -> Option<Fault> {
        self.fault
    }

    /// Takes up what was found. Where it is a second count, and something has changed meanwhile that the walk may have seen or not,
    /// what was kept up is the better number.
    fn end(&mut self) {
        let mut accounts = self.ledger.accounts();
        if let Some(account) = accounts.get_mut(&self.walk.root) {
            let published = account.counting.take().unwrap_or(0);
            if account.used.is_none() || !account.is_changed {
                account.used = Some(self.walk.bytes.saturating_add(published));
            }
        }
    }
}

/// A walk through a directory and all below it, for the bytes of its files. One step is one directory, so that a worker can do
/// other jobs between.
#[derive(Debug)]
pub(crate) struct Walk {
    root: PathBuf,
    /// Paths below the root that are still to be walked.
    pending: Vec<String>,
    bytes: u64,
}

impl Walk {
    pub(crate) fn new(root: &Path, below: &str) -> Walk {
        Walk {
            root: root.to_owned(),
            pending: vec![below.to_owned()],
            bytes: 0,
        }
    }

    /// Walks one more directory; `false` when there is none left.
    pub(crate) fn step<K: Kernel>(&mut self, kernel: &K) -> Result<bool, Fault> {
        let Some(below) = self.pending.pop() else {
            return Ok(false);
        };
        match walk(kernel, &self.root, &below, &mut self.pending) {
            Ok(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Fault {
                    doing: "counting",
                    path: self.root.join(below),
                    source,
                });
            }
            // Removed meanwhile.
            Err(_) => {}
        }
        Ok(true)
    }

    /// Bytes of the files that were found.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Bytes of the files right in a directory; those below it are put to `pending`.
fn walk<K: Kernel>(
    kernel: &K,
    root: &Path,
    below: &str,
    pending: &mut Vec<String>,
) -> io::Result<u64> {
    let root = kernel.open_root(root)?;
    let directory = kernel.open_beneath(&root, below, Open::Directory)?;
    let mut found = Vec::new();
    kernel.entries(&directory, &mut |name, kind| {
        // Links are not followed, and what is on its way is claimed.
        if let Ok(name) = str::from_utf8(name)
            && !is_temporary(name)
            && matches!(kind, None | Some(Kind::File | Kind::Directory))
        {
            found.push(name.to_owned());
        }
        true
    })?;
    let mut bytes = 0u64;
    for name in found {
        match kernel.status_at(&directory, &name) {
            Ok(status) if status.kind == Kind::File => bytes = bytes.saturating_add(status.size),
            Ok(status) if status.kind == Kind::Directory => pending.push(match below {
                "" => name,
                below => format!("{below}/{name}"),
            }),
            // Nothing that counts, or removed meanwhile.
            _ => {}
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage::tests::World;

    fn count(ledger: &Arc<QuotaLedger>, world: &World) {
        let mut count = Count::begin(ledger, &world.at("")).expect("no other goes on");
        assert!(Count::begin(ledger, &world.at("")).is_none());
        while count.step(&*world.kernel) {}
    }

    fn ledger_of(world: &World) -> (Arc<QuotaLedger>, [PathBuf; 1]) {
        let ledger = Arc::new(QuotaLedger::default());
        ledger.take_up([world.at("")].into_iter());
        (ledger, [world.at("")])
    }

    fn settled(come: u64, gone: u64) -> Result<Settled, ()> {
        Ok(Settled { come, gone })
    }

    fn bound(world: &World, most: u64) -> Vec<Bound> {
        let paths = vec![world.at("")];
        vec![Bound { paths, most }]
    }

    #[test]
    fn all_files_below_are_counted_and_no_links() {
        let world = World::new();
        fs::create_dir_all(world.at("a/b")).unwrap();
        fs::write(world.at("x"), "12345").unwrap();
        fs::write(world.at("a/b/y"), "123").unwrap();
        fs::write(world.at(".hidden"), "1").unwrap();
        fs::write(world.at(".tidegate-0123456789abcdef.part"), "on its way").unwrap();
        std::os::unix::fs::symlink("../outside/canary", world.at("link")).unwrap();
        let (ledger, paths) = ledger_of(&world);
        assert!(!ledger.is_counted(&paths));
        count(&ledger, &world);
        assert!(ledger.is_counted(&paths));
        assert_eq!(ledger.bytes(&paths), 9);
    }

    #[test]
    fn claims_are_never_more_together_than_their_bounds() {
        let world = World::new();
        fs::write(world.at("x"), "12345").unwrap();
        let (ledger, paths) = ledger_of(&world);
        count(&ledger, &world);
        let claim = |bytes| ledger.claim(&world.at("new"), bound(&world, 10), bytes);
        let first = claim(3).unwrap();
        assert_eq!(claim(3).err(), Some(ErrorCode::OverQuota));
        let mut second = claim(1).unwrap();
        assert_eq!(second.cover(3), Err(ErrorCode::OverQuota));
        assert_eq!(second.cover(2), Ok(()));
        assert_eq!(second.cover(1), Ok(()), "what is claimed stays so");
        assert_eq!(ledger.bytes(&paths), 10);
        drop(second);
        assert_eq!(ledger.bytes(&paths), 8);
        first.settle::<()>(|_| settled(3, 5)).unwrap();
        assert_eq!(
            ledger.bytes(&paths),
            3,
            "three have come and five have gone"
        );
        claim(7).unwrap().settle(|_| Err(())).unwrap_err();
        assert_eq!(ledger.bytes(&paths), 3);
        assert!(claim(7).is_ok());
        assert!(
            ledger.claim(&world.at("new"), Vec::new(), u64::MAX).is_ok(),
            "no bound"
        );
    }

    #[test]
    fn what_is_published_during_a_count_is_not_lost() {
        let world = World::new();
        fs::write(world.at("x"), "12345").unwrap();
        let (ledger, paths) = ledger_of(&world);
        let mut first = Count::begin(&ledger, &world.at("")).unwrap();
        let claim = ledger.claim(&world.at("new"), Vec::new(), 4).unwrap();
        assert!(first.step(&*world.kernel));
        claim.settle::<()>(|_| settled(4, 0)).unwrap();
        assert!(!first.step(&*world.kernel));
        assert_eq!(ledger.bytes(&paths), 9);
        fs::write(world.at("new"), "1234").unwrap();
        fs::write(world.at("by hand"), "1").unwrap();
        count(&ledger, &world);
        assert_eq!(ledger.bytes(&paths), 10);
    }

    #[test]
    fn a_file_counts_in_every_counted_directory_that_it_lies_in() {
        let world = World::new();
        fs::create_dir(world.at("sub")).unwrap();
        let ledger = Arc::new(QuotaLedger::default());
        let paths = [world.at(""), world.at("sub")];
        ledger.take_up(paths.iter().cloned());
        for path in &paths {
            let mut count = Count::begin(&ledger, path).unwrap();
            while count.step(&*world.kernel) {}
        }
        let claim = ledger.claim(&world.at("sub/new"), Vec::new(), 4).unwrap();
        claim.settle::<()>(|_| settled(4, 0)).unwrap();
        assert_eq!(ledger.bytes(&paths[..1]), 4);
        assert_eq!(ledger.bytes(&paths[1..]), 4);
    }

    #[test]
    fn what_is_moved_counts_where_it_comes_and_no_longer_where_it_was() {
        let world = World::new();
        let ledger = Arc::new(QuotaLedger::default());
        let [all, here, there] = ["", "here", "there"].map(|below| world.at(below));
        for path in [&here, &there] {
            fs::create_dir(path).unwrap();
            fs::write(path.join("file"), "123456").unwrap();
        }
        ledger.take_up([&all, &here, &there].into_iter().cloned());
        for path in [&all, &here, &there] {
            let mut count = Count::begin(&ledger, path).unwrap();
            while count.step(&*world.kernel) {}
        }
        let bytes = || [&all, &here, &there].map(|path| ledger.bytes(std::slice::from_ref(path)));
        let bounds = |most| {
            let of = |path: &PathBuf| Bound {
                paths: vec![path.clone()],
                most,
            };
            vec![of(&there), of(&all)]
        };
        let claim =
            |to: &str, most| ledger.claim_move(&here.join("file"), &world.at(to), bounds(most));
        assert!(!claim("here/new", 0).is_between());
        // It is in the directory around already, whatever may lie there.
        assert_eq!(claim("there/new", 11).cover(6), Err(ErrorCode::OverQuota));
        let mut moving = claim("there/new", 12);
        assert!(moving.is_between());
        moving.cover(6).unwrap();
        assert_eq!(bytes(), [12, 6, 12]);
        drop(moving);
        assert_eq!(bytes(), [12, 6, 6]);
        let over = claim("there/file", 12);
        over.settle(|claim| claim.cover(6).map(|()| Settled { come: 6, gone: 6 }))
            .unwrap();
        assert_eq!(bytes(), [6, 0, 6]);
    }
}

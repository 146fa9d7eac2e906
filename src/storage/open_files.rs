//! Files opened to be read: one handle for all downloads of the same unchanged file.
//!
//! A download holds its [`OpenFile`] by an `Arc`, whatever becomes of the name meanwhile. The table finds a file
//! again by its name for as long as the name still leads to that very file, unchanged, which is asked once a turn of
//! the loop. A few files without a download are kept for a while, so that small ones in demand cost no opening.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::domain::path::{GrantedPath, is_name};
use crate::kernel::{Kernel, Kind, Open, Status};
use crate::limits;
use crate::storage::{Refused, is_absent, path_of, refused};

/// A file that is open to be read, its length that of the moment of its opening.
pub struct OpenFile<K: Kernel> {
    file: K::File,
    path: PathBuf,
    status: Status,
    /// Made by the first who asks while the file is in memory; `None` where it cannot be mapped.
    map: OnceLock<Option<K::Map>>,
}

impl<K: Kernel> OpenFile<K> {
    /// The handle.
    pub fn file(&self) -> &K::File {
        &self.file
    }

    /// Where it lay: the granted directory's path and a client's words below it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the file had when it was opened. Who sends learns from the kernel where it was cut since.
    pub fn length(&self) -> u64 {
        self.status.size
    }

    /// The standing map of the whole file, where it has at most [`limits::MAPPED_FILE_BYTES_MAX`] bytes and they were in
    /// memory when it was made, so that nobody waits for a disk who sends them. The file may have been cut since: a slice
    /// of the map goes out only in a turn in which [`OpenFileCache::open_read`] gave the file out, or `status` still showed the
    /// whole length.
    pub fn map(&self, kernel: &K) -> Option<&K::Map> {
        if let Some(map) = self.map.get() {
            return map.as_ref();
        }
        match self.status.size {
            length @ 1..=limits::MAPPED_FILE_BYTES_MAX if self.is_warm(kernel, 0, length) => {
                let map = kernel.map(&self.file, length as usize).ok();
                self.map.get_or_init(|| map).as_ref()
            }
            _ => None,
        }
    }

    /// Whether `count` bytes from `offset` on, at least one, are in memory, judged by the first and the last of them. What
    /// cannot be told counts as not.
    pub fn is_warm(&self, kernel: &K, offset: u64, count: u64) -> bool {
        let last = offset + count - 1;
        [offset, last]
            .iter()
            .all(|at| kernel.is_cached(&self.file, *at).unwrap_or(false))
    }

    /// Brings `count` bytes from `offset` on into memory and waits for the disk: for a worker.
    ///
    /// # Errors
    /// What a read of them gives. A file that ends before them is none.
    pub fn warm_up(&self, kernel: &K, offset: u64, count: usize) -> io::Result<()> {
        // Advice, which need not be followed: the reads below wait for what it began.
        let _ = kernel.read_ahead(&self.file, offset, count);
        let mut byte = [0];
        let end = offset + count as u64;
        let mut at = offset - offset % PAGE_BYTES;
        while at < end && kernel.read_at(&self.file, &mut byte, at)? > 0 {
            at += PAGE_BYTES;
        }
        Ok(())
    }
}

/// Bytes of a page: what a read of one byte brings in at least.
const PAGE_BYTES: u64 = 4096;

/// The table of shared files; it belongs to the loop.
pub struct OpenFileCache<K: Kernel> {
    kernel: Arc<K>,
    files: HashMap<OsString, Kept<K>>,
    /// The key that is looked up, its memory reused.
    key: OsString,
    turn: u64,
    /// Entries at which the unused among them are counted anew.
    count_at: usize,
}

struct Kept<K: Kernel> {
    file: Arc<OpenFile<K>>,
    /// The turn in which the name was last found to lead to this file, unchanged.
    checked: u64,
    /// When it was last asked for, or seen with a download.
    used: Instant,
}

impl<K: Kernel> Kept<K> {
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.file) == 1
    }
}

impl<K: Kernel> OpenFileCache<K> {
    /// An empty table.
    pub fn new(kernel: Arc<K>) -> OpenFileCache<K> {
        OpenFileCache {
            kernel,
            files: HashMap::new(),
            key: OsString::new(),
            turn: 0,
            count_at: limits::CACHED_FILES_MAX,
        }
    }

    /// Begins a turn of the loop: what is asked for from now on is checked once more.
    pub fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Opens a file to read, or shares it where it is open and unchanged. `now` is the turn's.
    pub fn open_read(
        &mut self,
        place: &GrantedPath,
        now: Instant,
    ) -> Result<Arc<OpenFile<K>>, Refused> {
        if place.grant.rights.read
            && let Some(file) = self.find(place, now)
        {
            return Ok(file);
        }
        let file = match open(&*self.kernel, place) {
            Err(error)
                if error
                    .fault
                    .as_ref()
                    .is_some_and(crate::storage::Fault::lacks_descriptors) =>
            {
                self.release_unused();
                open(&*self.kernel, place)?
            }
            result => result?,
        };
        Ok(self.keep(file, now))
    }

    /// Lets go of the files that nobody has asked for lately; once a second is enough.
    pub fn sweep(&mut self, now: Instant) {
        self.files.retain(|_, kept| {
            if !kept.is_unused() {
                kept.used = now;
            }
            now.duration_since(kept.used) < limits::CACHED_FILE_AGE_MAX
        });
        self.keep_unused(limits::CACHED_FILES_MAX);
    }

    /// Lets go of every file without a download: for who has run out of descriptors.
    pub fn release_unused(&mut self) {
        self.files.retain(|_, kept| !kept.is_unused());
    }

    /// The file that is open under this name, if the name still leads to it; `key` is left to be used by `keep`.
    fn find(&mut self, place: &GrantedPath, now: Instant) -> Option<Arc<OpenFile<K>>> {
        self.key.clear();
        self.key.push(&place.grant.path);
        // No path below has an empty part, so that the last `//` tells where the granted directory ends: whether a link
        // leads outside depends on that.
        self.key.push("//");
        self.key.push(&place.relative);
        let kept = self.files.get_mut(&self.key)?;
        if kept.checked != self.turn {
            if !is_unchanged(&*self.kernel, &self.key, &kept.file) {
                self.files.remove(&self.key);
                return None;
            }
            kept.checked = self.turn;
        }
        kept.used = now;
        Some(kept.file.clone())
    }

    fn keep(&mut self, file: OpenFile<K>, now: Instant) -> Arc<OpenFile<K>> {
        if self.files.len() >= self.count_at {
            self.keep_unused(limits::CACHED_FILES_MAX / 2);
        }
        let file = Arc::new(file);
        let kept = Kept {
            file: file.clone(),
            checked: self.turn,
            used: now,
        };
        self.files.insert(self.key.clone(), kept);
        file
    }

    /// Lets go of the files that have been without a download for longest, until at most `count` are left.
    fn keep_unused(&mut self, count: usize) {
        let mut ages: Vec<Instant> = (self.files.values())
            .filter(|kept| kept.is_unused())
            .map(|kept| kept.used)
            .collect();
        let unused = ages.len();
        if unused > count {
            let (_, &mut last, _) = ages.select_nth_unstable(unused - count - 1);
            self.files
                .retain(|_, kept| !kept.is_unused() || kept.used > last);
        }
        self.count_at = self.files.len() + limits::CACHED_FILES_MAX - unused.min(count);
    }
}

/// Whether a key still leads to the file that was opened by it.
fn is_unchanged<K: Kernel>(kernel: &K, key: &OsStr, file: &OpenFile<K>) -> bool {
    (kernel.status_by_path(Path::new(key))).is_ok_and(|status| status == file.status)
}

/// Opens a file to read. Whatever is not there, not his to read, or leads outside is the same: no such file.
fn open<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<OpenFile<K>, Refused> {
    if !place.grant.rights.read || !place.relative.split('/').all(is_name) {
        return Err(ErrorCode::NoSuchFile.into());
    }
    let opened = kernel
        .open_root(&place.grant.path)
        .and_then(|root| open_file(kernel, &root, place));
    match opened {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(ErrorCode::NoSuchFile.into()),
        Err(error) if is_absent(&error) => Err(ErrorCode::NoSuchFile.into()),
        Err(error) => {
            let path = path_of(place, &place.relative);
            Err(refused(ErrorCode::FileUnreadable, "opening", path, error))
        }
    }
}

/// Opens what a path leads to, if it is a regular file: asked of the handle, and without waiting for anything else.
fn open_file<K: Kernel>(
    kernel: &K,
    root: &K::File,
    place: &GrantedPath,
) -> io::Result<Option<OpenFile<K>>> {
    let file = kernel.open_beneath(root, &place.relative, Open::Read)?;
    let status = kernel.status(&file)?;
    Ok((status.kind == Kind::File).then(|| OpenFile {
        file,
        path: path_of(place, &place.relative),
        status,
        map: OnceLock::new(),
    }))
}

#[cfg(test)]
mod tests;

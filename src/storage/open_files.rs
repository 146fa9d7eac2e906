//! The open-file cache: one handle for all downloads of the same unchanged file.
//!
//! A download keeps its [`OpenFile`] by an `Arc`, whatever happens to the name. The cache finds a
//! file by its path as long as the path still leads to the same unchanged file (device, inode, size
//! and times), which is checked once per tick. Some files without a download stay open for a while,
//! so that small popular files need no openat2(2).

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::kernel::devices::{Device, Devices};
use crate::kernel::errors::is_absent;
use crate::kernel::{FileKind, FileSystemKind, Kernel, OpenMode, Status};
use crate::limits;
use crate::storage::error::{FileFault, StorageError};
use crate::storage::resolve::full_path;

/// Bytes of a page: reading one byte loads at least one page.
const PAGE_BYTES: u64 = 4096;

/// Closes a file of a device that the event loop does not call, since close(2) may wait there.
pub type CloseFile<K> = Arc<dyn Fn(&Arc<Device>, <K as Kernel>::File) + Send + Sync>;

/// A file that is open for reading.
pub struct OpenFile<K: Kernel> {
    /// Open until the drop.
    file: Option<K::File>,
    close: CloseFile<K>,
    path: PathBuf,
    device: Arc<Device>,
    /// The status when it was opened.
    status: Status,
    /// Created on first use while the file is in the page cache; `None` where mmap(2) failed.
    map: OnceLock<Option<K::Map>>,
}

impl<K: Kernel> OpenFile<K> {
    /// The handle.
    pub fn file(&self) -> &K::File {
        self.file.as_ref().expect("a file is open until its drop")
    }

    /// Whether the event loop may make calls on the file.
    pub fn is_inline(&self) -> bool {
        self.device.is_inline()
    }

    /// The device of the file.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// The path it was opened by: the granted directory and the path that the client sent.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The length when it was opened. If the file was truncated since, sending fails.
    pub fn length(&self) -> u64 {
        self.status.size
    }

    /// A map of the whole file, where it has at most [`limits::MAPPED_FILE_BYTES_MAX`] bytes and
    /// was in the page cache when the map was made, so that sending it does not wait for the disk.
    /// Send a slice only in a tick in which [`OpenFileCache::open`] returned the file, or its
    /// status still showed the whole length: the file may be truncated at any time.
    pub fn map(&self, kernel: &K) -> Option<&K::Map> {
        if let Some(map) = self.map.get() {
            return map.as_ref();
        }
        match self.status.size {
            length @ 1..=limits::MAPPED_FILE_BYTES_MAX if self.is_cached(kernel, 0, length) => {
                let map = kernel.map(self.file(), length as usize).ok();
                self.map.get_or_init(|| map).as_ref()
            }
            _ => None,
        }
    }

    /// Whether `count` bytes from `offset` on, at least one, are in the page cache, judged by the
    /// first and the last of them (preadv2(2) with RWF_NOWAIT). Unknown counts as not cached.
    pub fn is_cached(&self, kernel: &K, offset: u64, count: u64) -> bool {
        let last = offset + count - 1;
        [offset, last]
            .iter()
            .all(|at| kernel.is_cached(self.file(), *at).unwrap_or(false))
    }

    /// The prefetch of a download: brings `count` bytes from `offset` on into the page cache. Waits
    /// for the disk: call it on a worker.
    ///
    /// # Errors
    /// Those of the read. A file that ends earlier is no error.
    pub fn prefetch(&self, kernel: &K, offset: u64, count: usize) -> io::Result<()> {
        // readahead(2) is advice and may be ignored: the reads below wait for its pages.
        let _ = kernel.read_ahead(self.file(), offset, count);
        let mut byte = [0];
        let end = offset + count as u64;
        let mut at = offset - offset % PAGE_BYTES;
        while at < end && kernel.read_at(self.file(), &mut byte, at)? > 0 {
            at += PAGE_BYTES;
        }
        Ok(())
    }
}

impl<K: Kernel> Drop for OpenFile<K> {
    fn drop(&mut self) {
        if !self.device.is_inline()
            && let Some(file) = self.file.take()
        {
            (self.close)(&self.device, file);
        }
    }
}

/// The cache of shared files; owned by the event loop.
pub struct OpenFileCache<K: Kernel> {
    kernel: Arc<K>,
    close: CloseFile<K>,
    files: HashMap<OsString, CachedFile<K>>,
    /// The key of the current lookup; its allocation is reused.
    key: OsString,
    tick: u64,
    /// Entries at which the unused ones are evicted.
    evict_at: usize,
}

struct CachedFile<K: Kernel> {
    file: Arc<OpenFile<K>>,
    /// The tick in which the path was last found to lead to this file, unchanged.
    checked: u64,
    /// When its path was last resolved beneath the granted directory.
    resolved: Instant,
    /// When it was last opened, or seen with a download.
    used: Instant,
}

impl<K: Kernel> CachedFile<K> {
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.file) == 1
    }
}

impl<K: Kernel> OpenFileCache<K> {
    /// An empty cache. `close` is called for files of devices that the event loop does not call.
    pub fn new(kernel: Arc<K>, close: CloseFile<K>) -> OpenFileCache<K> {
        OpenFileCache {
            kernel,
            close,
            files: HashMap::new(),
            key: OsString::new(),
            tick: 0,
            evict_at: limits::CACHED_FILES_MAX,
        }
    }

    /// Begins a tick: every file is checked again when it is next opened.
    pub fn begin_tick(&mut self) {
        self.tick += 1;
    }

    /// Opens a file for reading, or shares it where it is open and unchanged. `device` returns the
    /// one of the granted directory; `now` is the tick's time. `None` if [`open_file`] has to open
    /// the file on a worker.
    pub fn open(
        &mut self,
        place: &GrantedPath,
        device: impl FnOnce() -> Arc<Device>,
        now: Instant,
    ) -> Result<Option<Arc<OpenFile<K>>>, StorageError> {
        // Before the lookup: a cached file may have been opened by another user with other rights.
        if !is_readable(place) {
            return Err(ErrorCode::NoSuchFile.into());
        }
        if let Some(file) = self.find(place, now) {
            return Ok(Some(file));
        }
        let device = device();
        if !device.is_inline() {
            return Ok(None);
        }
        let (kernel, close) = (self.kernel.clone(), self.close.clone());
        let open = || open_new(&*kernel, place, &close, |_, _| device.clone());
        let file = match open() {
            Err(error) if (error.fault.as_ref()).is_some_and(FileFault::is_out_of_descriptors) => {
                self.evict_unused();
                open()?
            }
            Err(error) if error.is_elsewhere() => return Ok(None),
            result => result?,
        };
        self.set_key(place);
        Ok(Some(self.insert(Arc::new(file), now)))
    }

    /// Returns the open file of a path without a look at the path, for [`open_file`].
    pub fn peek(&mut self, place: &GrantedPath) -> Option<Arc<OpenFile<K>>> {
        self.set_key(place);
        Some(self.files.get(&self.key)?.file.clone())
    }

    /// Adds the result of [`open_file`].
    pub fn add(&mut self, place: &GrantedPath, file: Arc<OpenFile<K>>, now: Instant) {
        self.set_key(place);
        self.insert(file, now);
    }

    /// Returns the function that closes files of devices that the event loop does not call.
    pub fn close(&self) -> &CloseFile<K> {
        &self.close
    }

    /// Closes files that were not used lately; once a second is enough.
    pub fn evict_expired(&mut self, now: Instant) {
        self.files.retain(|_, cached| {
            if !cached.is_unused() {
                cached.used = now;
            }
            now.duration_since(cached.used) < limits::CACHED_FILE_AGE_MAX
        });
        self.evict_to(limits::CACHED_FILES_MAX);
    }

    /// Closes every file without a download, to free descriptors.
    pub fn evict_unused(&mut self) {
        self.files.retain(|_, cached| !cached.is_unused());
    }

    /// Sets `key` to that of a path.
    fn set_key(&mut self, place: &GrantedPath) {
        self.key.clear();
        self.key.push(&place.grant.path);
        // No path contains a NUL, so it marks the end of the granted directory: the same file has
        // another key in another one, since whether a link leads outside depends on where that
        // ends.
        self.key.push("\0");
        self.key.push(&place.relative);
    }

    /// Finds an open file whose path still leads to it.
    fn find(&mut self, place: &GrantedPath, now: Instant) -> Option<Arc<OpenFile<K>>> {
        self.set_key(place);
        let cached = self.files.get_mut(&self.key)?;
        if !cached.file.is_inline() {
            return None;
        }
        if cached.checked != self.tick {
            // The path may lead outside meanwhile, which only resolving it again shows.
            if now.duration_since(cached.resolved) >= limits::CACHED_FILE_AGE_MAX {
                return None;
            }
            if !is_unchanged(&*self.kernel, &cached.file) {
                self.files.remove(&self.key);
                return None;
            }
            cached.checked = self.tick;
        }
        cached.used = now;
        Some(cached.file.clone())
    }

    /// Adds a file that was opened under `key`, or returns the one of that key if it is the same.
    fn insert(&mut self, file: Arc<OpenFile<K>>, now: Instant) -> Arc<OpenFile<K>> {
        if let Some(cached) = self.files.get_mut(&self.key)
            && cached.file.status == file.status
        {
            (cached.checked, cached.resolved, cached.used) = (self.tick, now, now);
            return cached.file.clone();
        }
        if self.files.len() >= self.evict_at {
            self.evict_to(limits::CACHED_FILES_MAX / 2);
        }
        let cached = CachedFile {
            file: file.clone(),
            checked: self.tick,
            resolved: now,
            used: now,
        };
        self.files.insert(self.key.clone(), cached);
        file
    }

    /// Closes the least recently used files without a download, until at most `count` are left.
    fn evict_to(&mut self, count: usize) {
        let mut ages: Vec<Instant> = (self.files.values())
            .filter(|cached| cached.is_unused())
            .map(|cached| cached.used)
            .collect();
        let unused = ages.len();
        if unused > count {
            let (_, &mut last, _) = ages.select_nth_unstable(unused - count - 1);
            self.files
                .retain(|_, cached| !cached.is_unused() || cached.used > last);
        }
        self.evict_at = self.files.len() + limits::CACHED_FILES_MAX - unused.min(count);
    }
}

/// Whether the user may read the file at a path, if there is one: it needs the right to read and
/// valid names.
fn is_readable(place: &GrantedPath) -> bool {
    place.grant.rights.read && place.is_valid()
}

/// Whether the path of a file still leads to it.
fn is_unchanged<K: Kernel>(kernel: &K, file: &OpenFile<K>) -> bool {
    (kernel.status_by_path(&file.path)).is_ok_and(|status| status == file.status)
}

/// Opens a file for reading on a worker, whatever its device. Returns `known` instead if that is
/// the same unchanged file.
pub fn open_file<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    devices: &Devices,
    known: Option<Arc<OpenFile<K>>>,
    close: &CloseFile<K>,
) -> Result<Arc<OpenFile<K>>, StorageError> {
    let device = |file: &K::File, status: &Status| {
        let kind = || kernel.file_system(file).unwrap_or(FileSystemKind::Remote);
        devices.with_id(status.device, kind)
    };
    let mut file = open_new(kernel, place, close, device)?;
    match known {
        Some(known) if known.status == file.status => {
            drop(file.file.take());
            Ok(known)
        }
        _ => Ok(Arc::new(file)),
    }
}

/// Opens a file for reading. A file that does not exist, is not readable for the user or lies
/// outside gives the same error, [`ErrorCode::NoSuchFile`].
fn open_new<K: Kernel>(
    kernel: &K,
    place: &GrantedPath,
    close: &CloseFile<K>,
    device: impl Fn(&K::File, &Status) -> Arc<Device>,
) -> Result<OpenFile<K>, StorageError> {
    if !is_readable(place) {
        return Err(ErrorCode::NoSuchFile.into());
    }
    let opened = kernel
        .open_root(&place.grant.path)
        .and_then(|root| open_regular(kernel, &root, &place.relative));
    match opened {
        Ok(Some((file, status))) => Ok(OpenFile {
            path: full_path(place, &place.relative),
            device: device(&file, &status),
            file: Some(file),
            close: close.clone(),
            status,
            map: OnceLock::new(),
        }),
        Ok(None) => Err(ErrorCode::NoSuchFile.into()),
        Err(error) if is_absent(&error) => {
            let path = full_path(place, &place.relative);
            Err(StorageError::absent(ErrorCode::NoSuchFile, path, error))
        }
        Err(error) => Err(StorageError::with_fault(
            ErrorCode::FileUnreadable,
            "opening",
            full_path(place, &place.relative),
            error,
        )),
    }
}

/// Opens a path without blocking (O_NONBLOCK), and keeps the handle if it is a regular file.
fn open_regular<K: Kernel>(
    kernel: &K,
    root: &K::File,
    below: &str,
) -> io::Result<Option<(K::File, Status)>> {
    let file = kernel.open_beneath(root, below, OpenMode::Read)?;
    let status = status_to_read(kernel, &file)?;
    Ok((status.kind == FileKind::File).then_some((file, status)))
}

/// Returns the status of a file that is to be read up to its size. Fails if the file is not empty
/// although its size is zero, as in /proc and some FUSE file systems: the length is unknown.
pub(super) fn status_to_read<K: Kernel>(kernel: &K, file: &K::File) -> io::Result<Status> {
    let status = kernel.status(file)?;
    if status.kind != FileKind::File || status.size > 0 {
        return Ok(status);
    }
    match kernel.read_at(file, &mut [0], 0) {
        Ok(1..) => {}
        Ok(0) | Err(_) => return Ok(status),
    }
    // It may have been written in the meantime.
    match kernel.status(file)? {
        Status { size: 0, .. } => Err(io::Error::other(
            "it has bytes, but its file system reports a size of zero",
        )),
        status => Ok(status),
    }
}

#[cfg(test)]
mod tests;

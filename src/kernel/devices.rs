//! The file systems that the server uses, and which of them the event loop may call.
//!
//! A call on a local file system that answers fast is made on the event loop. Any other call may
//! wait for a network, a daemon or a failing disk, so a worker makes it. The kind of a file system
//! is learned once, from statfs(2); how fast it answers is measured.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::kernel::interface::Kernel;
use crate::kernel::types::{CallStats, FileSystemKind, Status};
use crate::limits::{DEVICE_RECOVERY, SLOW_CALLS_MAX};

/// Calls that [`Health`] remembers.
const WINDOW: u32 = u64::BITS;

/// One file system, as far as the server has seen it.
///
/// Shared by the event loop and the workers: the worker lanes are per device.
#[derive(Debug)]
pub struct Device {
    number: u32,
    kind: FileSystemKind,
    /// Whether too many of the last calls were slow.
    is_slow: AtomicBool,
    /// Whether a call has exceeded the disk timeout and has not returned.
    is_stuck: AtomicBool,
    /// Fast calls that `health` does not contain yet.
    fast_calls: AtomicU32,
    health: Mutex<Health>,
}

/// The last calls of a device.
#[derive(Debug, Default)]
struct Health {
    /// A bit per call, the latest one lowest; set if the call was slow.
    calls: u64,
    last_slow: Option<Instant>,
}

impl Device {
    fn new(number: u32, kind: FileSystemKind) -> Arc<Device> {
        Arc::new(Device {
            number,
            kind,
            is_slow: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            fast_calls: AtomicU32::new(0),
            health: Mutex::default(),
        })
    }

    /// Creates a device that belongs to no [`Devices`], for tests.
    pub fn detached(number: u32, kind: FileSystemKind) -> Arc<Device> {
        Device::new(number, kind)
    }

    /// Returns a small number that identifies the device within the process.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether the event loop may call the device itself.
    pub fn is_inline(&self) -> bool {
        self.kind == FileSystemKind::Local
            && !self.is_slow.load(Ordering::Relaxed)
            && !self.is_stuck()
    }

    /// Whether the device is local, fast or not.
    pub fn is_local(&self) -> bool {
        self.kind == FileSystemKind::Local
    }

    /// Whether a call has exceeded the disk timeout and no call has returned since.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Relaxed)
    }

    /// Notes whether the device is stuck. Returns whether that is a change.
    pub fn set_stuck(&self, is_stuck: bool) -> bool {
        self.is_stuck.swap(is_stuck, Ordering::Relaxed) != is_stuck
    }

    /// Takes the measurements of calls on this device, see [`Kernel::take_call_stats`].
    ///
    /// [`Kernel::take_call_stats`]: crate::kernel::Kernel::take_call_stats
    pub fn record(&self, stats: CallStats, now: Instant) {
        let is_slow = self.is_slow.load(Ordering::Relaxed);
        if stats.slow == 0 && !is_slow {
            self.fast_calls.fetch_add(stats.calls, Ordering::Relaxed);
            return;
        }
        let earlier = self.fast_calls.swap(0, Ordering::Relaxed);
        let mut health = lock(&self.health);
        health.shift(earlier);
        health.shift(stats.calls.saturating_sub(stats.slow));
        for _ in 0..stats.slow.min(WINDOW) {
            health.calls = health.calls << 1 | 1;
        }
        if stats.slow > 0 {
            health.last_slow = Some(now);
        }
        let is_slow = match is_slow {
            true => !health.has_recovered(now),
            false => health.calls.count_ones() >= SLOW_CALLS_MAX,
        };
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }
}

impl Health {
    /// Appends `count` fast calls.
    fn shift(&mut self, count: u32) {
        self.calls = self.calls.checked_shl(count).unwrap_or(0);
    }

    fn has_recovered(&self, now: Instant) -> bool {
        let since = |then| now.saturating_duration_since(then);
        self.calls == 0 && (self.last_slow).is_none_or(|slow| since(slow) >= DEVICE_RECOVERY)
    }
}

/// All devices of the process.
#[derive(Debug, Default)]
pub struct Devices {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By the number that stat(2) reports (`st_dev`).
    by_id: HashMap<u64, Arc<Device>>,
    /// Devices of directories that were never opened, by [`Kernel::mount_of`]; used as if remote.
    ///
    /// [`Kernel::mount_of`]: crate::kernel::Kernel::mount_of
    unopened: HashMap<u64, Arc<Device>>,
    /// The devices of granted directories.
    ///
    /// Here and below, paths are hashed as bytes, which is faster than their components.
    roots: HashMap<OsString, Arc<Device>>,
    /// The devices that are used for all mounts in a granted directory.
    beyond: HashMap<OsString, Arc<Device>>,
    /// The status of each granted directory when it was last opened.
    statuses: HashMap<OsString, Status>,
    created: u32,
}

impl Devices {
    /// Returns the device of a granted directory. Until [`Devices::set_root`] reports it, that is a
    /// remote device shared by all directories with the same `mount`.
    pub fn of_root(&self, path: &Path, mount: impl FnOnce(&Path) -> u64) -> Arc<Device> {
        let known = &mut *lock(&self.known);
        if let Some(device) = known.roots.get(path.as_os_str()) {
            return device.clone();
        }
        let created = &mut known.created;
        let device = (known.unopened.entry(mount(path)))
            .or_insert_with(|| create(created, FileSystemKind::Remote))
            .clone();
        known.roots.insert(path.into(), device.clone());
        device
    }

    /// Returns the remote device that is used for all file systems that are mounted in a granted
    /// directory or over it, as long as no file there is open.
    pub fn beyond(&self, root: &Path) -> Arc<Device> {
        let known = &mut *lock(&self.known);
        if let Some(device) = known.beyond.get(root.as_os_str()) {
            return device.clone();
        }
        let device = create(&mut known.created, FileSystemKind::Remote);
        known.beyond.insert(root.into(), device.clone());
        device
    }

    /// Reports the device of a granted directory that was opened.
    pub fn set_root(&self, path: &Path, device: Arc<Device>) {
        lock(&self.known).roots.insert(path.into(), device);
    }

    /// Whether a look at a directory that may not have been granted before will not wait for a
    /// remote or stuck device.
    pub fn may_look<K: Kernel>(&self, path: &Path, kernel: &K) -> bool {
        let mount = kernel.mount_of(path);
        let known = &mut *lock(&self.known);
        let device = (known.roots.get(path.as_os_str())).or_else(|| known.unopened.get(&mount));
        match device {
            Some(device) if device.is_stuck() => false,
            Some(device) if device.is_local() => true,
            _ => kernel.kind_of_mount(path) == FileSystemKind::Local,
        }
    }

    /// Reports the status of a granted directory; `None` if it cannot be opened.
    pub fn set_status(&self, path: &Path, status: Option<Status>) {
        let statuses = &mut lock(&self.known).statuses;
        match status {
            Some(status) => drop(statuses.insert(path.into(), status)),
            None => drop(statuses.remove(path.as_os_str())),
        }
    }

    /// Returns whether the status of a granted directory can be read without waiting for a network
    /// or another process, and the last one that was read.
    pub fn status(&self, path: &Path) -> (bool, Option<Status>) {
        let known = lock(&self.known);
        let is_inline =
            (known.roots.get(path.as_os_str())).is_some_and(|device| device.is_inline());
        (is_inline, known.statuses.get(path.as_os_str()).copied())
    }

    /// Drops the directories for which `is_granted` returns false.
    pub fn retain_roots(&self, is_granted: impl Fn(&Path) -> bool) {
        let known = &mut *lock(&self.known);
        known.roots.retain(|path, _| is_granted(Path::new(path)));
        known.beyond.retain(|path, _| is_granted(Path::new(path)));
        known.statuses.retain(|path, _| is_granted(Path::new(path)));
    }

    /// Returns the device with the number `id` (`st_dev`). `kind` is called for one that is new.
    pub fn with_id(&self, id: u64, kind: impl FnOnce() -> FileSystemKind) -> Arc<Device> {
        if let Some(device) = lock(&self.known).by_id.get(&id) {
            return device.clone();
        }
        // Not under the lock: the call may wait.
        let kind = kind();
        let known = &mut *lock(&self.known);
        let created = &mut known.created;
        (known.by_id.entry(id))
            .or_insert_with(|| create(created, kind))
            .clone()
    }
}

fn create(created: &mut u32, kind: FileSystemKind) -> Arc<Device> {
    *created += 1;
    Device::new(*created, kind)
}

/// Locks a mutex even if a thread panicked while holding it: no operation here leaves a state
/// half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|error| error.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FAST: CallStats = CallStats { calls: 1, slow: 0 };
    const SLOW: CallStats = CallStats { calls: 1, slow: 1 };

    #[test]
    fn three_slow_calls_of_64_take_a_device_off_the_loop() {
        let device = Device::detached(0, FileSystemKind::Local);
        let now = Instant::now();
        for _ in 0..2 {
            device.record(SLOW, now);
            assert!(device.is_inline());
        }
        for _ in 0..63 {
            device.record(FAST, now);
        }
        device.record(SLOW, now);
        assert!(device.is_inline(), "the first two calls count no longer");
        device.record(SLOW, now);
        device.record(SLOW, now);
        assert!(!device.is_inline());
    }

    #[test]
    fn a_slow_device_recovers_by_fast_calls_and_time() {
        let device = Device::detached(0, FileSystemKind::Local);
        let now = Instant::now();
        device.record(CallStats { calls: 9, slow: 3 }, now);
        let later = now + DEVICE_RECOVERY;
        device.record(CallStats { calls: 63, slow: 0 }, later);
        assert!(!device.is_inline());
        device.record(FAST, later - Duration::from_millis(1));
        assert!(!device.is_inline());
        device.record(FAST, later);
        assert!(device.is_inline());
    }

    #[test]
    fn remote_and_stuck_devices_are_never_called_on_the_loop() {
        assert!(!Device::detached(0, FileSystemKind::Remote).is_inline());
        let device = Device::detached(0, FileSystemKind::Local);
        assert!(device.set_stuck(true));
        assert!(!device.set_stuck(true));
        assert!(!device.is_inline() && device.is_local());
        assert!(device.set_stuck(false));
        assert!(device.is_inline());
    }

    #[test]
    fn directories_are_remote_until_they_were_opened() {
        let devices = Devices::default();
        let (a, b) = (Path::new("/a"), Path::new("/b"));
        let first = devices.of_root(a, |_| 7);
        assert!(!first.is_inline());
        assert!(Arc::ptr_eq(&first, &devices.of_root(b, |_| 7)));
        let local = devices.with_id(1, || FileSystemKind::Local);
        devices.set_root(a, local.clone());
        assert!(Arc::ptr_eq(&local, &devices.of_root(a, |_| 7)));
        assert!(Arc::ptr_eq(&first, &devices.of_root(b, |_| 7)));
        let same = devices.with_id(1, || unreachable!("the kind is known"));
        assert!(Arc::ptr_eq(&local, &same));
        devices.retain_roots(|path| path == b);
        assert!(Arc::ptr_eq(&first, &devices.of_root(a, |_| 7)));
    }
}

//! The simulated file systems: fast, slow, hanging and failing devices, and which calls the event
//! loop may make on each.
//!
//! Must not know: what a call does, which thread makes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::kernel::types::FileSystemKind;
use crate::limits::{SLOW_CALL, SLOW_CALLS_MAX};

/// A file system of a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimDevice(pub(super) usize);

impl SimDevice {
    /// The local file system of `/`.
    pub const ROOT: SimDevice = SimDevice(0);
}

/// How the calls on a device behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceBehaviour {
    /// They return at once.
    #[default]
    Normal,
    /// Each takes this long.
    Slow(Duration),
    /// None returns before the behaviour changes.
    Hanging,
    /// Each fails with this error. EROFS and EDQUOT affect only calls that write.
    Failing(Errno),
}

/// Slow calls of the event loop on one device that the detection cannot avoid: those before the
/// one that is too many, and the other calls of the same request.
const LOOP_SLOW_CALLS_MAX: u32 = SLOW_CALLS_MAX - 1 + 8;

/// Fast calls after which the detection has forgotten the slow ones before.
const WINDOW: u32 = 64;

/// All devices.
pub(super) struct SimDevices {
    /// The first is [`SimDevice::ROOT`].
    mounted: Vec<MountedDevice>,
    /// The event loop may not call devices that are not local and fast.
    pub(super) is_strict: bool,
}

#[derive(Clone)]
struct MountedDevice {
    mount_point: PathBuf,
    kind: FileSystemKind,
    behaviour: DeviceBehaviour,
    /// Fast calls since the last slow one.
    fast_calls: u32,
    /// Slow calls of the event loop since [`WINDOW`] fast ones.
    loop_slow_calls: u32,
}

/// What a call on a device has to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    None,
    /// It takes this long.
    Takes(Duration),
    /// It waits until the behaviour changes.
    Hangs,
    Fails(Errno),
}

impl SimDevices {
    pub(super) fn new() -> SimDevices {
        let mut devices = SimDevices {
            mounted: Vec::new(),
            is_strict: false,
        };
        devices.add(Path::new("/"), FileSystemKind::Local);
        devices
    }

    /// The same devices after a restart, all normal.
    pub(super) fn restarted(&self) -> SimDevices {
        let mut mounted = self.mounted.clone();
        for device in &mut mounted {
            device.behaviour = DeviceBehaviour::Normal;
            device.loop_slow_calls = 0;
        }
        SimDevices {
            mounted,
            is_strict: self.is_strict,
        }
    }

    pub(super) fn add(&mut self, mount_point: &Path, kind: FileSystemKind) -> SimDevice {
        self.mounted.push(MountedDevice {
            mount_point: mount_point.to_owned(),
            kind,
            behaviour: DeviceBehaviour::Normal,
            fast_calls: 0,
            loop_slow_calls: 0,
        });
        SimDevice(self.mounted.len() - 1)
    }

    pub(super) fn kind(&self, device: SimDevice) -> FileSystemKind {
        self.mounted[device.0].kind
    }

    pub(super) fn behaviour(&self, device: SimDevice) -> DeviceBehaviour {
        self.mounted[device.0].behaviour
    }

    pub(super) fn set_behaviour(&mut self, device: SimDevice, behaviour: DeviceBehaviour) {
        self.mounted[device.0].behaviour = behaviour;
    }

    /// The device whose mount point is the last one above a path, links not followed.
    pub(super) fn of_path(&self, path: &Path) -> SimDevice {
        let devices = self.mounted.iter().enumerate();
        let above = devices.filter(|(_, device)| path.starts_with(&device.mount_point));
        let nearest = above.max_by_key(|(_, device)| device.mount_point.as_os_str().len());
        nearest.map_or(SimDevice::ROOT, |(index, _)| SimDevice(index))
    }

    /// Whether a mount point is directly in the directory at `path`.
    pub(super) fn has_mount_in(&self, path: &Path) -> bool {
        let mut mounted = self.mounted.iter();
        mounted.any(|device| device.mount_point.parent() == Some(path))
    }

    /// Whether there is only the root, and it is normal.
    pub(super) fn is_plain(&self) -> bool {
        matches!(&self.mounted[..], [root] if root.behaviour == DeviceBehaviour::Normal)
    }

    /// Whether no call can wait.
    pub(super) fn are_prompt(&self) -> bool {
        let is_prompt = |device: &MountedDevice| {
            matches!(
                device.behaviour,
                DeviceBehaviour::Normal | DeviceBehaviour::Failing(_)
            )
        };
        self.mounted.iter().all(is_prompt)
    }

    /// What a call has to do first on one device.
    pub(super) fn delay(&self, device: SimDevice, writes: bool) -> Delay {
        match self.behaviour(device) {
            DeviceBehaviour::Normal => Delay::None,
            DeviceBehaviour::Slow(time) => Delay::Takes(time),
            DeviceBehaviour::Hanging => Delay::Hangs,
            DeviceBehaviour::Failing(Errno::EROFS | Errno::EDQUOT) if !writes => Delay::None,
            DeviceBehaviour::Failing(errno) => Delay::Fails(errno),
        }
    }

    /// Counts a call. Returns whether it is slow.
    pub(super) fn count(&mut self, device: SimDevice, delay: Delay, is_worker: bool) -> bool {
        let is_slow = matches!(delay, Delay::Hangs)
            || matches!(delay, Delay::Takes(time) if time >= SLOW_CALL);
        let device = &mut self.mounted[device.0];
        if is_slow {
            device.fast_calls = 0;
            device.loop_slow_calls += u32::from(!is_worker);
        } else {
            device.fast_calls += 1;
            if device.fast_calls >= WINDOW {
                device.loop_slow_calls = 0;
            }
        }
        is_slow
    }

    /// Panics if the event loop may not make a call on a device.
    pub(super) fn check_loop(&self, device: SimDevice, what: &str) {
        let MountedDevice {
            mount_point,
            kind,
            behaviour,
            loop_slow_calls,
            ..
        } = &self.mounted[device.0];
        let hangs = *behaviour == DeviceBehaviour::Hanging;
        let is_detected = *loop_slow_calls > LOOP_SLOW_CALLS_MAX;
        let is_wrong = *kind == FileSystemKind::Remote || is_detected;
        assert!(
            !(hangs || self.is_strict && is_wrong),
            "the event loop calls {what} on {} ({kind:?}, {behaviour:?})",
            mount_point.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_decides() {
        let mut devices = SimDevices::new();
        let a = devices.add(Path::new("/srv/a"), FileSystemKind::Remote);
        let b = devices.add(Path::new("/srv/a/b"), FileSystemKind::Local);
        let of = |path| devices.of_path(Path::new(path));
        assert_eq!(of("/srv"), SimDevice::ROOT);
        assert_eq!(of("/srv/ab"), SimDevice::ROOT);
        assert_eq!(of("/srv/a/c"), a);
        assert_eq!(of("/srv/a/b/c"), b);
    }

    #[test]
    fn full_and_read_only_devices_can_be_read() {
        let mut devices = SimDevices::new();
        for errno in [Errno::EROFS, Errno::EDQUOT] {
            devices.set_behaviour(SimDevice::ROOT, DeviceBehaviour::Failing(errno));
            assert_eq!(devices.delay(SimDevice::ROOT, false), Delay::None);
            assert_eq!(devices.delay(SimDevice::ROOT, true), Delay::Fails(errno));
        }
        devices.set_behaviour(SimDevice::ROOT, DeviceBehaviour::Failing(Errno::EIO));
        assert_eq!(
            devices.delay(SimDevice::ROOT, false),
            Delay::Fails(Errno::EIO)
        );
    }
}

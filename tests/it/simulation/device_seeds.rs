//! The whole server on devices that are slow, hang, fail and come back.

use std::time::Duration;

use fastrand::Rng;
use nix::errno::Errno;
use tidegate::kernel::FileSystemKind;
use tidegate::kernel::sim::{DeviceBehaviour, Sim, SimDevice};

use super::Run;
use super::model::real;
use super::users::DIRECTORIES;
use crate::support::seeds::{for_seeds, once_in, one_of};

/// Seeds that have failed.
const FAILED_ONCE: &[u64] = &[
    // A change on one device waited for one on a device that hung.
    990,
    // Two changes on one device that hung: the simulation did not know that one waited.
    1161,
];

/// The number of seeds in a test run.
const SEEDS: u64 = 64;

#[test]
fn the_server_survives_devices_that_hang_and_fail() {
    for_seeds(FAILED_ONCE, SEEDS, |seed| {
        Run::with_devices(seed).run();
    });
}

/// The devices of a run, each with a granted directory. They have a generator of their own.
pub(super) struct Devices {
    rng: Rng,
    mounted: Vec<(SimDevice, FileSystemKind)>,
    have_recovered: bool,
}

impl Devices {
    /// Mounts a device on some of the granted directories, at least on one.
    pub(super) fn mount(seed: u64, sim: &Sim) -> Devices {
        let mut rng = Rng::with_seed(seed);
        let first = rng.usize(..DIRECTORIES.len());
        let mut mounted = Vec::new();
        for (index, directory) in DIRECTORIES.into_iter().enumerate() {
            if index == first || rng.bool() {
                let kind = match once_in(&mut rng, 4) {
                    true => FileSystemKind::Local,
                    false => FileSystemKind::Remote,
                };
                mounted.push((sim.mount(&real(directory), kind), kind));
            }
        }
        sim.forbid_waiting();
        Devices {
            rng,
            mounted,
            have_recovered: false,
        }
    }

    /// Sometimes changes how a device behaves.
    pub(super) fn change(&mut self, sim: &Sim) {
        if self.have_recovered || !once_in(&mut self.rng, 64) {
            return;
        }
        let (device, kind) = one_of(&mut self.rng, &self.mounted);
        let behaviour = match self.rng.u8(..6) {
            0 | 1 => DeviceBehaviour::Normal,
            2 => DeviceBehaviour::Slow(Duration::from_millis(self.rng.u64(1..300))),
            // A local disk that hangs without having been slow stops the event loop as well.
            3 | 4 if kind == FileSystemKind::Remote => DeviceBehaviour::Hanging,
            _ => {
                let errors = [Errno::EIO, Errno::ESTALE, Errno::ENOTCONN, Errno::EROFS];
                DeviceBehaviour::Failing(one_of(&mut self.rng, &errors))
            }
        };
        sim.set_behaviour(device, behaviour);
    }

    /// Makes all devices normal for good.
    pub(super) fn recover(&mut self, sim: &Sim) {
        self.have_recovered = true;
        for (device, _) in &self.mounted {
            sim.set_behaviour(*device, DeviceBehaviour::Normal);
        }
    }

    /// Lets some of the calls return that can.
    pub(super) fn resume(&mut self, sim: &Sim) {
        loop {
            match sim.resumable_jobs() {
                0 => return,
                _ if once_in(&mut self.rng, 4) => return,
                count => sim.resume_job(self.rng.usize(..count)),
            };
        }
    }
}

//! Devices that are slow, hang or fail, and the jobs that wait for them.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use nix::errno::Errno;

use crate::kernel::sim::{DeviceBehaviour, Sim, SimDevice, SimEntry};
use crate::kernel::{CallStats, FileSystemKind, Kernel, OpenMode};
use crate::limits::SLOW_CALL;

/// A simulation with a file on a remote device.
fn with_remote() -> (Sim, SimDevice) {
    let sim = Sim::new(1);
    sim.put("/srv/far/file", SimEntry::File(vec![7]));
    let device = sim.mount("/srv/far", FileSystemKind::Remote);
    (sim, device)
}

/// Runs a job that reads the file, and returns its result once it is done.
fn read_by_job(sim: &Sim) -> Receiver<(io::Result<usize>, CallStats)> {
    let (sender, result) = channel();
    let kernel = sim.clone();
    sim.run_job(move || {
        let read = || {
            let root = kernel.open_root(Path::new("/srv/far"))?;
            let file = kernel.open_beneath(&root, "file", OpenMode::Read)?;
            kernel.read_at(&file, &mut [0; 10], 0)
        };
        let read = read();
        sender.send((read, kernel.take_call_stats())).unwrap();
    });
    result
}

fn panics(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn each_mounted_device_has_its_own_number_and_kind() {
    let (sim, _) = with_remote();
    let near = sim.open_root(Path::new("/srv")).unwrap();
    let far = sim.open_root(Path::new("/srv/far")).unwrap();
    assert_eq!(sim.file_system(&near).unwrap(), FileSystemKind::Local);
    assert_eq!(sim.file_system(&far).unwrap(), FileSystemKind::Remote);
    let device = |file| sim.status(file).unwrap().device;
    assert_ne!(device(&near), device(&far));
    let mount_of = |path| sim.mount_of(Path::new(path));
    assert_eq!(mount_of("/srv/far/file"), mount_of("/srv/far"));
    assert_ne!(mount_of("/srv"), mount_of("/srv/far"));
    let crossed = sim.open_beneath(&near, "far/file", OpenMode::Read);
    let errno = crossed.err().and_then(|error| error.raw_os_error());
    assert_eq!(errno, Some(Errno::EXDEV as i32));
    let opened = sim.as_worker(|| sim.open_beneath(&near, "far/file", OpenMode::Read).is_ok());
    assert!(opened, "a worker crosses mount points");
    let made = sim.create_named(&near, "new").unwrap();
    let linked = sim.link(&made, &far, "new").unwrap_err();
    assert_eq!(linked.raw_os_error(), Some(Errno::EXDEV as i32));
}

#[test]
fn a_hanging_call_returns_once_its_device_is_released() {
    let (sim, device) = with_remote();
    sim.set_behaviour(device, DeviceBehaviour::Hanging);
    let result = read_by_job(&sim);
    assert_eq!((sim.waiting_jobs(), sim.resumable_jobs()), (1, 0));
    assert!(result.try_recv().is_err());
    sim.set_behaviour(device, DeviceBehaviour::Normal);
    assert!(sim.resume_job(0));
    let (read, stats) = result.try_recv().unwrap();
    assert_eq!(read.unwrap(), 1);
    assert_eq!(stats, CallStats { calls: 3, slow: 1 });
    assert_eq!(sim.waiting_jobs(), 0);

    sim.set_behaviour(device, DeviceBehaviour::Hanging);
    let result = read_by_job(&sim);
    sim.set_behaviour(device, DeviceBehaviour::Failing(Errno::ENOTCONN));
    assert!(sim.resume_job(0));
    let (read, _) = result.try_recv().unwrap();
    assert_eq!(
        read.unwrap_err().raw_os_error(),
        Some(Errno::ENOTCONN as i32)
    );
}

#[test]
fn slow_calls_of_jobs_take_their_time() {
    let (sim, device) = with_remote();
    sim.set_behaviour(device, DeviceBehaviour::Slow(SLOW_CALL));
    let result = read_by_job(&sim);
    let mut calls = 0;
    while result.try_recv().is_err() {
        assert!(!sim.resume_job(0), "the call takes longer");
        sim.advance(SLOW_CALL);
        assert!(sim.resume_job(0));
        calls += 1;
    }
    // Two closes are not measured as calls.
    assert_eq!(calls, 5);
}

#[test]
fn the_event_loop_must_not_call_slow_devices() {
    let (sim, device) = with_remote();
    let stat = || drop(sim.status_by_path(Path::new("/srv/far/file")));
    assert!(!panics(stat), "not forbidden yet");
    sim.set_behaviour(device, DeviceBehaviour::Hanging);
    assert!(panics(stat));
    sim.set_behaviour(device, DeviceBehaviour::Normal);
    sim.forbid_waiting();
    assert!(panics(stat));
    let file = sim.as_worker(|| sim.open_root(Path::new("/srv/far")).unwrap());
    assert!(panics(|| drop(file)), "a close can wait too");

    // Slow calls on a local device are found by making some.
    let near = || drop(sim.status_by_path(Path::new("/srv")));
    sim.set_behaviour(SimDevice::ROOT, DeviceBehaviour::Slow(SLOW_CALL));
    let calls = (0..100).take_while(|_| !panics(near)).count();
    assert!((3..20).contains(&calls), "{calls}");
    let before = sim.elapsed();
    sim.as_worker(near);
    assert!(sim.elapsed() - before >= SLOW_CALL);
}

use super::*;
use crate::config::Home;
use crate::domain::access::{Grant, Rights};
use crate::domain::path::GrantedPath;
use crate::kernel::FileSystemKind;
use crate::kernel::devices::Device;
use crate::kernel::linux::Linux;
use crate::server::workers::job::{Reload, Task};
use crate::storage::QuotaLedger;

fn workers() -> Workers<Linux> {
    Workers::without_threads(Arc::new(Linux::new().unwrap()))
}

fn session(generation: u64) -> SessionId {
    SessionId {
        key: 0,
        generation,
        peer: ([127, 0, 0, 1], 1).into(),
        user: None,
    }
}

fn job(owner: u64, device: &Arc<Device>) -> Job<Linux> {
    let grant = Arc::new(Grant {
        name: "Missing".to_owned(),
        rights: Rights::default(),
        path: "/nonexistent".into(),
    });
    let path = GrantedPath {
        grant,
        relative: "x".to_owned(),
    };
    let lane = Lane::Device(device.clone());
    let reservation = Arc::new(QuotaLedger::default()).reserve("/".as_ref(), Vec::new());
    Job::owned(session(owner), lane, Task::MakeDirectory(path, reservation))
}

fn devices() -> [Arc<Device>; 2] {
    [1, 2].map(|number| Device::detached(number, FileSystemKind::Local))
}

fn results(workers: &Workers<Linux>) -> Vec<u64> {
    let mut results = Vec::new();
    workers.collect(&mut results);
    let owners = results.into_iter().filter_map(|result| match result {
        JobResult::Response { owner, .. } => owner,
        _ => None,
    });
    owners.map(|owner| owner.generation).collect()
}

#[test]
fn the_end_of_a_session_cancels_its_queued_job() {
    let (workers, [a, b]) = (workers(), devices());
    workers.submit(job(1, &a));
    workers.submit(job(2, &b));
    workers.submit(job(3, &a));
    workers.cancel(session(1));
    workers.cancel(session(2));
    workers.cancel(session(4));
    assert_eq!(workers.queued(), 1);
    workers.run_nth(0);
    assert_eq!(results(&workers), [3]);
}

#[test]
fn a_job_cancelled_while_it_runs_has_no_result() {
    let (workers, [a, _]) = (workers(), devices());
    workers.submit(job(1, &a));
    workers.submit(job(2, &a));
    let run = workers.take_nth(0);
    workers.cancel(session(1));
    run();
    workers.run_nth(0);
    assert_eq!(results(&workers), [2]);
}

#[test]
fn a_reload_starts_at_once_however_many_jobs_wait() {
    let (workers, [disk, _]) = (workers(), devices());
    for generation in 0..1500 {
        workers.submit(job(generation, &disk));
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["Credentials", "Directories"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let (home, _) = Home::load(folder.path()).unwrap();
    let reload = Reload {
        home: Arc::new(home),
        devices: Arc::default(),
    };
    workers.submit(Job::detached(Lane::Reload, Task::Reload(reload)));
    assert!(workers.shared.queues().start_reload().is_some());
}

#[test]
fn threads_run_jobs_of_all_devices_and_stop() {
    let workers = Workers::start(Arc::new(Linux::new().unwrap()), 8, 1).unwrap();
    for (generation, device) in (1..).zip(&devices()) {
        workers.submit(job(generation, device));
    }
    let mut done = Vec::new();
    while done.len() < 2 {
        done.extend(results(&workers));
        thread::yield_now();
    }
    done.sort_unstable();
    assert_eq!(done, [1, 2]);
    let began_at = Instant::now();
    drop(workers);
    assert!(began_at.elapsed() < WORKER_STOP_TIMEOUT);
}

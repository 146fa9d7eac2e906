use super::*;
use crate::domain::access::{Grant, Rights};
use crate::domain::path::GrantedPath;
use crate::kernel::FileSystemKind;
use crate::kernel::devices::Device;
use crate::kernel::linux::Linux;
use crate::server::workers::job::Task;

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

fn disk() -> Lane {
    Lane::Device(Device::detached(0, FileSystemKind::Local))
}

fn job(owner: u64, lane: Lane) -> Job<Linux> {
    let grant = Arc::new(Grant {
        name: "Missing".to_owned(),
        rights: Rights::default(),
        path: "/nonexistent".into(),
    });
    let path = GrantedPath {
        grant,
        relative: "x".to_owned(),
    };
    Job::owned(session(owner), lane, Task::MakeDirectory(path))
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
    let workers = workers();
    workers.submit(job(1, disk()));
    workers.submit(job(2, Lane::Reload));
    workers.submit(job(3, disk()));
    workers.cancel(session(1));
    workers.cancel(session(2));
    workers.cancel(session(4));
    assert_eq!(workers.queued(), 1);
    workers.run_nth(0);
    assert_eq!(results(&workers), [3]);
}

#[test]
fn a_cancelled_job_runs_no_further_slice() {
    let workers = workers();
    workers.shared.queues().running.push(session(1));
    workers.cancel(session(1));
    workers.cancel(session(2));
    let mut queues = workers.shared.queues();
    assert!(!queues.end_slice(Some(session(2))), "it was not running");
    assert!(queues.end_slice(Some(session(1))));
    assert!(queues.running.is_empty() && queues.cancelled.is_empty());
    assert!(!queues.end_slice(Some(session(1))));
    assert!(!queues.end_slice(None));
}

#[test]
fn each_role_takes_tasks_from_its_queues_only() {
    let workers = workers();
    for owner in 1..=3 {
        workers.submit(job(owner, Lane::Reload));
    }
    let mut queues = workers.shared.queues();
    let mut take = |mut role| queues.next(&mut role).is_some();
    assert!(!take(Role::Disk));
    assert!(!take(Role::TrustedLogins));
    assert!(take(Role::Processor { job_next: false }));
    assert!(take(Role::Processor { job_next: true }));
}

#[test]
fn threads_run_jobs_of_both_lanes_and_stop() {
    let workers = Workers::start(Arc::new(Linux::new().unwrap()), 1, 1).unwrap();
    workers.submit(job(1, disk()));
    workers.submit(job(2, Lane::Reload));
    let mut done = Vec::new();
    while done.len() < 2 {
        done.extend(results(&workers));
        thread::yield_now();
    }
    done.sort_unstable();
    assert_eq!(done, [1, 2]);
    drop(workers);
}

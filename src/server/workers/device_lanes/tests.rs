use std::sync::atomic::Ordering;

use super::*;
use crate::domain::access::{Grant, Rights};
use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::kernel::FileSystemKind;
use crate::kernel::sim::Sim;
use crate::limits::{
    DISK_PROBE_INTERVAL, DISK_PROBE_TIMEOUT, DISK_THREADS, LANE_OCCUPIED_MAX, LANE_THREADS_MAX,
};
use crate::server::policy::sessions::UserSessions;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::job::{Lane, Success, Task};
use crate::storage::{OrphanSweep, QuotaLedger, StorageError};

const TIMEOUT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Lanes whose time and threads the test controls.
struct World {
    lanes: DeviceLanes<Sim>,
    now: Instant,
    generation: u64,
}

impl World {
    fn new() -> World {
        World {
            lanes: DeviceLanes::new(DISK_THREADS, TIMEOUT),
            now: Instant::now(),
            generation: 0,
        }
    }

    /// Submits a job of a new session, and returns the session and the refusal.
    fn submit(&mut self, device: &Arc<Device>, user: Option<UserKey>) -> (SessionId, bool) {
        self.generation += 1;
        let session_id = SessionId {
            key: 0,
            generation: self.generation,
            peer: ([127, 0, 0, 1], 1).into(),
            user,
        };
        let path = GrantedPath {
            grant: Arc::new(Grant {
                name: "Box".to_owned(),
                rights: Rights::default(),
                path: "/box".into(),
            }),
            relative: "new".to_owned(),
        };
        let lane = Lane::Device(device.clone());
        let reservation = Arc::new(QuotaLedger::default()).reserve("/".as_ref(), Vec::new());
        let job = Job::owned(session_id, lane, Task::MakeDirectory(path, reservation));
        let refused = self.lanes.submit(device, job);
        (session_id, !refused.results.is_empty())
    }

    fn submit_many(&mut self, count: usize, device: &Arc<Device>, user: Option<UserKey>) {
        for _ in 0..count {
            self.submit(device, user);
        }
    }

    /// Starts jobs as long as there are threads.
    fn start_all(&mut self) -> Vec<Started<Sim>> {
        std::iter::from_fn(|| self.start()).collect()
    }

    fn start(&mut self) -> Option<Started<Sim>> {
        self.lanes.start(&JobToken::default(), self.now)
    }

    fn end(&mut self, started: &Started<Sim>) -> Option<JobResult<Sim>> {
        let result = Ran::Finished(Some(response(started.job.owner)));
        self.lanes
            .end(started.index, result, self.now)
            .results
            .pop()
    }

    /// Lets time pass and returns the sessions that are answered.
    fn sweep_after(&mut self, elapsed: Duration) -> Vec<u64> {
        self.now += elapsed;
        let given_up = self.lanes.sweep(self.now);
        given_up.results.iter().filter_map(refused_owner).collect()
    }
}

fn response(owner: Option<SessionId>) -> JobResult<Sim> {
    JobResult::Response {
        owner,
        result: Ok(Success::from(Response::Done)),
        modifies: true,
    }
}

/// The session whose request failed because its device is stuck.
fn refused_owner(result: &JobResult<Sim>) -> Option<u64> {
    match result {
        JobResult::Response {
            owner: Some(owner),
            result:
                Err(StorageError {
                    code: ErrorCode::FileUnwritable,
                    fault: None,
                }),
            ..
        } => Some(owner.generation),
        _ => None,
    }
}

fn local(number: u32) -> Arc<Device> {
    Device::detached(number, FileSystemKind::Local)
}

fn remote(number: u32) -> Arc<Device> {
    Device::detached(number, FileSystemKind::Remote)
}

fn users() -> [Option<UserKey>; 2] {
    let mut users = UserSessions::default();
    ["a", "b"].map(|name| users.acquire(name, None))
}

fn count(started: &[Started<Sim>], device: &Arc<Device>) -> usize {
    let devices = started.iter().map(|started| started.device.number());
    devices.filter(|number| *number == device.number()).count()
}

#[test]
fn a_hanging_device_takes_only_the_threads_of_its_lane() {
    let (mut world, [a, b]) = (World::new(), users());
    let (hanging, other) = (remote(1), remote(2));
    for user in [a, b, None] {
        world.submit_many(100, &hanging, user);
    }
    world.submit_many(100, &other, a);
    world.submit_many(100, &other, b);
    let started = world.start_all();
    assert_eq!(count(&started, &hanging), LANE_THREADS_MAX);
    assert_eq!(count(&started, &other), LANE_THREADS_MAX);
}

#[test]
fn however_many_devices_hang_local_ones_are_served() {
    let (mut world, [a, b]) = (World::new(), users());
    for number in 1..=1000 {
        for user in [a, b] {
            world.submit_many(10, &remote(number), user);
        }
    }
    let hanging = world.start_all();
    assert_eq!(hanging.len(), DISK_THREADS - DISK_THREADS_RESERVED);
    let disk = local(0);
    world.submit_many(10, &disk, a);
    let started = world.start_all();
    assert!(count(&started, &disk) >= 2, "{}", started.len());
    let (_, refused) = world.submit(&remote(2000), a);
    assert!(!refused && world.start().is_none());
    // The device that gets no thread at all gives up like one that hangs.
    world.sweep_after(Duration::ZERO);
    assert!(!world.sweep_after(TIMEOUT).contains(&world.generation));
    assert!(
        world
            .sweep_after(DISK_PROBE_TIMEOUT)
            .contains(&world.generation)
    );
}

#[test]
fn a_user_leaves_a_thread_of_each_lane_to_the_others() {
    let (mut world, [a, b], disk) = (World::new(), users(), local(1));
    world.submit_many(8000, &disk, a);
    let first = world.start_all();
    assert_eq!(first.len(), LANE_THREADS_MAX - 1);
    let (session_id, _) = world.submit(&disk, b);
    let second = world.start_all();
    let owners: Vec<_> = second.iter().map(|started| started.job.owner).collect();
    assert_eq!(owners, [Some(session_id)]);
}

#[test]
fn the_disk_timeout_answers_all_sessions_of_the_lane() {
    let (mut world, [a, b], disk) = (World::new(), users(), remote(1));
    world.submit_many(20, &disk, a);
    world.submit(&disk, b);
    let started = world.start_all();
    assert_eq!(started.len(), LANE_THREADS_MAX);
    assert_eq!(world.sweep_after(TIMEOUT - SECOND), [0_u64; 0]);
    let hanging: Vec<_> = started.iter().map(|started| started.job.owner).collect();
    let first = world.sweep_after(SECOND);
    assert_eq!(first.len(), LANE_THREADS_MAX, "{first:?} of {hanging:?}");
    let probe = world.start_all();
    assert_eq!(probe.len(), 1, "nothing else starts");
    assert_eq!(world.sweep_after(SECOND), [0_u64; 0]);
    assert!(!disk.is_stuck());
    let rest = world.sweep_after(SECOND);
    assert_eq!(rest.len(), 21 - LANE_THREADS_MAX);
    assert!(disk.is_stuck());
    assert_eq!(world.sweep_after(TIMEOUT), [0_u64; 0]);
}

#[test]
fn a_file_that_hangs_does_not_make_its_device_stuck() {
    let (mut world, [a, b], disk) = (World::new(), users(), local(1));
    world.submit_many(20, &disk, a);
    let hanging = world.start_all();
    assert_eq!(hanging.len(), LANE_THREADS_MAX - 1);
    assert_eq!(world.sweep_after(TIMEOUT).len(), LANE_THREADS_MAX - 1);
    assert!(!disk.is_inline(), "the event loop does not risk a call");
    let probe = world.start().unwrap();
    world.end(&probe);
    world.sweep_after(10 * SECOND);
    assert!(!disk.is_stuck());
    assert!(world.start().is_none(), "the user has no place left");
    world.submit_many(20, &disk, b);
    assert_eq!(world.start_all().len(), LANE_THREADS_MAX - 1);
    // The key of a user that is gone may become another user's.
    world.lanes.end_user(a.unwrap(), world.now);
    assert_eq!(world.start_all().len(), 1);
}

#[test]
fn a_stuck_device_refuses_until_a_call_returns() {
    let (mut world, disk) = (World::new(), remote(1));
    world.submit(&disk, None);
    let hanging = world.start().unwrap();
    world.sweep_after(TIMEOUT);
    world.sweep_after(DISK_PROBE_TIMEOUT);
    let (_, is_refused) = world.submit(&disk, None);
    assert!(is_refused);
    let late = world.end(&hanging);
    assert!(
        matches!(late, Some(JobResult::Response { owner: None, .. })),
        "the change is noticed, and no session is answered twice"
    );
    assert!(!disk.is_stuck());
    let (session_id, is_refused) = world.submit(&disk, None);
    let started = world.start().unwrap();
    assert_eq!((is_refused, started.job.owner), (false, Some(session_id)));
}

#[test]
fn one_probe_at_a_time_tries_a_stuck_device() {
    let (mut world, [a, b], disk) = (World::new(), users(), remote(1));
    world.submit_many(4, &disk, a);
    let _hanging = world.start_all();
    world.sweep_after(TIMEOUT);
    let probe = world.start().unwrap();
    for _ in 0..10 {
        world.sweep_after(DISK_PROBE_INTERVAL);
        assert!(world.start().is_none(), "one probe runs");
    }
    assert!(disk.is_stuck());
    world.end(&probe);
    assert!(!disk.is_stuck());
    world.submit_many(10, &disk, b);
    let others = world.start_all();
    assert_eq!(
        others.len(),
        LANE_THREADS_MAX - 1,
        "next to those that hang"
    );
}

#[test]
fn calls_that_never_return_take_a_bounded_number_of_threads() {
    let (mut world, disk) = (World::new(), remote(1));
    let mut names = UserSessions::default();
    let mut lost = Vec::new();
    for round in 0..20 {
        let user = names.acquire(&round.to_string(), None);
        world.submit_many(4, &disk, user);
        // The probes return, the others hang.
        for _ in 0..20 {
            for started in world.start_all() {
                match started.job.owner {
                    None => drop(world.end(&started)),
                    Some(_) => lost.push(started),
                }
            }
            world.sweep_after(SECOND);
        }
    }
    assert_eq!(lost.len(), LANE_OCCUPIED_MAX);
    let (_, is_refused) = world.submit(&disk, None);
    assert!(is_refused);
    for started in &lost {
        world.end(started);
    }
    assert!(!disk.is_stuck());
    assert!(world.lanes.lanes.is_empty() && world.lanes.running.is_empty());
}

#[test]
fn users_take_turns_slice_by_slice() {
    let (mut world, [a, b], disk) = (World::new(), users(), local(1));
    world.submit_many(300, &disk, a);
    let (session_id, _) = world.submit(&disk, b);
    let mut slices = 0;
    for _ in 0..40 {
        let Started { index, job, .. } = world.start().unwrap();
        slices += usize::from(job.owner == Some(session_id));
        world.now += Duration::from_millis(10);
        world.lanes.end(index, Ran::Again(job), world.now);
    }
    assert!((19..=21).contains(&slices), "{slices} of 40");
}

#[test]
fn a_job_that_makes_progress_is_not_given_up() {
    let (mut world, disk) = (World::new(), remote(1));
    world.submit(&disk, None);
    let token = JobToken::default();
    let started = world.lanes.start(&token, world.now).unwrap();
    for _ in 0..10 {
        assert_eq!(
            world.sweep_after(TIMEOUT - Duration::from_secs(1)),
            [0_u64; 0]
        );
        token.calls().fetch_add(1, Ordering::Relaxed);
    }
    assert!(!disk.is_stuck());
    assert!(world.end(&started).is_some());
}

#[test]
fn a_cancelled_job_frees_its_place() {
    let (mut world, disk) = (World::new(), remote(1));
    let (queued, _) = world.submit(&disk, None);
    assert_eq!(
        world
            .lanes
            .cancel(CancelKey::Session(queued.generation))
            .len(),
        1
    );
    assert!(world.start().is_none() && world.lanes.lanes.is_empty());

    let (running, _) = world.submit(&disk, None);
    let token = JobToken::default();
    let started = world.lanes.start(&token, world.now).unwrap();
    assert!(
        world
            .lanes
            .cancel(CancelKey::Session(running.generation))
            .is_empty()
    );
    assert!(token.is_cancelled());
    // Its next slice is dropped.
    let ended = (world.lanes).end(started.index, Ran::Again(started.job), world.now);
    assert!(ended.results.is_empty() && matches!(ended.rest, Ran::Again(_)));
    assert!(world.start().is_none() && world.lanes.owned.len() == 0);
    assert!(world.lanes.lanes.is_empty(), "no thread is occupied");
}

#[test]
fn a_job_that_turns_out_to_be_on_a_stuck_device_is_answered() {
    let (mut world, disk, mount) = (World::new(), local(1), remote(2));
    mount.set_stuck(true);
    let (session_id, _) = world.submit(&disk, None);
    let Started { index, job, .. } = world.start().unwrap();
    let lane = Lane::Device(mount);
    let ended = (world.lanes).end(index, Ran::Again(Job { lane, ..job }), world.now);
    let answered: Vec<_> = ended.results.iter().filter_map(refused_owner).collect();
    assert_eq!(answered, [session_id.generation]);
    assert!(world.start().is_none() && world.lanes.lanes.is_empty());
}

#[test]
fn a_device_whose_client_has_left_is_found_stuck_all_the_same() {
    let (mut world, disk) = (World::new(), remote(1));
    let (session_id, _) = world.submit(&disk, None);
    let _hanging = world.start().unwrap();
    world
        .lanes
        .cancel(CancelKey::Session(session_id.generation));
    assert_eq!(world.sweep_after(TIMEOUT), [0_u64; 0], "no session waits");
    world.sweep_after(DISK_PROBE_TIMEOUT);
    assert!(disk.is_stuck());
}

#[test]
fn sweeps_and_counts_run_one_at_a_time() {
    let (mut world, disk) = (World::new(), local(1));
    for root in ["/a", "/b", "/c"] {
        let lane = Lane::Background(disk.clone());
        let task = Task::SweepOrphans(OrphanSweep::new(root.as_ref()));
        world.lanes.submit(&disk, Job::detached(lane, task));
    }
    world.submit_many(2, &disk, None);
    assert_eq!(world.start_all().len(), 3);
}

/// 8,000 waiting jobs: what is looked at for one job does not grow with them.
#[test]
fn the_order_of_a_lane_has_one_entry_per_user() {
    let (mut world, [a, b], disk) = (World::new(), users(), local(1));
    world.submit_many(8000, &disk, a);
    let (last, _) = world.submit(&disk, b);
    assert_eq!(world.lanes.lanes[&1].queue().entries(), 2);
    assert_eq!(world.lanes.ready[0].len() + world.lanes.ready[1].len(), 1);
    assert_eq!(world.lanes.owned.len(), 8001);
    world.lanes.cancel(CancelKey::Session(last.generation));
    assert_eq!(world.lanes.lanes[&1].queue().entries(), 1);
}

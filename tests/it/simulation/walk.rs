//! The call that fails walks from the first one on, in each way that it can, until nothing fails any more: one client at
//! most suffers, and the server serves on.

use std::time::Duration;

use fastrand::Rng;
use nix::errno::Errno;
use tidegate::kernel::sim::Sim;
use tidegate::kernel::sim::fault_plan::{FaultPlan, InjectedFault, SystemCall};
use tidegate::server::Options;

use super::client::Client;
use super::model::World;
use super::script::{Item, right_login, wrong_login};
use super::{Happens, Run};

/// Seeds under which little is cut, so that there are few calls; under the second two there are no unnamed files.
const SEEDS: [u64; 4] = [2, 18, 9, 15];

#[test]
fn a_failing_system_call_affects_at_most_one_client() {
    // In a normal run each seed takes its share of the calls.
    let stride = match std::env::var_os("TIDEGATE_SEEDS") {
        Some(_) => 1,
        None => SEEDS.len(),
    };
    for (share, seed) in SEEDS.into_iter().enumerate() {
        let mut calls = (1..).skip(share).step_by(stride);
        let last = calls.find(|n| !fail(seed, *n)).expect("it ends");
        assert!(last > 100, "seed {seed} makes only {last} calls");
    }
}

/// Runs with the n-th call failing in each way that it can; whether there are as many.
fn fail(seed: u64, n: u64) -> bool {
    for which in 0.. {
        let mut run = stage(seed);
        let told = Told(run.sim.clone(), seed, n);
        run.sim.set_fault_plan(FaultPlan::NthCall(n, which));
        run.finish();
        let calls = run.sim.call_count();
        let fired = run.sim.injected_faults();
        run.sim.set_fault_plan(FaultPlan::NoFaults);
        let suffer = run.clients.iter().filter(|client| client.has_suffered);
        assert!(suffer.count() <= 1, "{fired:?} is suffered from by many");
        // Who comes afterwards notices nothing.
        run.happens.few_faults = false;
        run.world.faulty = false;
        let script = script_of_reader(&run.world, 9);
        run.clients.push(Client::brisk(9, script));
        run.finish();
        run.end();
        drop(told);
        if fired.is_empty() {
            return calls >= n;
        }
    }
    unreachable!("there are few ways to fail")
}

/// Tells what has failed when a run does.
struct Told(Sim, u64, u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Told(sim, seed, n) = self;
            eprintln!("seed {seed}, call {n}: {:?}", sim.injected_faults());
        }
    }
}

/// Whether nobody may notice it: what can be done in another way is, and what is cut goes on.
pub(super) fn is_harmless((call, fault): (SystemCall, InjectedFault)) -> bool {
    let again = fault == InjectedFault::Error(Errno::EAGAIN);
    let unsupported = fault == InjectedFault::Error(Errno::EOPNOTSUPP);
    match call {
        _ if fault == InjectedFault::Short => true,
        SystemCall::Accept
        | SystemCall::Map
        | SystemCall::IsCached
        | SystemCall::ReadAhead
        | SystemCall::Lock => true,
        // It is only looked whether something has changed, and else it is opened anew.
        SystemCall::StatusByPath => true,
        // The sweep after the next start makes up for it.
        SystemCall::Remove => true,
        SystemCall::Receive | SystemCall::Send | SystemCall::SendFile => again,
        SystemCall::CreateUnnamed | SystemCall::Preallocate => unsupported,
        _ => false,
    }
}

/// A few clients who do everything.
fn stage(seed: u64) -> Run {
    let mut rng = Rng::with_seed(seed);
    let sim = Sim::new(seed);
    sim.set_unnamed_files(seed.is_multiple_of(2));
    let mut world = World::new(&mut rng, &sim, 70_000);
    world.grant_everything();
    let writer = script_of_writer(&mut rng, &mut world, 1);
    let scripts = [
        script_of_reader(&world, 0),
        writer,
        script_of_stranger(&world),
    ];
    let clients = scripts.into_iter().enumerate();
    let clients = clients
        .map(|(id, script)| Client::brisk(id, script))
        .collect();
    let options = Options {
        login_timeout: Duration::from_secs(3600),
        max_failures: u32::MAX,
        ..Options::default()
    };
    let happens = Happens {
        few_faults: true,
        ..Happens::default()
    };
    Run::new(rng, sim, world, clients, options, happens)
}

fn script_of_reader(world: &World, id: usize) -> Vec<Item> {
    let download = |path: &str| Item::Download {
        path: path.into(),
        short: true,
    };
    vec![
        Item::Greet,
        right_login(world, id % world.users.len()),
        Item::Enter {
            path: "Movies".into(),
            short: false,
        },
        Item::Details,
        download("Film 1"),
        download("Movies/WAR"),
        download("Movies/Classics/Film 4"),
        download("Movies/outside"),
        Item::Resume {
            path: "Movies/Classics/Silent/Film 7".into(),
            from: 5000,
            short: false,
        },
        Item::Checksum {
            path: "Joker".into(),
            short: true,
        },
        Item::Quit { behind: 3000 },
    ]
}

fn script_of_writer(rng: &mut Rng, world: &mut World, user: usize) -> Vec<Item> {
    let path = "Mail/note".to_owned();
    world.plan_directory("Mail/made");
    let versions: Vec<_> = (0..3)
        .map(|_| world.plan_upload(rng, &path, 10_000))
        .collect();
    let put = |version: usize| Item::Put {
        path: path.clone(),
        version,
    };
    vec![
        Item::Greet,
        right_login(world, user),
        put(versions[0]),
        Item::Upload {
            path: path.clone(),
            version: versions[1],
            short: true,
        },
        Item::MakeDirectory {
            path: "Mail/made".into(),
            short: true,
        },
        put(versions[2]),
        Item::Enter {
            path: "Mail".into(),
            short: true,
        },
        Item::Noise(b"a last line without an end".into()),
    ]
}

fn script_of_stranger(world: &World) -> Vec<Item> {
    vec![Item::Greet, wrong_login(world), Item::Help, Item::TooLong]
}

//! Lets each system call of a scenario fail, in each way that it can. At most one client may be
//! affected, and later clients must not notice anything.

use std::time::Duration;

use fastrand::Rng;
use nix::errno::Errno;
use tidegate::kernel::sim::Sim;
use tidegate::kernel::sim::fault_plan::{FaultPlan, InjectedFault, SystemCall};
use tidegate::server::Options;

use super::client::Client;
use super::model::Model;
use super::script::{Item, right_login, wrong_login};
use super::{Events, Run};

/// Seeds with few short reads and writes, so that there are few calls. The last two have no unnamed
/// files.
const SEEDS: [u64; 4] = [2, 18, 9, 15];

#[test]
fn a_failing_system_call_affects_at_most_one_client() {
    // In a normal run, each seed covers a part of the calls.
    let stride = match std::env::var_os("TIDEGATE_SEEDS") {
        Some(_) => 1,
        None => SEEDS.len(),
    };
    for (share, seed) in SEEDS.into_iter().enumerate() {
        let mut calls = (1..).skip(share).step_by(stride);
        let last = calls.find(|n| !fail(seed, *n)).expect("the scenario ends");
        assert!(last > 100, "seed {seed} makes only {last} calls");
    }
}

/// Runs the scenario with each possible failure of the n-th call. Returns false if there are fewer
/// calls.
fn fail(seed: u64, n: u64) -> bool {
    for which in 0.. {
        let mut run = scenario(seed);
        let guard = FailureGuard(run.sim.clone(), seed, n);
        run.sim.set_fault_plan(FaultPlan::NthCall(n, which));
        run.finish();
        let calls = run.sim.call_count();
        let fired = run.sim.injected_faults();
        run.sim.set_fault_plan(FaultPlan::NoFaults);
        let affected = run.clients.iter().filter(|client| client.saw_fault);
        assert!(affected.count() <= 1, "{fired:?} affects several clients");
        // A later client notices nothing.
        run.events.few_faults = false;
        run.model.faulty = false;
        let script = reader_script(&run.model, 9);
        run.clients.push(Client::fast(9, script));
        run.finish();
        run.end();
        drop(guard);
        if fired.is_empty() {
            return calls >= n;
        }
    }
    unreachable!("a call has few failures")
}

/// Prints the injected faults if the run panics.
struct FailureGuard(Sim, u64, u64);

impl Drop for FailureGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let FailureGuard(sim, seed, n) = self;
            eprintln!("seed {seed}, call {n}: {:?}", sim.injected_faults());
        }
    }
}

/// Returns whether no client may notice a fault, because the server has an alternative.
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
        // The server opens the file again instead of revalidating the cached handle.
        SystemCall::StatusByPath => true,
        // The cleanup at the next start removes the file.
        SystemCall::Remove => true,
        SystemCall::Receive | SystemCall::Send | SystemCall::SendFile => again,
        SystemCall::CreateUnnamed | SystemCall::Preallocate => unsupported,
        _ => false,
    }
}

/// Creates a run with a few clients that use all commands.
fn scenario(seed: u64) -> Run {
    let mut rng = Rng::with_seed(seed);
    let sim = Sim::new(seed);
    sim.set_unnamed_files(seed.is_multiple_of(2));
    let mut model = Model::new(&mut rng, &sim, 70_000);
    model.grant_everything();
    let writer = writer_script(&mut rng, &mut model, 1);
    let scripts = [reader_script(&model, 0), writer, rejected_script(&model)];
    let clients = scripts.into_iter().enumerate();
    let clients = clients
        .map(|(id, script)| Client::fast(id, script))
        .collect();
    let options = Options {
        login_timeout: Duration::from_secs(3600),
        max_failures: u32::MAX,
        ..Options::default()
    };
    let events = Events {
        few_faults: true,
        ..Events::default()
    };
    Run::new(rng, sim, model, clients, options, events)
}

fn reader_script(model: &Model, id: usize) -> Vec<Item> {
    let download = |path: &str| Item::Download {
        path: path.into(),
        short: true,
    };
    vec![
        Item::Greet,
        right_login(model, id % model.users.len()),
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
        Item::Quit { ignored: 3000 },
    ]
}

fn writer_script(rng: &mut Rng, model: &mut Model, user: usize) -> Vec<Item> {
    let path = "Mail/note".to_owned();
    model.plan_directory("Mail/made");
    let versions: Vec<_> = (0..3)
        .map(|_| model.plan_upload(rng, &path, 10_000))
        .collect();
    let put = |version: usize| Item::Put {
        path: path.clone(),
        version,
    };
    vec![
        Item::Greet,
        right_login(model, user),
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

fn rejected_script(model: &Model) -> Vec<Item> {
    vec![Item::Greet, wrong_login(model), Item::Help, Item::TooLong]
}

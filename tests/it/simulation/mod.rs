//! The whole server on a simulated kernel: the real event_loop, connections, transfers, answers and vault, model clients that
//! know every byte that may come, and a world that cuts, resets, stalls, fails and loses power, all from one seed.
//!
//! `TIDEGATE_SEED=n` runs one seed, `TIDEGATE_SEEDS=n` so many, and `TIDEGATE_TRACE=1` tells what is said and logged. A
//! seed that failed is put into `failed_seeds.txt` and runs first from then on.

mod client;
mod ftp;
mod ftp_dialogue;
mod ftp_seeds;
mod limits;
mod menu_seeds;
mod model;
mod replies;
mod scenarios;
mod script;
mod walk;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use log::{LevelFilter, debug};
use tempfile::TempDir;
use tidegate::config::Home;
use tidegate::kernel::sim::fault_plan::{FaultPlan, SystemCall};
use tidegate::kernel::sim::{HeldHandles, Sim, SimEntry};
use tidegate::kernel::{Kernel, Signal};
use tidegate::limits::{FAILURE_DELAY_MAX, SLICE_BUDGET_BYTES, SWEEP_INTERVAL};
use tidegate::protocol::session::Dialect;
use tidegate::server;
use tidegate::server::{EventLoop, Options};

use crate::support::seeds::{for_seeds, once_in};
use client::Client;
use model::World;

/// Seeds of a normal run.
const SEEDS: u64 = 256;

/// Steps of a run in which anything goes.
const ROUGH_STEPS: usize = 2000;

/// Steps within which everybody who is not stalled must have moved a byte once nothing fails any more; as far as they
/// take no time, so many more that a sweep comes between, and the answer to a failed login.
const PATIENCE_STEPS: usize = 300;
const TIMEOUT: Duration = FAILURE_DELAY_MAX.saturating_add(SWEEP_INTERVAL.saturating_mul(2));
const PATIENCE_STEPS_MAX: usize = 20_000;

#[test]
fn the_server_survives_random_kernel_faults() {
    let failed = include_str!("failed_seeds.txt").lines();
    let failed = failed.filter(|line| !line.starts_with('#'));
    let failed = failed.map(|line| line.parse().expect("a seed a line"));
    for_seeds(&failed.collect::<Vec<u64>>(), SEEDS, |seed| {
        Run::from_seed(seed).run();
    });
}

/// One run.
struct Run {
    rng: Rng,
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    world: World,
    clients: Vec<Client>,
    home: TempDir,
    options: Options,
    happens: Happens,
}

/// What happens beside the clients.
#[derive(Debug, Default)]
struct Happens {
    /// People change files.
    news: bool,
    /// The home is read again, now and then with a fault in it.
    reloads: bool,
    /// Reloads change what people may do; by numbers of their own, so that the rest of a run is the same without.
    rights: Option<Rng>,
    /// A user is taken away at this step.
    revoked: Option<usize>,
    /// The server is told to stop at this step.
    stopped: Option<usize>,
    /// Until a call has failed that somebody must suffer from, nobody may.
    few_faults: bool,
}

impl Run {
    fn from_seed(seed: u64) -> Run {
        let mut rng = Rng::with_seed(seed);
        let sim = Sim::new(rng.u64(..));
        sim.set_unnamed_files(!once_in(&mut rng, 4));
        if seed.is_multiple_of(4) {
            sim.set_slow();
        }
        let large = rng.usize(SLICE_BUDGET_BYTES..4 * SLICE_BUDGET_BYTES);
        let mut world = World::new(&mut rng, &sim, large);
        let scripts: Vec<_> = (0..rng.usize(1..10))
            .map(|id| script::script(&mut rng, &mut world, id))
            .collect();
        let clients: Vec<_> = (scripts.into_iter().enumerate())
            .map(|(id, script)| Client::new(&mut rng, id, script))
            .collect();
        let mut options = Options {
            hide_usernames: world.hidden,
            max_upload: world.max_upload,
            login_timeout: Duration::from_secs(3600),
            // Answers are held back, and nobody is turned away: whose turn that is no client can know.
            max_failures: u32::MAX,
            ..Options::default()
        };
        if once_in(&mut rng, 8) {
            options.max_rate = Some(rng.u64(1_000_000..20_000_000));
        }
        if once_in(&mut rng, 8) {
            options.max_sessions = rng.usize(1..5);
            world.crowded = true;
        }
        if once_in(&mut rng, 8) {
            options.idle_timeout = Duration::from_secs(5);
            options.login_timeout = Duration::from_secs(3);
            world.impatient = true;
        }
        if once_in(&mut rng, 4) {
            sim.set_capacity(rng.u64(1_300_000..3_000_000));
            world.tight = true;
        }
        let step = |rng: &mut Rng| once_in(rng, 6).then(|| rng.usize(..ROUGH_STEPS));
        let happens = Happens {
            news: rng.bool(),
            reloads: once_in(&mut rng, 4),
            rights: seed.is_multiple_of(3).then(|| Rng::with_seed(seed)),
            revoked: step(&mut rng),
            stopped: step(&mut rng),
            few_faults: false,
        };
        let mut run = Run::new(rng, sim, world, clients, options, happens);
        if once_in(&mut run.rng, 8) {
            run.sim.set_descriptors(run.rng.usize(4..30));
            run.world.faulty = true;
        }
        if once_in(&mut run.rng, 3) {
            run.sim
                .set_fault_plan(FaultPlan::from_seed(run.rng.u64(..)));
            run.world.faulty = true;
        }
        debug!(
            "faulty={} impatient={}",
            run.world.faulty, run.world.impatient
        );
        run
    }

    /// A server that stands ready in a world.
    fn new(
        rng: Rng,
        sim: Sim,
        world: World,
        clients: Vec<Client>,
        options: Options,
        happens: Happens,
    ) -> Run {
        if std::env::var_os("TIDEGATE_TRACE").is_some() {
            // From the second run on there is a log already.
            let _ = server::log::start(LevelFilter::Debug, server::log::Format::Text);
        }
        debug!("{happens:?} {options:?}");
        sim.set_max_wait(Duration::from_millis(1));
        // Thousands of runs would wait for a disk.
        let home = match Path::new("/dev/shm") {
            memory if memory.is_dir() => TempDir::new_in(memory),
            _ => TempDir::new(),
        };
        let home = home.expect("a temporary folder");
        write_home(home.path(), world.home());
        let path = home.path().to_str().expect("a folder in UTF-8");
        sim.put(path, SimEntry::Directory);
        let (event_loop, address) = serve(&sim, home.path(), options.clone());
        Run {
            rng,
            sim,
            event_loop,
            address,
            world,
            clients,
            home,
            options,
            happens,
        }
    }

    fn run(mut self) {
        while self.world.step < ROUGH_STEPS && !self.clients.iter().all(Client::is_gone) {
            self.step();
            if once_in(&mut self.rng, 256) {
                self.lose_power();
            }
        }
        // From here on nothing fails, and everybody who can finish does.
        self.sim.set_fault_plan(FaultPlan::NoFaults);
        self.sim.set_descriptors(usize::MAX);
        self.clients.iter_mut().for_each(Client::hurry);
        self.finish();
        self.clients.iter_mut().for_each(Client::wake);
        self.finish();
        self.end();
    }

    /// One step of everybody.
    fn step(&mut self) {
        self.world.step += 1;
        let step = Some(self.world.step);
        if self.happens.news && once_in(&mut self.rng, 64) {
            self.world.change_news(&mut self.rng, &self.sim);
        }
        if self.happens.reloads && once_in(&mut self.rng, 256) {
            let broken = once_in(&mut self.rng, 3);
            self.reload(broken);
        }
        if let Some(rng) = &mut self.happens.rights
            && once_in(rng, 128)
        {
            self.world.change_rights(rng);
            self.reload(false);
        }
        if self.happens.revoked == step {
            self.world.revoke(self.sim.elapsed());
            self.reload(false);
        }
        if self.happens.stopped == step {
            self.world.stopping = Some(self.sim.elapsed());
            self.sim.send_signal(Signal::Stop);
        }
        if once_in(&mut self.rng, 128) {
            let time = Duration::from_millis(self.rng.u64(..1500));
            self.sim.advance(time);
        }
        for client in &mut self.clients {
            client.act(&mut self.rng, &self.sim, &mut self.world, self.address);
        }
        self.turn();
        while self.event_loop.jobs() > 0 && !once_in(&mut self.rng, 3) {
            self.run_job();
        }
    }

    fn turn(&mut self) {
        if self.event_loop.stopped().is_some() {
            // Nobody serves any more, but what was sent still arrives.
            let polled = self.sim.poll(&mut Vec::new(), Some(Duration::ZERO));
            return polled.expect("polling does not fail");
        }
        self.event_loop.tick().expect("polling does not fail");
        self.event_loop.assert_invariants();
        let slots = self.event_loop.connections();
        assert_eq!(self.sim.held_handles().sockets, slots, "a socket a slot");
        if self.happens.few_faults {
            let fired = self.sim.injected_faults();
            self.world.faulty = !fired.into_iter().all(walk::is_harmless);
        }
        let waits = self.sim.stalls() > 0 && !self.world.faulty;
        assert!(!waits, "the loop waits for the disk");
    }

    fn run_job(&mut self) {
        let job = self.rng.usize(..self.event_loop.jobs());
        self.sim.as_worker(|| self.event_loop.run_job(job));
    }

    fn run_jobs(&mut self) {
        while self.event_loop.jobs() > 0 {
            self.run_job();
        }
    }

    /// Goes on until everybody but the stalled has left, and sees that nobody is starved.
    fn finish(&mut self) {
        self.sim.set_max_wait(Duration::from_millis(50));
        let mut waits = vec![(0, self.world.step, self.sim.elapsed()); self.clients.len()];
        loop {
            self.step();
            let (step, now) = (self.world.step, self.sim.elapsed());
            let mut all_gone = true;
            for (client, (moved, since, at)) in self.clients.iter().zip(&mut waits) {
                if client.is_gone() || client.is_stalled(step) {
                    continue;
                }
                all_gone = false;
                if *moved != client.moved {
                    (*moved, *since, *at) = (client.moved, step, now);
                }
                let steps = step - *since;
                let is_starved =
                    steps >= PATIENCE_STEPS && now - *at >= TIMEOUT || steps >= PATIENCE_STEPS_MAX;
                assert!(!is_starved, "starved: {}", client.waits_for());
            }
            if all_gone {
                return;
            }
        }
    }

    /// Takes the home up again; one with a fault in it changes nothing.
    fn reload(&mut self, broken: bool) {
        let (credentials, directories) = self.world.home();
        let directories = if broken {
            "nonsense\n".into()
        } else {
            directories
        };
        write_home(self.home.path(), (credentials, directories));
        self.sim.send_signal(Signal::Reload);
        self.turn();
        self.run_jobs();
        self.turn();
        write_home(self.home.path(), self.world.home());
    }

    /// What a power cut at this moment leaves is whole, and the sweep after the next start takes what is not.
    fn lose_power(&mut self) {
        self.world.audit(&self.sim);
        let after = self.sim.crash();
        self.world.audit(&after);
        let (mut event_loop, _) = serve(&after, self.home.path(), self.options.clone());
        event_loop.sweep_leftovers();
        while event_loop.jobs() > 0 {
            after.as_worker(|| event_loop.run_job(0));
        }
        let mut temporary = self.world.audit(&after);
        temporary.retain(|path| self.world.is_granted(path));
        assert!(temporary.is_empty(), "{temporary:?} outlive the sweep");
    }

    /// Everybody has left: the server rests, and stops, and nothing is left.
    fn end(mut self) {
        self.lose_power();
        self.sim.set_max_wait(Duration::from_secs(1));
        for _ in 0..100 {
            self.turn();
            self.run_jobs();
        }
        assert_eq!(self.event_loop.connections(), 0, "slots are left");
        let listeners = usize::from(self.event_loop.stopped().is_none());
        if listeners > 0 {
            let held = HeldHandles {
                listeners,
                ..HeldHandles::default()
            };
            assert_eq!(self.sim.held_handles(), held, "handles are left");
            self.sim.send_signal(Signal::Stop);
            self.turn();
        }
        assert!(self.event_loop.stopped().is_some(), "it does not stop");
        drop(self.event_loop);
        assert_eq!(
            self.sim.held_handles(),
            HeldHandles::default(),
            "handles outlive it"
        );
        let fired = self.sim.injected_faults();
        let excused = fired.iter().any(|(call, _)| *call == SystemCall::Remove);
        let temporary = self.world.audit(&self.sim);
        assert!(
            temporary.is_empty() || excused,
            "{temporary:?} are left behind {fired:?}"
        );
    }
}

fn serve(sim: &Sim, home: &Path, options: Options) -> (EventLoop<Sim>, SocketAddr) {
    let (home, _) = Home::load(home).expect("a home without faults");
    let mut event_loop = EventLoop::without_threads(Arc::new(sim.clone()), home, options);
    let address = "127.0.0.1:0".parse().expect("an address");
    let address = event_loop
        .listen(address, Dialect::Menu)
        .expect("nothing fails yet");
    (event_loop, address)
}

fn write_home(home: &Path, (credentials, directories): (String, String)) {
    fs::write(home.join("Credentials"), credentials).expect("Credentials");
    fs::write(home.join("Directories"), directories).expect("Directories");
}

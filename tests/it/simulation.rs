//! The whole server on a simulated kernel: the real engine, connections, transfers, answers and vault, model clients that
//! know every byte that may come, and a world that cuts, resets, stalls, fails and loses power, all from one seed.
//!
//! `TIDEGATE_SEED=n` runs one seed, `TIDEGATE_SEEDS=n` so many. A seed that failed is put into `failed_seeds.txt` and
//! runs first from then on.

mod client;
mod script;
mod stories;
mod world;

use std::fs;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tidegate::home::Home;
use tidegate::kernel::sim::faults::{Call, Plan};
use tidegate::kernel::sim::{Entry, Held, Sim};
use tidegate::kernel::{Kernel, Signal};
use tidegate::server::{Engine, Options};

use client::Client;
use world::World;

/// Seeds of a normal run.
const SEEDS: u64 = 64;

/// Steps of a run in which anything goes.
const ROUGH_STEPS: usize = 2000;

/// Steps within which everybody who is not stalled must have moved a byte once nothing fails any more.
const PATIENCE_STEPS: usize = 300;

#[test]
fn nothing_is_lost_whatever_the_kernel_does() {
    for seed in seeds() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| Run::new(seed).run())) {
            eprintln!("TIDEGATE_SEED={seed} fails; put it into tests/it/failed_seeds.txt");
            resume_unwind(panic);
        }
    }
}

/// The seeds to run: those that ever failed come first.
fn seeds() -> Vec<u64> {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    if let Some(seed) = number("TIDEGATE_SEED") {
        return vec![seed];
    }
    let failed = include_str!("failed_seeds.txt").lines();
    let failed = failed.filter(|line| !line.starts_with('#') && !line.is_empty());
    let failed = failed.map(|line| line.parse().expect("a seed a line"));
    failed
        .chain(0..number("TIDEGATE_SEEDS").unwrap_or(SEEDS))
        .collect()
}

/// One run.
struct Run {
    rng: Rng,
    sim: Sim,
    engine: Engine<Sim>,
    address: SocketAddr,
    world: World,
    clients: Vec<Client>,
    home: TempDir,
    options: Options,
    /// People change files.
    has_news: bool,
    reloads: bool,
    /// The step at which the server is told to stop, if before its clients have finished.
    stop_at: Option<usize>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut rng = Rng::with_seed(seed);
        let sim = Sim::new(rng.u64(..));
        sim.set_patience(Duration::from_millis(1));
        sim.set_unnamed_files(rng.u8(..4) > 0);
        let mut world = World::new(&mut rng, &sim);
        let scripts: Vec<_> = (0..rng.usize(1..10))
            .map(|id| script::script(&mut rng, &mut world, id))
            .collect();
        let clients = scripts.into_iter().enumerate();
        let clients: Vec<_> = clients
            .map(|(id, script)| Client::new(&mut rng, id, script))
            .collect();
        let home = TempDir::new().expect("a temporary folder");
        let (credentials, directories) = world.home();
        write_home(home.path(), &credentials, &directories);
        sim.put(home.path().to_str().expect("UTF-8"), Entry::Directory);
        let mut options = Options {
            hide_usernames: world.hidden,
            max_upload: world.max_upload,
            login_timeout: Duration::from_secs(3600),
            ..Options::default()
        };
        if rng.u8(..8) == 0 {
            options.max_sessions = rng.usize(1..5);
            world.crowded = true;
        }
        if rng.u8(..8) == 0 {
            (options.idle_timeout, options.login_timeout) =
                (Duration::from_secs(5), Duration::from_secs(3));
            world.impatient = true;
        }
        if rng.u8(..4) == 0 {
            sim.set_capacity(rng.u64(1_300_000..3_000_000));
            world.tight = true;
        }
        if rng.u8(..8) == 0 {
            sim.set_descriptors(rng.usize(4..30));
            world.faulty = true;
        }
        let (engine, address) = serve(&sim, home.path(), options.clone());
        if rng.u8(..3) == 0 {
            sim.plan(Plan::from_seed(rng.u64(..)));
            world.faulty = true;
        }
        let has_news = rng.bool();
        let reloads = rng.u8(..4) == 0;
        let stop_at = (rng.u8(..6) == 0).then(|| rng.usize(..ROUGH_STEPS));
        if std::env::var("DBG").is_ok() {
            eprintln!(
                "clients {} hidden {} max_upload {:?} tight {} faulty {} crowded {} impatient {} news {} reloads {} stop {:?}",
                clients.len(),
                world.hidden,
                world.max_upload,
                world.tight,
                world.faulty,
                world.crowded,
                world.impatient,
                has_news,
                reloads,
                stop_at
            );
        }
        Run {
            rng,
            sim,
            engine,
            address,
            world,
            clients,
            home,
            options,
            has_news,
            reloads,
            stop_at,
        }
    }

    fn run(mut self) {
        while self.world.step < ROUGH_STEPS && !self.clients.iter().all(Client::is_gone) {
            self.step();
            if self.rng.u8(..) == 0 {
                self.lose_power();
            }
        }
        // From here on nothing fails, and everybody who can finish does.
        self.sim.plan(Plan::Clean);
        self.sim.set_descriptors(usize::MAX);
        self.clients.iter_mut().for_each(Client::hurry);
        self.finish();
        self.clients.iter_mut().for_each(Client::wake);
        self.finish();
        self.lose_power();
        self.rest();
        self.stop();
    }

    /// One step of everybody.
    fn step(&mut self) {
        self.world.step += 1;
        if self.has_news && self.rng.u8(..64) == 0 {
            self.world.change_news(&mut self.rng, &self.sim);
        }
        if self.reloads && self.rng.u8(..) == 0 {
            self.engine.take_up(load(self.home.path()), Vec::new());
        }
        if self.stop_at == Some(self.world.step) {
            self.world.stopping = Some(self.sim.elapsed());
            self.sim.raise(Signal::Stop);
        }
        if self.rng.u8(..) < 2 {
            self.sim
                .advance(Duration::from_millis(self.rng.u64(..1500)));
        }
        for client in &mut self.clients {
            client.act(&mut self.rng, &self.sim, &mut self.world, self.address);
        }
        self.turn();
        while self.engine.jobs() > 0 && self.rng.u8(..3) > 0 {
            self.run_job();
        }
    }

    fn turn(&mut self) {
        if std::env::var("DBG").is_ok() {
            struct L;
            impl log::Log for L {
                fn enabled(&self, _: &log::Metadata) -> bool {
                    true
                }
                fn log(&self, r: &log::Record) {
                    eprintln!("   {}", r.args())
                }
                fn flush(&self) {}
            }
            static LL: L = L;
            let _ = log::set_logger(&LL);
            log::set_max_level(log::LevelFilter::Debug);
        }
        if self.engine.stopped().is_some() {
            // Nobody serves any more, but what was sent still arrives.
            let polled = self.sim.poll(&mut Vec::new(), Some(Duration::ZERO));
            return polled.expect("polling does not fail");
        }
        self.engine.turn().expect("polling does not fail");
        self.engine.check();
        assert!(
            self.world.faulty || self.sim.stalls() == 0,
            "the loop waits for the disk"
        );
    }

    fn run_job(&mut self) {
        let job = self.rng.usize(..self.engine.jobs());
        self.sim.as_worker(|| self.engine.run_job(job));
    }

    /// Goes on until everybody but the stalled has left, and sees that nobody is starved.
    fn finish(&mut self) {
        let mut waits: Vec<(usize, usize)> = vec![(0, 0); self.clients.len()];
        loop {
            self.step();
            let step = self.world.step;
            let mut left = 0;
            for (client, (moved, since)) in self.clients.iter().zip(&mut waits) {
                if client.is_gone() || client.is_stalled(step) {
                    continue;
                }
                left += 1;
                if *moved != client.moved || *since == 0 {
                    (*moved, *since) = (client.moved, step);
                }
                assert!(
                    step - *since < PATIENCE_STEPS,
                    "client {} is starved: {}",
                    client.id,
                    client.waits_for()
                );
            }
            if left == 0 {
                return;
            }
        }
    }

    /// What a power cut at this moment leaves is whole, and the sweep after the next start takes what is not.
    fn lose_power(&mut self) {
        self.world.audit(&self.sim);
        let after = self.sim.crash();
        self.world.audit(&after);
        let (mut engine, _) = serve(&after, self.home.path(), self.options.clone());
        engine.sweep_leftovers();
        while engine.jobs() > 0 {
            after.as_worker(|| engine.run_job(0));
        }
        assert_eq!(
            self.world.audit(&after),
            0,
            "temporary files outlive the sweep"
        );
    }

    /// Lets time pass until the server has nothing more to do.
    fn rest(&mut self) {
        self.sim.set_patience(Duration::from_secs(1));
        for _ in 0..200 {
            self.turn();
            while self.engine.jobs() > 0 {
                self.run_job();
            }
        }
        assert_eq!(self.engine.connections(), 0, "slots are left");
        if self.engine.stopped().is_none() {
            let listeners = 1;
            let held = Held {
                listeners,
                ..Held::default()
            };
            assert_eq!(self.sim.held(), held, "handles are left");
        }
        let fired = self.sim.fired();
        let kept = fired.iter().any(|(call, _)| *call == Call::Remove);
        let temporary = self.world.audit(&self.sim);
        assert!(
            kept || temporary == 0,
            "temporary files are left, and {fired:?}"
        );
    }

    fn stop(mut self) {
        self.sim.raise(Signal::Stop);
        while self.engine.stopped().is_none() {
            self.turn();
        }
        drop(self.engine);
        assert_eq!(self.sim.held(), Held::default());
    }
}

fn serve(sim: &Sim, home: &Path, options: Options) -> (Engine<Sim>, SocketAddr) {
    let mut engine = Engine::without_threads(Arc::new(sim.clone()), load(home), options);
    let address = "127.0.0.1:0".parse().expect("an address");
    let address = engine.listen(address).expect("nothing fails yet");
    (engine, address)
}

fn write_home(home: &Path, credentials: &str, directories: &str) {
    fs::write(home.join("Credentials"), credentials).expect("Credentials");
    fs::write(home.join("Directories"), directories).expect("Directories");
}

fn load(home: &Path) -> Home {
    Home::load(home).expect("a home without faults").0
}

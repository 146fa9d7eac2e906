//! The whole server on a simulated kernel with random faults. Model clients check every byte.
//!
//! A run is a function of its seed. `TIDEGATE_SEED=n` repeats one seed, `TIDEGATE_SEEDS=n` runs
//! others, and `TIDEGATE_TRACE=1` prints what is sent and logged. Seeds that have failed are listed
//! in `failed_seeds.txt` and run first.

mod client;
mod device_seeds;
mod ftp;
mod ftp_client;
mod ftp_dialogue;
mod ftp_seeds;
mod limits;
mod menu_seeds;
mod model;
mod replies;
mod scenarios;
mod script;
mod users;
mod walk;
mod work_per_request;

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
use device_seeds::Devices;
use model::Model;

/// The number of seeds in a test run.
const SEEDS: u64 = 256;

/// The number of steps with faults.
const FAULTY_STEPS: usize = 2000;

/// The number of steps without faults in which every client that is not stalled must make progress.
const PROGRESS_STEPS: usize = 300;
/// The time in which they must make progress. It covers a sweep and the delay of a failed login.
const PROGRESS_TIMEOUT: Duration =
    FAILURE_DELAY_MAX.saturating_add(SWEEP_INTERVAL.saturating_mul(2));
/// The number of steps in which they must make progress even if the clock does not advance.
const PROGRESS_STEPS_MAX: usize = 20_000;

#[test]
fn the_server_survives_random_kernel_faults() {
    let failed = include_str!("failed_seeds.txt").lines();
    let failed = failed.filter(|line| !line.starts_with('#'));
    let failed = failed.map(|line| line.parse().expect("one seed per line"));
    for_seeds(&failed.collect::<Vec<u64>>(), SEEDS, |seed| {
        Run::from_seed(seed).run();
    });
}

/// The run of one seed.
struct Run {
    rng: Rng,
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    model: Model,
    clients: Vec<Client>,
    home: TempDir,
    options: Options,
    events: Events,
    devices: Option<Devices>,
}

/// Events other than those of the clients.
#[derive(Debug, Default)]
struct Events {
    /// The operator changes files.
    news: bool,
    /// The home is reloaded, sometimes with an invalid file.
    reloads: bool,
    /// Reloads change rights. A separate generator keeps the rest of the run independent of them.
    rights: Option<Rng>,
    /// The step at which a user is removed.
    revoked: Option<usize>,
    /// The step at which the server is stopped.
    stopped: Option<usize>,
    /// No client may be affected until a fault that must affect one was injected.
    few_faults: bool,
}

impl Run {
    fn from_seed(seed: u64) -> Run {
        Run::prepared(seed, |_| None)
    }

    /// The same on several devices.
    fn with_devices(seed: u64) -> Run {
        let mut run = Run::prepared(seed, |sim| Some(Devices::mount(seed, sim)));
        run.model.faulty = true;
        run
    }

    fn prepared(seed: u64, devices: impl FnOnce(&Sim) -> Option<Devices>) -> Run {
        let mut rng = Rng::with_seed(seed);
        let sim = Sim::new(rng.u64(..));
        sim.set_unnamed_files(!once_in(&mut rng, 4));
        sim.set_links(!once_in(&mut rng, 8));
        if seed.is_multiple_of(4) {
            sim.set_slow();
        }
        let large = rng.usize(SLICE_BUDGET_BYTES..4 * SLICE_BUDGET_BYTES);
        let mut model = Model::new(&mut rng, &sim, large);
        let devices = devices(&sim);
        let scripts: Vec<_> = (0..rng.usize(1..10))
            .map(|id| script::script(&mut rng, &mut model, id))
            .collect();
        let clients: Vec<_> = (scripts.into_iter().enumerate())
            .map(|(id, script)| Client::new(&mut rng, id, script))
            .collect();
        let mut options = Options {
            hide_usernames: model.hides_usernames,
            max_upload: model.max_upload,
            login_timeout: Duration::from_secs(3600),
            // Failures delay responses but block no client, since clients cannot predict which.
            max_failures: u32::MAX,
            ..Options::default()
        };
        if once_in(&mut rng, 8) {
            options.max_rate = Some(rng.u64(1_000_000..20_000_000));
        }
        if once_in(&mut rng, 8) {
            options.max_sessions = rng.usize(1..5);
            model.limits_sessions = true;
        }
        if once_in(&mut rng, 8) {
            options.idle_timeout = Duration::from_secs(5);
            options.login_timeout = Duration::from_secs(3);
            model.closes_idle = true;
        }
        if once_in(&mut rng, 4) {
            sim.set_capacity(rng.u64(1_300_000..3_000_000));
            model.disk_may_fill = true;
        }
        let step = |rng: &mut Rng| once_in(rng, 6).then(|| rng.usize(..FAULTY_STEPS));
        let events = Events {
            news: rng.bool(),
            reloads: once_in(&mut rng, 4),
            rights: seed.is_multiple_of(3).then(|| Rng::with_seed(seed)),
            revoked: step(&mut rng),
            stopped: step(&mut rng),
            few_faults: false,
        };
        if devices.is_some() {
            options.disk_timeout = Duration::from_secs(2);
        }
        let mut run = Run::new(rng, sim, model, clients, options, events);
        run.devices = devices;
        if once_in(&mut run.rng, 8) {
            run.sim.set_descriptors(run.rng.usize(4..30));
            run.model.faulty = true;
        }
        if once_in(&mut run.rng, 3) {
            run.sim
                .set_fault_plan(FaultPlan::from_seed(run.rng.u64(..)));
            run.model.faulty = true;
        }
        debug!(
            "faulty={} closes_idle={}",
            run.model.faulty, run.model.closes_idle
        );
        run
    }

    /// Starts a server on the model's home.
    fn new(
        rng: Rng,
        sim: Sim,
        model: Model,
        clients: Vec<Client>,
        options: Options,
        events: Events,
    ) -> Run {
        if std::env::var_os("TIDEGATE_TRACE").is_some() {
            // Only the first run of the process can start the log.
            let _ = server::log::start(LevelFilter::Debug, server::log::Format::Text);
        }
        debug!("{events:?} {options:?}");
        sim.set_max_wait(Duration::from_millis(1));
        // On a disk, thousands of runs are slow.
        let home = match Path::new("/dev/shm") {
            memory if memory.is_dir() => TempDir::new_in(memory),
            _ => TempDir::new(),
        };
        let home = home.expect("a temporary folder is created");
        write_home(home.path(), model.home());
        let path = home.path().to_str().expect("its path is UTF-8");
        sim.put(path, SimEntry::Directory);
        let (event_loop, address) = serve(&sim, home.path(), options.clone());
        Run {
            rng,
            sim,
            event_loop,
            address,
            model,
            clients,
            home,
            options,
            events,
            devices: None,
        }
    }

    fn run(mut self) {
        while self.model.step < FAULTY_STEPS && !self.clients.iter().all(Client::is_gone) {
            self.step();
            if once_in(&mut self.rng, 256) {
                self.lose_power();
            }
        }
        // Without faults, every client that is not stalled finishes.
        self.sim.set_fault_plan(FaultPlan::NoFaults);
        self.sim.set_descriptors(usize::MAX);
        if let Some(devices) = &mut self.devices {
            devices.recover(&self.sim);
        }
        self.clients.iter_mut().for_each(Client::speed_up);
        self.finish();
        self.clients.iter_mut().for_each(Client::resume);
        self.finish();
        self.end();
    }

    /// Lets all events, clients and the server make one step.
    fn step(&mut self) {
        self.model.step += 1;
        let step = Some(self.model.step);
        if let Some(devices) = &mut self.devices {
            devices.change(&self.sim);
            devices.resume(&self.sim);
        }
        if self.events.news && once_in(&mut self.rng, 64) {
            self.model.change_news(&mut self.rng, &self.sim);
        }
        if self.events.reloads && once_in(&mut self.rng, 256) {
            let is_invalid = once_in(&mut self.rng, 3);
            self.reload(is_invalid);
        }
        if let Some(rng) = &mut self.events.rights
            && once_in(rng, 128)
        {
            self.model.change_rights(rng);
            self.reload(false);
        }
        if self.events.revoked == step {
            self.model.revoke(self.sim.elapsed());
            self.reload(false);
        }
        if self.events.stopped == step {
            self.model.stopping = Some(self.sim.elapsed());
            self.sim.send_signal(Signal::Stop);
        }
        if once_in(&mut self.rng, 128) {
            let time = Duration::from_millis(self.rng.u64(..1500));
            self.sim.advance(time);
        }
        for client in &mut self.clients {
            client.act(&mut self.rng, &self.sim, &mut self.model, self.address);
        }
        self.tick();
        while self.event_loop.jobs() > 0 && !once_in(&mut self.rng, 3) {
            self.run_job();
        }
    }

    fn tick(&mut self) {
        if self.event_loop.stopped().is_some() {
            // The server has ended, but the output sent before still arrives.
            let polled = self.sim.poll(&mut Vec::new(), Some(Duration::ZERO));
            return polled.expect("polling does not fail");
        }
        self.event_loop.tick().expect("polling does not fail");
        self.event_loop.assert_invariants();
        let slots = self.event_loop.connections();
        assert_eq!(
            self.sim.held_handles().sockets,
            slots,
            "sockets and slots differ"
        );
        if self.events.few_faults {
            let fired = self.sim.injected_faults();
            self.model.faulty = !fired.into_iter().all(walk::is_harmless);
        }
        let is_blocked = self.sim.stalls() > 0 && !self.model.faulty;
        assert!(!is_blocked, "the event loop waits for the disk");
    }

    fn run_job(&mut self) {
        let job = self.rng.usize(..self.event_loop.jobs());
        self.sim.run_job(self.event_loop.start_job(job));
    }

    fn run_jobs(&mut self) {
        while self.event_loop.jobs() > 0 {
            self.run_job();
        }
    }

    /// Runs until all clients but the stalled ones have left. Fails if one makes no progress.
    fn finish(&mut self) {
        self.sim.set_max_wait(Duration::from_millis(50));
        let mut waits = vec![(0, self.model.step, self.sim.elapsed()); self.clients.len()];
        loop {
            self.step();
            let (step, now) = (self.model.step, self.sim.elapsed());
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
                let is_starved = steps >= PROGRESS_STEPS && now - *at >= PROGRESS_TIMEOUT
                    || steps >= PROGRESS_STEPS_MAX;
                assert!(!is_starved, "no progress: {}", client.describe());
            }
            if all_gone {
                return;
            }
        }
    }

    /// Reloads the home. An invalid home changes nothing.
    fn reload(&mut self, is_invalid: bool) {
        let (credentials, directories) = self.model.home();
        let directories = if is_invalid {
            "nonsense\n".into()
        } else {
            directories
        };
        write_home(self.home.path(), (credentials, directories));
        self.sim.send_signal(Signal::Reload);
        self.tick();
        self.run_jobs();
        self.tick();
        write_home(self.home.path(), self.model.home());
    }

    /// Checks the files after a power failure at this moment, and after the cleanup at the next
    /// start.
    fn lose_power(&mut self) {
        self.model.check_tree(&self.sim);
        let after = self.sim.crash();
        self.model.check_tree(&after);
        let (mut event_loop, _) = serve(&after, self.home.path(), self.options.clone());
        event_loop.sweep_orphans();
        while event_loop.jobs() > 0 {
            after.as_worker(|| event_loop.run_job(0));
        }
        let mut temporary = self.model.check_tree(&after);
        temporary.retain(|path| self.model.is_granted(path));
        assert!(
            temporary.is_empty(),
            "{temporary:?} were not removed at the start"
        );
    }

    /// Checks that nothing is left after all clients have left and the server has stopped.
    fn end(mut self) {
        self.lose_power();
        self.sim.set_max_wait(Duration::from_secs(1));
        for _ in 0..100 {
            self.tick();
            self.run_jobs();
            while self.sim.resume_job(0) {}
        }
        assert_eq!(self.event_loop.connections(), 0, "slots remain");
        let listeners = usize::from(self.event_loop.stopped().is_none());
        if listeners > 0 {
            let held = HeldHandles {
                listeners,
                ..HeldHandles::default()
            };
            assert_eq!(self.sim.held_handles(), held, "handles remain");
            self.sim.send_signal(Signal::Stop);
            self.tick();
        }
        assert!(
            self.event_loop.stopped().is_some(),
            "the server does not stop"
        );
        drop(self.event_loop);
        let mut held = self.sim.held_handles();
        if self.devices.is_some() {
            // Closing a file of a remote device could wait, so the end of the process does it.
            (held.files, held.nameless) = (0, 0);
        }
        let none = HeldHandles::default();
        assert_eq!(held, none, "handles remain after the end");
        let fired = self.sim.injected_faults();
        let cannot_remove = fired.iter().any(|(call, _)| *call == SystemCall::Remove);
        let temporary = self.model.check_tree(&self.sim);
        assert!(
            temporary.is_empty() || cannot_remove || self.devices.is_some(),
            "{temporary:?} remain after {fired:?}"
        );
    }
}

fn serve(sim: &Sim, home: &Path, options: Options) -> (EventLoop<Sim>, SocketAddr) {
    let (home, _) = Home::load(home).expect("the home is valid");
    let mut event_loop = EventLoop::without_threads(Arc::new(sim.clone()), home, options);
    let address = "127.0.0.1:0".parse().expect("an address");
    let address = event_loop
        .listen(address, Dialect::Menu)
        .expect("no fault is injected");
    (event_loop, address)
}

fn write_home(home: &Path, (credentials, directories): (String, String)) {
    fs::write(home.join("Credentials"), credentials).expect("Credentials is written");
    fs::write(home.join("Directories"), directories).expect("Directories is written");
}

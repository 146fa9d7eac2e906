//! FTP on the simulated kernel, with late, missing, refused and reset connections, and with ABOR at
//! any time.
//!
//! Checks that the replies are true: after a 226 the transfer is complete, and no upload is visible
//! before.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tidegate::config::Home;
use tidegate::kernel::sim::fault_plan::FaultPlan;
use tidegate::kernel::sim::{HeldHandles, Sim, SimEntry};
use tidegate::limits::SHARED_PASSIVE_PORTS;
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

use super::ftp_client::{Client, Phase};
use crate::support::seeds::{for_seeds, once_in};

/// The number of seeds in a test run.
const SEEDS: u64 = 96;

/// The number of steps in which all clients must finish.
const STEPS_MAX: usize = 60_000;

#[test]
fn ftp_replies_are_true_under_random_faults() {
    for_seeds(&[], SEEDS, |seed| Simulation::new(seed).run());
}

/// The run of one seed.
struct Simulation {
    rng: Rng,
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    clients: Vec<Client>,
    passive_ports: u16,
    faulty: bool,
    /// Contains the home's files, which the server reads again.
    _home: TempDir,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let mut rng = Rng::with_seed(seed);
        let sim = Sim::new(rng.u64(..));
        sim.set_unnamed_files(!once_in(&mut rng, 4));
        sim.set_links(!once_in(&mut rng, 8));
        if once_in(&mut rng, 4) {
            sim.set_slow();
        }
        sim.set_max_wait(Duration::from_millis(20));
        let sizes = [0, 1, 5_000, 70_000, 600_000];
        let contents: Vec<Arc<Vec<u8>>> = sizes.map(|size| Arc::new(bytes(&mut rng, size))).into();
        for (number, content) in contents.iter().enumerate() {
            sim.put(
                &format!("/srv/Mail/file{number}"),
                SimEntry::File(content.to_vec()),
            );
        }
        let folder = TempDir::new().expect("a temporary folder is created");
        let write = |name, text| std::fs::write(folder.path().join(name), text);
        write("Credentials", "ann:plain:secret\n").expect("the home is written");
        write("Directories", "ann:Mail:read,change:/srv/Mail\n").expect("the home is written");
        let path = folder.path().to_str().expect("its path is UTF-8");
        sim.put(path, SimEntry::Directory);
        let (home, _) = Home::load(folder.path()).expect("the home is valid");
        let passive_ports = rng.u16(0..4);
        let options = Options {
            passive_ports: (passive_ports > 0).then_some((5000, 4999 + passive_ports)),
            ..Options::default()
        };
        let mut event_loop = EventLoop::without_threads(Arc::new(sim.clone()), home, options);
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings {
            active: ActiveMode::Enabled,
        });
        let address = event_loop
            .listen(any, dialect)
            .expect("no fault is injected");
        let clients = (0..rng.u8(1..6))
            .map(|id| Client::new(&mut rng, id, &contents))
            .collect();
        let faulty = once_in(&mut rng, 3);
        if faulty {
            sim.set_fault_plan(FaultPlan::from_seed(rng.u64(..)));
        }
        Simulation {
            rng,
            sim,
            event_loop,
            address,
            clients,
            passive_ports,
            faulty,
            _home: folder,
        }
    }

    fn run(mut self) {
        for step in 0.. {
            if self
                .clients
                .iter()
                .all(|client| client.phase == Phase::Gone)
            {
                break;
            }
            if step == STEPS_MAX / 2 {
                self.sim.set_fault_plan(FaultPlan::NoFaults);
            }
            let waiting = self
                .clients
                .iter()
                .find(|client| client.phase != Phase::Gone);
            let waiting = waiting.map(Client::describe);
            assert!(step < STEPS_MAX, "a client makes no progress: {waiting:?}");
            for client in &mut self.clients {
                client.act(&mut self.rng, &self.sim, self.address, self.faulty);
            }
            self.tick();
            if once_in(&mut self.rng, 64) {
                self.sim
                    .advance(Duration::from_millis(self.rng.u64(..3000)));
            }
        }
        self.sim.set_fault_plan(FaultPlan::NoFaults);
        for _ in 0..100 {
            self.sim.advance(Duration::from_secs(1));
            self.tick();
        }
        assert_eq!(self.event_loop.connections(), 0, "slots remain");
        let held = self.sim.held_handles();
        let at_rest = HeldHandles {
            listeners: held.listeners,
            ..HeldHandles::default()
        };
        assert_eq!(held, at_rest, "handles remain");
        let kept = match self.passive_ports {
            0 => SHARED_PASSIVE_PORTS,
            count => usize::from(count),
        };
        assert!(held.listeners <= 1 + kept);
        drop(self.event_loop);
        assert_eq!(
            self.sim.held_handles(),
            HeldHandles::default(),
            "handles remain after the end"
        );
        for (path, _) in self.sim.tree() {
            let is_temporary = path.starts_with("/srv/Mail/.");
            assert!(!is_temporary || self.faulty, "{path} remains");
        }
    }

    fn tick(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
        self.event_loop.assert_invariants();
        while self.event_loop.jobs() > 0 && !once_in(&mut self.rng, 4) {
            let job = self.rng.usize(..self.event_loop.jobs());
            self.sim.as_worker(|| self.event_loop.run_job(job));
        }
        assert!(
            self.faulty || self.sim.stalls() == 0,
            "the event loop waits for the disk"
        );
    }
}

fn bytes(rng: &mut Rng, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

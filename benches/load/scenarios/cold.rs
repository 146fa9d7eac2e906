//! Latency of a small download while one client downloads an uncached file from a slow disk.

use std::io;
use std::path::Path;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{Reaction, ReadMode};
use crate::metrics::Metrics;
use crate::scenarios::load::{Load, TICK_TIMEOUT, connect_clients, measure_latency};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::slow_disk::SlowDisk;
use crate::server::target::Target;

/// Seconds that the file lasts in addition to the load, for connecting and the warm-up.
const EXTRA_SECONDS: usize = 4;

/// Measure the latency of a small download while one client downloads an uncached file from a slow
/// disk.
#[derive(FromArgs)]
#[argh(subcommand, name = "cold")]
pub(crate) struct Cold {
    /// bytes per second of the disk (default: 20971520)
    #[argh(option, default = "20971520")]
    rate: u64,
    /// folder for the server's files, on a disk (default: the folder for temporary files)
    #[argh(option)]
    folder: Option<String>,
    /// duration of the load in seconds (default: 4)
    #[argh(option, default = "4.0")]
    seconds: f64,
}

impl Cold {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(self.folder.as_deref().map(Path::new))?;
        home.add_file("small", 1024)?;
        let size = self.rate as usize * (self.seconds as usize + EXTRA_SECONDS);
        home.add_file("cold", size)?;
        let server = ServerProcess::start(target, &home)?;
        let disk = SlowDisk::new(&home.directory().join("cold"), self.rate)?;
        disk.evict()?;
        disk.throttle(server.process_id())?;
        let protocol = server.protocol();
        let request = protocol.download("cold");
        let mut clients = LoadGenerator::new(server.address(), protocol, ReadMode::Buffer)?;
        for key in connect_clients(&mut clients, 1, 0)? {
            clients.send(key, &request);
        }
        let mut load = ColdLoad { clients };
        let mut metrics = Metrics::default();
        let mut times = measure_latency(&mut load, &server, self.seconds, &mut metrics)?;
        let received: u64 = load.clients.received().iter().sum();
        drop(load);
        disk.lift()?;
        server.stop()?;
        metrics.add("streamed_mebibytes", (received / (1 << 20)) as f64);
        metrics.add_times("small", &mut times);
        Ok(metrics)
    }
}

/// One download that lasts longer than the window.
struct ColdLoad {
    clients: LoadGenerator,
}

impl Load for ColdLoad {
    fn tick(&mut self) -> io::Result<()> {
        self.clients.tick(TICK_TIMEOUT, &mut |_, _| Reaction::Wait)
    }

    fn reset(&mut self) {}
}

//! Latency of a small download under a background load.

use std::fs;
use std::io;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::ReadMode;
use crate::metrics::Metrics;
use crate::scenarios::background_load::{BackgroundClients, BackgroundLoad, COLD_USERS};
use crate::scenarios::load::measure_latency;
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Measure the latency of a small download under a background load.
#[derive(FromArgs)]
#[argh(subcommand, name = "latency")]
pub(crate) struct Latency {
    /// clients that download a large file in a loop (default: 0)
    #[argh(option, default = "0")]
    greedy: usize,
    /// clients that download that file and read slowly (default: 0)
    #[argh(option, default = "0")]
    slow: usize,
    /// bytes per second of a slow reader (default: 65536)
    #[argh(option, default = "65536")]
    rate: usize,
    /// clients that begin to download that file and never read (default: 0)
    #[argh(option, default = "0")]
    stalled: usize,
    /// clients that fail logins continuously (default: 0)
    #[argh(option, default = "0")]
    failing: usize,
    /// clients that list a directory in a loop (default: 0)
    #[argh(option, default = "0")]
    listing: usize,
    /// number of files in that directory (default: 100000)
    #[argh(option, default = "100000")]
    entries: usize,
    /// size of the large file in bytes (default: 10485760)
    #[argh(option, default = "10485760")]
    size: usize,
    /// size of the small file in bytes (default: 1024)
    #[argh(option, default = "1024")]
    small: usize,
    /// duration of the load in seconds (default: 4)
    #[argh(option, default = "4.0")]
    seconds: f64,
}

impl Latency {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = self.create_home()?;
        let server = ServerProcess::start(target, &home)?;
        let clients = LoadGenerator::new(server.address(), server.protocol(), ReadMode::Buffer)?;
        let counts = BackgroundClients {
            greedy: self.greedy,
            slow: self.slow,
            stalled: self.stalled,
            listing: self.listing,
            failing: self.failing,
        };
        let mut metrics = Metrics::default();
        let mut load = BackgroundLoad::start(clients, counts, self.rate, &mut metrics)?;
        let mut times = measure_latency(&mut load, &server, self.seconds, &mut metrics)?;
        metrics.add("small_downloads", times.len() as f64);
        metrics.add_times("small", &mut times);
        load.finish(self.seconds, &mut metrics);
        server.stop()?;
        Ok(metrics)
    }

    fn create_home(&self) -> io::Result<BenchHome> {
        let home = BenchHome::new(None)?;
        home.add_file("large", self.size)?;
        home.add_file("small", self.small)?;
        if self.failing > 0 {
            home.add_users(COLD_USERS)?;
        }
        if self.listing > 0 {
            let many = home.add_directory("Many")?;
            for number in 0..self.entries {
                fs::write(many.join(format!("file{number:06}")), "")?;
            }
        }
        Ok(home)
    }
}

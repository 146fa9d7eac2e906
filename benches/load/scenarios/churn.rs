//! Clients that disconnect during a download.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode};
use crate::fixture::USERS;
use crate::metrics::Metrics;
use crate::scenarios::load::{self, Load, TICK_TIMEOUT};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Time for the server to release the last sessions.
const SETTLE_TIME: Duration = Duration::from_millis(500);

/// Connect, begin a download and disconnect during it.
#[derive(FromArgs)]
#[argh(subcommand, name = "churn")]
pub(crate) struct Churn {
    /// concurrent clients (default: 64)
    #[argh(option, default = "64")]
    concurrency: usize,
    /// size of the file in bytes (default: 10485760)
    #[argh(option, default = "10485760")]
    size: usize,
    /// duration of the load in seconds (default: 3)
    #[argh(option, default = "3.0")]
    seconds: f64,
}

impl Churn {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(None)?;
        home.add_file("file", self.size)?;
        let server = ServerProcess::start(target, &home)?;
        let protocol = server.protocol();
        let (user, password) = USERS[0];
        let mut load = ChurnLoad {
            request: protocol.short_session(user, password, "file"),
            clients: LoadGenerator::new(server.address(), protocol, ReadMode::Buffer)?,
            concurrency: self.concurrency,
            disconnected: 0,
            failed: 0,
        };
        let window = load::run(&mut load, &server, self.seconds)?;
        let mut metrics = Metrics::default();
        let (seconds, cpu) = window.end(&server, &mut metrics)?;
        drop(load.clients);
        thread::sleep(SETTLE_TIME);
        let descriptors = fs::read_dir(format!("/proc/{}/fd", server.process_id()))?.count();
        let sessions = f64::from(load.disconnected);
        metrics.add("sessions_per_second", sessions / seconds);
        metrics.add("server_cpu_microseconds_per_session", cpu * 1e6 / sessions);
        metrics.add("failed", f64::from(load.failed));
        metrics.add("descriptors_after", descriptors as f64);
        metrics.add("resident_after_bytes", server.resident_bytes()? as f64);
        server.stop()?;
        Ok(metrics)
    }
}

struct ChurnLoad {
    clients: LoadGenerator,
    request: ClientRequest,
    concurrency: usize,
    /// Clients that disconnected during their download.
    disconnected: u32,
    /// Clients refused or closed by the server before that.
    failed: u32,
}

impl Load for ChurnLoad {
    fn tick(&mut self) -> io::Result<()> {
        while self.clients.len() < self.concurrency {
            self.clients.open(self.request.clone())?;
        }
        self.clients
            .tick(TICK_TIMEOUT, &mut |_, event| match event {
                ClientEvent::DownloadStarted => {
                    self.disconnected += 1;
                    Reaction::Disconnect
                }
                ClientEvent::Closed { .. } | ClientEvent::Refused | ClientEvent::LoginFailed => {
                    self.failed += 1;
                    Reaction::Wait
                }
                _ => Reaction::Wait,
            })
    }

    fn reset(&mut self) {
        self.disconnected = 0;
    }
}

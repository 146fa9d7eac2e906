//! Sessions that download one file in a loop.

use std::io;
use std::time::Duration;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode};
use crate::measurement_window::MeasurementWindow;
use crate::metrics::Metrics;
use crate::scenarios::load::{self, LOAD_TIMEOUT, Load, TICK_TIMEOUT, connect_clients};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Download one file in a loop.
#[derive(FromArgs)]
#[argh(subcommand, name = "download")]
pub(crate) struct Download {
    /// number of sessions (default: 100)
    #[argh(option, default = "100")]
    sessions: usize,
    /// size of the file in bytes (default: 1048576)
    #[argh(option, default = "1048576")]
    size: usize,
    /// duration of the load in seconds (default: 3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// downloads per session, instead of a duration; faster sessions take over downloads of slower
    /// ones
    #[argh(option)]
    times: Option<usize>,
    /// receive buffer of each client in bytes (default: the kernel's)
    #[argh(option)]
    receive_buffer: Option<usize>,
    /// let the kernel discard the content instead of reading it
    #[argh(switch)]
    discard: bool,
    /// verify the SHA-256 of every download
    #[argh(switch)]
    verify: bool,
}

impl Download {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(None)?;
        let expected = home.add_file("file", self.size)?;
        let server = ServerProcess::start(target, &home)?;
        let mut load = self.start_load(&server, expected)?;
        let window = match self.times {
            Some(times) => load.run_count(&server, times * self.sessions)?,
            None => load::run(&mut load, &server, self.seconds)?,
        };
        let mut metrics = Metrics::default();
        let (seconds, cpu) = window.end(&server, &mut metrics)?;
        if load.corrupted > 0 {
            return Err(io::Error::other(format!(
                "{} downloads were corrupted",
                load.corrupted
            )));
        }
        let DownloadLoad {
            clients,
            received_before,
            mut times,
            ..
        } = load;
        let shares: Vec<u64> = clients
            .received()
            .iter()
            .zip(received_before)
            .map(|(after, before)| after - before)
            .collect();
        drop(clients);
        server.stop()?;

        let bytes: u64 = shares.iter().sum();
        let (min, max) = (shares.iter().min(), shares.iter().max());
        let min_max_ratio = *min.unwrap_or(&0) as f64 / (*max.unwrap_or(&0)).max(1) as f64;
        let downloads = bytes as f64 / self.size as f64;
        let mebibytes = bytes as f64 / f64::from(1 << 20);
        let gibibytes = bytes as f64 / f64::from(1 << 30);
        metrics.add("downloads", times.len() as f64);
        metrics.add("downloads_per_second", downloads / seconds);
        metrics.add("mebibytes_per_second", mebibytes / seconds);
        metrics.add(
            "server_cpu_microseconds_per_download",
            cpu * 1e6 / downloads,
        );
        metrics.add("server_cpu_seconds_per_gibibyte", cpu / gibibytes);
        metrics.add("min_max_ratio", min_max_ratio);
        metrics.add_times("download", &mut times);
        Ok(metrics)
    }

    fn start_load(&self, server: &ServerProcess, expected: [u8; 32]) -> io::Result<DownloadLoad> {
        let read_mode = match (self.verify, self.discard) {
            (true, _) => ReadMode::Verify,
            (false, true) => ReadMode::Discard,
            (false, false) => ReadMode::Buffer,
        };
        let protocol = server.protocol();
        let request = protocol.download("file");
        let mut clients = LoadGenerator::new(server.address(), protocol, read_mode)?;
        if let Some(bytes) = self.receive_buffer {
            clients.set_receive_buffer(bytes);
        }
        for key in connect_clients(&mut clients, self.sessions, 0)? {
            clients.send(key, &request);
        }
        Ok(DownloadLoad {
            clients,
            request,
            expected,
            unstarted: self.times.map(|times| (times - 1) * self.sessions),
            received_before: Vec::new(),
            times: Vec::new(),
            corrupted: 0,
        })
    }
}

struct DownloadLoad {
    clients: LoadGenerator,
    request: ClientRequest,
    /// SHA-256 of the file.
    expected: [u8; 32],
    /// Downloads still to be started, if their number is bounded.
    unstarted: Option<usize>,
    /// Bytes that each client had received when the window started.
    received_before: Vec<u64>,
    times: Vec<Duration>,
    corrupted: usize,
}

impl DownloadLoad {
    /// Runs until `count` downloads are complete, without a warm-up.
    fn run_count(&mut self, server: &ServerProcess, count: usize) -> io::Result<MeasurementWindow> {
        self.reset();
        let window = MeasurementWindow::start(server)?;
        while self.times.len() < count && window.elapsed() < LOAD_TIMEOUT {
            self.tick()?;
        }
        match self.times.len() < count {
            true => Err(io::Error::other(format!(
                "only {} of {count} downloads completed in {} s",
                self.times.len(),
                LOAD_TIMEOUT.as_secs()
            ))),
            false => Ok(window),
        }
    }
}

impl Load for DownloadLoad {
    fn tick(&mut self) -> io::Result<()> {
        let mut failed = 0;
        self.clients
            .tick(TICK_TIMEOUT, &mut |_, event| match event {
                ClientEvent::Downloaded { elapsed, digest } => {
                    self.times.push(elapsed);
                    self.corrupted +=
                        usize::from(digest.is_some_and(|digest| digest != self.expected));
                    match &mut self.unstarted {
                        Some(0) => return Reaction::Wait,
                        Some(unstarted) => *unstarted -= 1,
                        None => {}
                    }
                    Reaction::Send(self.request.clone())
                }
                ClientEvent::Refused | ClientEvent::Closed { .. } => {
                    failed += 1;
                    Reaction::Wait
                }
                _ => Reaction::Wait,
            })?;
        match failed {
            0 => Ok(()),
            _ => Err(io::Error::other(format!(
                "{failed} downloads were refused or cut off"
            ))),
        }
    }

    fn reset(&mut self) {
        self.times.clear();
        self.received_before = self.clients.received();
    }
}

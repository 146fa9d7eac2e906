//! Background load of the latency scenario: greedy, slow and stalled downloads, listings and
//! failing logins.

use std::io;
use std::time::{Duration, Instant};

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, ClientRequest, Reaction};
use crate::client::wire_protocol::WireProtocol;
use crate::fixture::{TINY_FILE, USERS};
use crate::machine;
use crate::metrics::Metrics;
use crate::scenarios::load::{Load, TICK_TIMEOUT, WARM_UP, connect_clients};

/// Users for valid logins, each used once per round so that the server rarely has a verified
/// password in its cache.
pub(crate) const COLD_USERS: usize = 1000;

/// Failed logins sent in one segment. tidegate closes the connection after the last.
const FAILURES_PER_CONNECTION: usize = 5;

/// The number of clients of each kind.
#[derive(Clone, Copy)]
pub(crate) struct BackgroundClients {
    pub(crate) greedy: usize,
    pub(crate) slow: usize,
    pub(crate) stalled: usize,
    pub(crate) listing: usize,
    pub(crate) failing: usize,
}

/// Clients that keep the server busy.
pub(crate) struct BackgroundLoad {
    clients: LoadGenerator,
    protocol: WireProtocol,
    /// Downloads the large file.
    download: ClientRequest,
    listing: ClientRequest,
    failing: usize,
    /// Clients to keep connected, failing ones and the valid login included.
    total: usize,
    /// The client whose login is valid.
    valid_login: Option<usize>,
    valid_logins: usize,
    /// Failed logins requested so far.
    attempts: usize,
    downloads: u32,
    listings: u32,
    failed_logins: u32,
    valid_login_times: Vec<Duration>,
}

impl BackgroundLoad {
    /// Connects the clients. `slow_rate` is in bytes per second. With stalled clients, adds the
    /// kernel's memory for each.
    pub(crate) fn start(
        clients: LoadGenerator,
        counts: BackgroundClients,
        slow_rate: usize,
        metrics: &mut Metrics,
    ) -> io::Result<BackgroundLoad> {
        let protocol = clients.protocol().clone();
        let mut load = BackgroundLoad {
            download: protocol.download("large"),
            listing: protocol.list("Many"),
            clients,
            protocol,
            failing: counts.failing,
            total: 0,
            valid_login: None,
            valid_logins: 0,
            attempts: 0,
            downloads: 0,
            listings: 0,
            failed_logins: 0,
            valid_login_times: Vec::new(),
        };
        if counts.stalled > 0 {
            load.add_stalled(counts.stalled, metrics)?;
        }
        // A slow reader reads ten times a second.
        load.add_downloads(counts.slow, Some(slow_rate / 10))?;
        load.add_downloads(counts.greedy, None)?;
        for key in connect_clients(&mut load.clients, counts.listing, 0)? {
            load.clients.send(key, &load.listing);
        }
        let failing = counts.failing + usize::from(counts.failing > 0);
        load.total = load.clients.len() + failing;
        Ok(load)
    }

    /// Adds clients that download the large file, and never read it.
    fn add_stalled(&mut self, count: usize, metrics: &mut Metrics) -> io::Result<()> {
        let memory = machine::tcp_memory()?;
        self.add_downloads(count, Some(0))?;
        let started = Instant::now();
        while started.elapsed() < 3 * WARM_UP {
            self.clients
                .tick(TICK_TIMEOUT, &mut |_, _| Reaction::Wait)?;
        }
        let held = machine::tcp_memory()?.saturating_sub(memory) as f64;
        let mebibytes = held / f64::from(1 << 20);
        metrics.add("tcp_mebibytes_per_stalled_client", mebibytes / count as f64);
        Ok(())
    }

    fn add_downloads(&mut self, count: usize, slow_read_bytes: Option<usize>) -> io::Result<()> {
        for key in connect_clients(&mut self.clients, count, 0)? {
            self.clients.send(key, &self.download);
            if let Some(bytes) = slow_read_bytes {
                self.clients.slow_down(key, bytes);
            }
        }
        Ok(())
    }

    /// Replaces the clients that the server has closed.
    fn reconnect(&mut self) -> io::Result<()> {
        if self.failing > 0 && self.valid_login.is_none() {
            self.valid_logins += 1;
            let user = format!("cold{}", self.valid_logins % COLD_USERS);
            let request = self.protocol.short_session(&user, USERS[0].1, TINY_FILE);
            self.valid_login = Some(self.clients.open(request)?);
        }
        while self.clients.len() < self.total {
            let request = self.failed_logins_request();
            self.clients.open(request)?;
        }
        Ok(())
    }

    /// Failed logins with different passwords, so that the server cannot verify equal attempts
    /// once.
    fn failed_logins_request(&mut self) -> ClientRequest {
        let mut text = Vec::new();
        for _ in 0..FAILURES_PER_CONNECTION {
            self.attempts += 1;
            let password = format!("wrong{}", self.attempts);
            text.extend(self.protocol.login("user2", &password).text);
        }
        ClientRequest::new(text)
    }

    /// Disconnects all clients and adds the rates over `seconds`.
    pub(crate) fn finish(mut self, seconds: f64, metrics: &mut Metrics) {
        for (name, count) in [
            ("large_downloads_per_second", self.downloads),
            ("listings_per_second", self.listings),
            ("failed_logins_per_second", self.failed_logins),
        ] {
            if count > 0 {
                metrics.add(name, f64::from(count) / seconds);
            }
        }
        metrics.add_times("valid_login", &mut self.valid_login_times);
    }
}

impl Load for BackgroundLoad {
    fn tick(&mut self) -> io::Result<()> {
        let mut cut_off = 0;
        self.clients
            .tick(TICK_TIMEOUT, &mut |key, event| match event {
                ClientEvent::Downloaded { .. } if self.valid_login != Some(key) => {
                    self.downloads += 1;
                    Reaction::Send(self.download.clone())
                }
                ClientEvent::Listed => {
                    self.listings += 1;
                    Reaction::Send(self.listing.clone())
                }
                ClientEvent::LoginFailed => {
                    self.failed_logins += 1;
                    Reaction::Wait
                }
                ClientEvent::Closed { elapsed, .. } if self.valid_login == Some(key) => {
                    self.valid_login_times.push(elapsed);
                    self.valid_login = None;
                    Reaction::Wait
                }
                ClientEvent::Closed { mid_transfer, .. } => {
                    cut_off += usize::from(mid_transfer);
                    Reaction::Wait
                }
                _ => Reaction::Wait,
            })?;
        match cut_off {
            0 => self.reconnect(),
            _ => Err(io::Error::other(format!(
                "{cut_off} downloads were cut off"
            ))),
        }
    }

    fn reset(&mut self) {
        self.downloads = 0;
        self.listings = 0;
        self.failed_logins = 0;
        self.valid_login_times.clear();
    }
}

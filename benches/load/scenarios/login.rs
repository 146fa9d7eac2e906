//! Short sessions: log in, download 1 KiB, quit.

use std::io;
use std::time::Duration;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::{ClientEvent, ClientRequest, Reaction, ReadMode};
use crate::client::wire_protocol::WireProtocol;
use crate::fixture::{TINY_FILE, USERS};
use crate::metrics::Metrics;
use crate::scenarios::load::{self, Load, TICK_TIMEOUT};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Users of `--cold`: more than can log in during one run, since each login costs the server some
/// 20 ms.
const COLD_USERS: usize = 20_000;

/// Run short sessions: log in, download 1 KiB (not with FTP) and quit, sent in one segment.
#[derive(FromArgs)]
#[argh(subcommand, name = "login")]
pub(crate) struct Login {
    /// concurrent sessions (default: 64)
    #[argh(option, default = "64")]
    concurrency: usize,
    /// duration of the load in seconds (default: 3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// use each user once, so that no password is in the server's cache of verified passwords
    #[argh(switch)]
    cold: bool,
}

impl Login {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(None)?;
        if self.cold {
            home.add_users(COLD_USERS)?;
        }
        let server = ServerProcess::start(target, &home)?;
        let protocol = server.protocol();
        let mut load = LoginLoad {
            clients: LoadGenerator::new(server.address(), protocol.clone(), ReadMode::Buffer)?,
            protocol,
            concurrency: self.concurrency,
            cold: self.cold,
            started: 0,
            completed: 0,
            failed: 0,
            times: Vec::new(),
        };
        let window = load::run(&mut load, &server, self.seconds)?;
        let mut metrics = Metrics::default();
        let (seconds, cpu) = window.end(&server, &mut metrics)?;
        let LoginLoad {
            clients,
            completed,
            failed,
            mut times,
            ..
        } = load;
        drop(clients);
        server.stop()?;

        let sessions = times.len();
        if failed > 0 || completed + self.concurrency < sessions {
            return Err(io::Error::other(format!(
                "{completed} of {sessions} sessions were complete, {failed} requests failed"
            )));
        }
        metrics.add("sessions_per_second", sessions as f64 / seconds);
        metrics.add(
            "server_cpu_microseconds_per_session",
            cpu * 1e6 / sessions as f64,
        );
        metrics.add_times("session", &mut times);
        Ok(metrics)
    }
}

struct LoginLoad {
    clients: LoadGenerator,
    protocol: WireProtocol,
    concurrency: usize,
    cold: bool,
    /// Sessions started so far.
    started: usize,
    /// Sessions that received their file, or with FTP logged in.
    completed: usize,
    failed: usize,
    /// Durations of the sessions that ended.
    times: Vec<Duration>,
}

impl LoginLoad {
    fn next_session(&mut self) -> ClientRequest {
        self.started += 1;
        let (user, password) = USERS[0];
        match self.cold {
            true => {
                let user = format!("cold{}", self.started);
                self.protocol.short_session(&user, password, TINY_FILE)
            }
            false => self.protocol.short_session(user, password, TINY_FILE),
        }
    }
}

impl Load for LoginLoad {
    fn tick(&mut self) -> io::Result<()> {
        while self.clients.len() < self.concurrency {
            let request = self.next_session();
            self.clients.open(request)?;
        }
        self.clients.tick(TICK_TIMEOUT, &mut |_, event| {
            match event {
                event if self.protocol.completes_short_session(&event) => self.completed += 1,
                ClientEvent::Closed { elapsed, .. } => self.times.push(elapsed),
                ClientEvent::LoginFailed | ClientEvent::Refused => self.failed += 1,
                _ => {}
            }
            Reaction::Wait
        })
    }

    fn reset(&mut self) {
        self.times.clear();
        self.completed = 0;
    }
}

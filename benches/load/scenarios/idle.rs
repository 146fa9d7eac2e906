//! Memory of idle sessions.

use std::io;

use argh::FromArgs;

use crate::client::load_generator::LoadGenerator;
use crate::client::message::ReadMode;
use crate::fixture::USERS;
use crate::measurement_window::MeasurementWindow;
use crate::metrics::Metrics;
use crate::scenarios::load::{connect_clients, stay_idle};
use crate::server::home::BenchHome;
use crate::server::process::ServerProcess;
use crate::server::target::Target;

/// Logins of each user before the first memory reading.
const WARM_UP_LOGINS: usize = 16;

/// Measure the server's resident memory per idle session that has logged in.
#[derive(FromArgs)]
#[argh(subcommand, name = "idle")]
pub(crate) struct Idle {
    /// number of sessions (default: 9000)
    #[argh(option, default = "9000")]
    sessions: usize,
}

impl Idle {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let home = BenchHome::new(None)?;
        let server = ServerProcess::start(target, &home)?;
        let mut clients =
            LoadGenerator::new(server.address(), server.protocol(), ReadMode::Buffer)?;
        // The first logins make code and the workers' memory for argon2 resident, which is no cost
        // of a session.
        for user in 0..USERS.len() {
            connect_clients(&mut clients, WARM_UP_LOGINS, user)?;
        }
        stay_idle(&mut clients)?;
        let before = server.resident_bytes()?;
        connect_clients(&mut clients, self.sessions, 0)?;
        stay_idle(&mut clients)?;
        let mut metrics = Metrics::default();
        let window = MeasurementWindow::start(&server)?;
        stay_idle(&mut clients)?;
        window.end(&server, &mut metrics)?;
        let after = server.resident_bytes()?;
        drop(clients);
        server.stop()?;

        metrics.add("resident_before_bytes", before as f64);
        metrics.add("resident_after_bytes", after as f64);
        let per_session = after.saturating_sub(before) as f64 / self.sessions as f64;
        metrics.add("bytes_per_session", per_session.round());
        Ok(metrics)
    }
}

//! What is measured: a stretch of time with the server's CPU time and other work's share in it, how long things took, and
//! the row that it all comes to.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::machine::Look;
use crate::server::process::Server;

/// The numbers of one run, each under a name with its unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row(pub(crate) Vec<(String, f64)>);

impl Row {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| *value)
    }

    /// Adds `NAME_p50_milliseconds` and so on.
    pub(crate) fn add_times(&mut self, name: &str, times: &mut [Duration]) {
        times.sort_unstable();
        for (percentile, hundredths) in [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)] {
            // A time that was measured: the first with so many hundredths at or below it.
            let rank = (times.len() * hundredths).div_ceil(100);
            if let Some(time) = times.get(rank.saturating_sub(1)) {
                self.add(
                    &format!("{name}_{percentile}_milliseconds"),
                    time.as_secs_f64() * 1e3,
                );
            }
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value.fract() == 0.0 {
                true => write!(f, " {name}={value}")?,
                false => write!(f, " {name}={value:.3}")?,
            }
        }
        Ok(())
    }
}

/// A stretch of time that is being measured.
pub(crate) struct Window {
    begun: Instant,
    server: Duration,
    own: Duration,
    look: Look,
}

impl Window {
    pub(crate) fn begin(server: &Server) -> io::Result<Window> {
        Ok(Window {
            begun: Instant::now(),
            server: server.cpu_time()?,
            own: own_time()?,
            look: Look::take()?,
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends it, and adds its length, the server's CPU time, what interrupts took that nobody is charged with, and the share of one
    /// processor that other work took. Returns the length and the CPU time, in seconds.
    pub(crate) fn end(self, server: &Server, row: &mut Row) -> io::Result<(f64, f64)> {
        let seconds = self.elapsed().as_secs_f64();
        let cpu = server.cpu_time()?.saturating_sub(self.server).as_secs_f64();
        let own = (own_time()? - self.own).as_secs_f64();
        let work = self.look.until(&Look::take()?);
        let others = work.processes.as_secs_f64() - cpu - own;
        row.add("seconds", seconds);
        row.add("server_cpu_seconds", cpu);
        row.add("interrupt_seconds", work.interrupts.as_secs_f64());
        row.add("others_share", (others / seconds).max(0.0));
        Ok((seconds, cpu))
    }
}

/// CPU time of this process.
fn own_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()))
}

/// The middle of what was measured; of an even number, between the two.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (middle(values.len() / 2) + middle(values.len().saturating_sub(1) / 2)) / 2.0
}

//! The measured part of a run.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::machine::CpuSnapshot;
use crate::metrics::Metrics;
use crate::server::process::ServerProcess;

/// The measured part of a run, with the CPU accounts at its start.
pub(crate) struct MeasurementWindow {
    started: Instant,
    server_time: Duration,
    own_time: Duration,
    machine: CpuSnapshot,
}

impl MeasurementWindow {
    pub(crate) fn start(server: &ServerProcess) -> io::Result<MeasurementWindow> {
        Ok(MeasurementWindow {
            started: Instant::now(),
            server_time: server.cpu_time()?,
            own_time: own_cpu_time()?,
            machine: CpuSnapshot::now()?,
        })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the window and adds to `metrics`: its length, the server's CPU time, interrupt time
    /// charged to no process, and the share of one processor used by other processes. Returns the
    /// length and the server's CPU time in seconds.
    pub(crate) fn end(
        self,
        server: &ServerProcess,
        metrics: &mut Metrics,
    ) -> io::Result<(f64, f64)> {
        let seconds = self.elapsed().as_secs_f64();
        let cpu = server.cpu_time()?.saturating_sub(self.server_time);
        let cpu = cpu.as_secs_f64();
        let own = (own_cpu_time()? - self.own_time).as_secs_f64();
        let machine = self.machine.until(&CpuSnapshot::now()?);
        let others = machine.processes.as_secs_f64() - cpu - own;
        metrics.add("seconds", seconds);
        metrics.add("server_cpu_seconds", cpu);
        metrics.add("interrupt_seconds", machine.interrupts.as_secs_f64());
        metrics.add("other_cpu_share", (others / seconds).max(0.0));
        Ok((seconds, cpu))
    }
}

/// CPU time of this process.
fn own_cpu_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()))
}

//! The machine under the bench: which processor runs what, what other work took, and the kernel's memory for TCP.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, gettid, sysconf};

/// Which processors the server and the clients run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pinning {
    /// The server on the first, the clients on the second.
    Apart,
    /// Wherever the kernel puts them.
    None,
}

impl Pinning {
    /// Puts this thread, and with it the processes that it starts, where servers run.
    pub(crate) fn to_server(self) -> io::Result<()> {
        self.pin(0)
    }

    /// Puts this thread, and the threads that it starts, where clients run.
    pub(crate) fn to_clients(self) -> io::Result<()> {
        self.pin(1)
    }

    fn pin(self, processor: usize) -> io::Result<()> {
        if let Pinning::None = self {
            return Ok(());
        }
        let mut set = CpuSet::new();
        set.set(processor)?;
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }

    /// Apart, if there are two processors to be had.
    pub(crate) fn best() -> io::Result<Pinning> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        let both = set.is_set(0)? && set.is_set(1)?;
        Ok(if both { Pinning::Apart } else { Pinning::None })
    }
}

/// Lets the calling thread, and what it starts from now on, run at this priority (setpriority(2)). False where the right to
/// it is missing; it then stays where it is.
pub(crate) fn set_nice(nice: i32) -> bool {
    let thread = gettid().to_string();
    Command::new("renice")
        .args(["-n", &nice.to_string(), "-p", &thread])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Another priority for this process and its children, until it is dropped.
pub(crate) struct Priority;

impl Priority {
    pub(crate) fn take(nice: i32) -> io::Result<Priority> {
        // Where the kernel groups processes by terminal session, the group's own priority is what counts against others
        // (sched(7), autogroup); where it does not, there is no such file.
        let _ = fs::write(AUTOGROUP, nice.to_string());
        match set_nice(nice) {
            true => Ok(Priority),
            false => Err(io::Error::other("no right to that priority")),
        }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        let _ = fs::write(AUTOGROUP, "0");
    }
}

const AUTOGROUP: &str = "/proc/self/autogroup";

/// Time that all processors have worked so far, the time that the host took from them included (proc_stat(5)).
pub(crate) fn busy() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = fields
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system; not idle, iowait; irq, softirq, steal.
    let ticks: u64 = fields
        .iter()
        .take(3)
        .chain(fields.iter().skip(5).take(3))
        .sum();
    ticks_to_time(ticks)
}

/// Time of so many of the kernel's ticks, usually of 10 ms.
pub(crate) fn ticks_to_time(ticks: u64) -> io::Result<Duration> {
    let a_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// Bytes of the kernel's memory that TCP holds, of all sockets of the machine (/proc/net/sockstat).
pub(crate) fn tcp_memory() -> io::Result<u64> {
    let stat = fs::read_to_string("/proc/net/sockstat")?;
    let pages: u64 = stat
        .lines()
        .find_map(|line| {
            line.strip_prefix("TCP:")?
                .split(" mem ")
                .nth(1)?
                .trim()
                .parse()
                .ok()
        })
        .ok_or_else(|| io::Error::other("/proc/net/sockstat tells no memory of TCP"))?;
    Ok(pages * sysconf(SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as u64)
}

/// How new connections control congestion.
pub(crate) fn congestion_control() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}

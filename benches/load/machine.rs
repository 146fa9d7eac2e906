//! The machine: processor pinning, priorities, CPU accounting and the kernel's memory for TCP.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, gettid, sysconf};

/// The priority of the kernel's scheduling group for a terminal session (sched(7), autogroup).
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The processors that the server and the clients run on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pinning {
    /// The server on processor 0, the clients on processor 1.
    Separate,
    /// Chosen by the kernel.
    None,
}

impl Pinning {
    /// Returns `Separate` if both processors are available.
    pub(crate) fn detect() -> io::Result<Pinning> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        Ok(match set.is_set(0)? && set.is_set(1)? {
            true => Pinning::Separate,
            false => Pinning::None,
        })
    }

    /// Moves this thread, and the processes that it starts, to the server's processor.
    pub(crate) fn pin_to_server(self) -> io::Result<()> {
        self.pin(0)
    }

    /// Moves this thread, and the threads that it starts, to the clients' processor.
    pub(crate) fn pin_to_clients(self) -> io::Result<()> {
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
}

/// Sets the priority (setpriority(2)) of the calling thread and its later children. Returns false
/// without the right to do so.
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

/// A priority of this process and its children, reset on drop.
pub(crate) struct PriorityGuard;

impl PriorityGuard {
    pub(crate) fn set(nice: i32) -> io::Result<PriorityGuard> {
        // With autogroups, only the group's priority counts against other groups. Without them, the
        // file does not exist.
        let _ = fs::write(AUTOGROUP, nice.to_string());
        match set_nice(nice) {
            true => Ok(PriorityGuard),
            false => Err(io::Error::other(format!(
                "cannot set priority {nice}: permission denied; run as root or without --nice"
            ))),
        }
    }
}

impl Drop for PriorityGuard {
    fn drop(&mut self) {
        let _ = fs::write(AUTOGROUP, "0");
    }
}

/// CPU time used between two snapshots.
pub(crate) struct CpuUsage {
    /// Time of all processes, and time stolen by the host.
    pub(crate) processes: Duration,
    /// Time of interrupts that were charged to no process, such as TCP sending from a timer on an
    /// idle processor.
    pub(crate) interrupts: Duration,
}

/// The CPU accounting of the whole machine at one moment.
pub(crate) struct CpuSnapshot {
    at: Instant,
    processors: u32,
    idle: Duration,
    stolen: Duration,
    processes: Duration,
}

impl CpuSnapshot {
    pub(crate) fn now() -> io::Result<CpuSnapshot> {
        let stat = fs::read_to_string("/proc/stat")?;
        let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
        let fields: Vec<u64> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
        let time = |field: usize| ticks_to_time(fields.get(field).copied().unwrap_or(0));
        Ok(CpuSnapshot {
            at: Instant::now(),
            processors: lines.count() as u32,
            idle: time(3)? + time(4)?,
            stolen: time(7)?,
            processes: all_processes_time()?,
        })
    }

    /// Returns the CPU time used from this snapshot to the `later` one.
    pub(crate) fn until(&self, later: &CpuSnapshot) -> CpuUsage {
        let stolen = later.stolen.saturating_sub(self.stolen);
        let processes = later.processes.saturating_sub(self.processes) + stolen;
        let idle = later.idle.saturating_sub(self.idle);
        CpuUsage {
            processes,
            interrupts: (later.processors * (later.at - self.at)).saturating_sub(idle + processes),
        }
    }
}

/// Returns the CPU time of all processes, including children that were waited for. The ksoftirqd
/// threads are excluded: they do the work of interrupts.
fn all_processes_time() -> io::Result<Duration> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let process = name.to_str().and_then(|name| name.parse().ok());
        if let Some(process) = process
            && let Ok((name, fields)) = stat_fields(process)
            && !name.starts_with("ksoftirqd")
        {
            // utime, stime, cutime, cstime
            ticks += fields.get(14 - 4..18 - 4).map_or(0, |f| f.iter().sum());
        }
    }
    ticks_to_time(ticks)
}

/// Converts clock ticks, usually of 10 ms.
pub(crate) fn ticks_to_time(ticks: u64) -> io::Result<Duration> {
    let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Returns the CPU time of a process's live threads, with a resolution of nanoseconds.
pub(crate) fn threads_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let nanoseconds = tasks.into_iter().flatten().filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Returns the name of a process and the fields of /proc/PID/stat from the fourth, the parent, on
/// (proc_pid_stat(5)).
pub(crate) fn stat_fields(process: u32) -> io::Result<(String, Vec<u64>)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name is in brackets and may contain blanks and brackets. The state that follows is a
    // letter.
    let (front, fields) = stat.rsplit_once(')').unwrap_or_default();
    let name = front.split_once('(').map_or("", |(_, name)| name);
    let fields = fields.split_whitespace().skip(1);
    Ok((
        name.to_owned(),
        fields.map(|field| field.parse().unwrap_or(0)).collect(),
    ))
}

/// Returns the kernel memory, in bytes, held by all TCP sockets of the machine
/// (/proc/net/sockstat).
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
        .ok_or_else(|| io::Error::other("/proc/net/sockstat has no TCP memory"))?;
    Ok(pages * sysconf(SysconfVar::PAGE_SIZE)?.unwrap_or(4096) as u64)
}

/// Returns the congestion control algorithm of new connections.
pub(crate) fn congestion_control() -> String {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")
        .map_or_else(|_| "unknown".into(), |name| name.trim().to_owned())
}

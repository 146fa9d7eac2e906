//! The machine under the bench: which processor runs what, what other work took, and the kernel's memory for TCP.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// Where the processors' time went between two moments.
pub(crate) struct Work {
    /// What processes have had of it, and what the host took.
    pub(crate) processes: Duration,
    /// What interrupts took of a processor that had no process to run: such as TCP's where it sends by itself later on.
    pub(crate) interrupts: Duration,
}

/// A moment in which it was looked at where the processors' time has gone.
pub(crate) struct Look {
    at: Instant,
    processors: u32,
    idle: Duration,
    stolen: Duration,
    processes: Duration,
}

impl Look {
    pub(crate) fn take() -> io::Result<Look> {
        let stat = fs::read_to_string("/proc/stat")?;
        let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
        let all: Vec<u64> = lines
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .filter_map(|field| field.parse().ok())
            .collect();
        // proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
        let of = |field: usize| ticks_to_time(all.get(field).copied().unwrap_or(0));
        Ok(Look {
            at: Instant::now(),
            processors: lines.count() as u32,
            idle: of(3)? + of(4)?,
            stolen: of(7)?,
            processes: all_processes()?,
        })
    }

    /// Where it went from here to the `later` one.
    pub(crate) fn until(&self, later: &Look) -> Work {
        let stolen = later.stolen.saturating_sub(self.stolen);
        let processes = later.processes.saturating_sub(self.processes) + stolen;
        let idle = later.idle.saturating_sub(self.idle);
        Work {
            processes,
            interrupts: (later.processors * (later.at - self.at)).saturating_sub(idle + processes),
        }
    }
}

/// CPU time that all processes have had so far, and those that have ended and were waited for. The kernel's ksoftirqd, which do
/// what interrupts have left, are none of them.
fn all_processes() -> io::Result<Duration> {
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

/// Time of so many of the kernel's ticks, usually of 10 ms.
pub(crate) fn ticks_to_time(ticks: u64) -> io::Result<Duration> {
    let a_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// CPU time that the threads of a process have had, of those that live.
pub(crate) fn threads_time(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    let nanoseconds = tasks.into_iter().flatten().filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// The name of a process, and the numbers of its /proc/PID/stat from the fourth field on, which is the parent.
pub(crate) fn stat_fields(process: u32) -> io::Result<(String, Vec<u64>)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in brackets, may hold blanks and brackets; the state behind it is a letter.
    let (front, fields) = stat.rsplit_once(')').unwrap_or_default();
    let name = front.split_once('(').map_or("", |(_, name)| name);
    let fields = fields.split_whitespace().skip(1);
    Ok((
        name.to_owned(),
        fields.map(|field| field.parse().unwrap_or(0)).collect(),
    ))
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

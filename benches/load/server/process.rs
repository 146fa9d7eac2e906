//! The running server: start, stop, and the kernel's accounts of its processes.

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::wire_protocol::WireProtocol;
use crate::machine::{stat_fields, threads_time, ticks_to_time};
use crate::server::home::BenchHome;
use crate::server::kind::ServerKind;
use crate::server::target::{Target, cannot_start};

/// Deadline for starting and for stopping a server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Dropping it kills the process.
pub(crate) struct ServerProcess {
    kind: ServerKind,
    child: Child,
    address: SocketAddr,
}

impl ServerProcess {
    /// Starts the server over `home` and waits until it listens.
    pub(crate) fn start(target: &Target, home: &BenchHome) -> io::Result<ServerProcess> {
        let (mut command, address) = target.command(home)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        target.pinning.pin_to_server()?;
        let child = command.spawn();
        target.pinning.pin_to_clients()?;
        let mut child =
            child.map_err(|error| cannot_start(Path::new(command.get_program()), &error))?;
        let stdout = child.stdout.take().expect("standard output is piped");
        // From here on, an early return kills the child.
        let mut server = ServerProcess {
            kind: target.kind,
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        server.address = match address {
            None => read_address(stdout)?,
            Some(address) => {
                poll_until(|| Ok(TcpStream::connect(address).ok().map(drop)))?
                    .ok_or_else(|| io::Error::other("the server does not listen in time"))?;
                address
            }
        };
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn protocol(&self) -> WireProtocol {
        self.kind.protocol()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory, in bytes, of the server and its children. Shared pages count
    /// once (`Pss`, proc_pid_smaps(5)).
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let mut kibibytes = 0;
        for process in self.processes()? {
            let Ok(rollup) = fs::read_to_string(format!("/proc/{process}/smaps_rollup")) else {
                continue; // The process has ended.
            };
            kibibytes += rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
                .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
                .ok_or_else(|| io::Error::other("smaps_rollup has no line Pss"))?;
        }
        Ok(kibibytes * 1024)
    }

    /// Returns the CPU time of the server and its children so far: in nanoseconds for live threads
    /// (/proc/PID/task/TID/schedstat), in clock ticks for processes that have ended
    /// (proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let mut time = Duration::ZERO;
        let mut ended = 0;
        for process in self.processes()? {
            time += threads_time(process);
            if let Ok((_, fields)) = stat_fields(process) {
                ended += fields.get(16 - 4..18 - 4).map_or(0, |f| f.iter().sum());
            }
        }
        Ok(time + ticks_to_time(ended)?)
    }

    /// The server's process and its descendants. tidegate and the baseline have none.
    fn processes(&self) -> io::Result<Vec<u32>> {
        let mut processes = vec![self.child.id()];
        if self.kind.peer_program().is_none() {
            return Ok(processes);
        }
        let mut parents = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            if let Some(process) = name.to_str().and_then(|name| name.parse().ok())
                && let Ok((_, fields)) = stat_fields(process)
                && let Some(parent) = fields.first()
            {
                parents.push((process, *parent as u32));
            }
        }
        let mut at = 0;
        while let Some(parent) = processes.get(at).copied() {
            processes.extend(
                parents
                    .iter()
                    .filter(|(_, of)| *of == parent)
                    .map(|(process, _)| process),
            );
            at += 1;
        }
        Ok(processes)
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let status = poll_until(|| self.child.try_wait())?
            .ok_or_else(|| io::Error::other("the server does not stop in time"))?;
        // Some peers report an orderly end as a failure.
        match status.success() || self.kind.peer_program().is_some() {
            true => Ok(()),
            false => Err(io::Error::other(format!("the server failed: {status}"))),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Polls until `poll` returns a value or [`TIMEOUT`] is over.
fn poll_until<T>(mut poll: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(value) = poll()? {
            return Ok(Some(value));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

/// Reads the address from the line that tidegate and the baseline print when they listen.
fn read_address(stdout: impl Read + Send + 'static) -> io::Result<SocketAddr> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver
        .recv_timeout(TIMEOUT)
        .map_err(|_| io::Error::other("the server does not listen in time"))?;
    line.strip_prefix("listening on ")
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|address| address.parse().ok())
        .ok_or_else(|| io::Error::other(format!("unexpected first line of the server: {line:?}")))
}

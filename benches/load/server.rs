//! The server under load: a home in a temporary folder, a process, and what the kernel tells of that process.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The users of the example home and their passwords, under the hashes of its file `Credentials`.
pub(crate) const USERS: [(&str, &str); 4] = [
    ("user1", "1234"),
    ("user2", "2345"),
    ("user3", "3456"),
    ("user4", "4567"),
];

/// The directory that every user of the home may read.
pub(crate) const DIRECTORY: &str = "Load";

/// How long the server may take to come up, and to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The home that a load goes to.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    /// A home with the example home's users, who may all read one directory.
    pub(crate) fn new() -> io::Result<Home> {
        let folder = TempDir::with_prefix("tidegate-load-")?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/home/Credentials");
        fs::copy(example, folder.path().join("Credentials"))?;
        fs::write(
            folder.path().join("Directories"),
            format!("*:{DIRECTORY}:read\n"),
        )?;
        fs::create_dir_all(folder.path().join("files").join(DIRECTORY))?;
        Ok(Home { folder })
    }

    /// Adds a file of `size` bytes, of which no stretch is like another, and tells its SHA-256.
    pub(crate) fn add_file(&self, name: &str, size: usize) -> io::Result<[u8; 32]> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut content = Vec::with_capacity(size + 8);
        while content.len() < size {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend_from_slice(&state.to_le_bytes());
        }
        content.truncate(size);
        let directory = self.folder.path().join("files").join(DIRECTORY);
        fs::write(directory.join(name), &content)?;
        Ok(Sha256::digest(&content).into())
    }
}

/// A running `tidegate serve`; dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts the server of this package over `home` and waits until it listens.
    pub(crate) fn start(home: &Home) -> io::Result<Server> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("serve")
            .arg(home.folder.path())
            .args(["--listen", "127.0.0.1:0", "--log-level", "error"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().expect("standard output is piped");
        // From here on a return kills the child.
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = tell.send(line);
        });
        let line = told
            .recv_timeout(PATIENCE)
            .map_err(|_| io::Error::other("the server does not say that it listens"))?;
        server.address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| {
                io::Error::other(format!("the server did not start: it said {line:?}"))
            })?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes of its memory that are resident now, as exactly as the kernel knows (proc_pid_smaps(5)).
    pub(crate) fn resident_bytes(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:")?.trim().strip_suffix(" kB"))
            .and_then(|kibibytes| kibibytes.parse::<u64>().ok())
            .map(|kibibytes| kibibytes * 1024)
            .ok_or_else(|| io::Error::other("smaps_rollup has no line Rss"))
    }

    /// CPU time that all its threads have had so far, in ticks of usually 10 ms (proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in brackets, may hold blanks; fields are counted behind it, from the third on.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(14 - 3)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let a_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100) as f64;
        Ok(Duration::from_secs_f64(ticks as f64 / a_second))
    }

    /// Asks it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> io::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(io::Error::other(format!("the server ended: {status}")));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
        Err(io::Error::other("the server does not stop"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

//! A server process on a home.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::Client;
use super::home::Home;
use super::{TIMEOUT, eventually};

/// The path of the program.
pub(crate) const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Returns the `--sandbox` option that `TIDEGATE_SANDBOX` requests, unless `options` has one.
pub(crate) fn sandbox_option(options: &[&str]) -> Option<String> {
    let level = std::env::var("TIDEGATE_SANDBOX").ok()?;
    (!options.contains(&"--sandbox")).then(|| format!("--sandbox={level}"))
}

/// The treatment of the server's standard error.
#[derive(PartialEq, Eq)]
pub(crate) enum Log {
    Read,
    /// A pipe that is never read.
    Unread,
}

/// A server process, killed when dropped. Its log is printed if the test has failed.
pub(crate) struct Server {
    child: Child,
    pub(crate) home: Home,
    /// One for each `--listen`, then one for each `--ftp`.
    pub(crate) addresses: Vec<SocketAddr>,
    log: Arc<Mutex<String>>,
    log_reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on a new home, listening on a free port unless `options` name listeners.
    pub(crate) fn start(options: &[&str]) -> Server {
        Server::with_home(Home::new(), options)
    }

    pub(crate) fn with_home(home: Home, options: &[&str]) -> Server {
        Server::launch(home, &[TIDEGATE], options, Log::Read)
    }

    /// Starts a server by the words that precede `serve`, for example a shell that sets a limit.
    pub(crate) fn launch(home: Home, program: &[&str], options: &[&str], log: Log) -> Server {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg("serve").arg(home.path());
        let is_listener = |word: &&&str| ["--listen", "--ftp"].contains(*word);
        let listeners = options.iter().filter(is_listener).count();
        if listeners == 0 {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .args(options)
            .args(sandbox_option(options))
            .stdin(Stdio::null());
        Server::spawn(home, command, listeners.max(1), log)
    }

    /// Starts a server by any command and waits until it has printed the addresses of its
    /// listeners.
    pub(crate) fn spawn(home: Home, mut command: Command, listeners: usize, log: Log) -> Server {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");

        let text = Arc::new(Mutex::new(String::new()));
        let log_reader = (log == Log::Read).then(|| {
            let lines = BufReader::new(child.stderr.take().expect("it is piped"));
            let text = text.clone();
            thread::spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    let mut text = text.lock().expect("the lock is not poisoned");
                    text.push_str(&line);
                    text.push('\n');
                }
            })
        });
        let (sender, receiver) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut server = Server {
            child,
            home,
            addresses: Vec::new(),
            log: text,
            log_reader,
        };
        for _ in 0..listeners {
            let line = receiver
                .recv_timeout(TIMEOUT)
                .expect("the server prints its listeners");
            let address = line
                .strip_prefix("listening on ")
                .and_then(|rest| {
                    let menu = rest.strip_suffix(" (menu)");
                    menu.or_else(|| rest.strip_suffix(" (ftp)"))
                })
                .unwrap_or_else(|| panic!("not a listener: {line}"));
            server.addresses.push(address.parse().expect(address));
        }
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Returns a client of the menu that has logged in.
    pub(crate) fn login(&self, user: &str) -> Client {
        let mut client = self.connect();
        client.login(user);
        client
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("a child can be signalled");
    }

    /// Waits until the process has ended by itself, and returns its status. The log is complete
    /// then.
    pub(crate) fn exit_status(&mut self) -> i32 {
        let mut status = None;
        eventually("the server ends", || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        if let Some(reader) = self.log_reader.take() {
            reader.join().expect("the reader does not panic");
        }
        let code = status.and_then(|status| status.code());
        code.expect("no signal has ended the server")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the lock is not poisoned").clone()
    }

    /// Waits for a line of the log that contains all `words`.
    pub(crate) fn log_line(&self, words: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("the log has a line with {words:?}"), || {
            found = self
                .log()
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned);
            found.is_some()
        });
        found.expect("it was found")
    }

    /// The number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        match fs::read_dir(self.proc_file("fd")) {
            Ok(descriptors) => descriptors.count(),
            // Only root can list those of a sandboxed process. Since Linux 6.2, the size of the
            // directory is their number.
            Err(_) => {
                let found = fs::metadata(self.proc_file("fd"));
                found.map_or(0, |found| found.len() as usize)
            }
        }
    }

    /// The CPU time of all threads.
    pub(crate) fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(self.proc_file("task")).expect("a child has threads");
        let nanoseconds = threads
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
            .filter_map(|stat| stat.split(' ').next()?.parse::<u64>().ok());
        Duration::from_nanos(nanoseconds.sum())
    }

    /// The resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(self.proc_file("status")).expect("a child has a status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|n| n.parse().ok()).expect("VmRSS in kB")
    }

    /// The path of a file in the process's folder of `/proc`.
    pub(crate) fn proc_file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.child.id()).into()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a server that does not start, and returns its exit status and standard error.
pub(crate) fn refused_start(home: &Path, options: &[&str]) -> (i32, String) {
    let mut child = Command::new(TIDEGATE)
        .arg("serve")
        .arg(home)
        .args(options)
        .args(sandbox_option(options))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().expect("it is a child").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let stderr = String::from_utf8(output.stderr).expect("messages are UTF-8");
    let code = output.status.code();
    (code.expect("no signal has ended the server"), stderr)
}

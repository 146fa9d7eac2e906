//! Runs the client program against a server process.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

pub(super) use crate::support::TIDEGATE as PROGRAM;
use crate::support::changes::plain_home;
use crate::support::{self, Home, needs};

/// The bound of every wait.
pub(super) const TIMEOUT: Duration = Duration::from_secs(180);

/// A server and a working folder for its clients.
pub(super) struct Server {
    pub(super) server: support::Server,
    pub(super) folder: TempDir,
}

/// The result of a run of the program.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) status: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Server {
    pub(super) fn new() -> Server {
        Server::with(|_| ())
    }

    /// Serves the example home after a change.
    pub(super) fn with(change: impl FnOnce(&Home)) -> Server {
        let home = plain_home();
        change(&home);
        Server {
            server: support::Server::with_home(home, &["--drain-timeout", "0"]),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Stops the server at once.
    pub(super) fn stop(&mut self) {
        self.server.signal(Signal::SIGTERM);
        self.server.signal(Signal::SIGTERM);
        self.server.exit_status();
    }

    pub(super) fn remote(&self, user: &str) -> String {
        format!("{user}@127.0.0.1:{}", self.port())
    }

    /// Returns a path in the working folder of the clients.
    pub(super) fn local(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Returns the path of a served file.
    pub(super) fn served(&self, path: &str) -> PathBuf {
        self.server.home.file(path)
    }

    /// Returns the program's command in the working folder. The argument `USER1` stands for `user1`
    /// on
    /// this server, with the password in the environment.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        client(self.folder.path(), self.port(), args)
    }

    pub(super) fn run(&self, args: &[&str]) -> Output {
        finish(self.command(args))
    }
}

/// Returns the program's command without a controlling terminal, so that it cannot prompt.
pub(super) fn client(folder: &Path, port: u16, args: &[&str]) -> Command {
    let mut command = if needs::is_usable("setsid") {
        let mut command = Command::new("setsid");
        command.args(["--wait", PROGRAM]);
        command
    } else {
        Command::new(PROGRAM)
    };
    command.current_dir(folder).stdin(Stdio::null());
    for arg in args {
        match arg.strip_prefix("USER") {
            Some(user @ ("1" | "2" | "3" | "4")) => {
                let first: u32 = user.parse().unwrap();
                let password: String = (first..first + 4).map(|digit| digit.to_string()).collect();
                command
                    .arg(format!("user{user}@127.0.0.1:{port}"))
                    .env("TIDEGATE_PASSWORD", password);
            }
            _ => {
                command.arg(arg);
            }
        }
    }
    command
}

/// Runs a command to its end.
pub(super) fn finish(mut command: Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let out = reader(child.stdout.take().unwrap());
    let err = reader(child.stderr.take().unwrap());
    let status = wait(&mut child);
    Output {
        status,
        stdout: out.join().unwrap(),
        stderr: err.join().unwrap(),
    }
}

/// Waits for a child and returns its exit status.
pub(super) fn wait(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if start.elapsed() > TIMEOUT {
            let _ = child.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).expect("the output is UTF-8")
    })
}

impl Output {
    /// Asserts that all files were transferred, and their number and size.
    #[track_caller]
    pub(super) fn assert_transferred(&self, files: usize, bytes: u64) {
        let sum = match files {
            1 => format!("1 file, {bytes} bytes, "),
            _ => format!("{files} files, {bytes} bytes, "),
        };
        assert_eq!(
            (self.status, self.stderr.as_str()),
            (Some(0), ""),
            "{self:?}"
        );
        assert!(
            self.stdout.starts_with(&sum) && self.stdout.ends_with("/s\n"),
            "{sum:?} {self:?}"
        );
    }

    /// Asserts the exit status and the standard error.
    #[track_caller]
    pub(super) fn assert_ended(&self, status: i32, err: &str) {
        assert_eq!(
            (self.status, self.stderr.as_str()),
            (Some(status), err),
            "{self:?}"
        );
    }
}

/// Returns random bytes that depend on the length.
pub(super) fn random_bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

/// Returns all files below a folder with their content. Names of directories end with `/`.
pub(super) fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            match path.is_dir() {
                true => {
                    found.push((name + "/", Vec::new()));
                    folders.push(path);
                }
                false => found.push((name, fs::read(path).unwrap())),
            }
        }
    }
    found.sort();
    found
}

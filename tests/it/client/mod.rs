//! The client as people use it: the program, against a server of its own over a copy of the example home.

mod answers;
mod broken;
mod connect;
mod help;
mod hostile;
mod terminal;
mod transfers;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::changes::plain_home;
use crate::support::{self, Home, TIDEGATE as PROGRAM, needs};

/// How long anything here may take.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A server, and a folder in which its clients are run.
struct Server {
    server: support::Server,
    folder: TempDir,
}

/// What a run of the program came to.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Server {
    fn new() -> Server {
        Server::with(|_| ())
    }

    /// Serves the example home as `change` leaves it.
    fn with(change: impl FnOnce(&Home)) -> Server {
        let home = plain_home();
        change(&home);
        Server {
            server: support::Server::with_home(home, &["--drain-timeout", "0"]),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Ends it at once.
    fn stop(&mut self) {
        self.server.signal(Signal::SIGTERM);
        self.server.signal(Signal::SIGTERM);
        self.server.exit_status();
    }

    fn remote(&self, user: &str) -> String {
        format!("{user}@127.0.0.1:{}", self.port())
    }

    /// A path in the clients' folder.
    fn here(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A path in the home's `files/`.
    fn there(&self, path: &str) -> PathBuf {
        self.server.home.file(path)
    }

    /// The program in the clients' folder; `USER1` among its arguments is that user of this server, and his password is in
    /// the environment.
    fn command(&self, args: &[&str]) -> Command {
        client(self.folder.path(), self.port(), args)
    }

    fn run(&self, args: &[&str]) -> Ran {
        finish(self.command(args))
    }
}

/// The program with a terminal of nobody's: there is none to ask for a password on.
fn client(folder: &Path, port: u16, args: &[&str]) -> Command {
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

/// Runs a command to its end, within [`TIMEOUT`].
fn finish(mut command: Command) -> Ran {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let out = reader(child.stdout.take().unwrap());
    let err = reader(child.stderr.take().unwrap());
    let status = wait(&mut child);
    Ran {
        status,
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

/// The exit status of a child that ends in time.
fn wait(child: &mut Child) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begin.elapsed() > TIMEOUT {
            let _ = child.kill();
            panic!("the program does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).expect("only text is said")
    })
}

impl Ran {
    /// All was done, with this many files.
    #[track_caller]
    fn moved(&self, files: usize, bytes: u64) {
        let sum = match files {
            1 => format!("1 file, {bytes} bytes, "),
            _ => format!("{files} files, {bytes} bytes, "),
        };
        assert_eq!((self.status, self.err.as_str()), (Some(0), ""), "{self:?}");
        assert!(
            self.out.starts_with(&sum) && self.out.ends_with("/s\n"),
            "{sum:?} {self:?}"
        );
    }

    /// It failed with these lines on standard error.
    #[track_caller]
    fn failed(&self, status: i32, err: &str) {
        assert_eq!(
            (self.status, self.err.as_str()),
            (Some(status), err),
            "{self:?}"
        );
    }
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

/// Every file below a folder, with its bytes; directories end in `/`.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
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

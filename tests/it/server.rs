//! The server as an operator runs it: a process of its own, on a port that the system chose.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes on a machine that is busy with other tests; who waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
    /// Its log, a line each.
    log: Receiver<String>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(home: &Path, options: &[String]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("serve")
            .arg(home)
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server");
        let log = lines(process.stderr.take().expect("its log"));
        let out = lines(process.stdout.take().expect("its output"));
        let address = out.recv_timeout(PATIENCE).ok().and_then(|line| {
            let address = line
                .strip_prefix("listening on ")?
                .strip_suffix(" (menu)")?;
            address.parse().ok()
        });
        let Some(address) = address else {
            let _ = process.kill();
            let _ = process.wait();
            panic!("it does not listen: {:?}", log.iter().collect::<Vec<_>>());
        };
        Server {
            process,
            address,
            log,
        }
    }

    /// A connection on which nothing is waited for without end.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_nodelay(true).expect("an option of a socket");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("an option of a socket");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("an option of a socket");
        stream
    }

    /// Tells it to read the home's two files again, and waits until it has.
    pub(crate) fn reload(&self) {
        self.signal(Signal::SIGHUP);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).expect("a line on the reload");
            if line.contains("event=reload result=") {
                return;
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.process.id().try_into().expect("a process id"));
        kill(process, signal).expect("a signal to our own child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines of a stream, read by a thread so that its writer never waits.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

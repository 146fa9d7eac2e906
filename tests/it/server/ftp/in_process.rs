//! An FTP server whose event loop runs on a thread of the test, and a control connection to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use nix::sys::socket::{MsgFlags, send};
use tidegate::kernel::linux::Linux;
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server;
use tidegate::server::Options;

pub(crate) use crate::support::connect_from;
use crate::support::{Home, TIMEOUT};

/// A server on a home with plain passwords, stopped when dropped.
pub(crate) struct Server {
    pub(crate) home: Home,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(options: Options) -> Server {
        let home = crate::support::changes::plain_home();
        let path = home.path();
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = channel();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let (home, _) = tidegate::config::Home::load(&path).expect("the home is valid");
            let dialect = Dialect::Ftp(FtpSettings {
                active: ActiveMode::Enabled,
            });
            let at = "127.0.0.1:0".parse().expect("an address");
            let kernel = Linux::new().expect("the kernel is supported");
            let listener = server::listen(&kernel, at, server::listener_token(0))
                .expect("loopback is available");
            let (mut event_loop, listening) =
                server::start(kernel, home, options, vec![(listener, dialect)], 2)
                    .expect("the threads start");
            sender.send(listening[0]).expect("the test waits");
            while !stopping.load(Ordering::Relaxed) {
                event_loop.tick().expect("polling does not fail");
                event_loop.assert_invariants();
            }
        });
        Server {
            home,
            address: receiver.recv_timeout(TIMEOUT).expect("the server starts"),
            stop,
            thread: Some(thread),
        }
    }

    /// Logs in as a user of the example home.
    pub(crate) fn login(&self, user: &str) -> Control {
        self.login_from("127.0.0.1", user)
    }

    pub(crate) fn login_from(&self, from: &str, user: &str) -> Control {
        let mut control = Control::new(connect_from(from, self.address));
        assert_eq!(control.codes(1), ["220"]);
        let first: u32 = user[4..].parse().expect("user1 to user4");
        let password: String = (first..first + 4).map(|digit| digit.to_string()).collect();
        control.expect(&format!("USER {user}"), "331");
        control.expect(&format!("PASS {password}"), "230");
        control
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it was started").join();
        if !std::thread::panicking() {
            ended.expect("the server does not panic");
        }
    }
}

/// The client's end of a control connection.
pub(crate) struct Control {
    stream: BufReader<TcpStream>,
    last_port: u16,
}

impl Control {
    fn new(stream: TcpStream) -> Control {
        stream.set_nodelay(true).expect("TCP has the option");
        Control {
            stream: BufReader::new(stream),
            last_port: 0,
        }
    }

    pub(crate) fn send(&mut self, line: &str) {
        let mut stream = self.stream.get_ref();
        let line = format!("{line}\r\n");
        stream.write_all(line.as_bytes()).expect("the server reads");
    }

    /// Sends Telnet's IP and a Synch (RFC 854), whose DM is urgent.
    pub(crate) fn send_synch(&mut self) {
        let mut stream = self.stream.get_ref();
        stream.write_all(b"\xff\xf4\xff").expect("the server reads");
        let sent = send(stream.as_raw_fd(), b"\xf2", MsgFlags::MSG_OOB);
        assert_eq!(sent.expect("the server reads"), 1);
    }

    /// Reads a reply.
    fn read_reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let n = self
                .stream
                .read_line(&mut reply)
                .expect("a reply arrives in time");
            assert!(n > 0, "the connection ended after {reply:?}");
            let line = &reply[start..];
            if reply[..3] == line[..3.min(line.len())] && line.as_bytes().get(3) == Some(&b' ') {
                return reply;
            }
        }
    }

    /// Reads replies and returns their codes.
    pub(crate) fn codes(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| self.read_reply()[..3].to_owned())
            .collect()
    }

    pub(crate) fn command(&mut self, line: &str) -> String {
        self.send(line);
        self.read_reply()
    }

    /// Sends a command, whose reply must start with this text.
    pub(crate) fn expect(&mut self, line: &str, start: &str) {
        let reply = self.command(line);
        assert!(reply.starts_with(start), "{line}: {reply}");
    }

    /// Sends EPSV and returns the address of the data connection.
    pub(crate) fn passive(&mut self) -> SocketAddr {
        let reply = self.command("EPSV");
        let port = reply.split('|').nth(3).unwrap_or_else(|| panic!("{reply}"));
        self.last_port = port.parse().expect("the port is a number");
        let server = self.stream.get_ref().peer_addr().expect("it is connected");
        SocketAddr::new(server.ip(), self.last_port)
    }

    pub(crate) fn last_port(&self) -> u16 {
        self.last_port
    }

    fn connect_data(&mut self) -> TcpStream {
        let at = self.passive();
        let here = self.stream.get_ref().local_addr().expect("it is connected");
        connect_from(&here.ip().to_string(), at)
    }

    /// Returns the code of the final reply and the received data.
    pub(crate) fn retrieve(&mut self, line: &str) -> (String, Vec<u8>) {
        let mut data = self.connect_data();
        self.expect(line, "150");
        let mut content = Vec::new();
        data.read_to_end(&mut content).expect("the data arrives");
        drop(data);
        (self.codes(1).remove(0), content)
    }

    /// Starts an upload and returns the data connection.
    pub(crate) fn start_store(&mut self, line: &str) -> TcpStream {
        let data = self.connect_data();
        self.expect(line, "150");
        data
    }

    /// Uploads a file and returns the code of the final reply.
    pub(crate) fn store(&mut self, line: &str, bytes: &[u8]) -> String {
        let mut data = self.start_store(line);
        data.write_all(bytes).expect("the server reads");
        data.shutdown(Shutdown::Write).expect("it is connected");
        self.codes(1).remove(0)
    }
}

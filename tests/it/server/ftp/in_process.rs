//! A server that speaks FTP on a thread of the test, and one client's control connection to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use nix::sys::socket::{MsgFlags, send};
use tidegate::kernel::linux::Linux;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server;
use tidegate::server::Options;

pub(crate) use crate::support::connect_from;
use crate::support::{Home, TIMEOUT};

/// A server on a thread, over a copy of the example home; it stops with its drop.
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
        let (told, heard) = channel();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let (home, _) = tidegate::config::Home::load(&path).expect("the example has no faults");
            let dialect = Dialect::Ftp(FtpSettings { active: true });
            let at = "127.0.0.1:0".parse().expect("an address");
            let kernel = Linux::new().expect("this kernel is new enough");
            let listener = server::listen(&kernel, at, server::listener_token(0))
                .expect("it can listen on loopback");
            let (mut event_loop, listening) =
                server::start(kernel, home, options, vec![(listener, dialect)], 2)
                    .expect("threads can be started");
            told.send(listening[0]).expect("the test waits for it");
            while !stopping.load(Ordering::Relaxed) {
                event_loop.tick().expect("polling does not fail");
                event_loop.assert_invariants();
            }
        });
        Server {
            home,
            address: heard.recv_timeout(TIMEOUT).expect("the server starts"),
            stop,
            thread: Some(thread),
        }
    }

    /// One of the example's users, who has logged in.
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
        stream
            .set_nodelay(true)
            .expect("sockets have such an option");
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

    /// Telnet's IP and the Synch behind it (RFC 854), of which DM is the urgent byte.
    pub(crate) fn send_synch(&mut self) {
        let mut stream = self.stream.get_ref();
        stream.write_all(b"\xff\xf4\xff").expect("the server reads");
        let sent = send(stream.as_raw_fd(), b"\xf2", MsgFlags::MSG_OOB);
        assert_eq!(sent.expect("the server reads"), 1);
    }

    /// The next reply, all its lines.
    fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let n = self
                .stream
                .read_line(&mut reply)
                .expect("a reply comes in time");
            assert!(
                n > 0,
                "the server has closed the connection behind {reply:?}"
            );
            let line = &reply[start..];
            if reply[..3] == line[..3.min(line.len())] && line.as_bytes().get(3) == Some(&b' ') {
                return reply;
            }
        }
    }

    /// The codes of the next replies.
    pub(crate) fn codes(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.reply()[..3].to_owned()).collect()
    }

    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.reply()
    }

    /// Sends a line, the reply to which must begin so.
    pub(crate) fn expect(&mut self, line: &str, begins: &str) {
        let reply = self.ask(line);
        assert!(reply.starts_with(begins), "{line}: {reply}");
    }

    /// Where the server awaits us.
    pub(crate) fn passive(&mut self) -> SocketAddr {
        let reply = self.ask("EPSV");
        let port = reply.split('|').nth(3).unwrap_or_else(|| panic!("{reply}"));
        self.last_port = port.parse().expect("a port");
        let server = self.stream.get_ref().peer_addr().expect("it stands");
        SocketAddr::new(server.ip(), self.last_port)
    }

    pub(crate) fn last_port(&self) -> u16 {
        self.last_port
    }

    fn data(&mut self) -> TcpStream {
        let at = self.passive();
        let here = self.stream.get_ref().local_addr().expect("it stands");
        connect_from(&here.ip().to_string(), at)
    }

    /// What comes over a data connection, and the code behind it.
    pub(crate) fn retrieve(&mut self, line: &str) -> (String, Vec<u8>) {
        let mut data = self.data();
        self.expect(line, "150");
        let mut got = Vec::new();
        data.read_to_end(&mut got).expect("it is sent");
        drop(data);
        (self.codes(1).remove(0), got)
    }

    /// A data connection on which a file is awaited.
    pub(crate) fn begin_store(&mut self, line: &str) -> TcpStream {
        let data = self.data();
        self.expect(line, "150");
        data
    }

    /// Sends a file, and gives the code behind it.
    pub(crate) fn store(&mut self, line: &str, bytes: &[u8]) -> String {
        let mut data = self.begin_store(line);
        data.write_all(bytes).expect("it is taken");
        data.shutdown(Shutdown::Write).expect("it stands");
        self.codes(1).remove(0)
    }
}

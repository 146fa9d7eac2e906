//! The work per request does not grow with the number of requests that wait.
//!
//! Sessions of one user send one request each, before any job runs. The calls of the kernel and the
//! comparisons of sessions are counted until every session has its reply, or has ended.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options, comparisons};

use super::{serve, write_home};

/// Sessions that wait at the same time.
const MANY: usize = 8000;
const FEW: usize = 80;

/// The work per request among [`MANY`] may be this many times that among [`FEW`], which covers the
/// logarithmic depth of the queues.
const GROWTH_MAX: f64 = 2.0;

/// This many comparisons per request are constant work, whatever it was among [`FEW`].
const COMPARISONS_MIN: f64 = 16.0;

/// Ticks in which all replies must have come.
const TICKS_MAX: usize = 20_000;

/// Sessions of one user, each from an address of its own.
struct Crowd {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    login: &'static str,
    peers: Vec<Peer>,
    data: Vec<Peer>,
    _home: TempDir,
}

/// The work for one request of each session.
#[derive(Debug)]
struct Work {
    /// Calls of the kernel per request.
    calls: f64,
    /// Comparisons of sessions per request.
    comparisons: f64,
}

impl Crowd {
    /// Starts a server. `login` are the first lines of each session, with its number for `#`.
    fn new(is_ftp: bool, login: &'static str) -> Crowd {
        // A seed without spurious events, short writes and uncached pages.
        let sim = Sim::new(4);
        sim.set_max_wait(Duration::from_millis(5));
        sim.put("/srv/Movies/small", SimEntry::File(vec![b'x'; 100]));
        for n in 0..10 {
            sim.put(&format!("/srv/Movies/{n}"), SimEntry::File(Vec::new()));
        }
        let home = TempDir::new().expect("a temporary folder");
        sim.put("/srv/Box", SimEntry::Directory);
        let directories =
            "ann:Movies:read,change:/srv/Movies\nann:Box:read,change:/srv/Box\n".to_owned();
        write_home(home.path(), ("ann:plain:secret\n".to_owned(), directories));
        let options = Options {
            max_failures: u32::MAX,
            login_timeout: Duration::from_secs(3600),
            idle_timeout: Duration::from_secs(3600),
            passive_ports: Some((2000, 2001)),
            ..Options::default()
        };
        let (mut event_loop, menu) = serve(&sim, home.path(), options);
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings {
            active: ActiveMode::Disabled,
        });
        let ftp = event_loop.listen(any, dialect).expect("no fault");
        Crowd {
            sim,
            event_loop,
            address: if is_ftp { ftp } else { menu },
            login,
            peers: Vec::new(),
            data: Vec::new(),
            _home: home,
        }
    }

    /// Connects sessions until there are `count`.
    fn grow(&mut self, count: usize) {
        self.connect(count);
        self.settle();
        for at in 0..count {
            self.receive(at);
        }
    }

    fn connect(&mut self, count: usize) {
        while self.peers.len() < count {
            let address = address(self.peers.len());
            match self.sim.peer_connect(self.address, address) {
                Ok(peer) => {
                    self.peers.push(peer);
                    let at = self.peers.len() - 1;
                    self.send(at, &self.login.replace('#', &at.to_string()));
                }
                // The backlog is full.
                Err(_) => self.tick(),
            }
        }
    }

    /// Gives each session a data connection.
    fn connect_data(&mut self) {
        for peer in self.data.drain(..) {
            self.sim.peer_close(peer);
        }
        let count = self.peers.len();
        (0..count).for_each(|at| self.send(at, "EPSV\r\n"));
        let mut at = 0;
        let mut reply = String::new();
        while at < count {
            reply += &self.receive(at);
            if let Some(port) = reply.split('|').nth(3) {
                let to = SocketAddr::new(self.address.ip(), port.parse().expect("a number"));
                if let Ok(peer) = self.sim.peer_connect(to, address(at)) {
                    self.data.push(peer);
                    reply.clear();
                    at += 1;
                    continue;
                }
            }
            self.settle();
        }
        self.settle();
    }

    fn send(&self, at: usize, lines: &str) {
        let sent = self.sim.peer_send(self.peers[at], lines.as_bytes());
        assert_eq!(sent.expect("the connection is open"), lines.len());
    }

    fn receive(&self, at: usize) -> String {
        let received = self.sim.peer_receive(self.peers[at], usize::MAX);
        String::from_utf8(received.unwrap_or_default()).expect("replies are text")
    }

    fn tick(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
    }

    fn run_jobs(&mut self) {
        while self.event_loop.jobs() > 0 {
            self.sim.as_worker(|| self.event_loop.run_job(0));
        }
    }

    /// Runs ticks and jobs until little is left to do.
    fn settle(&mut self) {
        for _ in 0..6 {
            self.tick();
            self.run_jobs();
        }
    }

    /// Lets each session send a request and waits until each has a reply that contains `expected`.
    fn measure(&mut self, request: impl Fn(usize) -> String, expected: &str) -> Work {
        let count = self.peers.len();
        let (calls, before) = (self.sim.call_count(), comparisons());
        for at in 0..count {
            self.send(at, &request(at));
        }
        // All requests arrive before the first job runs.
        for _ in 0..10 {
            self.tick();
        }
        // Uploads are empty.
        for peer in &self.data {
            self.sim.peer_shutdown(*peer);
        }
        let mut waiting: Vec<_> = (0..count).map(|at| (at, String::new())).collect();
        for round in 0.. {
            let (_, first) = &waiting[0];
            assert!(round < TICKS_MAX, "{} wait, one for {first}", waiting.len());
            self.tick();
            self.run_jobs();
            for peer in &self.data {
                let _ = self.sim.peer_receive(*peer, usize::MAX);
            }
            waiting.retain_mut(|(at, reply)| {
                *reply += &self.receive(*at);
                !reply.contains(expected)
            });
            if waiting.is_empty() {
                break;
            }
        }
        self.work(calls, before)
    }

    /// Ends all sessions while the request that each has sent, or else the login, waits for a
    /// worker.
    fn measure_end(mut self, count: usize, request: &str) -> Work {
        match request {
            "" => self.connect(count),
            _ => self.grow(count),
        }
        for at in 0..self.peers.len() {
            self.send(at, &request.replace('#', &at.to_string()));
        }
        for _ in 0..10 {
            self.tick();
        }
        let (calls, before) = (self.sim.call_count(), comparisons());
        for peer in &self.peers {
            self.sim.peer_reset(*peer);
        }
        for round in 0.. {
            assert!(round < TICKS_MAX, "sessions have not ended");
            self.tick();
            if self.sim.held_handles().sockets == 0 {
                break;
            }
        }
        self.work(calls, before)
    }

    /// Returns the work since there had been this many calls and comparisons.
    fn work(&self, calls: u64, before: u64) -> Work {
        let per_request = |total: u64| total as f64 / self.peers.len() as f64;
        Work {
            calls: per_request(self.sim.call_count() - calls),
            comparisons: per_request(comparisons() - before),
        }
    }
}

fn address(number: usize) -> IpAddr {
    let [_, a, b, c] = (number as u32 + 1).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, a, b, c))
}

/// Compares the work of a request among few and among many sessions.
fn compare(line: &str, few: &Work, many: &Work) {
    assert!(
        many.calls <= few.calls * GROWTH_MAX,
        "{line}: {many:?} per request, but {few:?} among few"
    );
    assert!(
        many.comparisons <= (few.comparisons * GROWTH_MAX).max(COMPARISONS_MIN),
        "{line}: {many:?} per request, but {few:?} among few"
    );
}

/// Measures each request among few and among many sessions. Those with a data connection get one
/// before.
fn check(mut crowd: Crowd, requests: &[(&str, &str)]) {
    let [few, many] = [FEW, MANY].map(|count| {
        crowd.grow(count);
        let works = requests.iter().map(|(line, expected)| {
            let verb = line.split(' ').next().expect("a verb");
            if ["RETR", "LIST", "MLSD", "APPE"].contains(&verb) {
                crowd.connect_data();
            }
            crowd.measure(|at| line.replace('#', &at.to_string()), expected)
        });
        works.collect::<Vec<_>>()
    });
    for ((line, _), (few, many)) in requests.iter().zip(few.iter().zip(&many)) {
        compare(line, few, many);
    }
}

#[test]
fn work_per_ftp_request_does_not_grow_with_the_crowd() {
    let crowd = Crowd::new(true, "USER ann\r\nPASS secret\r\nTYPE I\r\n");
    check(
        crowd,
        &[
            ("STAT /Movies\r\n", "213 End"),
            ("SIZE /Movies/small\r\n", "213 100\r\n"),
            ("SIZE /Movies/missing\r\n", "550 "),
            ("XCRC /Movies/small\r\n", "250 "),
            ("HASH /Movies/small\r\n", "213 "),
            ("MKD /Movies/0\r\n", "550 "),
            ("MKD /Box/directory#\r\n", "257 "),
            ("RMD /Box/directory#\r\n", "250 "),
            ("LIST /Movies\r\n", "226 "),
            ("MLSD /Movies\r\n", "226 "),
            ("RETR /Movies/small\r\n", "226 "),
            ("RETR /Movies/missing\r\n", "550 "),
            ("APPE /Box/own#\r\n", "226 "),
        ],
    );
}

#[test]
fn work_per_menu_request_does_not_grow_with_the_crowd() {
    let crowd = Crowd::new(false, "LOGIN\nann\nsecret\n");
    check(
        crowd,
        &[
            ("SHOW DIRECTORY Movies\n", "'QUIT'\n"),
            ("DOWNLOAD FILE Movies/small\n", "'QUIT'\n"),
            ("DOWNLOAD FILE Movies/missing\n", "'QUIT'\n"),
            ("CHECKSUM FILE Movies/small\n", "'QUIT'\n"),
            ("PUT FILE 3 Movies/small\nabc", "'QUIT'\n"),
            ("MAKE DIRECTORY Movies/0\n", "'QUIT'\n"),
            ("SHOW DETAILS\n", "'QUIT'\n"),
        ],
    );
}

#[test]
fn work_per_wrong_password_does_not_grow_with_the_crowd() {
    let crowd = Crowd::new(false, "");
    crowd.sim.set_max_wait(Duration::from_millis(200));
    check(crowd, &[("LOGIN\nann\nwrong #\n", "Login Failed")]);
}

#[test]
fn the_end_of_a_waiting_session_costs_constant_work() {
    let ends = [
        (true, "USER ann\r\nPASS secret\r\n", "STAT /Movies\r\n"),
        (true, "USER ann\r\nPASS secret\r\n", "STAT /Movies/#\r\n"),
        (
            true,
            "USER ann\r\nPASS secret\r\n",
            "XCRC /Movies/small\r\n",
        ),
        (true, "USER ann\r\nPASS secret\r\n", "MKD /Box/new#\r\n"),
        (true, "USER ann\r\nPASS wrong #\r\n", ""),
        (true, "USER ann\r\nPASS wrong\r\n", ""),
    ];
    for (is_ftp, login, request) in ends {
        let [few, many] =
            [FEW, MANY].map(|count| Crowd::new(is_ftp, login).measure_end(count, request));
        compare(&format!("{login:?} {request:?}"), &few, &many);
    }
}

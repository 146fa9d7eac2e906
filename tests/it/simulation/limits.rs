//! Rate limits and the order of logins, on a simulated clock.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::limits::LISTING_QUEUE_TIMEOUT;
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

use super::{serve, write_home};

/// The length of the downloaded file in bytes.
const LENGTH: usize = 1_000_000;

/// A server with a file `Movies/Film` that all users can read.
struct Stage {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    _home: TempDir,
}

/// A client and the bytes that it has received.
struct Reader {
    peer: Peer,
    received: Vec<u8>,
    ended: bool,
}

impl Stage {
    fn new(limits: &str, options: Options) -> Stage {
        let sim = Sim::new(1);
        sim.set_max_wait(Duration::from_millis(1));
        sim.put("/srv/Movies", SimEntry::Directory);
        sim.put("/srv/Movies/Film", SimEntry::File(vec![b'x'; LENGTH]));
        let home = TempDir::new().expect("a temporary folder");
        let directories = format!("*:Movies:read,change:/srv/Movies\n{limits}");
        let credentials = "user1:plain:1234\nuser2:plain:2345\nuser3:plain:3456\n".to_owned();
        write_home(home.path(), (credentials, directories));
        let (event_loop, address) = serve(&sim, home.path(), options);
        Stage {
            sim,
            event_loop,
            address,
            _home: home,
        }
    }

    /// Connects a client and sends its input.
    fn connect(&self, lines: &str) -> Reader {
        self.connect_from(Ipv4Addr::LOCALHOST, lines)
    }

    fn connect_from(&self, from: Ipv4Addr, lines: &str) -> Reader {
        let from = IpAddr::V4(from);
        let peer = self
            .sim
            .peer_connect(self.address, from)
            .expect("the server listens");
        let sent = self.sim.peer_send(peer, lines.as_bytes());
        assert_eq!(sent.expect("the connection is open"), lines.len());
        Reader::new(peer)
    }

    /// Makes all further clients use FTP.
    fn switch_to_ftp(&mut self) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings {
            active: ActiveMode::Disabled,
        });
        self.address = self
            .event_loop
            .listen(any, dialect)
            .expect("no fault is injected");
    }

    /// Connects an FTP client that lists `Movies`. Returns its control and data connections.
    fn list(&mut self, login: &str) -> (Reader, Reader) {
        let mut control = self.connect(login);
        control.read_until(self, "331 ");
        control.send(self, "EPSV\r\n");
        let reply = control.read_until(self, "229 ");
        let port = reply.split('|').nth(3).expect("the reply has a port");
        let at = SocketAddr::new(self.address.ip(), port.parse().expect("a number"));
        let data = self.sim.peer_connect(at, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let data = Reader::new(data.expect("the server listens"));
        control.send(self, "NLST Movies\r\n");
        (control, data)
    }

    fn tick(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
        while self.event_loop.jobs() > 0 {
            self.sim.as_worker(|| self.event_loop.run_job(0));
        }
        self.event_loop.assert_invariants();
    }

    /// Runs some ticks during which the workers are busy.
    fn tick_without_jobs(&mut self) {
        for _ in 0..100 {
            self.event_loop.tick().expect("polling does not fail");
        }
    }

    /// Runs for some time.
    fn wait(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.tick();
        }
    }
}

impl Reader {
    fn new(peer: Peer) -> Reader {
        Reader {
            peer,
            received: Vec::new(),
            ended: false,
        }
    }

    fn send(&self, stage: &Stage, line: &str) {
        let sent = stage.sim.peer_send(self.peer, line.as_bytes());
        assert_eq!(sent.expect("the connection is open"), line.len());
    }

    /// Runs until the received text contains `expected`, and returns all of it.
    fn read_until(&mut self, stage: &mut Stage, expected: &str) -> String {
        let deadline = stage.sim.elapsed() + Duration::from_secs(3);
        while stage.sim.elapsed() < deadline {
            self.receive(&stage.sim, usize::MAX);
            let text = String::from_utf8_lossy(&self.received);
            if text.contains(expected) && text.ends_with('\n') {
                return text.into_owned();
            }
            stage.tick();
        }
        let text = String::from_utf8_lossy(&self.received);
        panic!("received {text} instead of {expected:?}")
    }

    /// Receives up to `most` bytes.
    fn receive(&mut self, sim: &Sim, most: usize) {
        match sim.peer_receive(self.peer, most) {
            Ok(bytes) if bytes.is_empty() => self.ended = true,
            Ok(bytes) => self.received.extend(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
    }
}

const DOWNLOAD_1: &str = "LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Film\nQUIT\n";
const DOWNLOAD_2: &str = "LOGIN\nuser2\n2345\nDOWNLOAD FILE Movies/Film\nQUIT\n";

/// Runs until all readers have the whole file. Returns the time in seconds, and the number of bytes
/// that each had received when the first was done.
fn run(stage: &mut Stage, readers: &mut [Reader]) -> (f64, Vec<usize>) {
    let start = stage.sim.elapsed();
    let mut at_first = Vec::new();
    while !readers.iter().all(|reader| reader.ended) {
        stage.tick();
        for reader in &mut *readers {
            reader.receive(&stage.sim, usize::MAX);
        }
        if at_first.is_empty() && readers.iter().any(|reader| reader.ended) {
            at_first = readers.iter().map(|reader| reader.received.len()).collect();
        }
    }
    for reader in readers {
        let end = String::from_utf8_lossy(&reader.received[LENGTH..]).into_owned();
        assert!(end.ends_with("You are logged out.\n"), "{end}");
    }
    ((stage.sim.elapsed() - start).as_secs_f64(), at_first)
}

#[test]
fn sessions_of_a_user_share_the_rate_evenly() {
    let mut stage = Stage::new("user1::rate=250k\n", Options::default());
    let mut readers: Vec<_> = (0..4).map(|_| stage.connect(DOWNLOAD_1)).collect();
    let (seconds, at_first) = run(&mut stage, &mut readers);
    // Four megabytes, minus the content of a full token bucket.
    assert!((15.6..16.4).contains(&seconds), "{seconds} s instead of 16");
    assert!(
        at_first.iter().all(|&bytes| bytes > LENGTH * 2 / 3),
        "{at_first:?}"
    );

    // Another user is not slowed down.
    let mut readers = [stage.connect(DOWNLOAD_2)];
    let (seconds, _) = run(&mut stage, &mut readers);
    assert!(seconds < 3.5, "{seconds} s");
}

#[test]
fn all_transfers_share_the_total_rate() {
    let options = Options {
        max_rate: Some(1_000_000),
        ..Options::default()
    };
    let mut stage = Stage::new("", options);
    let start = stage.sim.elapsed();
    let mut upload = stage.connect("LOGIN\nuser2\n2345\nPUT FILE 1000000 Movies/New\n");
    let mut download = stage.connect(DOWNLOAD_1);
    let mut left = LENGTH;
    while !upload.received.ends_with(b"'QUIT'\n") || left > 0 || !download.ended {
        let chunk = vec![b'y'; left.min(20_000)];
        if let Ok(sent) = stage.sim.peer_send(upload.peer, &chunk) {
            left -= sent;
        }
        stage.tick();
        upload.receive(&stage.sim, usize::MAX);
        download.receive(&stage.sim, usize::MAX);
    }
    let seconds = (stage.sim.elapsed() - start).as_secs_f64();
    assert!((1.85..2.1).contains(&seconds), "{seconds} s instead of 2");
    let text = String::from_utf8_lossy(&upload.received).into_owned();
    assert!(
        text.contains("Upload complete: New, 1000000 bytes\n"),
        "{text}"
    );
}

#[test]
fn a_rate_limited_client_can_leave_cleanly() {
    let mut stage = Stage::new("user1::rate=1k\n", Options::default());
    let readers: Vec<_> = (0..5).map(|_| stage.connect(DOWNLOAD_1)).collect();
    stage.wait(Duration::from_secs(5));
    for reader in &readers {
        stage.sim.peer_reset(reader.peer);
    }
    // Each session notices the reset when its client's tick to receive comes, at 1 kB/s.
    stage.wait(Duration::from_secs(30));
    assert_eq!(stage.event_loop.connections(), 0);
}

#[test]
fn a_transfer_below_min_rate_is_closed_silently() {
    let options = Options {
        min_rate: 1000,
        ..Options::default()
    };
    let mut stage = Stage::new("user2::rate=500\n", options);
    let mut slow = stage.connect(DOWNLOAD_1);
    let mut steady = stage.connect(DOWNLOAD_1);
    // Slow because of the rate limit.
    let mut bounded = stage.connect(DOWNLOAD_2);
    let stalled = stage.connect("LOGIN\nuser1\n1234\nPUT FILE 1000 Movies/New\nabc");
    let idle = stage.connect("LOGIN\nuser1\n1234\n");
    // The bytes in the socket buffers do not count as progress of the client.
    for second in 0..130 {
        stage.wait(Duration::from_secs(1));
        slow.receive(&stage.sim, 10);
        steady.receive(&stage.sim, 2000);
        bounded.receive(&stage.sim, usize::MAX);
        assert!(!steady.ended && !bounded.ended, "after {second} s");
    }
    slow.receive(&stage.sim, usize::MAX);
    slow.receive(&stage.sim, usize::MAX);
    assert!(slow.ended && slow.received.len() < LENGTH);
    let text = String::from_utf8_lossy(&slow.received).into_owned();
    assert!(
        !text.trim_end_matches('x').ends_with("terminated.\n"),
        "a message was sent"
    );
    assert_eq!(
        stage.event_loop.connections(),
        3,
        "the stalled upload has not ended"
    );
    assert!(
        stage
            .sim
            .tree()
            .keys()
            .all(|path| !path.contains(".tidegate-"))
    );
    drop((stalled, idle));
}

#[test]
fn queued_guesses_move_to_the_back_after_a_failure() {
    let mut stage = Stage::new("", Options::default());
    stage.wait(Duration::from_millis(10));
    let login = |stage: &mut Stage, from: u8, user: &str, password: &str| {
        let lines = format!("LOGIN\n{user}\n{password}\n");
        let reader = stage.connect_from(Ipv4Addr::new(10, 0, from, 1), &lines);
        stage.tick_without_jobs();
        reader
    };
    let mut guesses = ["a", "b"].map(|password| login(&mut stage, 1, "user1", password));
    let rightful = [("user1", "1234"), ("user2", "2345"), ("user3", "3456")];
    let mut rightful = rightful.map(|(user, password)| login(&mut stage, 2, user, password));
    assert_eq!(stage.event_loop.jobs(), 5);
    let mut results_after = |verifications: usize| {
        for _ in 0..verifications {
            stage.sim.as_worker(|| stage.event_loop.run_job(0));
            stage.tick_without_jobs();
        }
        let count = |readers: &mut [Reader], message: &str| {
            let mut count = 0;
            for reader in readers {
                reader.receive(&stage.sim, usize::MAX);
                count += usize::from(String::from_utf8_lossy(&reader.received).contains(message));
            }
            count
        };
        (
            count(&mut guesses, "Login Failed"),
            count(&mut rightful, "Login Successfully"),
        )
    };
    assert_eq!(results_after(1), (1, 0));
    assert_eq!(results_after(3), (1, 3));
    assert_eq!(results_after(1), (2, 3));
}

#[test]
fn a_cached_login_clears_earlier_failures() {
    let options = Options {
        max_failures: 3,
        ..Options::default()
    };
    let mut stage = Stage::new("", options);
    let mut login = |password: &str, expected: &str| {
        let mut client = stage.connect(&format!("LOGIN\nuser1\n{password}\n"));
        stage.wait(Duration::from_secs(3));
        client.receive(&stage.sim, usize::MAX);
        let text = String::from_utf8_lossy(&client.received).into_owned();
        assert!(text.contains(expected), "{text}");
        stage.sim.peer_close(client.peer);
    };
    // Five failures do not block the address.
    login("1234", "Login Successfully");
    for failures in [2, 2, 1] {
        for _ in 0..failures {
            login("4321", "Login Failed");
        }
        login("1234", "Login Successfully");
    }
}

#[test]
fn unread_listings_do_not_delay_other_users() {
    let mut stage = Stage::new("", Options::default());
    for n in 0..4500 {
        let path = format!("/srv/Movies/{n:0>250}");
        stage.sim.put(&path, SimEntry::File(Vec::new()));
    }
    let menu = stage.address;
    stage.switch_to_ftp();
    let unread = (0..75).map(|_| stage.list("USER user1\r\nPASS 1234\r\n"));
    let mut unread: Vec<_> = unread.collect();
    stage.wait(Duration::from_millis(10));

    let (mut control, mut data) = stage.list("USER user2\r\nPASS 2345\r\n");
    while !data.ended {
        stage.tick();
        data.receive(&stage.sim, usize::MAX);
    }
    control.read_until(&mut stage, "226 ");
    let lines = data.received.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 4501);
    stage.address = menu;
    let mut menu = stage.connect("LOGIN\nuser3\n3456\nSHOW DIRECTORY Movies\n");
    // The listing begins in time; its duration depends on the connection.
    menu.read_until(&mut stage, "The available files are: 0");
    while !menu.received.ends_with(b"'QUIT'\n") {
        stage.tick();
        menu.receive(&stage.sim, usize::MAX);
    }

    // Listings of the client that does not read are refused after a time.
    stage.sim.advance(LISTING_QUEUE_TIMEOUT);
    stage.wait(Duration::from_millis(10));
    let mut refused = 0;
    for (control, _) in &mut unread {
        let replies = control.read_until(&mut stage, "229 ");
        let is_sent = replies.contains("\r\n150 ");
        let is_refused = replies.ends_with("\r\n550 Cannot read directory.\r\n");
        assert!(is_sent != is_refused, "{replies}");
        refused += usize::from(is_refused);
    }
    assert!((5..20).contains(&refused), "{refused}");
}

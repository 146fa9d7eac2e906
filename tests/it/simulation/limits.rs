//! Limits of a rate, and whose login is proved next, on a clock and with workers that do not depend on the machine.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::limits::LISTING_QUEUE_TIMEOUT;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

use super::{serve, write_home};

/// Bytes of the files that are downloaded.
const LENGTH: usize = 1_000_000;

/// A server with a file `Movies/Film` for two users.
struct Stage {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    _home: TempDir,
}

/// Somebody who downloads, and what has come so far.
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

    fn say(&self, lines: &str) -> Reader {
        self.say_from(Ipv4Addr::LOCALHOST, lines)
    }

    fn say_from(&self, from: Ipv4Addr, lines: &str) -> Reader {
        let from = IpAddr::V4(from);
        let peer = self
            .sim
            .peer_connect(self.address, from)
            .expect("somebody listens");
        let sent = self.sim.peer_send(peer, lines.as_bytes());
        assert_eq!(sent.expect("the connection stands"), lines.len());
        Reader::new(peer)
    }

    /// From now on clients come by FTP.
    fn change_to_ftp(&mut self) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings { active: false });
        self.address = self.event_loop.listen(any, dialect).expect("nothing fails");
    }

    /// Somebody who lists `Movies`, and his data connection.
    fn list(&mut self, login: &str) -> (Reader, Reader) {
        let mut control = self.say(login);
        control.hear(self, "331 ");
        control.say(self, "EPSV\r\n");
        let reply = control.hear(self, "229 ");
        let port = reply.split('|').nth(3).expect("a port");
        let at = SocketAddr::new(self.address.ip(), port.parse().expect("a number"));
        let data = self.sim.peer_connect(at, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let data = Reader::new(data.expect("it is awaited"));
        control.say(self, "NLST Movies\r\n");
        (control, data)
    }

    fn turn(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
        while self.event_loop.jobs() > 0 {
            self.sim.as_worker(|| self.event_loop.run_job(0));
        }
        self.event_loop.assert_invariants();
    }

    /// Some turns in which the workers are busy elsewhere.
    fn turn_without_jobs(&mut self) {
        for _ in 0..100 {
            self.event_loop.tick().expect("polling does not fail");
        }
    }

    /// Lets so much time pass, in turns.
    fn wait(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.turn();
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

    fn say(&self, stage: &Stage, line: &str) {
        let sent = stage.sim.peer_send(self.peer, line.as_bytes());
        assert_eq!(sent.expect("the connection stands"), line.len());
    }

    /// All that has come, once that is among it.
    fn hear(&mut self, stage: &mut Stage, what: &str) -> String {
        let until = stage.sim.elapsed() + Duration::from_secs(3);
        while stage.sim.elapsed() < until {
            self.take(&stage.sim, usize::MAX);
            let said = String::from_utf8_lossy(&self.received);
            if said.contains(what) && said.ends_with('\n') {
                return said.into_owned();
            }
            stage.turn();
        }
        let said = String::from_utf8_lossy(&self.received);
        panic!("no {what:?} comes, but {said}")
    }

    /// Takes up to `most` bytes of what has come.
    fn take(&mut self, sim: &Sim, most: usize) {
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

/// How long it takes all of them to have everything, and how much each had when the first was done.
fn run(stage: &mut Stage, readers: &mut [Reader]) -> (f64, Vec<usize>) {
    let begin = stage.sim.elapsed();
    let mut at_first = Vec::new();
    while !readers.iter().all(|reader| reader.ended) {
        stage.turn();
        for reader in &mut *readers {
            reader.take(&stage.sim, usize::MAX);
        }
        if at_first.is_empty() && readers.iter().any(|reader| reader.ended) {
            at_first = readers.iter().map(|reader| reader.received.len()).collect();
        }
    }
    for reader in readers {
        let end = String::from_utf8_lossy(&reader.received[LENGTH..]).into_owned();
        assert!(end.ends_with("You are logged out.\n"), "{end}");
    }
    ((stage.sim.elapsed() - begin).as_secs_f64(), at_first)
}

#[test]
fn sessions_of_a_user_share_the_rate_evenly() {
    let mut stage = Stage::new("user1::rate=250k\n", Options::default());
    let mut readers: Vec<_> = (0..4).map(|_| stage.say(DOWNLOAD_1)).collect();
    let (seconds, at_first) = run(&mut stage, &mut readers);
    // Four megabytes, less what a full bucket gives at once.
    assert!((15.6..16.4).contains(&seconds), "{seconds} s instead of 16");
    assert!(
        at_first.iter().all(|&bytes| bytes > LENGTH * 2 / 3),
        "{at_first:?}"
    );

    // Somebody else is not slowed down.
    let mut readers = [stage.say(DOWNLOAD_2)];
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
    let begin = stage.sim.elapsed();
    let mut upload = stage.say("LOGIN\nuser2\n2345\nPUT FILE 1000000 Movies/New\n");
    let mut download = stage.say(DOWNLOAD_1);
    let mut left = LENGTH;
    while !upload.received.ends_with(b"'QUIT'\n") || left > 0 || !download.ended {
        let chunk = vec![b'y'; left.min(20_000)];
        if let Ok(sent) = stage.sim.peer_send(upload.peer, &chunk) {
            left -= sent;
        }
        stage.turn();
        upload.take(&stage.sim, usize::MAX);
        download.take(&stage.sim, usize::MAX);
    }
    let seconds = (stage.sim.elapsed() - begin).as_secs_f64();
    assert!((1.85..2.1).contains(&seconds), "{seconds} s instead of 2");
    let said = String::from_utf8_lossy(&upload.received).into_owned();
    assert!(
        said.contains("Upload complete: New, 1000000 bytes\n"),
        "{said}"
    );
}

#[test]
fn a_rate_limited_client_can_leave_cleanly() {
    let mut stage = Stage::new("user1::rate=1k\n", Options::default());
    let readers: Vec<_> = (0..5).map(|_| stage.say(DOWNLOAD_1)).collect();
    stage.wait(Duration::from_secs(5));
    for reader in &readers {
        stage.sim.peer_reset(reader.peer);
    }
    // A kibibyte a second: whoever is written to learns that the client has gone.
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
    let mut slow = stage.say(DOWNLOAD_1);
    let mut steady = stage.say(DOWNLOAD_1);
    // Slow too, by our own doing.
    let mut bounded = stage.say(DOWNLOAD_2);
    let stalled = stage.say("LOGIN\nuser1\n1234\nPUT FILE 1000 Movies/New\nabc");
    let idle = stage.say("LOGIN\nuser1\n1234\n");
    // What the sockets take at once is no matter of the client's.
    for second in 0..130 {
        stage.wait(Duration::from_secs(1));
        slow.take(&stage.sim, 10);
        steady.take(&stage.sim, 2000);
        bounded.take(&stage.sim, usize::MAX);
        assert!(!steady.ended && !bounded.ended, "after {second} s");
    }
    slow.take(&stage.sim, usize::MAX);
    slow.take(&stage.sim, usize::MAX);
    assert!(slow.ended && slow.received.len() < LENGTH);
    let said = String::from_utf8_lossy(&slow.received).into_owned();
    assert!(
        !said.trim_end_matches('x').ends_with("terminated.\n"),
        "without a word"
    );
    assert_eq!(
        stage.event_loop.connections(),
        3,
        "the stalled upload has ended too"
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
    let say = |from: u8, user: &str, password: &str| {
        let lines = format!("LOGIN\n{user}\n{password}\n");
        stage.say_from(Ipv4Addr::new(10, 0, 0, from), &lines)
    };
    // Who asks for less goes first, so that it is a guess.
    let mut guesses = ["a", "b"].map(|password| say(1, "user1", password));
    let rightful = [("user1", "1234"), ("user2", "2345"), ("user3", "3456")];
    let mut rightful = rightful.map(|(user, password)| say(2, user, password));
    stage.turn_without_jobs();
    assert_eq!(stage.event_loop.jobs(), 5);
    let mut told = |proofs: usize| {
        for _ in 0..proofs {
            stage.sim.as_worker(|| stage.event_loop.run_job(0));
            stage.turn_without_jobs();
        }
        let who_heard = |readers: &mut [Reader], sentence: &str| {
            let mut told = 0;
            for reader in readers {
                reader.take(&stage.sim, usize::MAX);
                told += usize::from(String::from_utf8_lossy(&reader.received).contains(sentence));
            }
            told
        };
        (
            who_heard(&mut guesses, "Login Failed"),
            who_heard(&mut rightful, "Login Successfully"),
        )
    };
    assert_eq!(told(1), (1, 0));
    assert_eq!(told(3), (1, 3));
    assert_eq!(told(1), (2, 3));
}

#[test]
fn a_cached_login_clears_earlier_failures() {
    let options = Options {
        max_failures: 3,
        ..Options::default()
    };
    let mut stage = Stage::new("", options);
    let mut login = |password: &str, told: &str| {
        let mut client = stage.say(&format!("LOGIN\nuser1\n{password}\n"));
        stage.wait(Duration::from_secs(3));
        client.take(&stage.sim, usize::MAX);
        let said = String::from_utf8_lossy(&client.received).into_owned();
        assert!(said.contains(told), "{said}");
        stage.sim.peer_close(client.peer);
    };
    // Five slips are fewer than would turn the address away.
    login("1234", "Login Successfully");
    for slips in [2, 2, 1] {
        for _ in 0..slips {
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
    stage.change_to_ftp();
    let hoard = (0..40).map(|_| stage.list("USER user1\r\nPASS 1234\r\n"));
    let mut hoard: Vec<_> = hoard.collect();
    stage.wait(Duration::from_millis(10));

    let (mut control, mut data) = stage.list("USER user2\r\nPASS 2345\r\n");
    while !data.ended {
        stage.turn();
        data.take(&stage.sim, usize::MAX);
    }
    control.hear(&mut stage, "226 ");
    let lines = data.received.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 4501);
    stage.address = menu;
    let mut menu = stage.say("LOGIN\nuser3\n3456\nSHOW DIRECTORY Movies\n");
    // It begins in time; how long it takes is up to the connection.
    menu.hear(&mut stage, "The available files are: 0");
    while !menu.received.ends_with(b"'QUIT'\n") {
        stage.turn();
        menu.take(&stage.sim, usize::MAX);
    }

    // Who waits for what he does not read himself is told so.
    stage.sim.advance(LISTING_QUEUE_TIMEOUT);
    stage.wait(Duration::from_millis(10));
    let mut refused = 0;
    for (control, _) in &mut hoard {
        let heard = control.hear(&mut stage, "229 ");
        let is_sent = heard.contains("\r\n150 ");
        let is_refused = heard.ends_with("\r\n550 Cannot read directory.\r\n");
        assert!(is_sent != is_refused, "{heard}");
        refused += usize::from(is_refused);
    }
    assert!((5..20).contains(&refused), "{refused}");
}

//! What seeds have found, each told on its own.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::kernel::{Kernel, Signal};
use tidegate::limits::ACCEPTS_PER_TICK_MAX;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::menu::text;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

use super::{serve, write_home};

/// The address of the clients.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server with one client that has not logged in.
struct Stage {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    /// The FTP listener, once [`Stage::connect_ftp`] was called.
    ftp: SocketAddr,
    peer: Peer,
    _home: TempDir,
}

impl Stage {
    fn new(seed: u64) -> Stage {
        Stage::with(seed, Options::default())
    }

    fn with(seed: u64, options: Options) -> Stage {
        Stage::granting(seed, options, "user1:Movies:read,change:/srv/Movies\n")
    }

    fn granting(seed: u64, options: Options, directories: &str) -> Stage {
        let sim = Sim::new(seed);
        sim.set_max_wait(Duration::from_millis(1));
        sim.put("/srv/Movies", SimEntry::Directory);
        let home = TempDir::new().expect("a temporary folder is created");
        write_home(
            home.path(),
            ("user1:plain:1234\n".into(), directories.into()),
        );
        let (event_loop, address) = serve(&sim, home.path(), options);
        let peer = sim.peer_connect(address, CLIENT);
        let peer = peer.expect("the server listens");
        Stage {
            sim,
            event_loop,
            address,
            ftp: address,
            peer,
            _home: home,
        }
    }

    /// Runs ticks and jobs until nothing is left to do before the next deadline.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.settle_once();
        }
    }

    fn settle_once(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
        self.event_loop.assert_invariants();
        while self.event_loop.jobs() > 0 {
            self.sim.as_worker(|| self.event_loop.run_job(0));
        }
    }

    /// Runs ticks without jobs.
    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.event_loop.tick().expect("polling does not fail");
        }
    }

    fn send(&self, text: &str) {
        let sent = self.sim.peer_send(self.peer, text.as_bytes());
        assert_eq!(sent.expect("the connection is open"), text.len());
    }

    /// Replaces the client by a new one that uses FTP and logs in.
    fn connect_ftp(&mut self) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings { active: false });
        self.ftp = self
            .event_loop
            .listen(any, dialect)
            .expect("no fault is injected");
        self.peer = self
            .sim
            .peer_connect(self.ftp, CLIENT)
            .expect("the server listens");
        self.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nCWD Movies\r\n");
        assert!(self.receive().contains("\r\n250 "), "the login failed");
    }

    /// Opens a passive data connection.
    fn connect_data(&mut self) -> Peer {
        self.send("EPSV\r\n");
        let reply = self.receive();
        self.sim
            .peer_connect(port_of(&reply), CLIENT)
            .expect("the server listens")
    }

    /// Creates a server that never empties its run queue, with four clients that download.
    fn with_run_queue(seed: u64) -> (Stage, Vec<(Peer, Peer)>) {
        let mut stage = Stage::new(seed);
        stage.sim.set_slow();
        let long = SimEntry::File(vec![0; 16_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        let clients = (0..4).map(|_| {
            stage.connect_ftp();
            let data = stage.connect_data();
            stage.send("RETR long\r\n");
            (stage.peer, data)
        });
        let clients = clients.collect();
        (stage, clients)
    }

    /// Receives until the server closes the connection or has nothing to send.
    fn receive(&mut self) -> String {
        let mut received = Vec::new();
        loop {
            self.settle();
            match self.sim.peer_receive(self.peer, usize::MAX) {
                Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                end => {
                    end.expect("the connection was not reset");
                    break;
                }
            }
        }
        String::from_utf8(received).expect("messages are UTF-8")
    }
}

#[test]
fn unread_input_does_not_reset_the_goodbye() {
    for seed in 0..32 {
        let mut stage = Stage::new(seed);
        assert_eq!(stage.receive(), format!("{}\n", text::FIRST_CHOICE));
        stage.sim.send_signal(Signal::Stop);
        stage.event_loop.tick().expect("polling does not fail");
        stage.send("LOGIN\nuser1\n");
        assert_eq!(
            stage.receive(),
            format!("{}\n", text::STOPPING),
            "seed {seed}"
        );
    }
}

#[test]
fn a_reload_during_a_reload_runs_after_it() {
    let mut stage = Stage::new(1);
    for _ in 0..3 {
        stage.sim.send_signal(Signal::Reload);
        stage.event_loop.tick().expect("polling does not fail");
        assert_eq!(stage.event_loop.jobs(), 1, "one reload is in progress");
    }
    let mut reloads = 0;
    while stage.event_loop.jobs() > 0 {
        stage.sim.as_worker(|| stage.event_loop.run_job(0));
        stage.event_loop.tick().expect("polling does not fail");
        reloads += 1;
    }
    assert_eq!(reloads, 2, "requests during a reload are combined");
}

#[test]
fn waiting_for_a_worker_is_not_idleness() {
    let mut stage = Stage::new(1);
    stage.send("LOGIN\nuser1\n1234\n");
    assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
    stage.send("SHOW DIRECTORY Movies\n");
    for _ in 0..10 {
        stage.event_loop.tick().expect("polling does not fail");
        stage.sim.advance(Options::default().idle_timeout);
    }
    assert_eq!(stage.event_loop.jobs(), 1, "the listing is not ready");
    let listing = stage.receive();
    assert!(!listing.is_empty(), "the listing is sent");
    assert_eq!(stage.event_loop.connections(), 1, "the session continues");
}

#[test]
fn every_waiting_client_receives_a_shared_listing() {
    let mut stage = Stage::new(1);
    let film = SimEntry::File(b"film".to_vec());
    stage.sim.put("/srv/Movies/Joker", film);
    let second = stage.sim.peer_connect(stage.address, CLIENT);
    let clients = [stage.peer, second.expect("the server listens")];
    for client in clients {
        stage.peer = client;
        stage.send("LOGIN\nuser1\n1234\n");
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
    }
    for client in clients {
        stage.peer = client;
        stage.send("SHOW DIRECTORY Movies\n");
    }
    stage.tick(20);
    assert_eq!(stage.event_loop.jobs(), 1, "the listing is read once");
    for client in clients {
        stage.peer = client;
        assert!(stage.receive().contains("The available files are: Joker\n"));
    }
}

#[test]
fn cached_files_are_served_without_descriptors() {
    let mut stage = Stage::new(1);
    stage
        .sim
        .put("/srv/Movies/Joker", SimEntry::File(b"film".to_vec()));
    stage.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\n");
    assert!(stage.receive().contains("LENGTH 4\nfilm"));
    // One each for the listener, the session and the file.
    assert_eq!(stage.sim.held_handles().files, 1, "the file is cached");
    stage.sim.set_descriptors(3);
    let second = stage.sim.peer_connect(stage.address, CLIENT);
    let second = second.expect("the server listens");
    stage.settle();
    assert_eq!(
        stage.event_loop.connections(),
        1,
        "the second one needs a descriptor"
    );
    stage.send("DOWNLOAD FILE Movies/Joker\n");
    assert!(stage.receive().contains("LENGTH 4\nfilm"));
    stage.send("QUIT\n");
    stage.receive();
    stage.sim.peer_close(stage.peer);
    stage.peer = second;
    let greeting = stage.receive();
    assert_eq!(
        greeting,
        format!("{}\n", text::FIRST_CHOICE),
        "the server accepts again"
    );
}

#[test]
fn a_file_truncated_before_a_resume_is_not_zero_padded() {
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let film = "x".repeat(5000);
        let path = "/srv/Movies/Joker";
        stage
            .sim
            .put(path, SimEntry::File(film.clone().into_bytes()));
        stage.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\n");
        assert!(stage.receive().contains(&film), "the file is mapped");
        stage.send("RESUME DOWNLOAD Movies/Joker\n");
        stage.receive();
        stage.sim.modify_file(path, |file| file.truncate(100));
        stage.send("0\n");
        let received = stage.receive();
        let sent = received.strip_prefix("LENGTH 5000\n");
        let sent = sent.expect("the length precedes the truncation");
        assert!(
            sent.len() <= 100 && film.starts_with(sent),
            "seed {seed}: {} bytes that are not in the file",
            sent.len()
        );
        assert_eq!(
            stage.event_loop.connections(),
            0,
            "the connection is closed after them"
        );
    }
}

#[test]
fn a_session_ending_in_the_run_queue_affects_no_other() {
    for seed in 0..8 {
        let options = Options {
            max_rate: Some(100_000),
            ..Options::default()
        };
        let mut stage = Stage::with(seed, options);
        let long = SimEntry::File(vec![0; 1_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        stage.connect_ftp();
        let data = stage.connect_data();
        stage.send("RETR long\r\n");
        stage.settle();
        // The client reads everything, so that the transfer waits for the rate limit.
        while stage.sim.peer_receive(data, usize::MAX).is_ok() {
            stage.settle();
        }
        stage.sim.peer_close(stage.peer);
        stage.settle();
        stage.sim.peer_close(data);
        stage.sim.advance(Duration::from_secs(10));
        stage.connect_ftp();
    }
}

#[test]
fn an_upload_that_fills_the_disk_is_452() {
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let old = SimEntry::File(vec![b'o'; 1000]);
        stage.sim.put("/srv/Movies/old", old);
        stage.sim.set_capacity(5000);
        stage.connect_ftp();
        for (name, size, expected) in [
            (
                "old",
                20_000,
                "452 Insufficient storage space. 4000 bytes available.",
            ),
            (
                "new",
                20_000,
                "452 Insufficient storage space. 4000 bytes available.",
            ),
            ("small", 3000, "226 "),
            (
                "new",
                1001,
                "452 Insufficient storage space. 1000 bytes available.",
            ),
        ] {
            let data = stage.connect_data();
            stage.send(&format!("STOR {name}\r\n"));
            let mut left = vec![b'n'; size];
            let mut replies = String::new();
            while !left.is_empty() && !replies.contains("452 ") {
                // The server closes the connection when it refuses the upload.
                match stage.sim.peer_send(data, &left) {
                    Ok(sent) => drop(left.drain(..sent)),
                    Err(_) => left.clear(),
                }
                replies += &stage.receive();
            }
            stage.sim.peer_shutdown(data);
            replies += &stage.receive();
            stage.sim.peer_close(data);
            let lines: Vec<&str> = replies.lines().collect();
            assert!(lines[0].starts_with("150 "), "seed {seed}: {replies}");
            assert!(lines[1].starts_with(expected), "seed {seed}: {replies}");
            assert_eq!(lines.len(), 2, "seed {seed}: {replies}");
        }
        let files: Vec<(String, usize)> = stage
            .sim
            .tree()
            .into_iter()
            .filter_map(|(path, content)| Some((path, content?.len())))
            .collect();
        let [old, small] = ["old", "small"].map(|name| format!("/srv/Movies/{name}"));
        assert_eq!(files, [(old, 1000), (small, 3000)], "seed {seed}");
    }
}

#[test]
fn late_upload_results_do_not_reach_the_next_session() {
    let mut stage = Stage::new(1);
    stage.connect_ftp();
    let data = stage.connect_data();
    stage.send("STOR Joker\r\n");
    assert!(stage.receive().starts_with("150 "));
    let sent = stage.sim.peer_send(data, b"film");
    assert_eq!(sent.expect("the connection is open"), 4);
    stage.sim.peer_shutdown(data);
    stage.tick(20);
    assert_eq!(
        stage.event_loop.jobs(),
        1,
        "the upload waits to be published"
    );
    stage.sim.peer_reset(stage.peer);
    stage.tick(20);
    assert_eq!(stage.event_loop.connections(), 1, "the slots are free");

    let next = stage.sim.peer_connect(stage.address, CLIENT);
    stage.peer = next.expect("the server listens");
    stage.send("LOGIN\nuser1\n1234\nSHOW DIRECTORY Movies\n");
    stage.tick(20);
    assert_eq!(stage.event_loop.jobs(), 2, "the listing waits");
    stage.sim.as_worker(|| stage.event_loop.run_job(0));
    stage.tick(1);
    assert!(stage.sim.tree().contains_key("/srv/Movies/Joker"));
    assert!(stage.receive().contains("The available files are: Joker\n"));
}

#[test]
fn a_reset_while_refusing_an_upload_affects_no_other() {
    let directories = "user1:Movies:read,change,quota=3:/srv/Movies\n";
    let mut stage = Stage::granting(1, Options::default(), directories);
    stage.connect_ftp();
    let data = stage.connect_data();
    stage.send("STOR Joker\r\n");
    assert!(stage.receive().starts_with("150 "));
    let sent = stage.sim.peer_send(data, b"film");
    assert_eq!(sent.expect("the connection is open"), 4);
    stage.tick(20);
    assert_eq!(
        stage.event_loop.jobs(),
        1,
        "the refused upload waits to be discarded"
    );
    stage.sim.peer_reset(stage.peer);
    stage.tick(20);
    assert_eq!(stage.event_loop.connections(), 1, "the session has ended");

    stage.settle();
    assert!(!stage.sim.tree().contains_key("/srv/Movies/Joker"));
    stage.connect_ftp();
}

#[test]
fn trees_are_walked_in_slices_and_only_with_change_right() {
    let directories = "user1:Movies:read,change:/srv/Movies\n\
                       user1:Mine:read,change:/srv/Mine\n\
                       user1:Read:read:/srv/Read\n\
                       user1:Box:read,change,quota=1k:/srv/Box\n";
    let mut stage = Stage::granting(1, Options::default(), directories);
    stage.sim.put("/srv/Box", SimEntry::Directory);
    stage.sim.put("/srv/Box/taken", SimEntry::Directory);
    for top in ["Mine", "Read"] {
        stage.sim.put(&format!("/srv/{top}"), SimEntry::Directory);
        stage
            .sim
            .put(&format!("/srv/{top}/tree"), SimEntry::Directory);
        for n in 0..100 {
            let directory = format!("/srv/{top}/tree/{n}");
            stage.sim.put(&directory, SimEntry::Directory);
            let file = SimEntry::File(vec![b'x'; 10]);
            stage.sim.put(&format!("{directory}/file"), file);
        }
    }
    stage.connect_ftp();
    // Returns the number of jobs and the reply. Checks the number of calls of each job.
    let rename = |stage: &mut Stage, from: &str, to: &str| {
        stage.send(&format!("RNFR {from}\r\n"));
        assert!(stage.receive().starts_with("350 "));
        stage.send(&format!("RNTO {to}\r\n"));
        stage.tick(20);
        let (mut jobs, mut longest) = (0, 0);
        while stage.event_loop.jobs() > 0 {
            let before = stage.sim.call_count();
            stage.sim.as_worker(|| stage.event_loop.run_job(0));
            longest = longest.max(stage.sim.call_count() - before);
            jobs += 1;
        }
        assert!(longest < 150, "{from} to {to}: {longest} calls in one job");
        (jobs, stage.receive())
    };
    for (from, to) in [
        ("/Read/tree", "/Box/tree"),
        ("/Mine/tree", "/Box/taken"),
        ("/Mine/tree", "/Box/missing/tree"),
        ("/Mine/tree", "/Read/tree"),
    ] {
        let (jobs, reply) = rename(&mut stage, from, to);
        assert_eq!(jobs, 1, "{from} to {to}: {reply}");
        assert!(reply.starts_with("55"), "{from} to {to}: {reply}");
    }
    let (jobs, reply) = rename(&mut stage, "/Mine/tree", "/Box/tree");
    assert!(jobs > 100, "{jobs} jobs");
    assert!(reply.starts_with("250 "), "{reply}");
}

/// Clients upload files and leave before they are published, faster than the disk. Their next
/// requests wait for the pending ones.
#[test]
fn uploads_outliving_their_sessions_are_bounded() {
    const SESSIONS: usize = 8;
    for seed in 0..2 {
        let options = Options {
            max_sessions: SESSIONS,
            ..Options::default()
        };
        let mut stage = Stage::with(seed, options);
        stage.connect_ftp();
        let mut clients: Vec<(Peer, Option<Peer>, String)> = Vec::new();
        let mut left = 0;
        for round in 0..300 {
            while clients.len() < SESSIONS {
                stage.peer = stage
                    .sim
                    .peer_connect(stage.ftp, CLIENT)
                    .expect("the server listens");
                stage.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nEPSV\r\nSTOR Movies/Joker\r\n");
                clients.push((stage.peer, None, String::new()));
            }
            stage.tick(5);
            if stage.event_loop.jobs() > 0 {
                stage.sim.as_worker(|| stage.event_loop.run_job(0));
            }
            stage.tick(5);
            clients.retain_mut(|(control, data, replies)| {
                match stage.sim.peer_receive(*control, usize::MAX) {
                    Ok(bytes) if bytes.is_empty() => return false,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                    bytes => *replies += &String::from_utf8_lossy(&bytes.unwrap_or_default()),
                }
                if data.is_none() && replies.contains("|)") {
                    *data = Some(
                        stage
                            .sim
                            .peer_connect(port_of(replies), CLIENT)
                            .expect("the server listens"),
                    );
                }
                if !replies.contains("\r\n150 ") {
                    return true;
                }
                let data = data.expect("the connection is open");
                assert_eq!(
                    stage
                        .sim
                        .peer_send(data, b"film")
                        .expect("the connection is open"),
                    4
                );
                stage.sim.peer_shutdown(data);
                for _ in 0..5 {
                    stage.event_loop.tick().expect("polling does not fail");
                }
                stage.sim.peer_reset(*control);
                left += 1;
                false
            });
            stage.tick(5);
            let (jobs, files) = (stage.event_loop.jobs(), stage.sim.held_handles().files);
            assert!(jobs <= 2 * SESSIONS, "round {round}: {jobs} jobs");
            assert!(files <= 2 * SESSIONS, "round {round}: {files} open files");
        }
        assert!(left > 100, "seed {seed}: only {left} uploads");
    }
}

/// Returns the address in the reply to EPSV.
fn port_of(reply: &str) -> SocketAddr {
    let port = reply.split('|').nth(3).expect("the reply has a port");
    SocketAddr::new(CLIENT, port.parse().expect("a number"))
}

#[test]
fn a_fast_reader_leaves_run_queue_turns_to_others() {
    for seed in 0..16 {
        let (mut stage, clients) = Stage::with_run_queue(seed);
        let mut got = [0; 4];
        for round in 0..24 {
            for (client, (_, data)) in clients.iter().enumerate() {
                let bytes = stage.sim.peer_receive(*data, usize::MAX);
                // The first rounds empty the socket buffers.
                if round >= 12 {
                    got[client] += bytes.map_or(0, |bytes| bytes.len());
                }
            }
            stage.settle_once();
        }
        assert!(got.iter().all(|&got| got > 0), "seed {seed}: {got:?}");
    }
}

#[test]
fn an_aborted_data_connection_leaves_the_run_queue() {
    for seed in 0..16 {
        let (mut stage, clients) = Stage::with_run_queue(seed);
        for round in 0..40 {
            // All of them read everything, so that the run queue is never empty.
            for (control, data) in &clients {
                let _ = stage.sim.peer_receive(*data, usize::MAX);
                if round % 10 == 5 && *control == clients[round / 10].0 {
                    let sent = stage.sim.peer_send(*control, b"ABOR\r\n");
                    assert_eq!(sent.expect("the connection is open"), 6);
                }
            }
            stage.settle_once();
        }
    }
}

#[test]
fn streamed_commands_do_not_fill_a_tick() {
    for (seed, line) in (0..24).flat_map(|seed| ["EPSV\r\n", "PASV\r\n"].map(|line| (seed, line))) {
        let mut stage = Stage::new(seed);
        stage.sim.set_slow();
        stage.connect_ftp();
        let greedy = stage.peer;
        stage.connect_ftp();
        let sent = stage.sim.peer_send(greedy, line.repeat(150).as_bytes());
        let lines = sent.expect("the connection is open") / line.len();
        stage.send("NOOP\r\n");
        let mut reply = Vec::new();
        let mut ticks = 0;
        while ticks < 30 {
            ticks += 1;
            stage.tick(1);
            stage.event_loop.assert_invariants();
            reply.extend(
                stage
                    .sim
                    .peer_receive(stage.peer, usize::MAX)
                    .unwrap_or_default(),
            );
            if reply.ends_with(b"\n") {
                break;
            }
        }
        assert!(
            reply.starts_with(b"200 "),
            "seed {seed}: the other session is not served"
        );
        let got = stage
            .sim
            .peer_receive(greedy, usize::MAX)
            .unwrap_or_default();
        let replies = got.split(|byte| *byte == b'\n').count();
        assert!(
            replies <= 5 * ticks,
            "seed {seed}: {replies} of {lines} {line} in {ticks} ticks"
        );
    }
}

/// Uploads a part of a replacement while four downloads share the rate, applies `interrupt` to the
/// uploading client, and closes its data connection. Returns the content of the file.
fn film_after(seed: u64, interrupt: impl Fn(&Stage, Peer)) -> String {
    let options = Options {
        max_rate: Some(100_000),
        ..Options::default()
    };
    let mut stage = Stage::with(seed, options);
    let film = "/srv/Movies/film";
    stage.sim.put(film, SimEntry::File(b"old".to_vec()));
    let long = SimEntry::File(vec![0; 1_000_000]);
    stage.sim.put("/srv/Movies/long", long);
    let sessions = [(); 5].map(|()| {
        stage.connect_ftp();
        let data = stage.connect_data();
        (stage.peer, data)
    });
    let [(uploader, upload), downloads @ ..] = sessions;
    stage.peer = uploader;
    stage.send("STOR film\r\n");
    assert!(stage.receive().starts_with("150 "));
    for (control, _) in downloads {
        stage.peer = control;
        stage.send("RETR long\r\n");
    }
    let run = |stage: &mut Stage, rounds| {
        for _ in 0..rounds {
            for (_, data) in downloads {
                let _ = stage.sim.peer_receive(data, usize::MAX);
            }
            stage.settle_once();
        }
    };
    run(&mut stage, 30);
    let sent = stage.sim.peer_send(upload, b"half of the new one");
    assert!(sent.is_ok());
    run(&mut stage, 3);
    interrupt(&stage, uploader);
    run(&mut stage, 5);
    stage.sim.peer_close(upload);
    run(&mut stage, 300);
    let tree = stage.sim.tree();
    let content = tree[film].as_ref().expect("it is a file");
    String::from_utf8_lossy(content).into_owned()
}

#[test]
fn rate_limited_partial_uploads_are_discarded() {
    for seed in 0..16 {
        let film = film_after(seed, |stage, control| stage.sim.peer_close(control));
        assert_eq!(film, "old", "seed {seed}");
    }
}

#[test]
fn abor_is_executed_while_many_clients_are_rate_limited() {
    for seed in 0..16 {
        let film = film_after(seed, |stage, control| {
            let sent = stage.sim.peer_send(control, b"ABOR\r\n");
            assert_eq!(sent.expect("the connection is open"), 6);
        });
        assert_eq!(film, "old", "seed {seed}");
    }
}

#[test]
fn commands_before_the_end_of_an_upload_are_honored() {
    type Interrupt = fn(&Stage);
    let interrupts: [Interrupt; 3] = [
        |stage| stage.send("ABOR\r\n"),
        |stage| stage.sim.peer_close(stage.peer),
        |stage| {
            stage.send("NOOP\r\n");
            stage.sim.peer_close(stage.peer);
        },
    ];
    for (seed, interrupt) in (0..8).flat_map(|seed| interrupts.map(|how| (seed, how))) {
        let mut stage = Stage::new(seed);
        let film = "/srv/Movies/film";
        stage.sim.put(film, SimEntry::File(b"old".to_vec()));
        stage.connect_ftp();
        let data = stage.connect_data();
        stage.send("STOR film\r\n");
        assert!(stage.receive().starts_with("150 "));
        let sent = stage.sim.peer_send(data, b"half of the new one");
        assert!(sent.is_ok());
        stage.settle();
        interrupt(&stage);
        // The input arrives after the poll of a tick, so consume its events here.
        for _ in 0..30 {
            let polled = stage.sim.poll(&mut Vec::new(), Some(Duration::ZERO));
            polled.expect("polling does not fail");
        }
        stage.sim.peer_close(data);
        stage.settle();
        let content = stage.sim.tree()[film].clone().expect("it is a file");
        assert_eq!(content.as_slice(), b"old", "seed {seed}");
    }
}

#[test]
fn waiting_for_a_passive_port_costs_constant_work() {
    let mut stage = Stage::with(1, with_passive_ports(1500, 1519));
    for port in 1500..1520 {
        let taken = SocketAddr::new(CLIENT, port);
        stage
            .event_loop
            .listen(taken, Dialect::Menu)
            .expect("the port is free");
    }
    let sessions = [(); 30].map(|()| {
        stage.connect_ftp();
        stage.peer
    });
    for session in sessions {
        stage.peer = session;
        stage.send("EPSV\r\n");
    }
    stage.tick(20);
    for _ in 0..5 {
        let calls = stage.sim.call_count();
        stage.sim.advance(Duration::from_secs(1));
        stage.tick(1);
        stage.event_loop.assert_invariants();
        let calls = stage.sim.call_count() - calls;
        assert!(calls < 2 * 20, "{calls} calls per second");
    }
    stage.sim.advance(Duration::from_secs(5));
    for session in sessions {
        stage.peer = session;
        assert!(stage.receive().starts_with("425 "));
    }
}

#[test]
fn connections_to_all_passive_ports_delay_no_client() {
    for seed in 0..8 {
        let mut stage = Stage::with(seed, with_passive_ports(1500, 1503));
        let joker = SimEntry::File(b"film".to_vec());
        stage.sim.put("/srv/Movies/Joker", joker);
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        // The sessions use every port for their address, so that all ports are open.
        let sessions = [(); 4].map(|()| {
            stage.connect_ftp();
            stage.send("EPSV\r\n");
            let reply = stage.receive();
            let port = reply.split('|').nth(3).expect("the reply has a port");
            let port = port.parse().expect("a number");
            (stage.peer, SocketAddr::new(CLIENT, port))
        });
        for (_, at) in sessions {
            for _ in 0..40 {
                stage
                    .sim
                    .peer_connect(at, other)
                    .expect("the server listens");
            }
        }
        let expected = sessions.map(|(control, at)| {
            let data = stage.sim.peer_connect(at, CLIENT);
            (control, data.expect("the server listens"))
        });
        for _ in 0..20 {
            let calls = stage.sim.call_count();
            stage.tick(1);
            stage.event_loop.assert_invariants();
            let calls = stage.sim.call_count() - calls;
            assert!(
                calls <= ACCEPTS_PER_TICK_MAX as u64 + 20,
                "seed {seed}: {calls} calls in a tick"
            );
        }
        for (control, data) in expected {
            stage.peer = control;
            stage.send("RETR Joker\r\n");
            assert!(stage.receive().starts_with("150 "));
            let got = stage.sim.peer_receive(data, usize::MAX);
            assert_eq!(got.expect("the content arrives"), b"film", "seed {seed}");
        }
    }
}

fn with_passive_ports(first: u16, last: u16) -> Options {
    Options {
        passive_ports: Some((first, last)),
        ..Options::default()
    }
}

#[test]
fn a_session_end_cancels_its_own_job_only() {
    let mut prefetches = 0;
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let long = SimEntry::File(vec![0; 1_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        let lister = stage.peer;
        stage.send("LOGIN\nuser1\n1234\n");
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
        stage.connect_ftp();
        let leaver = stage.peer;
        stage.connect_data();
        stage.peer = lister;
        stage.send("SHOW DIRECTORY Movies\n");
        stage.tick(5);
        stage.peer = leaver;
        stage.send("RETR long\r\n");
        stage.tick(5);
        prefetches += stage.event_loop.jobs() - 1;
        stage.sim.peer_reset(leaver);
        stage.tick(5);
        assert_eq!(stage.event_loop.jobs(), 1, "seed {seed}");
        stage.peer = lister;
        assert!(stage.receive().contains("The available files are: long\n"));
    }
    assert!(prefetches > 0, "no seed has an uncached file");
}

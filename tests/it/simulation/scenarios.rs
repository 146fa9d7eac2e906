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

/// Where clients come from.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server with one client, who has not logged in.
struct Stage {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    address: SocketAddr,
    /// Where FTP's clients come, once one has come.
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
        let home = TempDir::new().expect("a temporary folder");
        write_home(
            home.path(),
            ("user1:plain:1234\n".into(), directories.into()),
        );
        let (event_loop, address) = serve(&sim, home.path(), options);
        let peer = sim.peer_connect(address, CLIENT);
        let peer = peer.expect("somebody listens");
        Stage {
            sim,
            event_loop,
            address,
            ftp: address,
            peer,
            _home: home,
        }
    }

    /// Turns until nothing is to be done before a deadline.
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

    /// Turns, and no worker does anything.
    fn turn(&mut self, times: usize) {
        for _ in 0..times {
            self.event_loop.tick().expect("polling does not fail");
        }
    }

    fn send(&self, text: &str) {
        let sent = self.sim.peer_send(self.peer, text.as_bytes());
        assert_eq!(sent.expect("the connection stands"), text.len());
    }

    /// From now on the client is another one, who comes by FTP and logs in.
    fn come_by_ftp(&mut self) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings { active: false });
        self.ftp = self.event_loop.listen(any, dialect).expect("nothing fails");
        self.peer = self.sim.peer_connect(self.ftp, CLIENT).expect("it listens");
        self.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nCWD Movies\r\n");
        assert!(self.receive().contains("\r\n250 "), "he is in");
    }

    /// A data connection.
    fn passive(&mut self) -> Peer {
        self.send("EPSV\r\n");
        let reply = self.receive();
        self.sim
            .peer_connect(port_of(&reply), CLIENT)
            .expect("awaited")
    }

    /// A server that never gets through its queue, and four clients who download.
    fn with_a_queue(seed: u64) -> (Stage, Vec<(Peer, Peer)>) {
        let mut stage = Stage::new(seed);
        stage.sim.set_slow();
        let long = SimEntry::File(vec![0; 16_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        let clients = (0..4).map(|_| {
            stage.come_by_ftp();
            let data = stage.passive();
            stage.send("RETR long\r\n");
            (stage.peer, data)
        });
        let clients = clients.collect();
        (stage, clients)
    }

    /// All that has come, with turns between, until the server closes or nothing more comes.
    fn receive(&mut self) -> String {
        let mut received = Vec::new();
        loop {
            self.settle();
            match self.sim.peer_receive(self.peer, usize::MAX) {
                Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                end => {
                    end.expect("an end is no reset");
                    break;
                }
            }
        }
        String::from_utf8(received).expect("sentences are UTF-8")
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
        assert_eq!(stage.event_loop.jobs(), 1, "one is under way");
    }
    let mut reloads = 0;
    while stage.event_loop.jobs() > 0 {
        stage.sim.as_worker(|| stage.event_loop.run_job(0));
        stage.event_loop.tick().expect("polling does not fail");
        reloads += 1;
    }
    assert_eq!(reloads, 2, "all that came amid the first are one");
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
    assert_eq!(
        stage.event_loop.jobs(),
        1,
        "the listing is still to be made"
    );
    let told = stage.receive();
    assert!(!told.is_empty(), "it is answered");
    assert_eq!(stage.event_loop.connections(), 1, "it is still there");
}

#[test]
fn every_waiting_client_receives_a_shared_listing() {
    let mut stage = Stage::new(1);
    let film = SimEntry::File(b"film".to_vec());
    stage.sim.put("/srv/Movies/Joker", film);
    let second = stage.sim.peer_connect(stage.address, CLIENT);
    let clients = [stage.peer, second.expect("somebody listens")];
    for client in clients {
        stage.peer = client;
        stage.send("LOGIN\nuser1\n1234\n");
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
    }
    for client in clients {
        stage.peer = client;
        stage.send("SHOW DIRECTORY Movies\n");
    }
    stage.turn(20);
    assert_eq!(stage.event_loop.jobs(), 1, "it is made once");
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
    // The listener, the session and the file.
    assert_eq!(stage.sim.held_handles().files, 1, "it is kept open");
    stage.sim.set_descriptors(3);
    let stranger = stage.sim.peer_connect(stage.address, CLIENT);
    let stranger = stranger.expect("somebody listens");
    stage.settle();
    assert_eq!(
        stage.event_loop.connections(),
        1,
        "there is none for a second"
    );
    stage.send("DOWNLOAD FILE Movies/Joker\n");
    assert!(stage.receive().contains("LENGTH 4\nfilm"));
    stage.send("QUIT\n");
    stage.receive();
    stage.sim.peer_close(stage.peer);
    stage.peer = stranger;
    let greeting = stage.receive();
    assert_eq!(
        greeting,
        format!("{}\n", text::FIRST_CHOICE),
        "the door is open again"
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
        assert!(stage.receive().contains(&film), "it is mapped by then");
        stage.send("RESUME DOWNLOAD Movies/Joker\n");
        stage.receive();
        stage.sim.modify_file(path, |file| file.truncate(100));
        stage.send("0\n");
        let said = stage.receive();
        let sent = said.strip_prefix("LENGTH 5000\n").expect("it was so long");
        assert!(
            sent.len() <= 100 && film.starts_with(sent),
            "seed {seed}: {} bytes of another file",
            sent.len()
        );
        assert_eq!(
            stage.event_loop.connections(),
            0,
            "it is closed behind them"
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
        stage.come_by_ftp();
        let data = stage.passive();
        stage.send("RETR long\r\n");
        stage.settle();
        // The client takes all that comes, so that the data waits for the rate.
        while stage.sim.peer_receive(data, usize::MAX).is_ok() {
            stage.settle();
        }
        stage.sim.peer_close(stage.peer);
        stage.settle();
        stage.sim.peer_close(data);
        stage.sim.advance(Duration::from_secs(10));
        stage.come_by_ftp();
    }
}

#[test]
fn an_upload_that_fills_the_disk_is_452() {
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let old = SimEntry::File(vec![b'o'; 1000]);
        stage.sim.put("/srv/Movies/old", old);
        stage.sim.set_capacity(5000);
        stage.come_by_ftp();
        for (name, size, told) in [
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
            let data = stage.passive();
            stage.send(&format!("STOR {name}\r\n"));
            let mut left = vec![b'n'; size];
            let mut replies = String::new();
            while !left.is_empty() && !replies.contains("452 ") {
                // Where the server has enough it closes.
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
            assert!(lines[1].starts_with(told), "seed {seed}: {replies}");
            assert_eq!(lines.len(), 2, "seed {seed}: {replies}");
        }
        let there: Vec<(String, usize)> = stage
            .sim
            .tree()
            .into_iter()
            .filter_map(|(path, content)| Some((path, content?.len())))
            .collect();
        let [old, small] = ["old", "small"].map(|name| format!("/srv/Movies/{name}"));
        assert_eq!(there, [(old, 1000), (small, 3000)], "seed {seed}");
    }
}

#[test]
fn late_upload_results_do_not_reach_the_next_session() {
    let mut stage = Stage::new(1);
    stage.come_by_ftp();
    let data = stage.passive();
    stage.send("STOR Joker\r\n");
    assert!(stage.receive().starts_with("150 "));
    let sent = stage.sim.peer_send(data, b"film");
    assert_eq!(sent.expect("it stands"), 4);
    stage.sim.peer_shutdown(data);
    stage.turn(20);
    assert_eq!(
        stage.event_loop.jobs(),
        1,
        "all has come, and is to be kept"
    );
    stage.sim.peer_reset(stage.peer);
    stage.turn(20);
    assert_eq!(stage.event_loop.connections(), 1, "the slots are free");

    let next = stage.sim.peer_connect(stage.address, CLIENT);
    stage.peer = next.expect("somebody listens");
    stage.send("LOGIN\nuser1\n1234\nSHOW DIRECTORY Movies\n");
    stage.turn(20);
    assert_eq!(stage.event_loop.jobs(), 2, "he waits, too");
    stage.sim.as_worker(|| stage.event_loop.run_job(0));
    stage.turn(1);
    assert!(stage.sim.tree().contains_key("/srv/Movies/Joker"));
    assert!(stage.receive().contains("The available files are: Joker\n"));
}

#[test]
fn a_reset_while_refusing_an_upload_affects_no_other() {
    let directories = "user1:Movies:read,change,quota=3:/srv/Movies\n";
    let mut stage = Stage::granting(1, Options::default(), directories);
    stage.come_by_ftp();
    let data = stage.passive();
    stage.send("STOR Joker\r\n");
    assert!(stage.receive().starts_with("150 "));
    let sent = stage.sim.peer_send(data, b"film");
    assert_eq!(sent.expect("it stands"), 4);
    stage.turn(20);
    assert_eq!(
        stage.event_loop.jobs(),
        1,
        "a worker is to give back its room"
    );
    stage.sim.peer_reset(stage.peer);
    stage.turn(20);
    assert_eq!(stage.event_loop.connections(), 1, "the user has no session");

    stage.settle();
    assert!(!stage.sim.tree().contains_key("/srv/Movies/Joker"));
    stage.come_by_ftp();
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
    stage.come_by_ftp();
    // How many jobs it takes, how many calls the longest of them makes, and what is said then.
    let rename = |stage: &mut Stage, from: &str, to: &str| {
        stage.send(&format!("RNFR {from}\r\n"));
        assert!(stage.receive().starts_with("350 "));
        stage.send(&format!("RNTO {to}\r\n"));
        stage.turn(20);
        let (mut jobs, mut longest) = (0, 0);
        while stage.event_loop.jobs() > 0 {
            let before = stage.sim.call_count();
            stage.sim.as_worker(|| stage.event_loop.run_job(0));
            longest = longest.max(stage.sim.call_count() - before);
            jobs += 1;
        }
        assert!(
            longest < 150,
            "{from} to {to}: {longest} calls at a stretch"
        );
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

/// Who uploads and leaves before it is kept, again and again and faster than the disk: what he asks for next stands behind what he
/// has left there.
#[test]
fn uploads_outliving_their_sessions_are_bounded() {
    const SESSIONS: usize = 8;
    for seed in 0..2 {
        let options = Options {
            max_sessions: SESSIONS,
            ..Options::default()
        };
        let mut stage = Stage::with(seed, options);
        stage.come_by_ftp();
        let mut clients: Vec<(Peer, Option<Peer>, String)> = Vec::new();
        let mut left = 0;
        for round in 0..300 {
            while clients.len() < SESSIONS {
                stage.peer = stage
                    .sim
                    .peer_connect(stage.ftp, CLIENT)
                    .expect("it listens");
                stage.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nEPSV\r\nSTOR Movies/Joker\r\n");
                clients.push((stage.peer, None, String::new()));
            }
            stage.turn(5);
            if stage.event_loop.jobs() > 0 {
                stage.sim.as_worker(|| stage.event_loop.run_job(0));
            }
            stage.turn(5);
            clients.retain_mut(|(control, data, said)| {
                match stage.sim.peer_receive(*control, usize::MAX) {
                    Ok(bytes) if bytes.is_empty() => return false,
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return false,
                    bytes => *said += &String::from_utf8_lossy(&bytes.unwrap_or_default()),
                }
                if data.is_none() && said.contains("|)") {
                    *data = Some(
                        stage
                            .sim
                            .peer_connect(port_of(said), CLIENT)
                            .expect("awaited"),
                    );
                }
                if !said.contains("\r\n150 ") {
                    return true;
                }
                let data = data.expect("it stands");
                assert_eq!(stage.sim.peer_send(data, b"film").expect("it stands"), 4);
                stage.sim.peer_shutdown(data);
                for _ in 0..5 {
                    stage.event_loop.tick().expect("polling does not fail");
                }
                stage.sim.peer_reset(*control);
                left += 1;
                false
            });
            stage.turn(5);
            let (jobs, files) = (stage.event_loop.jobs(), stage.sim.held_handles().files);
            assert!(jobs <= 2 * SESSIONS, "round {round}: {jobs} jobs");
            assert!(files <= 2 * SESSIONS, "round {round}: {files} open files");
        }
        assert!(left > 100, "seed {seed}: only {left} uploads");
    }
}

/// Where a client that has said EPSV is awaited.
fn port_of(said: &str) -> SocketAddr {
    let port = said.split('|').nth(3).expect("a port");
    SocketAddr::new(CLIENT, port.parse().expect("a number"))
}

#[test]
fn a_fast_reader_leaves_run_queue_turns_to_others() {
    for seed in 0..16 {
        let (mut stage, clients) = Stage::with_a_queue(seed);
        let mut got = [0; 4];
        for round in 0..24 {
            for (client, (_, data)) in clients.iter().enumerate() {
                let bytes = stage.sim.peer_receive(*data, usize::MAX);
                // What was under way before comes first.
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
        let (mut stage, clients) = Stage::with_a_queue(seed);
        for round in 0..40 {
            // All of them read whatever comes, so that there is always somebody in the queue.
            for (control, data) in &clients {
                let _ = stage.sim.peer_receive(*data, usize::MAX);
                if round % 10 == 5 && *control == clients[round / 10].0 {
                    let sent = stage.sim.peer_send(*control, b"ABOR\r\n");
                    assert_eq!(sent.expect("it stands"), 6);
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
        stage.come_by_ftp();
        let greedy = stage.peer;
        stage.come_by_ftp();
        let sent = stage.sim.peer_send(greedy, line.repeat(150).as_bytes());
        let lines = sent.expect("the connection stands") / line.len();
        stage.send("NOOP\r\n");
        let mut told = Vec::new();
        let mut ticks = 0;
        while ticks < 30 {
            ticks += 1;
            stage.turn(1);
            stage.event_loop.assert_invariants();
            told.extend(
                stage
                    .sim
                    .peer_receive(stage.peer, usize::MAX)
                    .unwrap_or_default(),
            );
            if told.ends_with(b"\n") {
                break;
            }
        }
        assert!(
            told.starts_with(b"200 "),
            "seed {seed}: nobody else is served"
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

/// One who stores over a film, and then a line of four who download at a rate that all share: what is left of the film when
/// the first has sent some bytes, and then does this, and his data connection ends.
fn film_after(seed: u64, and_then: impl Fn(&Stage, Peer)) -> String {
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
        stage.come_by_ftp();
        let data = stage.passive();
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
    let go_on = |stage: &mut Stage, rounds| {
        for _ in 0..rounds {
            for (_, data) in downloads {
                let _ = stage.sim.peer_receive(data, usize::MAX);
            }
            stage.settle_once();
        }
    };
    go_on(&mut stage, 30);
    let sent = stage.sim.peer_send(upload, b"half of the new one");
    assert!(sent.is_ok());
    go_on(&mut stage, 3);
    and_then(&stage, uploader);
    go_on(&mut stage, 5);
    stage.sim.peer_close(upload);
    go_on(&mut stage, 300);
    let tree = stage.sim.tree();
    let content = tree[film].as_ref().expect("a file");
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
            assert_eq!(sent.expect("it stands"), 6);
        });
        assert_eq!(film, "old", "seed {seed}");
    }
}

#[test]
fn commands_before_the_end_of_an_upload_are_honored() {
    type Said = fn(&Stage);
    let said: [Said; 3] = [
        |stage| stage.send("ABOR\r\n"),
        |stage| stage.sim.peer_close(stage.peer),
        |stage| {
            stage.send("NOOP\r\n");
            stage.sim.peer_close(stage.peer);
        },
    ];
    for (seed, said) in (0..8).flat_map(|seed| said.map(|said| (seed, said))) {
        let mut stage = Stage::new(seed);
        let film = "/srv/Movies/film";
        stage.sim.put(film, SimEntry::File(b"old".to_vec()));
        stage.come_by_ftp();
        let data = stage.passive();
        stage.send("STOR film\r\n");
        assert!(stage.receive().starts_with("150 "));
        let sent = stage.sim.peer_send(data, b"half of the new one");
        assert!(sent.is_ok());
        stage.settle();
        said(&stage);
        // It comes behind the poll of a turn, and so these take the events.
        for _ in 0..30 {
            let polled = stage.sim.poll(&mut Vec::new(), Some(Duration::ZERO));
            polled.expect("polling does not fail");
        }
        stage.sim.peer_close(data);
        stage.settle();
        let content = stage.sim.tree()[film].clone().expect("a file");
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
            .expect("it is free");
    }
    let sessions = [(); 30].map(|()| {
        stage.come_by_ftp();
        stage.peer
    });
    for session in sessions {
        stage.peer = session;
        stage.send("EPSV\r\n");
    }
    stage.turn(20);
    for _ in 0..5 {
        let calls = stage.sim.call_count();
        stage.sim.advance(Duration::from_secs(1));
        stage.turn(1);
        stage.event_loop.assert_invariants();
        let calls = stage.sim.call_count() - calls;
        assert!(calls < 2 * 20, "{calls} calls in a second");
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
        let stranger = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        // All pairs of the one address, so that all ports are open.
        let sessions = [(); 4].map(|()| {
            stage.come_by_ftp();
            stage.send("EPSV\r\n");
            let reply = stage.receive();
            let port = reply.split('|').nth(3).expect("a port");
            let port = port.parse().expect("a number");
            (stage.peer, SocketAddr::new(CLIENT, port))
        });
        for (_, at) in sessions {
            for _ in 0..40 {
                stage.sim.peer_connect(at, stranger).expect("it listens");
            }
        }
        let rightful = sessions.map(|(control, at)| {
            let data = stage.sim.peer_connect(at, CLIENT);
            (control, data.expect("it listens"))
        });
        for _ in 0..20 {
            let calls = stage.sim.call_count();
            stage.turn(1);
            stage.event_loop.assert_invariants();
            let calls = stage.sim.call_count() - calls;
            assert!(
                calls <= ACCEPTS_PER_TICK_MAX as u64 + 20,
                "seed {seed}: {calls} calls in a turn"
            );
        }
        for (control, data) in rightful {
            stage.peer = control;
            stage.send("RETR Joker\r\n");
            assert!(stage.receive().starts_with("150 "));
            let got = stage.sim.peer_receive(data, usize::MAX);
            assert_eq!(got.expect("it is sent"), b"film", "seed {seed}");
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
    let mut cold = 0;
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let long = SimEntry::File(vec![0; 1_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        let lister = stage.peer;
        stage.send("LOGIN\nuser1\n1234\n");
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
        stage.come_by_ftp();
        let leaver = stage.peer;
        stage.passive();
        stage.peer = lister;
        stage.send("SHOW DIRECTORY Movies\n");
        stage.turn(5);
        stage.peer = leaver;
        stage.send("RETR long\r\n");
        stage.turn(5);
        cold += stage.event_loop.jobs() - 1;
        stage.sim.peer_reset(leaver);
        stage.turn(5);
        assert_eq!(stage.event_loop.jobs(), 1, "seed {seed}");
        stage.peer = lister;
        assert!(stage.receive().contains("The available files are: long\n"));
    }
    assert!(cold > 0, "some seeds have files that are not in memory");
}

//! Sessions: shutdown, reloads, listings, cached files, and the cancellation of jobs.

use tidegate::kernel::Signal;
use tidegate::kernel::sim::SimEntry;
use tidegate::limits::{CLIENT_LEFT_TIMEOUT, DRAIN_LINGER_INTERVAL, DRAIN_QUIET_TIME};
use tidegate::protocol::menu::text;
use tidegate::server::Options;

use super::stage::{CLIENT, Stage};

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
fn a_shutdown_waits_for_no_end_after_acknowledgements() {
    for (seed, has_quit) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut stage = Stage::new(seed);
        stage.send("LOGIN\nuser1\n1234\n");
        if has_quit {
            stage.send("QUIT\n");
        }
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
        stage.sim.send_signal(Signal::Stop);
        stage.tick(1);
        // The client keeps its end open. Everything sent is acknowledged.
        stage.receive();
        stage.sim.advance(DRAIN_QUIET_TIME);
        stage.tick(5);
        assert!(stage.event_loop.stopped().is_some(), "seed {seed}");
    }
}

#[test]
fn a_shutdown_waits_for_acknowledgements() {
    let mut stage = Stage::new(5);
    let long = SimEntry::File(vec![0; 16_000_000]);
    stage.sim.put("/srv/Movies/long", long);
    stage.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/long\n");
    stage.settle();
    stage.sim.send_signal(Signal::Stop);
    stage.tick(1);
    for _ in 0..20 {
        stage.sim.advance(DRAIN_LINGER_INTERVAL);
        stage.tick(5);
        assert!(stage.event_loop.stopped().is_none(), "a transfer continues");
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
    let mut jobs = 0;
    while stage.event_loop.jobs() > 0 {
        stage.sim.as_worker(|| stage.event_loop.run_job(0));
        stage.event_loop.tick().expect("polling does not fail");
        jobs += 1;
    }
    // After each reload the granted directory and the home are opened again.
    assert_eq!(jobs, 2 * 3, "requests during a reload are combined");
}

#[test]
fn a_reload_waits_for_no_checksum() {
    let options = Options {
        max_sessions: 400,
        ..Options::default()
    };
    let mut stage = Stage::with(1, options);
    stage
        .sim
        .put("/srv/Movies/film", SimEntry::File(vec![b'f'; 1000]));
    let clients = [(); 300].map(|()| {
        let peer = stage.sim.peer_connect(stage.address, CLIENT);
        stage.peer = peer.expect("the server listens");
        stage.send("LOGIN\nuser1\n1234\n");
        stage.settle_once();
        stage.peer
    });
    stage.settle();
    for peer in clients {
        stage.peer = peer;
        stage.send("CHECKSUM FILE Movies/film\n");
    }
    stage.tick(20);
    let checksums = stage.event_loop.jobs();
    assert!(checksums > 290, "{checksums}");
    stage.sim.send_signal(Signal::Reload);
    stage.tick(1);
    // Jobs of devices come first in this order; threads run reloads apart from them.
    assert_eq!(stage.event_loop.jobs(), checksums + 1);
    (stage.sim).as_worker(|| stage.event_loop.run_job(checksums));
    stage.tick(1);
    assert!(stage.event_loop.jobs() >= checksums, "no checksum has run");
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
    assert!(stage.event_loop.jobs() > 0, "the listing is not ready");
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

#[test]
fn abor_cancels_a_checksum() {
    for seed in 0..16 {
        let mut stage = Stage::new(seed);
        let film = SimEntry::File(vec![b'f'; 1000]);
        stage.sim.put("/srv/Movies/Joker", film);
        stage.connect_ftp();
        stage.send("XCRC Joker\r\n");
        stage.tick(20);
        assert_eq!(stage.event_loop.jobs(), 1, "seed {seed}");
        stage.send("NOOP\r\nABOR\r\n");
        stage.tick(20);
        assert_eq!(
            stage.event_loop.jobs(),
            0,
            "seed {seed}: the job is cancelled"
        );
        let replies = stage.receive();
        let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
        assert_eq!(codes, ["426", "200", "225"], "seed {seed}: {replies}");
    }
}

#[test]
fn a_client_that_left_does_not_keep_its_session_for_a_job() {
    for (rest, is_kept) in [("", false), ("QUIT\n", true)] {
        let mut stage = Stage::new(1);
        let film = SimEntry::File(vec![b'f'; 1000]);
        stage.sim.put("/srv/Movies/Joker", film);
        stage.send("LOGIN\nuser1\n1234\n");
        assert!(stage.receive().contains(text::LOGIN_SUCCESSFUL));
        stage.send(&format!("CHECKSUM FILE Movies/Joker\n{rest}"));
        stage.sim.peer_shutdown(stage.peer);
        stage.tick(20);
        stage.sim.advance(CLIENT_LEFT_TIMEOUT);
        stage.tick(20);
        let sessions = stage.event_loop.connections();
        assert_eq!(sessions, usize::from(is_kept), "{rest:?}");
        if is_kept {
            let output = stage.receive();
            assert!(output.contains(text::GOODBYE), "{output}");
        }
    }
}

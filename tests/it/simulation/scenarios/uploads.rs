//! Uploads and renames that are refused, interrupted or delayed.

use std::io::ErrorKind;
use std::time::Duration;

use tidegate::kernel::Kernel;
use tidegate::kernel::sim::{Peer, SimEntry};
use tidegate::server::Options;

use super::stage::{CLIENT, Stage, port_of};

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
        assert!(left > 50, "seed {seed}: only {left} uploads");
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

//! Interrupted transfers, and `--continue`.

use std::fs;
use std::time::{Duration, Instant};

use super::relay::{After, Relay};
use super::run::{Server, TIMEOUT, client, finish, random_bytes, wait};
use crate::support::changes::{Change, change};

const LENGTH: usize = 8_000_000;

/// An upper bound for the messages before and after a file, in bytes.
const MESSAGES: u64 = 4096;

fn server() -> Server {
    Server::with(|home| {
        let large = Change::File("Movies/Large".into(), random_bytes(LENGTH));
        change(home, &large);
    })
}

/// Starts a download that stalls half-way, and kills it. Returns the length of the part file.
fn kill_half_way(server: &Server) -> u64 {
    let half = LENGTH as u64 / 2;
    let relay = Relay::new(server, After::Stall(half));
    let mut command = client(
        server.folder.path(),
        relay.port,
        &["get", "USER1", "Movies/Large"],
    );
    let mut child = command.spawn().unwrap();
    let part = server.local("downloads/Large.part");
    let start = Instant::now();
    while fs::metadata(&part).map_or(0, |status| status.len()) < half - MESSAGES {
        assert!(start.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert_eq!(wait(&mut child), None);
    assert!(!server.local("downloads/Large").exists());
    fs::metadata(part).unwrap().len()
}

#[test]
fn an_interrupted_download_is_resumed() {
    let server = server();
    let had = kill_half_way(&server);
    let relay = Relay::new(&server, After::Never);
    let args = ["get", "--continue", "USER1", "Movies/Large"];
    let ran = finish(client(server.folder.path(), relay.port, &args));
    ran.assert_transferred(1, LENGTH as u64 - had);
    assert!(
        relay.forwarded() < LENGTH as u64 - had + MESSAGES,
        "{}",
        relay.forwarded()
    );
    assert_eq!(
        fs::read(server.local("downloads/Large")).unwrap(),
        random_bytes(LENGTH)
    );
    assert!(!server.local("downloads/Large.part").exists());
}

#[test]
fn a_changed_file_is_downloaded_from_the_start() {
    let server = server();
    let had = kill_half_way(&server);
    let mut changed = random_bytes(LENGTH);
    changed[0] ^= 1;
    fs::write(server.served("Movies/Large"), &changed).unwrap();
    let ran = server.run(&["get", "--continue", "USER1", "Movies/Large"]);
    ran.assert_transferred(1, 2 * LENGTH as u64 - had);
    assert!(fs::read(server.local("downloads/Large")).unwrap() == changed);

    // A file that is shorter than its part file cannot be resumed.
    fs::rename(
        server.local("downloads/Large"),
        server.local("downloads/WAR.part"),
    )
    .unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/WAR"])
        .assert_transferred(1, 1362);
    let war = fs::read(server.served("Movies/WAR")).unwrap();
    assert_eq!(fs::read(server.local("downloads/WAR")).unwrap(), war);

    // A complete part file is only verified.
    fs::rename(
        server.local("downloads/WAR"),
        server.local("downloads/WAR.part"),
    )
    .unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/WAR"])
        .assert_transferred(1, 0);
    assert_eq!(fs::read(server.local("downloads/WAR")).unwrap(), war);

    // A file that no longer exists keeps its part file.
    fs::write(server.local("downloads/Gone.part"), "part").unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/Gone", "Movies/Joker"])
        .assert_ended(1, "tidegate: Movies/Gone: No such file\n");
    assert_eq!(
        fs::read(server.local("downloads/Gone.part")).unwrap(),
        b"part"
    );
    assert!(server.local("downloads/Joker").exists());

    // Without --continue, the download starts again.
    fs::write(server.local("downloads/WAR.part"), "part").unwrap();
    server
        .run(&["get", "--force", "USER1", "Movies/WAR"])
        .assert_transferred(1, 1362);
}

#[test]
fn concurrent_downloads_do_not_share_a_part_file() {
    let server = server();
    let half = LENGTH as u64 / 2;
    let relay = Relay::new(&server, After::Stall(half));
    let mut command = client(
        server.folder.path(),
        relay.port,
        &["get", "USER1", "Movies/Large"],
    );
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    while fs::metadata(server.local("downloads/Large.part")).map_or(0, |status| status.len()) == 0 {
        assert!(start.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(2));
    }
    for option in ["--force", "--continue"] {
        server
            .run(&[
                "get",
                option,
                "USER1",
                "Movies/Large",
                "Movies/Joker",
                "--into",
                "downloads",
                "--force",
            ])
            .assert_ended(
                1,
                "tidegate: Movies/Large: downloads/Large.part: another download is writing this \
                 file; wait until it ends\n",
            );
    }
    child.kill().unwrap();
    wait(&mut child);
}

#[test]
fn a_lost_connection_is_reported_and_the_part_file_kept() {
    let server = server();
    let relay = Relay::new(&server, After::Close(1_000_000));
    let args = [
        "get",
        "USER1",
        "Movies/Joker",
        "Movies/Large",
        "Movies/WAR",
        "Movies/Free Fire",
    ];
    let ran = finish(client(server.folder.path(), relay.port, &args));
    assert_eq!(ran.status, Some(1));
    let part = fs::metadata(server.local("downloads/Large.part"))
        .unwrap()
        .len();
    let left = LENGTH as u64 - part;
    assert_eq!(
        ran.stderr,
        format!(
            "tidegate: Movies/Large: the server closed the connection {left} bytes before the end \
             of the file; use --continue to resume\n\
             tidegate: user1@127.0.0.1:{}: the connection was lost, 2 files were not transferred; \
             run the command again\n",
            relay.port
        )
    );
    assert!(server.local("downloads/Joker").exists());
    let args = [
        "get",
        "--continue",
        "USER1",
        "Movies/Joker",
        "Movies/Large",
        "Movies/WAR",
        "Movies/Free Fire",
    ];
    server.run(&args).assert_transferred(3, left + 1362 + 1279);
}

#[test]
fn an_interrupted_upload_fails_and_leaves_no_file() {
    let server = Server::new();
    fs::write(server.local("large"), random_bytes(LENGTH)).unwrap();
    // The relay forwards the listing but not the reply to the upload.
    let whole = Relay::new(&server, After::Never);
    let ran = finish(client(
        server.folder.path(),
        whole.port,
        &["ls", "USER2", "Uploads"],
    ));
    assert_eq!(ran.status, Some(0));
    let relay = Relay::new(&server, After::Close(whole.forwarded() - 60));
    let args = ["put", "--timeout", "5", "USER2", "Uploads", "large"];
    let ran = finish(client(server.folder.path(), relay.port, &args));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let is_reported = ran.stderr.starts_with("tidegate: Uploads/large: ")
        || ran.stderr.starts_with("tidegate: user2@");
    assert!(is_reported && ran.stderr.lines().count() == 1, "{ran:?}");
    assert!(
        ran.stdout.is_empty() || ran.stdout.starts_with("0 files, "),
        "{ran:?}"
    );
}

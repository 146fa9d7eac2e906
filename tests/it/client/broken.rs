//! Transfers that break, and what `--continue` makes of them. Between the client and the server stands a relay that counts and
//! may stop.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::{Server, TIMEOUT, finish, noise, wait};
use crate::support::changes::{Change, change};

/// What a relay does after so many bytes of the server's, on the first connection over it.
#[derive(Clone, Copy)]
pub(super) enum After {
    Never,
    /// It passes no more.
    Stall(u64),
    /// It closes.
    Close(u64),
}

pub(super) struct Relay {
    pub(super) port: u16,
    passed: Arc<AtomicU64>,
}

impl Relay {
    pub(super) fn new(server: &Server, after: After) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            port: listener.local_addr().unwrap().port(),
            passed: Arc::default(),
        };
        let (to, passed) = (server.port(), Arc::clone(&relay.passed));
        std::thread::spawn(move || {
            let mut after = after;
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                let (from, into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, into, After::Never, &AtomicU64::new(0)));
                let passed = Arc::clone(&passed);
                let after = std::mem::replace(&mut after, After::Never);
                std::thread::spawn(move || copy(server, client, after, &passed));
            }
        });
        relay
    }

    fn passed(&self) -> u64 {
        self.passed.load(SeqCst)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, after: After, passed: &AtomicU64) {
    let mut piece = [0; 16 * 1024];
    loop {
        let limit = match after {
            After::Never => u64::MAX,
            After::Stall(limit) | After::Close(limit) => limit,
        };
        let left = (limit - passed.load(SeqCst)).min(piece.len() as u64) as usize;
        match (left, after) {
            (0, After::Stall(_)) => std::thread::sleep(TIMEOUT),
            (0, _) => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            _ => {}
        }
        match from.read(&mut piece[..left]) {
            Ok(count @ 1..) => {
                passed.fetch_add(count as u64, SeqCst);
                if to.write_all(&piece[..count]).is_err() {
                    return;
                }
            }
            _ => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    }
}

const LENGTH: usize = 8_000_000;

/// More than all the sentences around one file.
const TALK: u64 = 4096;

fn server() -> Server {
    Server::with(|home| {
        let large = Change::File("Movies/Large".into(), noise(LENGTH));
        change(home, &large);
    })
}

/// `get` through a relay that stalls half-way, killed when it has come so far.
fn kill_half_way(server: &Server) -> u64 {
    let half = LENGTH as u64 / 2;
    let relay = Relay::new(server, After::Stall(half));
    let mut command = super::client(
        server.folder.path(),
        relay.port,
        &["get", "USER1", "Movies/Large"],
    );
    let mut child = command.spawn().unwrap();
    let part = server.here("downloads/Large.part");
    let begin = Instant::now();
    while fs::metadata(&part).map_or(0, |status| status.len()) < half - TALK {
        assert!(begin.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    assert_eq!(wait(&mut child), None);
    assert!(!server.here("downloads/Large").exists());
    fs::metadata(part).unwrap().len()
}

#[test]
fn an_interrupted_download_is_resumed() {
    let server = server();
    let had = kill_half_way(&server);
    let relay = Relay::new(&server, After::Never);
    let args = ["get", "--continue", "USER1", "Movies/Large"];
    let ran = finish(super::client(server.folder.path(), relay.port, &args));
    ran.moved(1, LENGTH as u64 - had);
    assert!(
        relay.passed() < LENGTH as u64 - had + TALK,
        "{}",
        relay.passed()
    );
    assert_eq!(
        fs::read(server.here("downloads/Large")).unwrap(),
        noise(LENGTH)
    );
    assert!(!server.here("downloads/Large.part").exists());
}

#[test]
fn a_changed_file_is_downloaded_from_the_start() {
    let server = server();
    let had = kill_half_way(&server);
    let mut changed = noise(LENGTH);
    changed[0] ^= 1;
    fs::write(server.there("Movies/Large"), &changed).unwrap();
    let ran = server.run(&["get", "--continue", "USER1", "Movies/Large"]);
    ran.moved(1, 2 * LENGTH as u64 - had);
    assert!(fs::read(server.here("downloads/Large")).unwrap() == changed);

    // One that is shorter than what is there cannot be resumed at all.
    fs::rename(
        server.here("downloads/Large"),
        server.here("downloads/WAR.part"),
    )
    .unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/WAR"])
        .moved(1, 1362);
    let war = fs::read(server.there("Movies/WAR")).unwrap();
    assert_eq!(fs::read(server.here("downloads/WAR")).unwrap(), war);

    // One that was whole but for its name is only proved.
    fs::rename(
        server.here("downloads/WAR"),
        server.here("downloads/WAR.part"),
    )
    .unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/WAR"])
        .moved(1, 0);
    assert_eq!(fs::read(server.here("downloads/WAR")).unwrap(), war);

    // What is gone is not taken for resumed, and what is here stays.
    fs::write(server.here("downloads/Gone.part"), "part").unwrap();
    server
        .run(&["get", "--continue", "USER1", "Movies/Gone", "Movies/Joker"])
        .failed(1, "tidegate: Movies/Gone: No such file\n");
    assert_eq!(
        fs::read(server.here("downloads/Gone.part")).unwrap(),
        b"part"
    );
    assert!(server.here("downloads/Joker").exists());

    // Without --continue it begins again.
    fs::write(server.here("downloads/WAR.part"), "part").unwrap();
    server
        .run(&["get", "--force", "USER1", "Movies/WAR"])
        .moved(1, 1362);
}

#[test]
fn concurrent_downloads_do_not_share_a_part_file() {
    let server = server();
    let half = LENGTH as u64 / 2;
    let relay = Relay::new(&server, After::Stall(half));
    let mut command = super::client(
        server.folder.path(),
        relay.port,
        &["get", "USER1", "Movies/Large"],
    );
    let mut child = command.spawn().unwrap();
    let begin = Instant::now();
    while fs::metadata(server.here("downloads/Large.part")).map_or(0, |status| status.len()) == 0 {
        assert!(begin.elapsed() < TIMEOUT);
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
            .failed(
                1,
                "tidegate: Movies/Large: downloads/Large.part: another download is writing this file; wait until it ends\n",
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
    let ran = finish(super::client(server.folder.path(), relay.port, &args));
    assert_eq!(ran.status, Some(1));
    let part = fs::metadata(server.here("downloads/Large.part"))
        .unwrap()
        .len();
    let left = LENGTH as u64 - part;
    assert_eq!(
        ran.err,
        format!(
            "tidegate: Movies/Large: the server closed the connection {left} bytes before the end of the file; use --continue to resume\n\
             tidegate: user1@127.0.0.1:{}: the connection was lost, 2 files were not transferred; run the command again\n",
            relay.port
        )
    );
    assert!(server.here("downloads/Joker").exists());
    let args = [
        "get",
        "--continue",
        "USER1",
        "Movies/Joker",
        "Movies/Large",
        "Movies/WAR",
        "Movies/Free Fire",
    ];
    server.run(&args).moved(3, left + 1362 + 1279);
}

#[test]
fn an_interrupted_upload_fails_and_leaves_no_file() {
    let server = Server::new();
    fs::write(server.here("large"), noise(LENGTH)).unwrap();
    // The listing passes, then the answer to the upload does not.
    let listed = Relay::new(&server, After::Never);
    let ran = finish(super::client(
        server.folder.path(),
        listed.port,
        &["ls", "USER2", "Uploads"],
    ));
    assert_eq!(ran.status, Some(0));
    let relay = Relay::new(&server, After::Close(listed.passed() - 60));
    let args = ["put", "--timeout", "5", "USER2", "Uploads", "large"];
    let ran = finish(super::client(server.folder.path(), relay.port, &args));
    assert_eq!(ran.status, Some(1), "{ran:?}");
    let said =
        ran.err.starts_with("tidegate: Uploads/large: ") || ran.err.starts_with("tidegate: user2@");
    assert!(said && ran.err.lines().count() == 1, "{ran:?}");
    assert!(
        ran.out.is_empty() || ran.out.starts_with("0 files, "),
        "{ran:?}"
    );
}

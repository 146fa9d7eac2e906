//! The server's log in both formats, and the transfer log.

use std::collections::HashSet;
use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Client, FIRST_CHOICE, Home, Log, Server, TIDEGATE, eventually};

/// Names of users that imitate log fields.
const FORGED_USERS: [&str; 5] = [
    "a b",
    "x\" from=9.9.9.9",
    "x from=9.9.9.9",
    "\",\"from\",\"9.9.9.9",
    "\u{202e}2J\\",
];

/// The same for names that no user can have.
const FORGED_NAMES: [&str; 4] = [
    "x\" from=9.9.9.9:1",
    "x from=9.9.9.9:1",
    "\",\"from\":\"9.9.9.9:1",
    "\u{1b}[2J\u{9b}31m\rsession=9 event=login user=root",
];

const FORGED: usize = FORGED_USERS.len() + FORGED_NAMES.len();

/// Starts a server to which the forged users are known.
fn serve_forged_users(options: &[&str]) -> Server {
    let home = Home::new();
    for name in FORGED_USERS {
        home.append("Credentials", &format!("{name}:plain:secret"));
    }
    Server::with_home(home, options)
}

fn fail_logins(server: &Server) {
    for name in FORGED_USERS.iter().chain(&FORGED_NAMES) {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{name}\nwrong\nQUIT\n"));
        client.read_to_end();
    }
}

#[test]
fn a_failed_login_is_one_line_ending_in_the_address() {
    let server = serve_forged_users(&[]);
    fail_logins(&server);
    eventually("all logins fail", || {
        server.log().matches("event=login-failed").count() == FORGED
    });
    let log = server.log();
    for line in log.lines().filter(|line| line.contains("login-failed")) {
        assert!(!line.contains(char::is_control), "{line:?}");
        let (_, from) = line.rsplit_once(" from=").expect("the line has an address");
        assert!(from.starts_with("127.0.0.1:"), "{line}");
    }
}

#[test]
fn names_cannot_break_json_log_lines() {
    let server = serve_forged_users(&["--log-format", "json"]);
    fail_logins(&server);
    eventually("all logins fail", || {
        server.log().matches("\"event\":\"login-failed\"").count() == FORGED
    });
    for line in server.log().lines() {
        assert!(
            line.starts_with("{\"time\":\"2") && line.ends_with('}'),
            "{line}"
        );
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let log = server.log();
    let failed = log.lines().filter(|line| line.contains("login-failed"));
    for line in failed {
        assert!(line.contains("\",\"from\":\"127.0.0.1:"), "{line}");
        assert_eq!(line.matches("\"from\":\"1").count(), 1, "{line}");
    }
}

#[test]
fn the_transfer_log_has_results_and_is_reopened() {
    let home = Home::new();
    home.write_sparse("Movies/Long Film", 64 << 20);
    let path = home.parent().join("xferlog");
    let server = Server::with_home(home, &["--xferlog", path.to_str().expect("UTF-8")]);
    let lines = || fs::read_to_string(&path).unwrap_or_default();
    let has = |end: &str| eventually(end, || lines().lines().any(|line| line.ends_with(end)));

    let mut client = server.login("user2");
    client.send_line("DOWNLOAD FILE Movies/Joker");
    client.read_length();
    client.read_bytes(4096);
    client.expect_menu();
    has("files/Movies/Joker b _ o r user2 tidegate 0 * c");

    client.send("PUT FILE 3 Uploads/New File\nabc");
    client.expect("Upload complete: New File, 3 bytes");
    client.expect_menu();
    has("files/Uploads/New_File b _ i r user2 tidegate 0 * c");

    // Transfers that the client interrupts.
    client.start_download("Movies/Long Film");
    drop(client);
    has("files/Movies/Long_Film b _ o r user2 tidegate 0 * i");
    let mut client = server.login("user2");
    client.send("PUT FILE 100 Uploads/Half\nabc");
    drop(client);
    has("files/Uploads/Half b _ i r user2 tidegate 0 * i");

    let old = path.with_extension("1");
    fs::rename(&path, &old).expect("the log is renamed");
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload"]);
    let mut client = server.login("user2");
    client.start_download("Movies/Joker");
    client.read_bytes(4096);
    has("files/Movies/Joker b _ o r user2 tidegate 0 * c");
    assert_eq!(
        fs::read_to_string(&old)
            .expect("the old log exists")
            .lines()
            .count(),
        4
    );
    for line in lines().lines() {
        assert_eq!(line.split_whitespace().count(), 18, "{line}");
    }
}

#[test]
fn usernames_are_escaped_in_the_log() {
    let home = Home::new();
    home.append(
        "Credentials",
        "\u{202e}x event=login user=\"root\":plain:secret",
    );
    let server = Server::with_home(home, &[]);
    let mut client = server.connect();
    client.send("LOGIN\n\u{202e}x event=login user=\"root\"\nwrong\n");
    let line = server.log_line(&["event=login-failed"]);
    assert!(
        line.contains(r#"user="\u{202e}x event=login user=\"root\"" from="#),
        "{line}"
    );
}

#[test]
fn a_password_in_place_of_a_username_is_not_logged() {
    const PASSWORD: &str = "sesame-OPEN-1234";
    for format in ["text", "json"] {
        let home = Home::new();
        let path = home.parent().join("xferlog");
        let options = [
            "--listen",
            "127.0.0.1:0",
            "--ftp",
            "127.0.0.1:0",
            "--max-failures",
            "2",
            "--log-level",
            "debug",
            "--log-format",
            format,
            "--xferlog",
            path.to_str().expect("UTF-8"),
        ];
        let server = Server::with_home(home, &options);
        // The last attempts are refused, because too many have failed.
        let ftp = format!("USER {PASSWORD}\r\nPASS user1\r\nUSER user1\r\nACCT {PASSWORD}\r\n");
        let dialogues = [
            (0, format!("LOGIN\n{PASSWORD}\nuser1\n{PASSWORD}\nQUIT\n")),
            (
                1,
                ftp + &format!("{PASSWORD}\r\nHOST {PASSWORD}\r\nQUIT\r\n"),
            ),
            (1, format!("USER {PASSWORD}\r\nPASS x\r\nQUIT\r\n")),
            (0, format!("LOGIN\n{PASSWORD}\nQUIT\n")),
        ];
        for (listener, dialogue) in dialogues {
            let mut client = Client::connect(server.addresses[listener]);
            client.send(dialogue);
            client.close_sending();
            client.read_to_end();
        }
        for event in ["login-failed", "turn-away", "limit"] {
            server.log_line(&[event, "?"]);
        }
        let logs = server.log() + &fs::read_to_string(&path).unwrap_or_default();
        assert!(!logs.contains("sesame"), "{logs}");
    }
}

#[test]
fn every_close_reason_is_logged() {
    let server = Server::start(&[]);
    server.login("user1").quit();
    server.log_line(&["session=1 event=end reason=quit"]);
    drop(server.login("user1"));
    server.log_line(&["session=2 event=end reason=client-left"]);
    let mut reset = server.connect();
    reset.expect(FIRST_CHOICE);
    reset.reset();
    server.log_line(&["session=3 event=end reason=reset"]);
    let mut long = server.connect();
    long.send("x".repeat(5000));
    long.close_sending();
    server.log_line(&["session=4 event=end reason=line-too-long"]);
    let mut guesser = server.connect();
    guesser.send("LOGIN\nx\n".repeat(5));
    let output = String::from_utf8(guesser.read_to_end()).unwrap();
    assert!(output.ends_with("Login Failed\nToo many failed logins. Connection is terminated.\n"));
    drop(guesser);
    server.log_line(&["session=5 event=end reason=login-failures"]);
}

#[test]
fn an_unread_log_pipe_does_not_block() {
    let options = ["--log-level", "debug"];
    let mut server = Server::launch(Home::new(), &[TIDEGATE], &options, Log::Unread);
    let mut client = server.login("user1");
    // The pipe holds about 1,000 lines and the server's buffer 4,096.
    for _ in 0..12_000 {
        client.send("DOWNLOAD FILE Movies/Joker\n");
        client.read_length();
        client.read_bytes(4096);
        client.expect_menu();
    }
    for _ in 0..200 {
        server.login("user1").quit();
    }
    client.quit();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_status(), 0);
}

#[test]
fn log_levels_are_cumulative() {
    let lines = |level: &str| {
        let mut server = Server::start(&["--log-level", level]);
        let mut client = server.login("user1");
        client.download("Movies/Joker");
        client.quit();
        server.signal(Signal::SIGTERM);
        server.exit_status();
        server.log().lines().count()
    };
    let [error, warn, info, debug] = ["error", "warn", "info", "debug"].map(lines);
    assert!(
        error <= warn && warn < info && info < debug,
        "{error} {warn} {info} {debug}"
    );
    assert_eq!(error, 0);
}

#[test]
fn session_numbers_in_the_log_are_unique() {
    let server = Server::start(&[]);
    for _ in 0..20 {
        server.login("user1").quit();
    }
    eventually("twenty ends are logged", || {
        server.log().matches("event=end reason=quit").count() == 20
    });
    let log = server.log();
    let numbers: HashSet<&str> = log
        .lines()
        .filter(|line| line.contains("event=connect"))
        .map(|line| {
            line.split("session=")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(numbers.len(), 20);
    for number in numbers {
        for event in [
            "event=connect",
            "event=login user=user1",
            "event=end reason=quit",
        ] {
            assert!(
                log.contains(&format!("session={number} {event}")),
                "{number}: {event}"
            );
        }
    }
}

//! The server's log in both formats, and the transfer log.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::{Home, Server, eventually};

/// Usernames that imitate log fields.
const FORGED_NAMES: [&str; 5] = [
    "a b",
    "x\" from=9.9.9.9:1",
    "x from=9.9.9.9:1",
    "\",\"from\":\"9.9.9.9:1",
    "\u{202e}\u{9b}2J\\",
];

fn fail_logins(server: &Server) {
    for name in FORGED_NAMES {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{name}\nQUIT\n"));
        client.read_to_end();
    }
}

#[test]
fn a_failed_login_is_one_line_ending_in_the_address() {
    let server = Server::start(&[]);
    fail_logins(&server);
    eventually("all logins fail", || {
        server.log().matches("event=login-failed").count() == FORGED_NAMES.len()
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
    let server = Server::start(&["--log-format", "json"]);
    fail_logins(&server);
    eventually("all logins fail", || {
        server.log().matches("\"event\":\"login-failed\"").count() == FORGED_NAMES.len()
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

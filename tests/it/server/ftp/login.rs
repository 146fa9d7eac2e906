//! FTP logins and the end of sessions.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::Home;
use crate::support::changes::plain_home;
use crate::support::ftp::{FtpClient, serve_ftp, serve_ftp_plain};

#[test]
fn an_ftp_only_server_has_no_menu() {
    let server = serve_ftp_plain();
    assert_eq!(server.addresses.len(), 1);
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    assert_eq!(
        ftp.command("PWD", "257"),
        "257 \"/\" is the current directory."
    );
    ftp.command("CWD Movies", "250");
    let expected = std::fs::read(server.home.file("Movies/Joker")).unwrap();
    assert_eq!(ftp.retrieve("Joker"), expected);
    assert_eq!(ftp.command("SIZE /Movies/Joker", "213"), "213 4096");
    ftp.command("QUIT", "221");
    ftp.client.expect_end();
}

#[test]
fn refused_users_and_wrong_passwords_get_equal_replies() {
    let server = serve_ftp_plain();
    let mut all_replies = Vec::new();
    for (user, password) in [("nobody", "1234"), ("user1", "4321")] {
        let mut ftp = FtpClient::connect(&server);
        let mut replies = Vec::new();
        for _ in 0..5 {
            replies.push(ftp.command(&format!("USER {user}"), "331"));
            replies.push(ftp.command(&format!("PASS {password}"), "530"));
        }
        ftp.client.expect_end();
        all_replies.push(replies);
    }
    assert_eq!(all_replies[0], all_replies[1]);
}

/// The passwords of the example home are hashed, which takes most of the time.
#[test]
fn refused_users_and_wrong_passwords_take_equal_time() {
    let server = serve_ftp(Home::new(), &["--max-failures", "0"]);
    let mut took = [Duration::ZERO; 2];
    for _ in 0..4 {
        for (time, user) in took.iter_mut().zip(["nobody", "user1"]) {
            let mut ftp = FtpClient::connect(&server);
            ftp.command(&format!("USER {user}"), "331");
            let start = Instant::now();
            ftp.command("PASS wrong", "530");
            // The minimum is the least affected by other processes.
            *time = match *time {
                Duration::ZERO => start.elapsed(),
                least => least.min(start.elapsed()),
            };
        }
    }
    let [unknown, known] = took;
    assert!(
        unknown < known * 2 && known < unknown * 2,
        "{unknown:?} and {known:?}"
    );
}

#[test]
fn anonymous_accounts_accept_any_password() {
    let home = plain_home();
    home.append("Credentials", "anonymous:anyone");
    home.append("Directories", "anonymous:Docs:read,upload");
    let server = serve_ftp(home, &[]);
    server.log_line(&["accepts any password", "anonymous"]);
    let mut ftp = FtpClient::login(&server, "anonymous", "me@example.org");
    ftp.command("SIZE /Docs/Tides", "213");
    ftp.command("SIZE /Movies/Joker", "550");
    ftp.command("DELE /Docs/Tides", "550");
}

#[test]
fn rejected_idle_and_stopped_sessions_get_421() {
    let server = serve_ftp(
        plain_home(),
        &["--max-sessions", "1", "--idle-timeout", "2"],
    );
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    let mut second = server.connect();
    assert!(second.read_line().starts_with("421 Too many connections"));
    second.expect_end();
    assert!(ftp.expect("421").contains("Idle"));
    ftp.client.expect_end();
    drop(server);
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    server.signal(Signal::SIGTERM);
    assert!(ftp.expect("421").contains("shutting down"));
    ftp.client.expect_end();
}

#[test]
fn stat_and_site_are_answered_before_login() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::connect(&server);
    ftp.command("STAT", "211");
    ftp.command("STAT /", "530");
    ftp.command("SITE HELP", "214");
    ftp.command("SITE HELP HELP", "214");
    ftp.command("SITE HELP ?!?", "501");
    ftp.command("SITE CHMOD", "501");
    ftp.command("SITE CHMOD 777 x", "502");
}

#[test]
fn http_requests_are_closed() {
    let server = serve_ftp_plain();
    for line in [
        "GET / HTTP/1.1",
        "POST / HTTP/1.1",
        "CONNECT x:443 HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        let mut ftp = FtpClient::connect(&server);
        ftp.client
            .send(format!("{line}\r\nHost: x\r\nUSER a\r\n\r\n"));
        ftp.expect("421");
        ftp.client.expect_end();
    }
    let mut ftp = FtpClient::connect(&server);
    for _ in 0..5 {
        ftp.command("Header: value", "500");
    }
    ftp.command("Header: value", "421");
}

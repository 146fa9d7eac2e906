//! Graceful shutdown and reloads.

use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{fs, thread};

use nix::sys::signal::Signal;

use crate::support::{Client, FIRST_CHOICE, Home, Server, eventually, pattern};

/// More bytes than the buffers of both sockets can hold.
const LONG: usize = 48 * 1024 * 1024;

const STOPPING: &str = "The server is shutting down. Connection is terminated.";
const GOODBYE: &str = "Connection is terminated. You are logged out.";
const REVOKED: &str = "Your login is no longer valid. Connection is terminated.";

#[test]
fn shutdown_notifies_idle_sessions_and_finishes_downloads() {
    let home = Home::new();
    let content = pattern(LONG, 31);
    home.write("Movies/Long", &content);
    let mut server = Server::with_home(home, &[]);
    let mut anonymous = server.connect();
    anonymous.expect(FIRST_CHOICE);
    let mut prompted = server.login("user1");
    prompted.send_line("SHOW DIRECTORY");
    prompted.expect("Please enter the desired directory");
    let mut busy = server.login("user1");
    assert_eq!(busy.start_download("Movies/Long"), LONG as u64);

    server.signal(Signal::SIGTERM);
    for idle in [&mut anonymous, &mut prompted] {
        idle.expect(STOPPING);
        idle.expect_end();
    }
    eventually("the listener is closed", || {
        TcpStream::connect(server.address()).is_err()
    });
    assert!(server.is_running(), "a download is in progress");
    assert!(busy.read_bytes(LONG) == content);
    busy.expect_menu();
    busy.expect(STOPPING);
    busy.expect_end();
    assert_eq!(server.exit_status(), 0);
    server.log_line(&["event=drain", "sessions=3"]);
}

#[test]
fn shutdown_finishes_uploads() {
    let mut server = Server::start(&[]);
    let mut client = server.login("user2");
    client.send("PUT FILE 6 Uploads/Late\nabc");
    // Give the server time to start the upload.
    client.send("d");
    thread::sleep(Duration::from_millis(50));
    server.signal(Signal::SIGINT);
    server.log_line(&["event=drain"]);
    client.send("ef");
    client.expect("Upload complete: Late, 6 bytes");
    client.expect_menu();
    client.expect(STOPPING);
    client.expect_end();
    assert_eq!(server.exit_status(), 0);
    assert_eq!(
        fs::read(server.home.file("Uploads/Late")).unwrap(),
        b"abcdef"
    );
}

#[test]
fn clients_that_keep_their_end_open_do_not_delay_a_stop() {
    let mut server = Server::start(&[]);
    let mut logged_out = server.login("user1");
    logged_out.send_line("QUIT");
    logged_out.expect(GOODBYE);
    let mut idle = server.login("user1");
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_status(), 0);
    assert!(start.elapsed() < Duration::from_secs(1));
    idle.expect(STOPPING);
    idle.expect_end();
    logged_out.expect_end();
}

#[test]
fn a_second_stop_signal_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new();
        home.write_sparse("Movies/Long", LONG as u64);
        let mut server = Server::with_home(home, &[]);
        let mut busy = server.login("user1");
        busy.start_download("Movies/Long");
        server.signal(Signal::SIGTERM);
        server.log_line(&["event=drain"]);
        server.signal(signal);
        assert_eq!(server.exit_status(), 1);
        server.log_line(&["event=stop", "how=at-once", "sessions=1"]);
    }
}

#[test]
fn the_drain_timeout_closes_and_logs_sessions() {
    let home = Home::new();
    home.write_sparse("Movies/Long", LONG as u64);
    let mut server = Server::with_home(home, &["--drain-timeout", "1"]);
    let mut busy = server.login("user1");
    busy.start_download("Movies/Long");
    let start = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_status(), 0);
    assert!(start.elapsed() >= Duration::from_secs(1));
    server.log_line(&["session=1", "event=end", "reason=cut-off"]);
    assert!(busy.read_to_end().len() < LONG);
}

#[test]
fn reload_adds_users_and_revokes_removed_ones() {
    let server = Server::start(&[]);
    let mut removed = server.login("user1");
    let mut changed = server.login("user2");
    let mut kept = server.login("user3");
    let credentials = server.home.path().join("Credentials");
    let mut text: Vec<String> = fs::read_to_string(&credentials)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("user1:"))
        .map(str::to_owned)
        .collect();
    let record = text
        .iter_mut()
        .find(|line| line.starts_with("user2:"))
        .unwrap();
    *record = "user2:plain:another".into();
    fs::write(&credentials, text.join("\n")).unwrap();
    server.home.append("Credentials", "\nuser5:plain:5678");
    server.home.append("Directories", "user3:Music:read");
    reload(&server);

    for client in [&mut removed, &mut changed] {
        client.send_line("SHOW DIRECTORIES");
        client.expect(REVOKED);
        client.expect_end();
    }
    assert_eq!(
        kept.command("SHOW DIRECTORIES"),
        "The available directories are: Docs, Uploads, Movies, Music"
    );
    let mut new = server.connect();
    new.login_with("user5", "5678");
    assert_eq!(
        new.command("SHOW DIRECTORIES"),
        "There are no directories for you"
    );
    let mut again = server.connect();
    again.login_with("user2", "another");
    server.log_line(&["event=end", "reason=login-revoked"]);
}

#[test]
fn hashing_the_same_password_keeps_sessions() {
    let home = Home::new();
    let credentials = home.path().join("Credentials");
    let hashed = fs::read_to_string(&credentials).unwrap();
    let plain: String = hashed
        .lines()
        .map(|line| match line.starts_with("user1:") {
            true => "user1:plain:1234\n".into(),
            false => format!("{line}\n"),
        })
        .collect();
    fs::write(&credentials, plain).unwrap();
    let server = Server::with_home(home, &[]);
    server.log_line(&["event=warning", "user1"]);
    let mut client = server.login("user1");
    fs::write(&credentials, hashed).unwrap();
    reload(&server);
    assert_eq!(
        client.command("SHOW DIRECTORIES"),
        "The available directories are: Movies, Music, Docs"
    );
    server.login("user1").quit();
}

#[test]
fn an_invalid_reload_keeps_the_old_settings() {
    let server = Server::start(&[]);
    let mut client = server.login("user1");
    server.home.append("Directories", "user1:Movies:fly");
    let lines = fs::read_to_string(server.home.path().join("Directories"))
        .unwrap()
        .lines()
        .count();
    server.signal(Signal::SIGHUP);
    server.log_line(&[
        "error",
        "event=reload",
        "kept-the-old",
        &format!("Directories:{lines}:"),
    ]);
    assert_eq!(client.download("Movies/Joker").len(), 4096);
    server.login("user2").quit();
}

#[test]
fn reload_clears_a_revoked_current_directory() {
    let server = Server::start(&[]);
    let mut client = server.login("user1");
    client.command("SHOW DIRECTORY Movies");
    let path = server.home.path().join("Directories");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("user1:Movies:read\n", "");
    fs::write(&path, text).unwrap();
    reload(&server);
    assert_eq!(
        client.command("DOWNLOAD FILE Joker"),
        "Please choose a directory first with 'SHOW DIRECTORY'"
    );
    assert_eq!(client.command("DOWNLOAD FILE Movies/Joker"), "No such file");
    assert_eq!(client.command("SHOW DIRECTORY Movies"), "No such directory");
}

fn reload(server: &Server) {
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload", "result=taken-up"]);
    // The reload is logged before it is applied to the sessions in the same tick.
    server.connect().expect(FIRST_CHOICE);
}

#[test]
fn two_hundred_reloads_under_load_drop_no_session() {
    let server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| server.login("user1")).collect();
    let good = fs::read_to_string(server.home.path().join("Directories")).unwrap();
    for n in 0..200 {
        let text = match n % 2 {
            0 => format!("{good}broken\n"),
            _ => good.clone(),
        };
        // Replace the file atomically, as editors do.
        let draft = server.home.path().join("Directories.new");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, server.home.path().join("Directories")).unwrap();
        server.signal(Signal::SIGHUP);
        let client = &mut clients[n % 5];
        assert_eq!(client.download("Movies/Joker").len(), 4096);
    }
    clients.iter_mut().for_each(Client::quit);
}

//! The life of the server as a process: its options, its signals, its log, its exit statuses.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::{
    Client, FIRST_CHOICE, FULL, Home, Log, Server, TIDEGATE, eventually, median, pattern,
    refused_start,
};

/// Longer than what both sockets' buffers can hold.
const LONG: usize = 48 * 1024 * 1024;

const STOPPING: &str = "The server is shutting down. Connection is terminated.";
const IDLE: &str = "Idle for too long. Connection is terminated.";
const REVOKED: &str = "Your login is no longer valid. Connection is terminated.";

#[test]
fn shutdown_notifies_idle_sessions_and_finishes_downloads() {
    let home = Home::new();
    let content = pattern(LONG, 31);
    home.write("Movies/Long", &content);
    let mut server = Server::with_home(home, &[]);
    let mut stranger = server.connect();
    stranger.expect(FIRST_CHOICE);
    let mut prompted = server.login("user1");
    prompted.send_line("SHOW DIRECTORY");
    prompted.expect("Please enter the desired directory");
    let mut busy = server.login("user1");
    assert_eq!(busy.start_download("Movies/Long"), LONG as u64);

    server.signal(Signal::SIGTERM);
    for idle in [&mut stranger, &mut prompted] {
        idle.expect(STOPPING);
        idle.expect_end();
    }
    eventually("the listener is closed", || {
        TcpStream::connect(server.address()).is_err()
    });
    assert!(server.is_running(), "a download is on its way");
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
    // It has begun once nothing more is awaited but its bytes.
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
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_status(), 0);
    assert!(begun.elapsed() >= Duration::from_secs(1));
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
    // It is logged a moment before the sessions are told, in the same turn of the loop.
    server.connect().expect(FIRST_CHOICE);
}

#[test]
fn idle_sessions_are_notified_and_closed() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut silent = server.login("user1");
    let mut busy = server.login("user1");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2600) {
        busy.download("Movies/Joker");
        thread::sleep(Duration::from_millis(100));
    }
    silent.expect(IDLE);
    silent.expect_end();
    busy.quit();
    server.log_line(&["session=1", "event=end", "reason=idle"]);
}

#[test]
fn a_stalled_download_is_closed_silently() {
    let home = Home::new();
    let content = pattern(LONG, 32);
    home.write("Movies/Long", &content);
    let server = Server::with_home(home, &["--idle-timeout", "1"]);
    let mut client = server.login("user1");
    client.start_download("Movies/Long");
    server.log_line(&["event=end", "reason=idle"]);
    let rest = client.read_to_end();
    assert!(
        rest.len() < LONG && rest == content[..rest.len()],
        "the file's bytes and nothing else"
    );
}

#[test]
fn the_login_timeout_closes_active_clients_too() {
    let server = Server::start(&["--login-timeout", "1"]);
    let mut logged_in = server.login("user1");
    let mut talker = server.connect();
    talker.expect(FIRST_CHOICE);
    let begun = Instant::now();
    loop {
        talker.send_line("");
        match talker.read_line().as_str() {
            FIRST_CHOICE => assert!(begun.elapsed() < Duration::from_secs(8)),
            other => break assert_eq!(other, IDLE),
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(logged_in.download("Movies/Joker").len(), 4096);
}

#[test]
fn the_session_limit_rejects_until_a_session_ends() {
    let server = Server::start(&["--max-sessions", "2"]);
    let one = server.login("user1");
    let mut two = server.login("user1");
    let mut three = server.connect();
    three.expect(FULL);
    three.expect_end();
    two.quit();
    server.log_line(&["session=2", "event=end", "reason=quit"]);
    server.login("user1");
    drop(one);
}

#[test]
fn the_limit_per_address_spares_other_addresses() {
    let options = [
        "--max-per-address",
        "2",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
    ];
    let server = Server::start(&options);
    let mut one = server.login("user1");
    let _two = server.login("user1");
    let mut three = server.connect();
    three.expect(FULL);
    three.expect_end();
    assert_eq!(server.addresses[1].ip(), Ipv6Addr::LOCALHOST);
    let mut other = Client::connect(server.addresses[1]);
    other.login("user1");
    one.quit();
    server.log_line(&["session=1", "event=end", "reason=quit"]);
    server.login("user1").quit();
}

#[test]
fn hidden_usernames_cost_a_password_verification() {
    // More of them fail here than an address is granted.
    let server = Server::start(&["--hide-usernames", "--max-failures", "0"]);
    let mut wrong = 0;
    let mut time = |user: &str| {
        wrong += 1;
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
        client.expect("Please enter your username");
        client.expect("Username OK, Please enter your password");
        let begun = Instant::now();
        client.send_line(format_args!("wrong {wrong}"));
        client.expect("Login Failed");
        begun.elapsed()
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..15 {
        times[0].push(time("user1"));
        times[1].push(time("nobody"));
    }
    let [known, unknown] = times.map(median);
    assert!(
        known < unknown * 2 && unknown < known * 2,
        "known {known:?}, unknown {unknown:?}"
    );
    server.login("user1").quit();
}

#[test]
fn unknown_usernames_are_rejected_at_once_if_not_hidden() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send("LOGIN\nnobody\n");
    client.expect(FIRST_CHOICE);
    client.expect("Please enter your username");
    client.expect("Login Failed");
    client.expect(FIRST_CHOICE);
    server.log_line(&[
        "session=1",
        "event=login-failed",
        "user=nobody",
        "from=127.0.0.1:",
    ]);
}

#[test]
fn usernames_are_escaped_in_the_log() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.send("LOGIN\n\u{1b}[2Jx\rsession=9 event=login user=\"root\"\u{9b}31m\n");
    for _ in 0..4 {
        client.read_line();
    }
    let line = server.log_line(&["event=login-failed"]);
    assert!(
        line.contains(r#"user="\u{1b}[2Jx\rsession=9 event=login user=\"root\"\u{9b}31m" from="#),
        "{line}"
    );
    assert!(!server.log().chars().any(|c| c.is_control() && c != '\n'));
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
    let told = String::from_utf8(guesser.read_to_end()).unwrap();
    assert!(told.ends_with("Login Failed\nToo many failed logins. Connection is terminated.\n"));
    drop(guesser);
    server.log_line(&["session=5 event=end reason=login-failures"]);
}

#[test]
fn an_unread_log_pipe_does_not_block() {
    let options = ["--log-level", "debug"];
    let mut server = Server::launch(Home::new(), &[TIDEGATE], &options, Log::Unread);
    let mut client = server.login("user1");
    // The pipe takes a thousand lines or so, and the buffer before it 4,096.
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
fn a_port_in_use_is_reported_by_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let (status, said) = refused_start(&home.path(), &["--listen", &address]);
    assert_eq!(status, 1);
    assert!(
        said.contains(&format!(
            "tidegate: cannot listen on {address}: Address already in use"
        )),
        "{said}"
    );
}

#[test]
fn an_invalid_home_is_reported_by_file_and_line() {
    let home = Home::new();
    home.append("Credentials", "user9");
    home.append("Directories", "user1:Movies:fly");
    let (status, said) = refused_start(&home.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(status, 2);
    for file in ["Credentials", "Directories"] {
        let path = home.path().join(file);
        let line = fs::read_to_string(&path).unwrap().lines().count();
        let place = format!("{}:{line}:", path.display());
        assert!(said.contains(&place), "{place} is not in {said}");
    }
    let (status, said) = refused_start(&home.parent().join("nowhere"), &[]);
    assert_eq!(status, 2);
    assert!(said.contains("nowhere/Credentials:"), "{said}");
}

#[test]
fn usage_errors_exit_with_status_2() {
    let home = Home::new();
    for options in [
        &["--listen", "localhost"][..],
        &["--max-sessions", "0"],
        &["--nonsense"],
    ] {
        let (status, said) = refused_start(&home.path(), options);
        assert_eq!(status, 2, "{options:?}");
        assert!(
            said.starts_with("tidegate: ") && said.contains(options[0]),
            "{said}"
        );
    }
}

#[test]
fn listening_beyond_loopback_is_warned_about() {
    let server = Server::start(&["--listen", "0.0.0.0:0", "--listen", "127.0.0.1:0"]);
    let open = server.addresses[0];
    assert_eq!(open, SocketAddr::from(([0, 0, 0, 0], open.port())));
    server.log_line(&["warn event=warning", &open.to_string(), "unencrypted"]);
    assert!(!server.log().contains(&server.addresses[1].to_string()));
    server.login("user1").quit();
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
        // As an editor does it: the server never sees a half-written file.
        let draft = server.home.path().join("Directories.new");
        fs::write(&draft, text).unwrap();
        fs::rename(&draft, server.home.path().join("Directories")).unwrap();
        server.signal(Signal::SIGHUP);
        let client = &mut clients[n % 5];
        assert_eq!(client.download("Movies/Joker").len(), 4096);
    }
    clients.iter_mut().for_each(Client::quit);
}

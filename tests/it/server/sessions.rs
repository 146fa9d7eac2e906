//! Timeouts and limits of sessions.

use std::net::Ipv6Addr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::crowd::connect_a_thousand;
use crate::support::changes::plain_home;
use crate::support::{Client, FIRST_CHOICE, FULL, Home, Server, eventually, pattern};

const TOO_MANY_SESSIONS: &str = "You have too many sessions. Please try again later.";
const IDLE: &str = "Idle for too long. Connection is terminated.";

/// More bytes than the buffers of both sockets can hold.
const LONG: usize = 48 * 1024 * 1024;

#[test]
fn idle_sessions_are_notified_and_closed() {
    let server = Server::start(&["--idle-timeout", "1"]);
    let mut silent = server.login("user1");
    let mut busy = server.login("user1");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2600) {
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
        "only bytes of the file are sent"
    );
}

#[test]
fn the_login_timeout_closes_active_clients_too() {
    let server = Server::start(&["--login-timeout", "1"]);
    let mut logged_in = server.login("user1");
    let mut active = server.connect();
    active.expect(FIRST_CHOICE);
    let start = Instant::now();
    loop {
        active.send_line("");
        match active.read_line().as_str() {
            FIRST_CHOICE => assert!(start.elapsed() < Duration::from_secs(8)),
            other => break assert_eq!(other, IDLE),
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() >= Duration::from_secs(1));
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

/// Starts a server with additional lines in `Directories`.
fn start(lines: &[&str], options: &[&str]) -> Server {
    Server::with_home(home(lines), options)
}

fn home(lines: &[&str]) -> Home {
    let home = plain_home();
    for line in lines {
        home.append("Directories", line);
    }
    home
}

/// Sends a username and a password. The result of the login follows.
fn start_login(server: &Server, user: &str, password: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("LOGIN\n{user}\n{password}\n"));
    for _ in 0..3 {
        client.read_line();
    }
    client
}

#[test]
fn the_session_limit_per_user_is_enforced() {
    let server = start(&["user1::sessions=2", "*::sessions=1"], &[]);
    let mut first = server.login("user1");
    let mut second = server.login("user1");
    let mut refused = start_login(&server, "user1", "1234");
    refused.expect(TOO_MANY_SESSIONS);
    refused.expect_end();
    server.log_line(&["event=refused limit=sessions user=user1", "most=2"]);
    server.log_line(&["event=end reason=too-many-sessions"]);

    let mut third = server.login("user2");
    start_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);

    second.send_line("QUIT");
    second.read_to_end();
    eventually("the user has a free session again", || {
        start_login(&server, "user1", "1234").read_line() == "Login Successfully"
    });

    // A reload changes the limit for new logins only.
    let directories = server.home.path().join("Directories");
    let text = std::fs::read_to_string(&directories).unwrap();
    let text = text
        .replace("user1::sessions=2\n", "")
        .replace("*::sessions=1\n", "");
    std::fs::write(&directories, text + "user2::sessions=1\nuser2::rate=1\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.log_line(&[
        "event=reload result=kept-the-old",
        " already; expected one line",
    ]);
    let text = std::fs::read_to_string(&directories).unwrap();
    std::fs::write(&directories, text.replace("user2::rate=1\n", "")).unwrap();
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload result=taken-up"]);
    let many: Vec<Client> = (0..5).map(|_| server.login("user1")).collect();
    start_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);
    for client in [&mut first, &mut third] {
        client.send_line("SHOW DIRECTORIES");
        client.read_line();
        client.expect_menu();
    }
    drop(many);
}

#[test]
fn sessions_per_user_are_exact_under_a_thousand_clients() {
    let server = start(&["user1::sessions=37"], &[]);
    let address = server.address();
    let logins: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(move || {
                let mut clients: Vec<Client> = (0..125).map(|_| Client::connect(address)).collect();
                for client in &mut clients {
                    client.send("LOGIN\nuser1\n1234\n");
                }
                clients.retain_mut(|client| {
                    for _ in 0..3 {
                        client.read_line();
                    }
                    match client.read_line().as_str() {
                        "Login Successfully" => true,
                        TOO_MANY_SESSIONS => false,
                        other => panic!("unexpected message: {other}"),
                    }
                });
                clients
            })
        })
        .collect();
    let accepted: Vec<Client> = logins
        .into_iter()
        .flat_map(|clients| clients.join().expect("each gets a message"))
        .collect();
    assert_eq!(accepted.len(), 37);
}

/// Returns the client if the server has accepted it, or `None` if the server is full.
fn accepted(mut client: Client) -> Option<Client> {
    match client.read_line().as_str() {
        FIRST_CHOICE => Some(client),
        FULL => None,
        other => panic!("unexpected message: {other}"),
    }
}

#[test]
fn total_sessions_are_exact_under_a_thousand_clients() {
    let server = start(&[], &["--max-sessions", "123"]);
    let mut visits = connect_a_thousand(&server, &["127.0.0.1", "127.0.0.2"], |_, client| {
        accepted(client)
    });
    let count = |visits: &[Option<Client>]| visits.iter().flatten().count();
    assert_eq!(count(&visits), 123);
    // As many can connect as have left.
    visits.retain(Option::is_some);
    for client in visits.drain(..23).flatten() {
        client.reset();
    }
    eventually("the sessions have ended", || {
        let log = server.log();
        let ends = log.lines().filter(|line| line.contains("event=end"));
        ends.filter(|line| !line.contains("reason=full")).count() == 23
    });
    let more = connect_a_thousand(&server, &["127.0.0.3"], |_, client| accepted(client));
    assert_eq!(count(&more), 23);
}

#[test]
fn sessions_per_address_are_exact_under_a_thousand_clients() {
    let server = start(&[], &["--max-per-address", "31"]);
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let visits = connect_a_thousand(&server, &addresses, |number, client| {
        (number % addresses.len(), accepted(client))
    });
    for (at, address) in addresses.iter().enumerate() {
        let mut of_address = visits.iter().filter(|(from, _)| *from == at);
        let accepted = of_address
            .by_ref()
            .filter(|(_, client)| client.is_some())
            .count();
        assert_eq!(accepted, 31, "{address}");
    }
}

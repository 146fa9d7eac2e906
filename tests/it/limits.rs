//! The limits that an operator sets, over real sockets: what is refused, with which sentence, and that nobody gets more.

use std::thread;

use nix::sys::signal::Signal;

use crate::support::{Client, Home, Server, eventually};
use crate::world::plain_home;

const TOO_MANY_SESSIONS: &str = "You have too many sessions. Please try again later.";

/// A server over the example home with more lines in `Directories`.
fn start(lines: &[&str], options: &[&str]) -> Server {
    Server::over(home(lines), options)
}

fn home(lines: &[&str]) -> Home {
    let home = plain_home();
    for line in lines {
        home.append("Directories", line);
    }
    home
}

/// Gives the right name and password; what comes behind them is for the caller.
fn begin_login(server: &Server, user: &str, password: &str) -> Client {
    let mut client = server.connect();
    client.send(format!("LOGIN\n{user}\n{password}\n"));
    for _ in 0..3 {
        client.line();
    }
    client
}

#[test]
fn a_user_has_no_more_sessions_than_he_may() {
    let server = start(&["user1::sessions=2", "*::sessions=1"], &[]);
    let mut first = server.login("user1");
    let mut second = server.login("user1");
    let mut refused = begin_login(&server, "user1", "1234");
    refused.expect(TOO_MANY_SESSIONS);
    refused.expect_end();
    server.log_line(&["event=refused limit=sessions user=user1", "most=2"]);
    server.log_line(&["event=end reason=too-many-sessions"]);

    let mut third = server.login("user2");
    begin_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);

    second.say("QUIT");
    second.rest();
    eventually("a session of his is free again", || {
        begin_login(&server, "user1", "1234").line() == "Login Successfully"
    });

    // A limit that a reload brings or takes away holds for the next login; who is there stays.
    let directories = server.home.path().join("Directories");
    let text = std::fs::read_to_string(&directories).unwrap();
    let text = text
        .replace("user1::sessions=2\n", "")
        .replace("*::sessions=1\n", "");
    std::fs::write(&directories, text + "user2::sessions=1\nuser2::rate=1\n").unwrap();
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload result=kept-the-old", "a second time"]);
    let text = std::fs::read_to_string(&directories).unwrap();
    std::fs::write(&directories, text.replace("user2::rate=1\n", "")).unwrap();
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload result=taken-up"]);
    let many: Vec<Client> = (0..5).map(|_| server.login("user1")).collect();
    begin_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);
    for client in [&mut first, &mut third] {
        client.say("SHOW DIRECTORIES");
        client.line();
        client.expect_menu();
    }
    drop(many);
}

#[test]
fn sessions_of_a_user_are_counted_exactly_under_a_thousand_clients() {
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
                        client.line();
                    }
                    match client.line().as_str() {
                        "Login Successfully" => true,
                        TOO_MANY_SESSIONS => false,
                        other => panic!("neither let in nor told: {other}"),
                    }
                });
                clients
            })
        })
        .collect();
    let let_in: Vec<Client> = logins
        .into_iter()
        .flat_map(|clients| clients.join().expect("each was let in or told"))
        .collect();
    assert_eq!(let_in.len(), 37);
}

//! The limits that an operator sets, over real sockets: what is refused, with which sentence, and that nobody gets more.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::changes::plain_home;
use crate::support::{Client, FIRST_CHOICE, FULL, Home, Server, connect_from, eventually};

const TOO_MANY_FAILURES: &str = "Too many failed logins. Please try again later.";
const TOO_MANY_SESSIONS: &str = "You have too many sessions. Please try again later.";

/// A server over the example home with more lines in `Directories`.
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

/// Gives the right name and password; what comes behind them is for the caller.
fn begin_login(server: &Server, user: &str, password: &str) -> Client {
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
    let mut refused = begin_login(&server, "user1", "1234");
    refused.expect(TOO_MANY_SESSIONS);
    refused.expect_end();
    server.log_line(&["event=refused limit=sessions user=user1", "most=2"]);
    server.log_line(&["event=end reason=too-many-sessions"]);

    let mut third = server.login("user2");
    begin_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);

    second.send_line("QUIT");
    second.read_to_end();
    eventually("a session of his is free again", || {
        begin_login(&server, "user1", "1234").read_line() == "Login Successfully"
    });

    // A limit that a reload brings or takes away holds for the next login; who is there stays.
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
    begin_login(&server, "user2", "2345").expect(TOO_MANY_SESSIONS);
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

#[test]
fn brute_force_blocks_the_guessing_client_only() {
    let server = start(
        &[],
        &[
            "--max-failures",
            "3",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
        ],
    );
    // The fourth time round even the right password is not looked at.
    let mut guessing = server.connect();
    guessing.expect(FIRST_CHOICE);
    for guess in 1..=3 {
        guessing.send(format!("LOGIN\nuser1\n{guess}\n"));
        guessing.read_line();
        guessing.read_line();
        guessing.expect("Login Failed");
        guessing.expect(FIRST_CHOICE);
    }
    server.log_line(&["event=turn-away user=user1 from=127.0.0.1"]);
    guessing.send("LOGIN\nuser1\n1234\n");
    guessing.read_line();
    guessing.expect(TOO_MANY_FAILURES);
    guessing.expect_end();
    server.log_line(&["event=refused limit=failures user=user1"]);
    server.log_line(&["event=end reason=turned-away"]);

    // Another user from there, and the user from elsewhere.
    server.login("user2");
    Client::connect(server.addresses[1]).login("user1");

    // As many failures of others turn all from there away, before they say a word; who has logged in stays.
    let mut before = server.login("user2");
    for user in ["nobody", "somebody", "anybody"] {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
        client.read_line();
        client.expect("Login Failed");
    }
    let mut turned_away = server.connect();
    turned_away.expect(TOO_MANY_FAILURES);
    turned_away.expect_end();
    server.log_line(&["event=turned-away full=0 failures=1"]);
    before.send_line("SHOW DIRECTORIES");
    before.read_line();
    before.expect_menu();
    Client::connect(server.addresses[1]).login("user1");
}

#[test]
fn blocks_expire() {
    let options = ["--max-failures", "1", "--failure-window", "1"];
    let server = start(&[], &options);
    for user in ["nobody", "somebody"] {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
    }
    eventually("all from there are turned away", || {
        server.connect().read_line() == TOO_MANY_FAILURES
    });
    eventually("and then no longer", || {
        server.connect().read_line() == FIRST_CHOICE
    });
    server.login("user1");
}

#[test]
fn failed_logins_are_delayed_and_successful_ones_are_not() {
    let server = start(&[], &[]);
    let begin = Instant::now();
    let mut client = server.connect();
    client.send("LOGIN\nuser1\nx\n".repeat(4));
    client.expect(FIRST_CHOICE);
    for _ in 0..4 {
        client.read_line();
        client.read_line();
        client.expect("Login Failed");
        client.expect(FIRST_CHOICE);
    }
    // The third by a quarter of a second, the fourth by twice as long.
    assert!(begin.elapsed() >= Duration::from_millis(750));
    let mut slow = server.connect();
    slow.send("LOGIN\nuser1\nx\n");
    let begin = Instant::now();
    client.send("LOGIN\nuser1\n1234\n");
    client.read_line();
    client.read_line();
    client.expect("Login Successfully");
    for _ in 0..3 {
        slow.read_line();
    }
    slow.expect("Login Failed");
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "one from there waits"
    );
}

#[test]
fn menu_transfers_obey_the_user_rate_limit() {
    const LENGTH: usize = 500_000;
    let home = home(&["user1::rate=1M"]);
    home.write("Movies/Film", vec![b'x'; LENGTH]);
    let server = Server::with_home(home, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.login("user1")).collect();
    let begin = Instant::now();
    for client in &mut clients {
        client.send_line("DOWNLOAD FILE Movies/Film");
    }
    // Another user is not bounded by it.
    let mut other = server.login("user2");
    assert_eq!(other.start_download("Movies/Joker"), 4096);
    for client in &mut clients {
        assert_eq!(client.read_length(), LENGTH as u64);
        assert!(client.read_bytes(LENGTH).iter().all(|&byte| byte == b'x'));
        client.expect_menu();
    }
    // A tenth of a second's worth may come at once.
    let least = (4 * LENGTH) as f64 / 1_000_000.0 - 0.1;
    let seconds = begin.elapsed().as_secs_f64();
    assert!(seconds > 0.97 * least, "{seconds} s");
    assert!(seconds < 10.0 * least, "{seconds} s");
}

/// Files in a served directory, and their bytes together.
fn sizes(server: &Server, directory: &str) -> (usize, u64) {
    let names = server.home.names(directory);
    let size = |name: &String| {
        let path = server.home.file(&format!("{directory}/{name}"));
        std::fs::metadata(path).map_or(0, |status| status.len())
    };
    (names.len(), names.iter().map(size).sum())
}

#[test]
fn quotas_are_exact_under_a_thousand_uploading_clients() {
    let home = home(&["user2:Box:upload,quota=100k", "user3:Box:read,change"]);
    std::fs::create_dir(home.file("Box")).expect("our own directory");
    home.write("Box/Old", vec![b'o'; 5_500]);
    let server = Server::with_home(home, &[]);
    let address = server.address();
    // Half of them announce what they never send.
    let clients: Vec<_> = (0..8usize)
        .map(|part| {
            thread::spawn(move || {
                let mut clients: Vec<Client> = (0..125).map(|_| Client::connect(address)).collect();
                for (at, client) in clients.iter_mut().enumerate() {
                    let name = part * 125 + at;
                    client.send(format!(
                        "LOGIN\nuser2\n2345\nUPLOAD FILE Box/{name}\n1000\n"
                    ));
                }
                let mut taken = 0;
                for (at, client) in clients.iter_mut().enumerate() {
                    (0..6).for_each(|_| drop(client.read_line()));
                    match client.read_line().as_str() {
                        "There is not enough room for that file" => {}
                        "Ready to receive 1000 bytes" if at % 2 == 0 => {
                            client.send(vec![b'x'; 1000]);
                            client.expect(&format!(
                                "Upload complete: {}, 1000 bytes",
                                part * 125 + at
                            ));
                            taken += 1;
                        }
                        "Ready to receive 1000 bytes" => taken += 1,
                        other => panic!("neither taken nor told: {other}"),
                    }
                }
                (clients, taken)
            })
        })
        .collect();
    let (clients, taken): (Vec<_>, Vec<usize>) = clients
        .into_iter()
        .map(|part| part.join().expect("each was taken or told"))
        .unzip();
    // Not one more than fits, and not one less.
    assert_eq!(taken.into_iter().sum::<usize>(), 94);
    server.log_line(&["event=refused limit=quota user=user2 from=127.0.0.1:"]);

    // What was announced and never came is given back.
    drop(clients);
    let mut client = server.login("user2");
    let (files, bytes) = sizes(&server, "Box");
    assert_eq!(bytes, 5_500 + 1000 * (files as u64 - 1));
    let expected = format!("directory {bytes} of 100000 bytes Box");
    eventually("the rest is free again", || {
        client.send_line("SHOW QUOTA");
        client.expect("QUOTA 1");
        let line = client.read_line();
        client.expect_menu();
        line == expected
    });
    let rest = 100_000 - bytes;
    client.send(format!("PUT FILE {rest} Box/Rest\n"));
    client.send(vec![b'x'; rest as usize]);
    client.expect(&format!("Upload complete: Rest, {rest} bytes"));
    client.expect_menu();
    client.send_line("PUT FILE 1 Box/One more");
    client.expect("There is not enough room for that file");
    // Whom no quota bounds there may go on.
    let mut other = server.login("user3");
    other.send("PUT FILE 1 Box/One more\nx");
    other.expect("Upload complete: One more, 1 bytes");
}

#[test]
fn a_user_quota_spans_directories_and_survives_reloads() {
    let lines = [
        "user2:Inbox:upload",
        "user2:Outbox:upload",
        "user2::quota=10k",
    ];
    let home = home(&lines);
    for directory in ["Inbox", "Outbox"] {
        std::fs::create_dir(home.file(directory)).expect("our own directory");
    }
    let server = Server::with_home(home, &[]);
    let put = |client: &mut Client, bytes: usize, path: &str| {
        client.send(format!("PUT FILE {bytes} {path}\n"));
        client.send(vec![b'x'; bytes]);
        client.read_line()
    };
    let (_, there) = sizes(&server, "Uploads");
    let mut client = server.login("user2");
    put(&mut client, 4000, "Inbox/a");
    client.expect_menu();
    put(&mut client, 4000, "Outbox/a");
    client.expect_menu();
    client.send_line("SHOW QUOTA");
    client.expect("QUOTA 1");
    client.expect(&format!("user {} of 10000 bytes", 8000 + there));
    client.expect_menu();
    assert_eq!(
        put(&mut client, 2000, "Inbox/b"),
        "There is not enough room for that file"
    );
    // What people take away is found by the count that a reload makes.
    std::fs::remove_file(server.home.file("Outbox/a")).expect("it was uploaded");
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload result=taken-up"]);
    eventually("the reload has counted", || {
        let mut client = server.login("user2");
        client.send_line("SHOW QUOTA");
        client.expect("QUOTA 1");
        client.read_line() == format!("user {} of 10000 bytes", 4000 + there)
    });
    let mut client = server.login("user2");
    let said = put(&mut client, 2000, "Inbox/b");
    assert_eq!(said, "Upload complete: b, 2000 bytes");
}

#[test]
fn uploads_keep_the_minimum_free_space() {
    let server = start(&[], &["--keep-free", "1000T"]);
    let mut client = server.login("user2");
    client.send("UPLOAD FILE Uploads/New\n1\n");
    client.read_line();
    client.expect("There is not enough room for that file");
    client.expect_menu();
    client.send("PUT FILE 1 Movies/New\n");
    client.expect("There is not enough room for that file");
    client.expect_end();
    let server = start(&[], &["--keep-free", "1k"]);
    let mut client = server.login("user2");
    client.send("PUT FILE 1 Uploads/New\nx");
    client.expect("Upload complete: New, 1 bytes");
}

/// What each of a thousand clients, who come at once from these addresses in turn, makes of his connection.
fn a_thousand<T: Send>(
    server: &Server,
    addresses: &[&str],
    visit: impl Fn(usize, Client) -> T + Sync,
) -> Vec<T> {
    let to = server.address();
    thread::scope(|scope| {
        let visit = &visit;
        let parts: Vec<_> = (0..8)
            .map(|part| {
                scope.spawn(move || {
                    let numbers = 125 * part..125 * (part + 1);
                    let from = |number| addresses[number % addresses.len()];
                    let connect = |number| Client::from_stream(connect_from(from(number), to));
                    let clients: Vec<_> = numbers.clone().map(connect).collect();
                    let visits = numbers.zip(clients);
                    visits
                        .map(|(number, client)| visit(number, client))
                        .collect::<Vec<T>>()
                })
            })
            .collect();
        let parts = parts
            .into_iter()
            .map(|part| part.join().expect("each is told"));
        parts.flatten().collect()
    })
}

/// A client who was let in, to be kept; `None` where he was told that there is no place.
fn is_let_in(mut client: Client) -> Option<Client> {
    match client.read_line().as_str() {
        FIRST_CHOICE => Some(client),
        FULL => None,
        other => panic!("neither let in nor told: {other}"),
    }
}

#[test]
fn total_sessions_are_exact_under_a_thousand_clients() {
    let server = start(&[], &["--max-sessions", "123"]);
    let mut visits = a_thousand(&server, &["127.0.0.1", "127.0.0.2"], |_, client| {
        is_let_in(client)
    });
    let let_in = |visits: &[Option<Client>]| visits.iter().flatten().count();
    assert_eq!(let_in(&visits), 123);
    // As many as leave, and no more, may come.
    visits.retain(Option::is_some);
    for client in visits.drain(..23).flatten() {
        client.reset();
    }
    eventually("they have left", || {
        let log = server.log();
        let ends = log.lines().filter(|line| line.contains("event=end"));
        ends.filter(|line| !line.contains("reason=full")).count() == 23
    });
    let more = a_thousand(&server, &["127.0.0.3"], |_, client| is_let_in(client));
    assert_eq!(let_in(&more), 23);
}

#[test]
fn sessions_per_address_are_exact_under_a_thousand_clients() {
    let server = start(&[], &["--max-per-address", "31"]);
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let visits = a_thousand(&server, &addresses, |number, client| {
        (number % addresses.len(), is_let_in(client))
    });
    for (at, address) in addresses.iter().enumerate() {
        let mut of_address = visits.iter().filter(|(from, _)| *from == at);
        let let_in = of_address
            .by_ref()
            .filter(|(_, client)| client.is_some())
            .count();
        assert_eq!(let_in, 31, "{address}");
    }
}

#[test]
fn failed_logins_are_exact_under_a_thousand_clients() {
    let server = start(&[], &["--max-failures", "7"]);
    let addresses = ["127.0.0.1", "127.0.0.2"];
    // Four users from two addresses, each time with another wrong password.
    let mut visits = a_thousand(&server, &addresses, |number, mut client| {
        let user = number / 2 % 4 + 1;
        client.send(format!("LOGIN\nuser{user}\nwrong {number}\n"));
        (number % 2, user, client)
    });
    let visits: Vec<(usize, usize, bool)> = visits
        .iter_mut()
        .map(|(address, user, client)| {
            let has_failed = loop {
                match client.read_line().as_str() {
                    "Login Failed" => break true,
                    TOO_MANY_FAILURES => break false,
                    _ => {}
                }
            };
            (*address, *user, has_failed)
        })
        .collect();
    for address in 0..addresses.len() {
        let failed = |user| {
            let of = |visit: &&(usize, usize, bool)| **visit == (address, user, true);
            visits.iter().filter(of).count()
        };
        let failed = [1, 2, 3, 4].map(failed);
        assert!(failed.iter().all(|&failed| failed <= 7), "{failed:?}");
        assert_eq!(failed.iter().sum::<usize>(), 14, "{failed:?}");
    }
    // And nobody from elsewhere is turned away for it.
    let mut other = Client::from_stream(connect_from("127.0.0.3", server.address()));
    other.login("user1");
}

//! Password verification, failed logins, and blocks of guessing clients.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::crowd::connect_a_thousand;
use crate::support::changes::plain_home;
use crate::support::{Client, FIRST_CHOICE, Server, connect_from, eventually, median};

const TOO_MANY_FAILURES: &str = "Too many failed logins. Please try again later.";

/// Starts a server with plain passwords.
fn start(options: &[&str]) -> Server {
    Server::with_home(plain_home(), options)
}

#[test]
fn hidden_usernames_cost_a_password_verification() {
    // More logins fail here than the default limit allows.
    let server = Server::start(&["--hide-usernames", "--max-failures", "0"]);
    let mut wrong = 0;
    let mut time = |user: &str| {
        wrong += 1;
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
        client.expect("Please enter your username");
        client.expect("Username OK, Please enter your password");
        let start = Instant::now();
        client.send_line(format_args!("wrong {wrong}"));
        client.expect("Login Failed");
        start.elapsed()
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
        "user=?",
        "from=127.0.0.1:",
    ]);
}

#[test]
fn brute_force_blocks_the_guessing_client_only() {
    let server = start(&[
        "--max-failures",
        "3",
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
    ]);
    // At the fourth attempt, the correct password is refused too.
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

    // Other users of the address and other addresses are not blocked.
    server.login("user2");
    Client::connect(server.addresses[1]).login("user1");

    // Failures as different users block the address at connect, but not its existing sessions.
    let mut before = server.login("user2");
    for user in ["nobody", "somebody", "anybody"] {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
        client.read_line();
        client.expect("Login Failed");
    }
    let mut blocked = server.connect();
    blocked.expect(TOO_MANY_FAILURES);
    blocked.expect_end();
    server.log_line(&["event=turned-away full=0 failures=1"]);
    before.send_line("SHOW DIRECTORIES");
    before.read_line();
    before.expect_menu();
    Client::connect(server.addresses[1]).login("user1");
}

#[test]
fn blocks_expire() {
    let options = ["--max-failures", "1", "--failure-window", "1"];
    let server = start(&options);
    for user in ["nobody", "somebody"] {
        let mut client = server.connect();
        client.send(format!("LOGIN\n{user}\n"));
        client.expect(FIRST_CHOICE);
    }
    eventually("the address is blocked", || {
        server.connect().read_line() == TOO_MANY_FAILURES
    });
    eventually("the block expires", || {
        server.connect().read_line() == FIRST_CHOICE
    });
    server.login("user1");
}

#[test]
fn failed_logins_are_delayed_and_successful_ones_are_not() {
    let server = start(&[]);
    let start = Instant::now();
    let mut client = server.connect();
    client.send("LOGIN\nuser1\nx\n".repeat(4));
    client.expect(FIRST_CHOICE);
    for _ in 0..4 {
        client.read_line();
        client.read_line();
        client.expect("Login Failed");
        client.expect(FIRST_CHOICE);
    }
    // The third response is delayed by 250 ms, the fourth by 500 ms.
    assert!(start.elapsed() >= Duration::from_millis(750));
    let mut slow = server.connect();
    slow.send("LOGIN\nuser1\nx\n");
    let start = Instant::now();
    client.send("LOGIN\nuser1\n1234\n");
    client.read_line();
    client.read_line();
    client.expect("Login Successfully");
    for _ in 0..3 {
        slow.read_line();
    }
    slow.expect("Login Failed");
    assert!(
        start.elapsed() >= Duration::from_millis(500),
        "a failure from the same address is delayed"
    );
}

#[test]
fn failed_logins_are_exact_under_a_thousand_clients() {
    let server = start(&["--max-failures", "7"]);
    let addresses = ["127.0.0.1", "127.0.0.2"];
    // Logins as four users from two addresses, each with another wrong password.
    let mut visits = connect_a_thousand(&server, &addresses, |number, mut client| {
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
    // Other addresses are not blocked.
    let mut other = Client::from_stream(connect_from("127.0.0.3", server.address()));
    other.login("user1");
}

#[test]
fn wrong_passwords_do_not_delay_downloads() {
    let server = Server::start(&["--max-failures", "0"]);
    let mut client = server.login("user1");
    let is_over = AtomicBool::new(false);
    let failed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for attacker in 0..10 {
            let (server, is_over, failed) = (&server, &is_over, &failed);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = server.connect();
                    client.expect(FIRST_CHOICE);
                    for attempt in 0..4 {
                        client.send(format!("LOGIN\nuser2\nwrong {attacker} {attempt}\n"));
                        client.expect("Please enter your username");
                        client.expect("Username OK, Please enter your password");
                        client.expect("Login Failed");
                        client.expect(FIRST_CHOICE);
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        eventually("the attack has started", || {
            failed.load(Ordering::Relaxed) > 20
        });
        let start = Instant::now();
        for _ in 0..200 {
            assert_eq!(client.download("Movies/Joker").len(), 4096);
        }
        let took = start.elapsed();
        let during = failed.load(Ordering::Relaxed);
        eventually("the attack continues", || {
            failed.load(Ordering::Relaxed) > during
        });
        is_over.store(true, Ordering::Relaxed);
        // Waiting for ten verifications of about 20 ms each would take 40 seconds.
        assert!(
            took < Duration::from_secs(10),
            "200 small downloads took {took:?}"
        );
    });
}

#[test]
fn verified_passwords_are_cached_until_a_reload() {
    let server = Server::start(&[]);
    let cpu_of = |logins: &dyn Fn()| {
        let before = server.cpu_time();
        logins();
        server.cpu_time() - before
    };
    // The minimum is the least affected by other processes.
    let one = ["user1", "user2", "user3"]
        .map(|user| cpu_of(&|| server.login(user).quit()))
        .into_iter()
        .min()
        .unwrap();
    let many = cpu_of(&|| (0..50).for_each(|_| server.login("user1").quit()));
    assert!(many < one * 10, "50 logins took {many:?}, one took {one:?}");

    // The cache does not accept other passwords.
    let mut client = server.connect();
    client.send("LOGIN\nuser1\n12345\n");
    for _ in 0..3 {
        client.read_line();
    }
    client.expect("Login Failed");

    server.signal(nix::sys::signal::Signal::SIGHUP);
    server.log_line(&["event=reload", "result=taken-up"]);
    let again = cpu_of(&|| server.login("user1").quit());
    assert!(
        again * 2 > one,
        "not verified again: {again:?}, the first time {one:?}"
    );
}

#[test]
fn concurrent_equal_logins_share_one_verification() {
    let server = Server::start(&[]);
    let before = server.cpu_time();
    server.login("user2").quit();
    let one = server.cpu_time() - before;

    let mut clients: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("LOGIN\nuser1\n");
        client.expect(FIRST_CHOICE);
        client.expect("Please enter your username");
        client.expect("Username OK, Please enter your password");
    }
    let before = server.cpu_time();
    for client in &mut clients {
        client.send_line("1234");
    }
    for client in &mut clients {
        client.expect("Login Successfully");
        client.expect_menu();
    }
    let many = server.cpu_time() - before;
    assert!(
        many < one * 10,
        "50 at once took {many:?}, one took {one:?}"
    );
}

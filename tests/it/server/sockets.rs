//! Connections over real sockets: many of them, hostile ones, and ones that end at any point; nobody pays for another.

use std::collections::HashSet;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, FIRST_CHOICE, FULL, Home, Log, Server, TIDEGATE, eventually, pattern,
};

/// Longer than what both sockets' buffers can hold.
const LONG: usize = 48 * 1024 * 1024;

fn start_with_descriptors(home: Home, limit: usize) -> Server {
    let set = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
    Server::launch(home, &["sh", "-c", &set, TIDEGATE], &[], Log::Read)
}

#[test]
fn clients_beyond_the_descriptor_limit_get_a_message() {
    let server = start_with_descriptors(Home::new(), 64);
    server.log_line(&["event=warning", "limited to 24 concurrent sessions"]);
    let address = server.address();
    let knocking: Vec<_> = (0..200)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                match client.read_line().as_str() {
                    FIRST_CHOICE => Some(client),
                    FULL => {
                        client.expect_end();
                        None
                    }
                    other => panic!("neither let in nor told: {other}"),
                }
            })
        })
        .collect();
    let mut served: Vec<Client> = knocking
        .into_iter()
        .filter_map(|client| client.join().expect("each was let in or told"))
        .collect();
    assert_eq!(served.len(), 24);

    for client in &mut served {
        client.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\nQUIT\n");
        let all = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        assert!(all.contains("LENGTH 4096\n"), "{all}");
        assert!(all.ends_with("You are logged out.\n"), "{all}");
    }
    drop(served);
    eventually("a later one is let in", || {
        server.connect().read_line() == FIRST_CHOICE
    });
    assert!(
        server.cpu_time() < Duration::from_secs(2),
        "no spin: {:?}",
        server.cpu_time()
    );
}

#[test]
fn rejected_connections_do_not_use_up_descriptors() {
    let server = start_with_descriptors(Home::new(), 64);
    let mut served: Vec<Client> = (0..24).map(|_| server.login("user2")).collect();
    let mut away: Vec<Client> = (0..100)
        .map(|_| Client::connect(server.address()))
        .collect();
    away[0].expect(FULL);
    for (n, client) in served.iter_mut().enumerate() {
        assert_eq!(client.download("Movies/Joker").len(), 4096);
        assert_eq!(
            client.command("SHOW DIRECTORY Movies"),
            "The available files are: Free Fire, Joker, WAR"
        );
        client.send(format!("PUT FILE 3 Uploads/{n}\nabc"));
        client.expect(&format!("Upload complete: {n}, 3 bytes"));
        client.expect_menu();
    }
}

#[test]
fn cached_open_files_do_not_prevent_connections() {
    let home = Home::new();
    home.append("Directories", "user2:Many:read");
    std::fs::create_dir(home.file("Many")).unwrap();
    for n in 0..60 {
        home.write(&format!("Many/{n}"), "few bytes");
    }
    let server = start_with_descriptors(home, 64);
    let mut one = server.login("user2");
    for n in 0..60 {
        assert_eq!(one.download(&format!("Many/{n}")), b"few bytes");
    }
    assert!(
        one.command("SHOW DIRECTORY Many")
            .starts_with("The available files are: 0, 1, 10")
    );
    one.send("PUT FILE 3 Uploads/Three\nabc");
    one.expect("Upload complete: Three, 3 bytes");
    one.expect_menu();
    let begun = Instant::now();
    let mut others: Vec<Client> = (0..23).map(|_| server.login("user2")).collect();
    for client in &mut others {
        assert_eq!(client.download("Many/7"), b"few bytes");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn three_thousand_connections_leak_no_descriptor() {
    let server = Server::start(&[]);
    server.login("user1").quit();
    let before = server.descriptors();
    for n in 0..3000 {
        let mut client = server.connect();
        match n % 3 {
            0 => client.expect(FIRST_CHOICE),
            1 => client.reset(),
            _ => client.close_sending(),
        }
    }
    eventually("every descriptor is closed", || {
        server.descriptors() <= before
    });
    server.login("user1").quit();
}

#[test]
fn a_stalled_reader_does_not_delay_a_fast_one() {
    let home = Home::new();
    let content = pattern(LONG, 11);
    home.write("Movies/Long", &content);
    let server = Server::with_home(home, &[]);
    let mut stalled: Vec<Client> = (0..20).map(|_| server.login("user1")).collect();
    for client in &mut stalled {
        client.start_download("Movies/Long");
    }
    let cpu = server.cpu_time();
    let mut fast = server.login("user1");
    assert!(fast.download("Movies/Long") == content);
    assert!(
        server.cpu_time() - cpu < Duration::from_secs(2),
        "nobody polls the stalled"
    );
    // They are stalled, not lost.
    let mut last = stalled.pop().unwrap();
    assert!(last.read_bytes(LONG) == content);
    last.expect_menu();
}

#[test]
fn wrong_passwords_do_not_delay_downloads() {
    let server = Server::start(&["--max-failures", "0"]);
    let mut client = server.login("user1");
    let over = AtomicBool::new(false);
    let failed = AtomicUsize::new(0);
    thread::scope(|scope| {
        for storm in 0..10 {
            let (server, over, failed) = (&server, &over, &failed);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let mut client = server.connect();
                    client.expect(FIRST_CHOICE);
                    for attempt in 0..4 {
                        client.send(format!("LOGIN\nuser2\nwrong {storm} {attempt}\n"));
                        client.expect("Please enter your username");
                        client.expect("Username OK, Please enter your password");
                        client.expect("Login Failed");
                        client.expect(FIRST_CHOICE);
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        eventually("the storm is on", || failed.load(Ordering::Relaxed) > 20);
        let begun = Instant::now();
        for _ in 0..200 {
            assert_eq!(client.download("Movies/Joker").len(), 4096);
        }
        let took = begun.elapsed();
        let during = failed.load(Ordering::Relaxed);
        eventually("the storm has gone on", || {
            failed.load(Ordering::Relaxed) > during
        });
        over.store(true, Ordering::Relaxed);
        // Behind the storm's hashes, ten of some 20 ms before each, they would take four times that.
        assert!(
            took < Duration::from_secs(10),
            "200 small downloads took {took:?}"
        );
    });
}

#[test]
fn clients_that_never_read_are_bounded_in_memory() {
    let server = Server::start(&[]);
    let mut other = server.login("user1");
    let before = server.memory_kib();
    let mut peers = Vec::new();
    for _ in 0..40 {
        let peer = server.login("user1");
        let socket = peer.socket();
        socket.set_nonblocking(true).unwrap();
        peers.push(peer);
    }
    // They send until nothing more goes, for as long as anything goes within a second.
    let line = "SHOW DIRECTORY Docs\nDOWNLOAD FILE Tides\nHELP\n".repeat(200);
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        for peer in &peers {
            // How much of it went is of no interest.
            match peer.socket().write(line.as_bytes()) {
                Ok(1..) => last = Instant::now(),
                Ok(0) => panic!("a socket that takes nothing and says nothing"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 40 * 128, "{grown} KiB for 40 peers");
    let cpu = server.cpu_time();
    for _ in 0..100 {
        assert_eq!(other.download("Movies/Joker").len(), 4096);
    }
    assert!(
        server.cpu_time() - cpu < Duration::from_secs(1),
        "nobody polls the silent"
    );
}

/// All that can be asked for without leaving something behind, so that any part of it may be asked for again.
const DIALOGUE: &str = "LOGIN\nuser1\n1234\nSHOW DIRECTORIES\nSHOW DIRECTORY\nMovies\nSHOW DETAILS\nDOWNLOAD FILE Joker\n\
RESUME DOWNLOAD Joker\n4000\nCHECKSUM FILE WAR\nPUT FILE 2 Movies/x\nabHELP\nQUIT\n";

#[test]
fn a_half_closed_client_receives_all_responses() {
    let server = Server::start(&[]);
    server.login("user1").quit();
    let before = server.descriptors();
    let answers = |sent: &str| {
        let mut client = server.connect();
        client.send(sent);
        client.close_sending();
        client.read_to_end()
    };
    let all = answers(DIALOGUE);
    assert!(String::from_utf8_lossy(&all).ends_with("You are logged out.\n"));
    let mut owed = answers("");
    assert_eq!(owed, format!("{FIRST_CHOICE}\n").as_bytes());
    for cut in 1..DIALOGUE.len() {
        let got = answers(&DIALOGUE[..cut]);
        assert!(
            got.starts_with(&owed),
            "cut at byte {cut}: less than before"
        );
        if DIALOGUE[..cut].ends_with('\n') {
            assert!(all.starts_with(&got), "cut at byte {cut}: not the dialogue");
            owed = got;
        }
    }
    eventually("every descriptor is closed", || {
        server.descriptors() <= before + 2
    });
}

#[test]
fn a_reset_ends_its_own_session_only() {
    let mut server = Server::start(&[]);
    let mut other = server.login("user1");
    let before = server.descriptors();
    for cut in 0..DIALOGUE.len() {
        let mut client = server.connect();
        client.send(&DIALOGUE[..cut]);
        if cut % 2 == 0 {
            client.expect(FIRST_CHOICE);
        }
        client.reset();
    }
    // Movies/Joker and WAR may be kept open for the next download.
    eventually("every descriptor is closed", || {
        server.descriptors() <= before + 2
    });
    assert_eq!(other.download("Movies/Joker").len(), 4096);
    other.quit();
    assert!(server.is_running());
}

#[test]
fn an_endless_line_is_bounded_in_memory_and_rejected() {
    let server = Server::start(&[]);
    let mut longest = server.connect();
    longest.send("x".repeat(4095));
    longest.send("\n");
    longest.expect(FIRST_CHOICE);
    longest.expect("Unknown command. 'HELP' lists them.");
    let mut client = server.connect();
    client.expect(FIRST_CHOICE);
    client.send("x".repeat(4097));
    client.expect("That line is too long. Connection is terminated.");
    // A goodbye is not overtaken by a reset, however much still comes.
    client.send("y".repeat(1 << 20));
    client.close_sending();
    client.expect_end();
}

#[test]
fn the_goodbye_arrives_while_the_client_keeps_sending() {
    let server = Server::start(&[]);
    for _ in 0..50 {
        let mut client = server.connect();
        client.send("LOGIN\nuser1\n1234\nQUIT\n");
        client.send("HELP\n".repeat(50_000));
        let all = String::from_utf8(client.read_to_end()).unwrap();
        assert!(
            all.ends_with("Connection is terminated. You are logged out.\n"),
            "{all}"
        );
    }
}

#[test]
fn verified_passwords_are_cached_until_a_reload() {
    let server = Server::start(&[]);
    let cpu_of = |logins: &dyn Fn()| {
        let before = server.cpu_time();
        logins();
        server.cpu_time() - before
    };
    // The shortest of a few, since any of them may have met something else: argon2 is in each.
    let one = ["user1", "user2", "user3"]
        .map(|user| cpu_of(&|| server.login(user).quit()))
        .into_iter()
        .min()
        .unwrap();
    let many = cpu_of(&|| (0..50).for_each(|_| server.login("user1").quit()));
    assert!(many < one * 10, "50 logins took {many:?}, one took {one:?}");

    // Nobody was ever let in by this memory with another password.
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
        "proved anew: {again:?}, the first time {one:?}"
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

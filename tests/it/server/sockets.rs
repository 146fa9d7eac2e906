//! Many, hostile and interrupted connections is_over real sockets, which must not affect others.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, FIRST_CHOICE, FULL, Home, Log, Server, TIDEGATE, eventually, pattern,
};

/// More bytes than the buffers of both sockets can hold.
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
    let clients: Vec<_> = (0..200)
        .map(|_| {
            thread::spawn(move || {
                let mut client = Client::connect(address);
                match client.read_line().as_str() {
                    FIRST_CHOICE => Some(client),
                    FULL => {
                        client.expect_end();
                        None
                    }
                    other => panic!("unexpected message: {other}"),
                }
            })
        })
        .collect();
    let mut served: Vec<Client> = clients
        .into_iter()
        .filter_map(|client| client.join().expect("each gets a message"))
        .collect();
    assert_eq!(served.len(), 24);

    for client in &mut served {
        client.send("LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\nQUIT\n");
        let all = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        assert!(all.contains("LENGTH 4096\n"), "{all}");
        assert!(all.ends_with("You are logged out.\n"), "{all}");
    }
    drop(served);
    eventually("a later client is served", || {
        server.connect().read_line() == FIRST_CHOICE
    });
    assert!(
        server.cpu_time() < Duration::from_secs(2),
        "busy loop: {:?}",
        server.cpu_time()
    );
}

#[test]
fn rejected_connections_do_not_use_up_descriptors() {
    let server = start_with_descriptors(Home::new(), 64);
    let mut served: Vec<Client> = (0..24).map(|_| server.login("user2")).collect();
    let mut rejected: Vec<Client> = (0..100)
        .map(|_| Client::connect(server.address()))
        .collect();
    rejected[0].expect(FULL);
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
    let start = Instant::now();
    let mut others: Vec<Client> = (0..23).map(|_| server.login("user2")).collect();
    for client in &mut others {
        assert_eq!(client.download("Many/7"), b"few bytes");
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
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
        "busy loop while clients stall"
    );
    // A stalled download can be continued.
    let mut last = stalled.pop().unwrap();
    assert!(last.read_bytes(LONG) == content);
    last.expect_menu();
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
    // They send until the server reads nothing more for half a second.
    let line = "SHOW DIRECTORY Docs\nDOWNLOAD FILE Tides\nHELP\n".repeat(200);
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        for peer in &peers {
            // Partial writes are fine.
            match peer.socket().write(line.as_bytes()) {
                Ok(1..) => last = Instant::now(),
                Ok(0) => panic!("a write of no bytes"),
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
        "busy loop while clients do not read"
    );
}

/// Commands that do not change the home, so that any prefix can be repeated.
const DIALOGUE: &str = "LOGIN\nuser1\n1234\nSHOW DIRECTORIES\nSHOW DIRECTORY\nMovies\nSHOW DETAILS\nDOWNLOAD FILE Joker\n\
RESUME DOWNLOAD Joker\n4000\nCHECKSUM FILE WAR\nPUT FILE 2 Movies/x\nabHELP\nQUIT\n";

#[test]
fn a_half_closed_client_receives_all_responses() {
    let server = Server::start(&[]);
    server.login("user1").quit();
    let before = server.descriptors();
    let responses = |sent: &str| {
        let mut client = server.connect();
        client.send(sent);
        client.close_sending();
        client.read_to_end()
    };
    let all = responses(DIALOGUE);
    assert!(String::from_utf8_lossy(&all).ends_with("You are logged out.\n"));
    let mut previous = responses("");
    assert_eq!(previous, format!("{FIRST_CHOICE}\n").as_bytes());
    for cut in 1..DIALOGUE.len() {
        let got = responses(&DIALOGUE[..cut]);
        assert!(
            got.starts_with(&previous),
            "cut at byte {cut}: fewer responses than before"
        );
        if DIALOGUE[..cut].ends_with('\n') {
            assert!(all.starts_with(&got), "cut at byte {cut}: other responses");
            previous = got;
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
    // Movies/Joker and WAR may be in the open-file cache.
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
    // The server drains the input, so that no reset discards the goodbye.
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

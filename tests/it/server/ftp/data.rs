//! FTP's data connections over real sockets, against an event loop on a thread of the test.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tidegate::server::Options;

use super::in_process::{Control, Server, connect_from};

const LOCAL: &str = "127.0.0.1";

#[test]
fn data_connections_carry_files_and_listings() {
    let server = Server::start(Options::default());
    let mut control = server.login("user3");
    control.expect("TYPE I", "200");
    let text: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    assert_eq!(control.store("STOR Uploads/large", &text), "226");
    assert_eq!(
        std::fs::read(server.home.file("Uploads/large")).unwrap(),
        text
    );
    assert_eq!(
        control.retrieve("RETR Uploads/large"),
        ("226".into(), text.clone())
    );
    control.expect("REST 2799999", "350");
    assert_eq!(control.retrieve("RETR Uploads/large").1, text[2_799_999..]);
    // After the existing content, and after its first bytes.
    assert_eq!(control.store("APPE Uploads/large", b"end"), "226");
    control.expect("SIZE Uploads/large", "213 2800003");
    control.expect("REST 5", "350");
    assert_eq!(control.store("STOR Uploads/large", b"new"), "226");
    let (code, received) = control.retrieve("RETR Uploads/large");
    assert_eq!(
        (&*code, &received[..]),
        ("226", &[&text[..5], b"new"].concat()[..])
    );

    let (code, names) = control.retrieve("NLST Movies");
    assert_eq!(
        (&*code, text_of(&names)),
        ("226", "Free Fire\r\nJoker\r\nWAR\r\n".to_owned())
    );
    let (_, top) = control.retrieve("NLST");
    assert_eq!(text_of(&top), "Docs\r\nUploads\r\nMovies\r\n");
    let (_, list) = control.retrieve("LIST Movies/J*");
    assert!(text_of(&list).starts_with("-r"), "{list:?}");
    assert!(text_of(&list).ends_with(" Joker\r\n"), "{list:?}");
    control.expect("QUIT", "221");
}

#[test]
fn active_mode_connects_to_the_client() {
    let server = Server::start(Options::default());
    let mut control = server.login("user1");
    control.expect("TYPE I", "200");
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
    control.expect(&format!("PORT 127,0,0,1,{high},{low}"), "200");
    control.send("RETR Movies/Joker");
    let (mut data, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), LOCAL);
    let mut received = Vec::new();
    data.read_to_end(&mut received).unwrap();
    drop(data);
    assert_eq!(control.codes(2), ["150", "226"]);
    assert_eq!(
        received,
        std::fs::read(server.home.file("Movies/Joker")).unwrap()
    );
    // The client's listener is closed.
    let closed = listener.local_addr().unwrap().port();
    drop(listener);
    control.expect(&format!("EPRT |1|127.0.0.1|{closed}|"), "200");
    control.expect("RETR Movies/Joker", "425");
    control.expect("NOOP", "200");
}

#[test]
fn a_data_connection_from_another_address_is_closed() {
    for passive_ports in [None, Some(free_ports())] {
        let server = Server::start(Options {
            passive_ports,
            ..Options::default()
        });
        let mut control = server.login("user1");
        control.expect("TYPE I", "200");
        let at = control.passive();
        let mut other = connect_from("127.0.0.2", at);
        let (mut received, mut rest) = (Vec::new(), Vec::new());
        assert!(matches!(other.read_to_end(&mut rest), Ok(0) | Err(_)));
        control.send("RETR Movies/Joker");
        let mut data = connect_from(LOCAL, at);
        data.read_to_end(&mut received).unwrap();
        assert_eq!(control.codes(2), ["150", "226"]);
        assert_eq!(
            received,
            std::fs::read(server.home.file("Movies/Joker")).unwrap()
        );
    }
}

/// A refused command leaves the data connection to the next one, whether the client has connected
/// yet or not.
#[test]
fn refused_commands_keep_the_data_connection() {
    let server = Server::start(Options::default());
    let mut control = server.login("user3");
    control.expect("TYPE I", "200");
    let refused = [
        ("RETR Uploads/None", "550"),
        ("RETR Uploads", "550"),
        ("RETR /", "550"),
        ("LIST None", "550"),
        ("NLST Uploads/None", "550"),
        ("MLSD Uploads/None", "550"),
        ("MLSD Uploads/Welcome", "501"),
        ("STOR Movies/new", "550"),
        ("STOR Uploads/.hidden", "553"),
        ("STOR new", "550"),
        ("APPE Movies/new", "550"),
        ("STOU Movies/new", "550"),
    ];
    let restarted = [
        ("RETR Uploads/Welcome", "554"),
        ("STOR Uploads/new", "554"),
        ("APPE Uploads/new", "450"),
        ("STOU Uploads/new", "450"),
    ];
    let refuse_all = |control: &mut Control| {
        for (command, code) in refused {
            control.expect(command, code);
        }
        for (command, code) in restarted {
            control.expect("REST 100000", "350");
            control.expect(command, code);
        }
    };
    let welcome = std::fs::read(server.home.file("Uploads/Welcome")).unwrap();
    for connects_early in [true, false] {
        let at = control.passive();
        let early = connects_early.then(|| connect_from(LOCAL, at));
        refuse_all(&mut control);
        control.send("RETR Uploads/Welcome");
        let mut data = early.unwrap_or_else(|| connect_from(LOCAL, at));
        let mut received = Vec::new();
        data.read_to_end(&mut received).unwrap();
        assert_eq!(
            (control.codes(2), received),
            (vec!["150".into(), "226".into()], welcome.clone())
        );
    }
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let [high, low] = listener.local_addr().unwrap().port().to_be_bytes();
    control.expect(&format!("PORT 127,0,0,1,{high},{low}"), "200");
    refuse_all(&mut control);
    control.send("STOR Uploads/new");
    let (mut data, _) = listener.accept().unwrap();
    data.write_all(b"new").unwrap();
    drop(data);
    assert_eq!(control.codes(2), ["150", "226"]);
    // A transfer has used it up.
    control.expect("RETR Uploads/new", "425");
}

#[test]
fn port_bounce_is_refused() {
    let server = Server::start(Options::default());
    let mut control = server.login("user1");
    let victim = TcpListener::bind(("127.0.0.3", 0)).unwrap();
    let [high, low] = victim.local_addr().unwrap().port().to_be_bytes();
    let reply = control.command(&format!("PORT 127,0,0,3,{high},{low}"));
    assert!(reply.starts_with('5'), "{reply}");
    assert!(control.command("PORT 127,0,0,1,0,22").starts_with('5'));
    control.expect("RETR Movies/Joker", "425");
    victim.set_nonblocking(true).unwrap();
    assert!(victim.accept().is_err());
}

#[test]
fn rest_beyond_the_largest_offset_is_rejected() {
    let server = Server::start(Options::default());
    let mut control = server.login("user3");
    control.expect("TYPE I", "200");
    for number in [
        "18446744073709551615",
        "9223372036854775808",
        "-1",
        "1e9",
        "+1",
        "",
    ] {
        control.expect(&format!("REST {number}"), "501");
    }
    control.expect("REST 9223372036854775807", "350");
    control.passive();
    let reply = control.command("STOR Docs/new");
    assert!(reply.starts_with('5'), "{reply}");
    assert!(!server.home.file("Docs/new").exists());
}

#[test]
fn incomplete_ftp_uploads_are_discarded() {
    let server = Server::start(Options::default());
    let path = server.home.file("Uploads/new");
    // The upload is aborted, reset, and left with the control connection.
    let mut control = server.login("user3");
    let mut data = control.start_store("STOR Uploads/new");
    data.write_all(b"half of it").unwrap();
    control.send("ABOR");
    assert_eq!(control.codes(2), ["426", "226"]);
    drop(data);
    let data = control.start_store("STOR Uploads/new");
    nix::sys::socket::setsockopt(
        &data,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        },
    )
    .unwrap();
    drop(data);
    assert_eq!(control.codes(1), ["426"]);
    let mut data = control.start_store("STOR Uploads/new");
    data.write_all(b"half of it").unwrap();
    drop(control);
    let mut end = [0];
    assert!(
        matches!(data.read(&mut end), Ok(0) | Err(_)),
        "it is closed"
    );
    drop(data);
    let mut control = server.login("user3");
    control.expect("SIZE Uploads/new", "550");
    assert!(!path.exists());
    assert_eq!(
        server
            .home
            .names("Uploads")
            .iter()
            .filter(|name| name.starts_with('.'))
            .count(),
        0
    );
}

#[test]
fn commands_are_read_during_a_transfer() {
    let server = Server::start(Options::default());
    server.home.write_sparse("Movies/Sparse", 1 << 30);
    let mut control = server.login("user1");
    control.expect("TYPE I", "200");
    let at = control.passive();
    control.send("RETR Movies/Sparse");
    let mut data = connect_from(LOCAL, at);
    assert_eq!(control.codes(1), ["150"]);
    data.read_exact(&mut [0; 100_000]).unwrap();
    control.expect("NOOP", "200");
    assert!(control.command("STAT").starts_with("21"));
    // A Telnet Synch precedes ABOR (RFC 959): IP and the urgent DM.
    control.send_synch();
    control.send("ABOR");
    assert_eq!(control.codes(2), ["426", "226"]);
    let left = std::io::copy(&mut data, &mut std::io::sink());
    assert!(
        left.is_err() || left.is_ok_and(|left| left < 1 << 29),
        "the transfer continues"
    );
    control.expect("NOOP", "200");
    // A transfer is completed after a QUIT that was sent with it.
    let at = control.passive();
    control.send("RETR Movies/Joker\r\nQUIT");
    let mut data = connect_from(LOCAL, at);
    let mut received = Vec::new();
    data.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 4096);
    // The reply to QUIT depends on whether the client's acknowledgement has arrived.
    let mut codes = control.codes(3);
    codes.sort_unstable();
    assert_eq!(codes, ["150", "221", "226"]);
}

#[test]
fn a_stalled_ftp_reader_is_closed_and_delays_no_session() {
    let server = Server::start(Options {
        idle_timeout: Duration::from_secs(2),
        ..Options::default()
    });
    server.home.write_sparse("Movies/Sparse", 1 << 30);
    let mut stalled = server.login("user1");
    stalled.expect("TYPE I", "200");
    let at = stalled.passive();
    stalled.send("RETR Movies/Sparse");
    let data = connect_from(LOCAL, at);
    assert_eq!(stalled.codes(1), ["150"]);
    let mut other = server.login("user1");
    other.expect("TYPE I", "200");
    assert_eq!(other.retrieve("RETR Movies/Joker").1.len(), 4096);
    assert_eq!(stalled.codes(1), ["426"]);
    drop(data);
}

#[test]
fn ascii_transfers_convert_line_ends() {
    let server = Server::start(Options::default());
    let mut control = server.login("user3");
    control.expect("TYPE A", "200");
    let (file, wire): (String, String) = (0..30_000)
        .map(|n| (format!("line {n}\n"), format!("line {n}\r\n")))
        .unzip();
    assert_eq!(control.store("STOR Uploads/text", wire.as_bytes()), "226");
    assert_eq!(
        std::fs::read(server.home.file("Uploads/text")).unwrap(),
        file.as_bytes()
    );
    let (code, received) = control.retrieve("RETR Uploads/text");
    assert_eq!((code.as_str(), received == wire.as_bytes()), ("226", true));
}

/// Many sessions of one address share two ports. All of them get one in turn.
/// Starts a server with a range of passive ports.
fn serve_passive_ports(ports: (u16, u16)) -> Server {
    Server::start(Options {
        passive_ports: Some(ports),
        ..Options::default()
    })
}

#[test]
fn sessions_share_a_small_passive_port_range() {
    let ports = free_ports();
    let server = serve_passive_ports(ports);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut control = server.login("user1");
                control.expect("TYPE I", "200");
                for _ in 0..6 {
                    let at = control.passive();
                    assert!((ports.0..=ports.1).contains(&at.port()));
                    control.send("RETR Movies/Joker");
                    let mut received = Vec::new();
                    connect_from(LOCAL, at).read_to_end(&mut received).unwrap();
                    assert_eq!(received.len(), 4096);
                    assert_eq!(control.codes(2), ["150", "226"]);
                }
            });
        }
    });
    // All ports are in use for this address, so that a further session waits until a timeout. For
    // another address, they are free.
    let mut holders: Vec<Control> = (0..=ports.1 - ports.0)
        .map(|_| server.login("user1"))
        .collect();
    for holder in &mut holders {
        holder.passive();
    }
    let mut elsewhere = server.login_from("127.0.0.2", "user1");
    elsewhere.passive();
    let mut late = server.login("user1");
    let start = Instant::now();
    late.expect("EPSV", "425");
    assert!(start.elapsed() >= Duration::from_secs(9));
    late.expect("NOOP", "200");
    let mut waiting = server.login("user1");
    waiting.send("EPSV");
    connect_from(
        LOCAL,
        SocketAddr::new(LOCAL.parse().unwrap(), holders[0].last_port()),
    );
    assert_eq!(waiting.codes(1), ["229"]);
}

#[test]
fn repeated_pasv_takes_no_further_port() {
    let server = serve_passive_ports(free_ports());
    let mut control = server.login("user1");
    control.expect("TYPE I", "200");
    let at = control.passive();
    for _ in 0..10 {
        assert_eq!(control.passive(), at);
    }
    // The other port is free for the other session of the address.
    let start = Instant::now();
    server.login("user1").passive();
    assert!(start.elapsed() < Duration::from_secs(4));
    control.send("RETR Movies/Joker");
    let mut received = Vec::new();
    connect_from(LOCAL, at).read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 4096);
}

#[test]
fn passive_ports_are_unpredictable() {
    let server = serve_passive_ports(free_ports());
    let mut control = server.login("user1");
    control.expect("TYPE I", "200");
    let mut ports = Vec::new();
    for _ in 0..40 {
        ports.push(control.passive().port());
        let mut data = connect_from(
            LOCAL,
            SocketAddr::new(LOCAL.parse().unwrap(), control.last_port()),
        );
        control.send("RETR Movies/Joker");
        data.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(control.codes(2), ["150", "226"]);
    }
    // This fails by chance once in 2^38 times.
    let changes = ports.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(
        (1..39).contains(&changes),
        "the ports repeat or alternate: {ports:?}"
    );
}

#[test]
fn concurrent_ftp_transfers_are_complete() {
    let server = Server::start(Options::default());
    let content: Vec<u8> = (0..300_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let hash = Sha256::digest(&content);
    server.home.write("Docs/large", &content);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (server, content) = (&server, &content);
            scope.spawn(move || {
                let mut control = server.login("user3");
                control.expect("TYPE I", "200");
                let name = format!("Uploads/large-{number}");
                assert_eq!(control.store(&format!("STOR {name}"), content), "226");
                let (code, received) = control.retrieve("RETR Docs/large");
                assert_eq!((code.as_str(), Sha256::digest(received)), ("226", hash));
                let stored = std::fs::read(server.home.file(&name)).unwrap();
                assert_eq!(Sha256::digest(stored), hash);
            });
        }
    });
}

#[test]
fn early_data_connections_wait_and_late_ones_are_refused() {
    let server = Server::start(Options::default());
    let mut control = server.login("user3");
    control.expect("TYPE I", "200");
    // The data arrives before the command.
    let at = control.passive();
    let mut data = connect_from(LOCAL, at);
    data.write_all(b"early").unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    control.expect("NOOP", "200");
    control.send("STOR Uploads/early");
    assert_eq!(control.codes(2), ["150", "226"]);
    assert_eq!(
        std::fs::read(server.home.file("Uploads/early")).unwrap(),
        b"early"
    );
    // A second EPSV announces the same port, which ABOR gives up.
    let port = control.passive();
    assert_eq!(control.passive(), port);
    control.expect("ABOR", "225");
    let mut late = connect_from(LOCAL, port);
    assert!(
        matches!(late.read(&mut [0]), Ok(0) | Err(_)),
        "it is closed"
    );
    control.expect("STOR Uploads/never", "425");
    assert!(!server.home.file("Uploads/never").exists());
}

/// Returns two consecutive free ports.
pub(crate) fn free_ports() -> (u16, u16) {
    loop {
        let first = TcpListener::bind((LOCAL, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind((LOCAL, port + 1)).is_ok() {
            return (port, port + 1);
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

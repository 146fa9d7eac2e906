//! Quotas, rate limits, login limits and the transfer log, over FTP.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::changes::plain_home;
use crate::support::ftp::{FtpClient, serve_ftp};
use crate::support::{Client, Server, connect_from, eventually};

/// Starts a server with additional lines in `Directories` and additional directories.
fn serve_with(lines: &[&str], directories: &[&str]) -> Server {
    let home = plain_home();
    for line in lines {
        home.append("Directories", line);
    }
    for directory in directories {
        std::fs::create_dir(home.file(directory)).expect("the directory is created");
    }
    serve_ftp(home, &[])
}

fn put(ftp: &mut FtpClient, path: &str, bytes: usize) {
    ftp.store(&format!("STOR {path}"), &vec![b'x'; bytes]);
    ftp.expect("226");
}

#[test]
fn an_upload_over_quota_is_552_with_the_remaining_bytes() {
    let server = serve_with(&["user3:Box:read,change,quota=10k"], &["Box"]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    put(&mut ftp, "Box/a", 4000);
    assert_eq!(ftp.command("AVBL Box", "213"), "213 6000");
    ftp.store("STOR Box/b", &[b'x'; 6001]);
    let reply = ftp.expect("552");
    assert!(reply.contains(" 6000 bytes available"), "{reply}");
    server.log_line(&["event=refused limit=quota user=user3 from=127.0.0.1:"]);
    ftp.command("CWD Box", "250");
    // A file of 6001 bytes might replace another one.
    ftp.command("ALLO 6001", "202");
    let reply = ftp.command("ALLO 10001", "552");
    assert!(reply.contains(" 6000 bytes available"), "{reply}");
    put(&mut ftp, "b", 6000);
    ftp.store("APPE b", b"x");
    ftp.expect("552");
    assert_eq!(server.home.names("Box"), ["a", "b"]);
    // Replacing a file releases its bytes.
    ftp.command("DELE a", "250");
    put(&mut ftp, "b", 4000);
    assert_eq!(ftp.command("AVBL .", "213"), "213 6000");
}

#[test]
fn a_replaced_file_makes_room_for_its_successor() {
    let server = serve_with(&["user3:Box:read,change,quota=100"], &["Box"]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    put(&mut ftp, "Box/file", 80);
    ftp.command("CWD Box", "250");
    ftp.command("ALLO 90", "202");
    put(&mut ftp, "file", 90);
    ftp.store("APPE file", b"x");
    ftp.expect("226");
    ftp.command("REST 91", "350");
    ftp.store("STOR file", &[b'x'; 9]);
    ftp.expect("226");
    assert_eq!(ftp.command("AVBL .", "213"), "213 0");
    ftp.store("APPE file", b"x");
    ftp.expect("552");
    assert_eq!(server.home.names("Box"), ["file"]);
    assert_eq!(ftp.retrieve("file").len(), 100);
}

#[test]
fn a_quota_bounds_files_and_directories() {
    let lines = [
        "user3:Box:read,change,quota=1GiB/3",
        "user3:Free:read,change",
    ];
    let server = serve_with(&lines, &["Box", "Free"]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    put(&mut ftp, "Box/a", 1);
    ftp.command("MKD Box/sub", "257");
    put(&mut ftp, "Box/sub/b", 0);
    ftp.command("MKD Box/more", "552");
    let refused = |ftp: &mut FtpClient, command: &str| {
        assert_eq!(ftp.attempt_transfer(command, b""), "552 Quota exceeded.\r");
    };
    refused(&mut ftp, "STOR Box/c");
    refused(&mut ftp, "APPE Box/c");
    assert_eq!(ftp.command("AVBL Box", "213"), "213 0");
    // An existing name comes before the quota, and a replaced file makes room for its successor.
    ftp.command("MKD Box/sub", "550");
    put(&mut ftp, "Box/a", 10);
    put(&mut ftp, "Free/d", 1);
    ftp.command("RNFR Free/d", "350");
    ftp.command("RNTO Box/d", "552");
    ftp.command("RNFR Free/d", "350");
    ftp.command("RNTO Box/a", "250");
    // A directory moves with all that it holds.
    ftp.command("MKD Free/tree", "257");
    ftp.command("MKD Free/tree/deep", "257");
    ftp.command("DELE Box/a", "250");
    ftp.command("RNFR Free/tree", "350");
    ftp.command("RNTO Box/tree", "552");
    ftp.command("RNFR Free/tree/deep", "350");
    ftp.command("RNTO Box/deep", "250");
    ftp.command("RMD Box/deep", "250");
    put(&mut ftp, "Box/c", 1);
    refused(&mut ftp, "STOR Box/d");
}

#[test]
fn renames_move_bytes_between_quotas() {
    let lines = [
        "user3:Box:read,change,quota=10k",
        "user3:Out:read,change,quota=20k",
        "user3:Free:read,change",
    ];
    let server = serve_with(&lines, &["Box", "Out", "Free"]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    let available = |ftp: &mut FtpClient| {
        ["Box", "Out"].map(|directory| {
            let reply = ftp.command(&format!("AVBL {directory}"), "213");
            reply[4..].parse::<u64>().expect("the reply has a number")
        })
    };
    let rename = |ftp: &mut FtpClient, from: &str, to: &str, code: &str| {
        ftp.command(&format!("RNFR {from}"), "350");
        ftp.command(&format!("RNTO {to}"), code);
    };
    put(&mut ftp, "Out/a", 7000);
    put(&mut ftp, "Free/b", 10_001);
    assert_eq!(available(&mut ftp), [10_000, 13_000]);
    // A rename within a directory changes nothing, nor does one to the same name.
    rename(&mut ftp, "Out/a", "Out/c", "250");
    rename(&mut ftp, "Out/c", "Out/c", "250");
    assert_eq!(available(&mut ftp), [10_000, 13_000]);
    rename(&mut ftp, "Free/b", "Box/b", "552");
    assert_eq!(server.home.names("Free"), ["b"]);
    assert!(server.home.names("Box").is_empty());
    rename(&mut ftp, "Out/c", "Box/c", "250");
    assert_eq!(available(&mut ftp), [3000, 20_000]);
    // The rename replaces another file.
    put(&mut ftp, "Out/d", 2500);
    rename(&mut ftp, "Out/d", "Box/c", "250");
    assert_eq!(available(&mut ftp), [7500, 20_000]);
    rename(&mut ftp, "Box/c", "Free/b", "250");
    assert_eq!(available(&mut ftp), [10_000, 20_000]);
    // A directory counts with its content.
    ftp.command("MKD Out/tree", "257");
    ftp.command("MKD Out/tree/deep", "257");
    put(&mut ftp, "Out/tree/x", 1000);
    put(&mut ftp, "Out/tree/deep/y", 4000);
    rename(&mut ftp, "Out/tree", "Box/tree", "250");
    assert_eq!(available(&mut ftp), [5000, 20_000]);
    ftp.command("MKD Free/tree", "257");
    put(&mut ftp, "Free/tree/z", 5001);
    rename(&mut ftp, "Free/tree", "Box/more", "552");
    rename(&mut ftp, "Box/tree", "Out/tree", "250");
    assert_eq!(available(&mut ftp), [10_000, 15_000]);
}

#[test]
fn ftp_transfers_obey_the_user_rate_limit() {
    const LENGTH: usize = 500_000;
    let server = serve_with(&["user3::rate=1M"], &[]);
    server.home.write("Uploads/Film", vec![b'x'; LENGTH]);
    let mut both = [(); 2].map(|()| FtpClient::login(&server, "user3", "3456"));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for ftp in &mut both {
            scope.spawn(|| assert_eq!(ftp.retrieve("Uploads/Film").len(), LENGTH));
        }
    });
    // The bucket allows a burst of a tenth of a second.
    let least = 0.97 * ((2 * LENGTH) as f64 / 1_000_000.0 - 0.1);
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds > least, "{seconds} s");
    let start = Instant::now();
    put(&mut both[0], "Uploads/New", LENGTH);
    assert!(start.elapsed() > Duration::from_millis(380));
}

#[test]
fn ftp_transfers_are_logged_with_their_result() {
    let home = plain_home();
    home.write_sparse("Movies/Long", 64 << 20);
    let path = home.parent().join("xferlog");
    let server = serve_ftp(home, &["--xferlog", path.to_str().expect("UTF-8")]);
    let has = |end: &str| {
        eventually(end, || {
            let lines = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines = lines.lines();
            lines.any(|line| line.ends_with(end) && line.split_whitespace().count() == 18)
        });
    };
    let mut ftp = FtpClient::login(&server, "user2", "2345");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096);
    has("/files/Movies/Joker b _ o r user2 tidegate 0 * c");
    put(&mut ftp, "Uploads/A\u{a0}b", 3);
    has("/files/Uploads/A_b b _ i r user2 tidegate 0 * c");
    let data = ftp.connect_data();
    ftp.command("STOR Uploads/Half", "150");
    ftp.client.send("ABOR\r\n");
    ftp.expect("426");
    ftp.expect("226");
    has("/files/Uploads/Half b _ i r user2 tidegate 0 * i");
    drop(data);
    let data = ftp.connect_data();
    ftp.command("RETR Movies/Long", "150");
    drop(data);
    ftp.expect("426");
    has("/files/Movies/Long b _ o r user2 tidegate 0 * i");
}

#[test]
fn a_lack_of_passive_ports_is_logged_with_its_cause() {
    // Another program has the only port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let server = serve_ftp(
        plain_home(),
        &["--passive-ports", &format!("{port}-{port}")],
    );
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    ftp.command("EPSV", "425");
    server.log_line(&["event=no-passive-port", "Address already in use"]);
    drop(taken);
    let _holder = ftp.passive_address();
    let mut late = FtpClient::login(&server, "user1", "1234");
    late.command("EPSV", "425");
    server.log_line(&["event=no-passive-port", "every port is in use"]);
}

#[test]
fn blocked_clients_and_session_limits_are_421() {
    const FAILURES: &str = "421 Too many failed logins; try again later.";
    let home = plain_home();
    home.append("Directories", "user2::sessions=1");
    let server = serve_ftp(home, &["--max-failures", "3"]);
    let mut ftp = FtpClient::connect(&server);
    let guess = |ftp: &mut FtpClient, user: &str, password: &str, code: &str| {
        ftp.command(&format!("USER {user}"), "331");
        ftp.command(&format!("PASS {password}"), code)
    };
    for password in ["a", "b", "c"] {
        guess(&mut ftp, "user1", password, "530");
    }
    // The correct password is refused too.
    assert_eq!(guess(&mut ftp, "user1", "1234", "421"), FAILURES);
    ftp.client.expect_end();
    // Other users of the address, limited to one session, and other addresses are not blocked.
    let mut second = FtpClient::login(&server, "user2", "2345");
    let reply = guess(&mut FtpClient::connect(&server), "user2", "2345", "421");
    assert!(reply.starts_with("421 Too many sessions"), "{reply}");
    // A session whose user has logged out no longer counts.
    for logout in ["REIN", "USER user1"] {
        second.command(logout, if logout == "REIN" { "220" } else { "331" });
        FtpClient::login(&server, "user2", "2345").command("QUIT", "221");
        guess(&mut second, "user2", "2345", "230");
    }
    let elsewhere = || Client::from_stream(connect_from("127.0.0.2", server.address()));
    FtpClient::login_over(elsewhere(), "user1", "1234").command("QUIT", "221");
    // Failures as different users block the address, but not its existing sessions.
    let mut ftp = FtpClient::connect(&server);
    for user in ["nobody", "somebody", "anybody"] {
        guess(&mut ftp, user, "x", "530");
    }
    let mut blocked = server.connect();
    assert_eq!(blocked.read_line().trim_end(), FAILURES);
    blocked.expect_end();
    second.command("NOOP", "200");
    FtpClient::login_over(elsewhere(), "user1", "1234");
}

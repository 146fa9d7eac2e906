//! What an operator bounds and logs, over FTP: quotas, rates, the log of transfers.

use std::time::{Duration, Instant};

use crate::support::eventually;

use super::*;

/// A server over the example home, with more lines in `Directories` and directories for them.
fn serve_with(lines: &[&str], directories: &[&str]) -> Server {
    let home = plain_home();
    for line in lines {
        home.append("Directories", line);
    }
    for directory in directories {
        std::fs::create_dir(home.file(directory)).expect("our own directory");
    }
    serve(home, &[])
}

fn put(ftp: &mut Ftp, path: &str, bytes: usize) {
    ftp.store(&format!("STOR {path}"), &vec![b'x'; bytes]);
    ftp.expect("226");
}

#[test]
fn an_upload_over_quota_is_552_with_the_remaining_bytes() {
    let server = serve_with(&["user3:Box:read,change,quota=10k"], &["Box"]);
    let mut ftp = Ftp::login(&server, "user3", "3456");
    put(&mut ftp, "Box/a", 4000);
    assert_eq!(ftp.ask("AVBL Box", "213"), "213 6000");
    ftp.store("STOR Box/b", &[b'x'; 6001]);
    let told = ftp.expect("552");
    assert!(told.contains(" 6000 bytes available"), "{told}");
    server.log_line(&["event=refused limit=quota user=user3 from=127.0.0.1:"]);
    ftp.ask("CWD Box", "250");
    assert!(
        ftp.ask("ALLO 6001", "552")
            .contains(" 6000 bytes available")
    );
    ftp.ask("ALLO 6000", "202");
    put(&mut ftp, "b", 6000);
    let data = ftp.data();
    ftp.ask("APPE b", "552");
    drop(data);
    assert_eq!(server.home.names("Box"), ["a", "b"]);
    // What is replaced gives its room back.
    ftp.ask("DELE a", "250");
    put(&mut ftp, "b", 4000);
    assert_eq!(ftp.ask("AVBL .", "213"), "213 6000");
}

#[test]
fn renames_move_bytes_between_quotas() {
    let lines = [
        "user3:Box:read,change,quota=10k",
        "user3:Out:read,change,quota=20k",
        "user3:Free:read,change",
    ];
    let server = serve_with(&lines, &["Box", "Out", "Free"]);
    let mut ftp = Ftp::login(&server, "user3", "3456");
    let left = |ftp: &mut Ftp| {
        ["Box", "Out"].map(|directory| {
            let told = ftp.ask(&format!("AVBL {directory}"), "213");
            told[4..].parse::<u64>().expect("a number")
        })
    };
    let rename = |ftp: &mut Ftp, from: &str, to: &str, code: &str| {
        ftp.ask(&format!("RNFR {from}"), "350");
        ftp.ask(&format!("RNTO {to}"), code);
    };
    put(&mut ftp, "Out/a", 7000);
    put(&mut ftp, "Free/b", 10_001);
    assert_eq!(left(&mut ftp), [10_000, 13_000]);
    // Within one directory nothing counts anew, nor does a file that takes its own name.
    rename(&mut ftp, "Out/a", "Out/c", "250");
    rename(&mut ftp, "Out/c", "Out/c", "250");
    assert_eq!(left(&mut ftp), [10_000, 13_000]);
    rename(&mut ftp, "Free/b", "Box/b", "552");
    assert_eq!(server.home.names("Free"), ["b"]);
    assert!(server.home.names("Box").is_empty());
    rename(&mut ftp, "Out/c", "Box/c", "250");
    assert_eq!(left(&mut ftp), [3000, 20_000]);
    // ConnectionKind another file: that one has gone.
    put(&mut ftp, "Out/d", 2500);
    rename(&mut ftp, "Out/d", "Box/c", "250");
    assert_eq!(left(&mut ftp), [7500, 20_000]);
    rename(&mut ftp, "Box/c", "Free/b", "250");
    assert_eq!(left(&mut ftp), [10_000, 20_000]);
    // A directory with all that is in it.
    ftp.ask("MKD Out/tree", "257");
    ftp.ask("MKD Out/tree/deep", "257");
    put(&mut ftp, "Out/tree/x", 1000);
    put(&mut ftp, "Out/tree/deep/y", 4000);
    rename(&mut ftp, "Out/tree", "Box/tree", "250");
    assert_eq!(left(&mut ftp), [5000, 20_000]);
    ftp.ask("MKD Free/tree", "257");
    put(&mut ftp, "Free/tree/z", 5001);
    rename(&mut ftp, "Free/tree", "Box/more", "552");
    rename(&mut ftp, "Box/tree", "Out/tree", "250");
    assert_eq!(left(&mut ftp), [10_000, 15_000]);
}

#[test]
fn ftp_transfers_obey_the_user_rate_limit() {
    const LENGTH: usize = 500_000;
    let server = serve_with(&["user3::rate=1M"], &[]);
    server.home.write("Uploads/Film", vec![b'x'; LENGTH]);
    let mut both = [(); 2].map(|()| Ftp::login(&server, "user3", "3456"));
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for ftp in &mut both {
            scope.spawn(|| assert_eq!(ftp.retrieve("Uploads/Film").len(), LENGTH));
        }
    });
    // A tenth of a second's worth may come at once.
    let least = 0.97 * ((2 * LENGTH) as f64 / 1_000_000.0 - 0.1);
    let seconds = begin.elapsed().as_secs_f64();
    assert!(seconds > least, "{seconds} s");
    let begin = Instant::now();
    put(&mut both[0], "Uploads/New", LENGTH);
    assert!(begin.elapsed() > Duration::from_millis(380));
}

#[test]
fn ftp_transfers_are_logged_with_their_result() {
    let home = plain_home();
    home.write_sparse("Movies/Long", 64 << 20);
    let path = home.parent().join("xferlog");
    let server = serve(home, &["--xferlog", path.to_str().expect("UTF-8")]);
    let has = |end: &str| {
        eventually(end, || {
            let lines = std::fs::read_to_string(&path).unwrap_or_default();
            let mut lines = lines.lines();
            lines.any(|line| line.ends_with(end) && line.split_whitespace().count() == 18)
        });
    };
    let mut ftp = Ftp::login(&server, "user2", "2345");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096);
    has("/files/Movies/Joker b _ o r user2 tidegate 0 * c");
    put(&mut ftp, "Uploads/A\u{a0}b", 3);
    has("/files/Uploads/A_b b _ i r user2 tidegate 0 * c");
    let data = ftp.data();
    ftp.ask("STOR Uploads/Half", "150");
    ftp.client.send("ABOR\r\n");
    ftp.expect("426");
    ftp.expect("226");
    has("/files/Uploads/Half b _ i r user2 tidegate 0 * i");
    drop(data);
    let data = ftp.data();
    ftp.ask("RETR Movies/Long", "150");
    drop(data);
    ftp.expect("426");
    has("/files/Movies/Long b _ o r user2 tidegate 0 * i");
}

#[test]
fn blocked_clients_and_session_limits_are_421() {
    const FAILURES: &str = "421 Too many failed logins; try again later.";
    let home = plain_home();
    home.append("Directories", "user2::sessions=1");
    let server = serve(home, &["--max-failures", "3"]);
    let mut ftp = Ftp::connect(&server);
    let guess = |ftp: &mut Ftp, user: &str, password: &str, code: &str| {
        ftp.ask(&format!("USER {user}"), "331");
        ftp.ask(&format!("PASS {password}"), code)
    };
    for password in ["a", "b", "c"] {
        guess(&mut ftp, "user1", password, "530");
    }
    // Even the right password is not looked at.
    assert_eq!(guess(&mut ftp, "user1", "1234", "421"), FAILURES);
    ftp.client.expect_end();
    // Another user from there, who may not come twice, and the user from elsewhere.
    let mut second = Ftp::login(&server, "user2", "2345");
    let told = guess(&mut Ftp::connect(&server), "user2", "2345", "421");
    assert!(told.starts_with("421 Too many sessions"), "{told}");
    let elsewhere = || Client::from_stream(connect_from("127.0.0.2", server.address()));
    Ftp::login_over(elsewhere(), "user1", "1234").ask("QUIT", "221");
    // As many failures of others turn all from there away; who is in stays.
    let mut ftp = Ftp::connect(&server);
    for user in ["nobody", "somebody", "anybody"] {
        guess(&mut ftp, user, "x", "530");
    }
    let mut turned_away = server.connect();
    assert_eq!(turned_away.read_line().trim_end(), FAILURES);
    turned_away.expect_end();
    second.ask("NOOP", "200");
    Ftp::login_over(elsewhere(), "user1", "1234");
}

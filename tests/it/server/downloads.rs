//! Downloads and listings over real sockets: many at once, large files, and files that change.

use std::fs;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Instant;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use sha2::{Digest, Sha256};

use crate::support::{Client, Home, Server, median, pattern};

const MIB: usize = 1024 * 1024;

/// More bytes than the buffers of both sockets can hold, so that a slow reader delays the rest.
const LONG: usize = 48 * MIB;

#[test]
fn five_hundred_concurrent_downloads_are_complete() {
    let home = Home::new();
    let content = pattern(300_007, 1);
    home.write("Movies/Long", &content);
    let server = Server::with_home(home, &[]);
    let expected = Sha256::digest(&content);
    let joker = fs::read(server.home.file("Movies/Joker")).unwrap();

    // All clients send their requests before the first one reads.
    let mut clients: Vec<Client> = (0..500)
        .map(|_| {
            let mut client = server.connect();
            client.send(
                "LOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Long\nDOWNLOAD FILE Movies/Joker\n",
            );
            client
        })
        .collect();
    thread::scope(|scope| {
        for group in clients.chunks_mut(25) {
            scope.spawn(|| {
                for client in group {
                    for _ in 0..5 {
                        client.read_line();
                    }
                    assert_eq!(client.read_length(), content.len() as u64);
                    let copy = client.read_bytes(content.len());
                    assert_eq!(Sha256::digest(&copy), expected);
                    client.expect_menu();
                    assert_eq!(client.read_length(), joker.len() as u64);
                    assert_eq!(client.read_bytes(joker.len()), joker);
                    client.expect_menu();
                }
            });
        }
    });
}

#[test]
fn concurrent_downloads_share_one_open_file() {
    let home = Home::new();
    home.write("Movies/Long", pattern(LONG, 2));
    let server = Server::with_home(home, &[]);
    let mut clients: Vec<Client> = (0..20).map(|_| server.login("user1")).collect();
    let before = server.descriptors();
    for client in &mut clients {
        assert_eq!(client.start_download("Movies/Long"), LONG as u64);
    }
    let opened = server.descriptors().saturating_sub(before);
    assert!(opened <= 1, "{opened} files for 20 downloads");
}

#[test]
fn downloads_and_resumes_cross_2_gib() {
    const LENGTH: u64 = (1 << 31) + 5 * MIB as u64;
    let marks = [0, (1 << 31) - 8, (1 << 31) + 1, LENGTH - 8];
    let home = Home::in_memory();
    let file = home.write_sparse("Movies/Huge", LENGTH);
    for mark in marks {
        file.write_all_at(b"tidegate", mark).unwrap();
    }
    let server = Server::with_home(home, &[]);

    let mut client = server.login("user1");
    assert_eq!(client.start_download("Movies/Huge"), LENGTH);
    let zeros = vec![0; MIB];
    let mut at = 0;
    while at < LENGTH {
        let chunk = client.read_bytes(MIB.min((LENGTH - at) as usize));
        let end = at + chunk.len() as u64;
        // A chunk with a part of a mark is skipped here; the resumes below cover the marks at 2
        // GiB.
        let is_marked = marks.iter().any(|mark| *mark < end && mark + 8 > at);
        assert!(is_marked || chunk == zeros, "zeros before {end}");
        for mark in marks
            .iter()
            .filter(|mark| **mark >= at && **mark + 8 <= end)
        {
            let mark = (mark - at) as usize;
            assert_eq!(&chunk[mark..mark + 8], b"tidegate");
        }
        at = end;
    }
    client.expect_menu();

    for from in [
        (1_u64 << 31) - 8,
        1 << 31,
        (1 << 31) + 1,
        LENGTH - 1,
        LENGTH,
    ] {
        client.send_line(format_args!("RESUME DOWNLOAD Movies/Huge\n{from}"));
        client.expect("Please enter the number of bytes you already have");
        assert_eq!(client.read_length(), LENGTH - from);
        let tail = client.read_bytes((LENGTH - from) as usize);
        client.expect_menu();
        let mut expected = vec![0; tail.len()];
        file.read_exact_at(&mut expected, from).unwrap();
        assert!(tail == expected, "the tail from byte {from} on");
    }
    client.send_line(format_args!("RESUME DOWNLOAD Movies/Huge\n{}", LENGTH + 1));
    client.expect("Please enter the number of bytes you already have");
    client.expect("That is not a valid number of bytes");
}

#[test]
fn a_truncated_file_ends_its_own_download_only() {
    let home = Home::new();
    let content = pattern(LONG, 3);
    home.write("Movies/Long", &content);
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");
    let mut other = server.login("user1");
    assert_eq!(client.start_download("Movies/Long"), LONG as u64);
    assert_eq!(client.read_bytes(MIB), content[..MIB]);

    let file = fs::File::options()
        .write(true)
        .open(server.home.file("Movies/Long"))
        .unwrap();
    file.set_len(2 * MIB as u64).unwrap();
    let rest = client.read_to_end();
    assert!(MIB + rest.len() < LONG, "more bytes than the file has");
    // Bytes after the truncation that were in the socket's buffer may be zeros.
    assert!(rest[..MIB] == content[MIB..2 * MIB]);
    server.log_line(&["event=end", "reason=file-shrank"]);

    assert!(
        other.download("Movies/Long") == content[..2 * MIB],
        "the truncated file"
    );
}

#[test]
fn a_truncated_small_file_is_not_padded_with_zeros() {
    let home = Home::new();
    home.write("Movies/Small", "the memory map of this file is kept");
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");
    for length in (1..35).rev() {
        client.download("Movies/Small");
        let file = fs::File::options()
            .write(true)
            .open(server.home.file("Movies/Small"))
            .unwrap();
        file.set_len(length).unwrap();
        let copy = client.download("Movies/Small");
        assert_eq!(
            copy,
            b"the memory map of this file is kept"[..length as usize]
        );
    }
}

#[test]
fn a_replaced_file_is_sent_in_its_old_version_to_the_end() {
    let home = Home::new();
    let (old, new) = (pattern(LONG, 4), pattern(MIB, 5));
    home.write("Movies/Long", &old);
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");
    let mut other = server.login("user1");
    assert_eq!(client.start_download("Movies/Long"), LONG as u64);
    assert!(client.read_bytes(MIB) == old[..MIB]);

    server.home.write("Movies/New", &new);
    fs::rename(
        server.home.file("Movies/New"),
        server.home.file("Movies/Long"),
    )
    .unwrap();
    assert!(
        other.download("Movies/Long") == new,
        "a new download has the new content"
    );
    assert!(
        client.read_bytes(LONG - MIB) == old[MIB..],
        "a running download has the old content"
    );
    client.expect_menu();
    assert!(client.download("Movies/Long") == new);
}

#[test]
fn a_growing_file_is_sent_with_its_announced_length() {
    let home = Home::new();
    let content = pattern(LONG, 6);
    home.write("Movies/Long", &content);
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");
    assert_eq!(client.start_download("Movies/Long"), LONG as u64);
    assert!(client.read_bytes(MIB) == content[..MIB]);

    let mut file = fs::File::options()
        .write(true)
        .open(server.home.file("Movies/Long"))
        .unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"and more").unwrap();
    assert!(client.read_bytes(LONG - MIB) == content[MIB..]);
    client.expect_menu();
    assert_eq!(client.start_download("Movies/Long"), LONG as u64 + 8);
}

#[test]
fn writes_during_a_transfer_do_not_change_its_length() {
    let home = Home::new();
    home.write("Movies/Long", pattern(LONG, 7));
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");
    let length = client.start_download("Movies/Long");
    let file = fs::File::options()
        .write(true)
        .open(server.home.file("Movies/Long"))
        .unwrap();
    file.write_all_at(&pattern(LONG, 8), 0).unwrap();
    client.read_bytes(length as usize);
    client.expect_menu();
}

#[test]
fn downloads_start_at_any_remaining_time_slice() {
    let home = Home::new();
    let content = pattern(100_000, 9);
    home.write("Movies/Long", &content);
    home.append("Directories", "user3:New:read,change");
    fs::create_dir(home.file("New")).unwrap();
    let server = Server::with_home(home, &[]);
    // About 200 commands use up a time slice, so that the download starts at any point around that.
    for before in (150..320).step_by(3) {
        let mut client = server.login("user3");
        let mut script = "SHOW DIRECTORIES\n".repeat(before);
        script.push_str("DOWNLOAD FILE Movies/Long\nPUT FILE 3 New/Three\nabcQUIT\n");
        client.send(script);
        for _ in 0..before {
            client.expect("The available directories are: Docs, Uploads, Movies, New");
            client.expect_menu();
        }
        assert_eq!(client.read_length(), content.len() as u64);
        assert!(
            client.read_bytes(content.len()) == content,
            "after {before} commands"
        );
        client.expect_menu();
        client.expect("Upload complete: Three, 3 bytes");
        client.expect_menu();
        client.expect("Connection is terminated. You are logged out.");
        client.expect_end();
    }
}

#[test]
fn uploads_start_at_any_remaining_time_slice() {
    let server = Server::start(&[]);
    for before in 240..262 {
        let mut client = server.login("user3");
        let mut script = "\n".repeat(before);
        script.push_str("PUT FILE 3 Uploads/Three\nabc");
        client.send(script);
        for _ in 0..before {
            client.expect_menu();
        }
        client.expect("Upload complete: Three, 3 bytes");
        client.expect_menu();
        client.quit();
    }
}

#[test]
fn a_listing_longer_than_the_send_queue_is_complete() {
    const ENTRIES: usize = 100_000;
    let home = Home::in_memory();
    home.append("Directories", "user1:Many:read");
    fs::create_dir(home.file("Many")).unwrap();
    for n in 0..ENTRIES {
        fs::File::create(home.file(&format!("Many/entry {n:06}"))).unwrap();
    }
    let server = Server::with_home(home, &[]);
    let names: Vec<String> = (0..ENTRIES).map(|n| format!("entry {n:06}")).collect();
    let names = format!("The available files are: {}", names.join(", "));

    thread::scope(|scope| {
        let listing = scope.spawn(|| {
            let mut client = server.login("user1");
            assert!(client.command("SHOW DIRECTORY Many") == names, "the names");
            let start = Instant::now();
            client.send_line("SHOW DETAILS");
            client.expect(&format!("ENTRIES {ENTRIES}"));
            let took = start.elapsed();
            for n in 0..ENTRIES {
                let line = client.read_line();
                assert!(
                    line.starts_with("file 0 ") && line.ends_with(&format!("Z entry {n:06}")),
                    "{line}"
                );
            }
            client.expect_menu();
            took
        });
        let mut other = server.login("user1");
        let mut times = Vec::new();
        while !listing.is_finished() {
            let start = Instant::now();
            other.download("Movies/Joker");
            times.push(start.elapsed());
        }
        let took = listing.join().unwrap();
        let median = median(times);
        assert!(median < took / 4, "{median:?} during a listing of {took:?}");
    });
}

#[test]
fn special_files_are_neither_listed_nor_opened() {
    let home = Home::new();
    mkfifo(&home.file("Movies/Pipe"), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(home.file("Movies/Socket")).unwrap();
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, home.file(name)).unwrap();
    };
    link("/dev/zero", "Movies/Device");
    link("/etc/passwd", "Movies/Outside");
    link("../../Credentials", "Movies/Climbing");
    link("Loop", "Movies/Loop");
    link("Joker", "Movies/Inside");
    fs::write(home.file("Movies/.hidden"), "").unwrap();
    fs::write(home.file("Movies/bell\u{7}"), "").unwrap();
    home.append("Directories", "user1:Devices:read:/dev");
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user1");

    let listing = client.command("SHOW DIRECTORY Movies");
    assert_eq!(
        listing,
        "The available files are: Free Fire, Inside, Joker, WAR"
    );
    for name in [
        "Pipe",
        "Socket",
        "Device",
        "Outside",
        "Climbing",
        "Loop",
        ".hidden",
        "bell\u{7}",
        ".",
        "..",
    ] {
        assert_eq!(
            client.command(&format!("DOWNLOAD FILE {name}")),
            "No such file",
            "{name}"
        );
        assert_eq!(
            client.command(&format!("CHECKSUM FILE {name}")),
            "No such file",
            "{name}"
        );
    }
    for name in ["null", "zero", "tty", "ptmx"] {
        let path = format!("Devices/{name}");
        assert_eq!(
            client.command(&format!("DOWNLOAD FILE {path}")),
            "No such file",
            "{path}"
        );
    }
    assert_eq!(
        client.download("Movies/Inside"),
        fs::read(server.home.file("Movies/Joker")).unwrap()
    );
}

#[test]
fn checksums_of_large_files_do_not_delay_logins() {
    let home = Home::new();
    home.write_sparse("Movies/Huge", 128 * MIB as u64);
    let server = Server::with_home(home, &[]);
    let mut slow: Vec<Client> = (0..3).map(|_| server.login("user1")).collect();
    for client in &mut slow {
        client.send_line("CHECKSUM FILE Movies/Huge");
    }
    // Each of these logins needs a password verification, since the users differ.
    for user in ["user2", "user3", "user4"] {
        server.login(user).quit();
    }
    let last = slow[2].socket();
    last.set_nonblocking(true).unwrap();
    let early = last.peek(&mut [0]).map_err(|error| error.kind());
    assert_eq!(
        early,
        Err(ErrorKind::WouldBlock),
        "a checksum precedes the logins"
    );
    last.set_nonblocking(false).unwrap();
    for client in &mut slow {
        // The output of sha256sum for 128 MiB of zeros.
        client.expect(
            "SHA-256 254bcc3fc4f27172636df4bf32de9f107f620d559b20d760197e452b97453917 Huge",
        );
        client.expect_menu();
    }
}

//! FTP input: names, numbers, Telnet bytes, patterns, and the listings of names.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};

use crate::support::ftp::{FtpClient, read_to_end, serve_ftp_plain};

#[test]
fn numbers_beyond_63_bits_are_501() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    for number in [
        "18446744073709551615",
        "9223372036854775808",
        "-1",
        "+1",
        "1e9",
        "0x10",
        "1.0",
        "99999999999999999999999999999999",
    ] {
        ftp.command(&format!("REST {number}"), "501");
        ftp.command(&format!("ALLO {number}"), "501");
    }
    ftp.command("REST 9223372036854775807", "350");
    let _data = ftp.connect_data();
    ftp.command("RETR Movies/Joker", "554");
}

#[test]
fn names_cannot_split_replies_or_log_lines() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("CWD Uploads", "250");
    assert_eq!(
        ftp.command("MKD q\"uote 221", "257"),
        "257 \"/Uploads/q\"\"uote 221\" created."
    );
    for name in ["a\rb", "a\u{1b}[2Jb", "a\u{85}b", "a\0b", "a\r\0b"] {
        ftp.client.send(format!("MKD {name}\r\n"));
        let reply = ftp.client.read_line();
        assert!(["501", "550"].contains(&&reply[..3]), "{reply}");
    }
    // Created outside the server, and not accessible through it.
    server.home.write("Uploads/line\r\n226 x\u{1b}", "x");
    ftp.command("SIZE line", "550");
    let log = server.log();
    assert!(!log.contains('\u{1b}') && !log.contains("\n226"), "{log}");
}

#[test]
fn names_with_line_ends_are_not_listed() {
    let server = serve_ftp_plain();
    for name in [
        "line\r\n226 x",
        "return\rx",
        "escape\u{1b}[2J",
        "next\u{85}",
    ] {
        server.home.write(&format!("Uploads/{name}"), "x");
        std::fs::create_dir(server.home.file(&format!("Uploads/d{name}"))).unwrap();
    }
    server.home.write("Uploads/plain", "x");
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    for command in [
        "LIST Uploads",
        "NLST Uploads",
        "MLSD Uploads",
        "NLST Uploads/*",
    ] {
        let mut data = ftp.connect_data();
        ftp.command(command, "150");
        let listing = String::from_utf8(read_to_end(&mut data)).expect("UTF-8");
        ftp.expect("226");
        let lines: Vec<&str> = listing.split_terminator("\r\n").collect();
        let is_plain = |line: &&&str| line.ends_with("plain");
        assert_eq!(lines.iter().filter(is_plain).count(), 1, "{command}");
        for word in ["line", "return", "escape", "next", "226"] {
            assert!(!listing.contains(word), "{command}: {lines:?}");
        }
        assert!(
            !lines.concat().contains(char::is_control),
            "{command}: {lines:?}"
        );
    }
    ftp.command("CWD Uploads/dline", "550");
    ftp.command("CWD Uploads/descape\u{1b}[2J", "501");
    assert_eq!(
        ftp.command("PWD", "257"),
        "257 \"/\" is the current directory."
    );
}

#[test]
fn granted_directories_offer_no_delete_or_rename() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("MKD Uploads/Box", "257");
    ftp.command("OPTS MLST type;perm;", "200");
    for (path, entry) in [
        ("/", "type=dir;perm=cpelm; Uploads"),
        ("/", "type=dir;perm=el; Movies"),
        ("/Uploads", "type=dir;perm=cdfpelm; Box"),
    ] {
        let mut data = ftp.connect_data();
        ftp.command(&format!("MLSD {path}"), "150");
        let listing = String::from_utf8(read_to_end(&mut data)).expect("UTF-8");
        ftp.expect("226");
        assert!(listing.lines().any(|line| line == entry), "{listing}");
    }
    for (path, facts) in [
        ("/Uploads", " type=dir;perm=cpelm; /Uploads"),
        ("/Uploads/Box", " type=dir;perm=cdfpelm; /Uploads/Box"),
    ] {
        ftp.client.send(format!("MLST {path}\r\n"));
        assert_eq!(ftp.read_reply()[1].trim_end(), facts);
    }
    for command in ["RNFR /Uploads", "RMD /Uploads"] {
        ftp.command(command, "550");
    }
}

/// The unit tests of `glob` bound the steps of a match.
#[test]
fn a_costly_glob_does_not_delay_other_sessions() {
    let server = serve_ftp_plain();
    for number in 100..200 {
        let name = format!("Uploads/{}{number}", "a".repeat(250));
        server.home.write(&name, "x");
    }
    let mut attacker = FtpClient::login(&server, "user3", "3456");
    let mut other = FtpClient::login(&server, "user1", "1234");
    for pattern in [
        "*a".repeat(127),
        format!("*{}b", "a".repeat(250)),
        "*/../".repeat(500),
    ] {
        let mut data = attacker.connect_data();
        attacker.client.send(format!("NLST Uploads/{pattern}\r\n"));
        let start = Instant::now();
        other.command("NOOP", "200");
        // It takes less than a millisecond unless the machine is busy.
        assert!(start.elapsed() < Duration::from_secs(1), "{pattern}");
        let reply = attacker.client.read_line();
        match &reply[..3] {
            "150" => {
                read_to_end(&mut data);
                attacker.expect("226");
            }
            code => assert_eq!(code, "550", "{reply}"),
        }
        other.command("NOOP", "200");
    }
}

#[test]
fn a_4_mib_line_gets_one_500_and_runs_no_command() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::connect(&server);
    let line = [&b"QUIT ".repeat(1 << 19)[..], &b"NOOP ".repeat(1 << 18)[..]].concat();
    ftp.client.send(line);
    ftp.client.send("\r\n");
    ftp.expect("500");
    ftp.command("NOOP", "200");
}

#[test]
fn telnet_and_nul_bytes_are_accepted_at_any_position() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    let line = b"CWD Movies";
    for at in 0..=line.len() {
        for telnet in [&b"\xff\xf1"[..], b"\xff\xf4\xff\xf2"] {
            ftp.client
                .send([&line[..at], telnet, &line[at..], b"\r\n"].concat());
            ftp.expect("250");
            ftp.command("CDUP", "250");
        }
        ftp.client
            .send([&line[..at], b"\0", &line[at..], b"\r\n"].concat());
        let reply = ftp.client.read_line();
        assert!(reply.starts_with('5'), "{reply}");
    }
}

#[test]
fn invalid_facts_and_directory_times_are_rejected() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("OPTS MLST type", "501");
    ftp.command("OPTS MLST type ;", "501");
    ftp.command("OPTS MLST Type;none;", "200");
    ftp.command("OPTS MLST", "200");
    ftp.command("MDTM /", "550");
    ftp.command("MDTM Movies", "550");
}

#[test]
fn abor_after_an_urgent_telnet_synch_is_executed() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    let socket = ftp.client.socket().as_raw_fd();
    for byte in [b"\xf4", b"\xff"] {
        send(socket, byte, MsgFlags::MSG_OOB).expect("the byte is sent");
    }
    ftp.command("abor", "225");
}

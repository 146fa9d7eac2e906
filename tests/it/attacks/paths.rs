//! Escapes from a granted directory: spellings of paths, links, swapped links, control characters.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use tidegate::limits::SHARED_PASSIVE_PORTS;

use super::{CANARY, assert_unharmed, serve_with_canary};
use crate::support::ftp::FtpClient;
use crate::support::{Client, Server};

/// Paths that lead to the canary on some systems, or did once.
fn spellings() -> Vec<String> {
    let mut all: Vec<String> = [
        "../canary",
        "../../canary",
        "/../canary",
        "./../canary",
        "Uploads/../canary",
        "Uploads/../../canary",
        "Uploads/./../canary",
        "Uploads//../canary",
        "....//canary",
        "..../canary",
        "..\\canary",
        "..%2fcanary",
        "%2e%2e/canary",
        "%2e%2e%2fcanary",
        "..%c0%afcanary",
        "..\u{2215}canary",
        "\u{ff0e}\u{ff0e}/canary",
        "/canary",
        "//canary",
        "~/canary",
        "~root",
        "canary\0",
        "Uploads/..\0/canary",
        "../canary/.",
        "../canary/",
        "/proc/self/root/etc/passwd",
        "/proc/self/cwd/canary",
        "Uploads/up",
        "Uploads/up/canary",
        "Uploads/absolute",
        "Uploads/absolute/canary",
        "Uploads/inside/../../canary",
        "file:///etc/passwd",
        "C:\\canary",
        ".",
        "..",
        "",
    ]
    .map(str::to_owned)
    .into();
    all.push(format!("{}canary", "../".repeat(1200)));
    all.push(format!("Uploads/{}canary", "x/../".repeat(700)));
    all.push("x".repeat(4000));
    all
}

/// Creates missing links that lead out of `Uploads`.
fn add_links(server: &Server) {
    let home = server.home.path();
    for (target, name) in [
        ("..".as_ref(), "up"),
        (&*home, "absolute"),
        ("../../../canary".as_ref(), "linked"),
    ] {
        let _ = symlink(target, server.home.file(&format!("Uploads/{name}")));
    }
}

/// Asserts that no upload was written outside the granted directories.
fn assert_nothing_written_outside(server: &Server) {
    for outside in [
        server.home.parent(),
        &server.home.path(),
        &server.home.path().join("files"),
    ] {
        for entry in fs::read_dir(outside).unwrap() {
            let path = entry.unwrap().path();
            let is_upload = path.is_file() && fs::read(&path).unwrap() == b"evil";
            assert!(
                !is_upload && !path.ends_with("evil"),
                "{} was written",
                path.display()
            );
        }
    }
}

#[test]
fn no_spelling_of_a_path_escapes_the_grant() {
    let mut server = serve_with_canary(&[]);
    add_links(&server);
    let descriptors = server.descriptors();
    // user3 has the right to change in Uploads.
    for spelling in spellings()
        .iter()
        .chain(["Uploads/linked".to_owned(), "linked".to_owned()].iter())
    {
        let mut client = server.login("user3");
        client.command("SHOW DIRECTORY Uploads");
        for command in [
            "SHOW DIRECTORY",
            "DOWNLOAD FILE",
            "CHECKSUM FILE",
            "MAKE DIRECTORY",
        ] {
            client.send(format!("{command}\n{spelling}\n"));
        }
        client.send(format!("RESUME DOWNLOAD\n{spelling}\n0\nSHOW DIRECTORIES\nPUT FILE 4 {spelling}\nevilSHOW DETAILS\nQUIT\n"));
        let output = String::from_utf8_lossy(&client.read_to_end()).into_owned();
        assert!(!output.contains("this is a secret"), "{spelling}: {output}");
        assert!(!output.contains("root:"), "{spelling}: {output}");
        assert!(
            output.ends_with("You are logged out.\n"),
            "{spelling}: {output}"
        );
    }
    assert_nothing_written_outside(&server);
    assert_unharmed(&mut server, descriptors);
}

#[test]
fn no_spelling_of_an_ftp_path_escapes_the_grant() {
    let listeners = ["--listen", "127.0.0.1:0", "--ftp", "127.0.0.1:0"];
    let mut server = serve_with_canary(&listeners);
    let descriptors = server.descriptors();
    let linked = [
        "Uploads/linked",
        "linked",
        "/Uploads/linked",
        "../Uploads/linked",
    ];
    for spelling in spellings().into_iter().chain(linked.map(str::to_owned)) {
        add_links(&server);
        // user3 has the right to change in Uploads.
        let client = Client::connect(server.addresses[1]);
        let mut ftp = FtpClient::login_over(client, "user3", "3456");
        let mut output = ftp.attempt("CWD Uploads");
        for command in ["RETR", "LIST", "NLST", "MLSD", "STOR", "APPE"] {
            output += &ftp.attempt_transfer(&format!("{command} {spelling}"), b"evil");
        }
        for command in [
            "STAT",
            "MLST",
            "SIZE",
            "MDTM",
            "XSHA256",
            "HASH",
            "AVBL",
            "MFMT 20200101000000",
            "RMD",
            "DELE",
            "MKD",
        ] {
            output += &ftp.attempt(&format!("{command} {spelling}"));
        }
        output += &ftp.attempt_transfer("STOR evil", b"evil");
        output += &ftp.attempt("RNFR evil");
        output += &ftp.attempt(&format!("RNTO {spelling}"));
        output += &ftp.attempt(&format!("RNFR {spelling}"));
        output += &ftp.attempt("RNTO taken");
        output += &ftp.attempt_transfer("RETR taken", b"");
        output += &ftp.attempt(&format!("CWD {spelling}"));
        output += &ftp.attempt("PWD");
        output += &ftp.attempt_transfer("RETR canary", b"");
        output += &ftp.attempt_transfer("STOR evil", b"evil");
        ftp.command("QUIT", "221");
        assert!(!output.contains("this is a secret"), "{spelling}: {output}");
        assert!(!output.contains("root:"), "{spelling}: {output}");
    }
    assert_nothing_written_outside(&server);
    // Passive listeners stay open for the next data connection.
    assert_unharmed(&mut server, descriptors + SHARED_PASSIVE_PORTS);
}

#[test]
fn a_link_swapped_in_between_rnfr_and_rnto_is_not_followed() {
    let listeners = ["--listen", "127.0.0.1:0", "--ftp", "127.0.0.1:0"];
    let mut server = serve_with_canary(&listeners);
    let descriptors = server.descriptors();
    let mut ftp = FtpClient::login_over(Client::connect(server.addresses[1]), "user3", "3456");
    ftp.attempt_transfer("STOR Uploads/a", b"mine");
    ftp.command("RNFR Uploads/a", "350");
    fs::remove_file(server.home.file("Uploads/a")).unwrap();
    symlink("../../canary", server.home.file("Uploads/a")).unwrap();
    // The link itself is renamed, or remains if Landlock is active.
    let name = match ftp.attempt("RNTO Uploads/b").starts_with("250") {
        true => "Uploads/b",
        false => "Uploads/a",
    };
    let path = server.home.file(name);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    let output = ftp.attempt_transfer(&format!("RETR {name}"), b"");
    assert!(output.starts_with("550"), "{output}");
    // An upload replaces the link.
    let output = ftp.attempt_transfer(&format!("STOR {name}"), b"mine");
    assert!(output.contains("226"), "{output}");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    // Another file takes the name of an upload in progress. The upload replaces it.
    let mut data = ftp.connect_data();
    ftp.command("STOR Uploads/c", "150");
    fs::rename(&path, server.home.file("Uploads/c")).unwrap();
    data.write_all(b"whole").unwrap();
    drop(data);
    ftp.expect("226");
    assert_eq!(fs::read(server.home.file("Uploads/c")).unwrap(), b"whole");
    drop(ftp);
    // Passive listeners stay open for the next data connection.
    assert_unharmed(&mut server, descriptors + SHARED_PASSIVE_PORTS);
}

#[test]
fn a_directory_swapped_for_a_link_does_not_escape_the_grant() {
    let mut server = serve_with_canary(&[]);
    let descriptors = server.descriptors();
    let uploads = server.home.file("Uploads");
    fs::create_dir(uploads.join("real")).unwrap();
    fs::write(uploads.join("real/canary"), "harmless").unwrap();
    symlink("../..", uploads.join("link")).unwrap();
    let is_over = AtomicBool::new(false);
    let (tries, served) = thread::scope(|scope| {
        scope.spawn(|| {
            let (real, link) = (uploads.join("real"), uploads.join("link"));
            while !is_over.load(Ordering::Relaxed) {
                renameat2(
                    AT_FDCWD,
                    &real,
                    AT_FDCWD,
                    &link,
                    RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            }
        });
        let mut client = server.login("user3");
        let end = Instant::now() + Duration::from_secs(2);
        let (mut tries, mut served) = (0, 0);
        while Instant::now() < end {
            tries += 1;
            served += usize::from(attempt(&mut client, tries));
        }
        is_over.store(true, Ordering::Relaxed);
        client.quit();
        (tries, served)
    });
    assert!(
        tries > 50 && served > 0 && served < tries,
        "{served} of {tries}"
    );
    assert!(
        !server.home.path().join("new").exists() && !server.home.path().join("files/new").exists()
    );
    assert_unharmed(&mut server, descriptors);
}

/// Downloads and uploads through the swapped name. Returns whether the download succeeded.
fn attempt(client: &mut Client, number: usize) -> bool {
    client.send_line("DOWNLOAD FILE Uploads/real/canary");
    let line = client.read_line();
    let found = line == "LENGTH 8";
    match found {
        true => assert_eq!(client.read_bytes(8), b"harmless"),
        false => assert_eq!(line, "No such file"),
    }
    client.expect_menu();
    client.send(format!(
        "PUT FILE 4 Uploads/real/new\n{:04}",
        number % 10_000
    ));
    let line = client.read_line();
    assert!(
        line == "Upload complete: new, 4 bytes" || line == "Upload failed: No such directory",
        "{line}"
    );
    client.expect_menu();
    found
}

#[test]
fn concurrent_replacements_of_one_file_are_atomic() {
    let server = serve_with_canary(&[]);
    const LENGTH: usize = 300_000;
    for _ in 0..10 {
        thread::scope(|scope| {
            for byte in [b'a', b'b'] {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.login("user3");
                    client.send(format!("PUT FILE {LENGTH} Uploads/Both\n"));
                    for piece in vec![byte; LENGTH].chunks(7000) {
                        client.send(piece);
                    }
                    client.expect(&format!("Upload complete: Both, {LENGTH} bytes"));
                });
            }
        });
        let content = fs::read(server.home.file("Uploads/Both")).unwrap();
        assert_eq!(content.len(), LENGTH);
        assert!(
            content.iter().all(|byte| *byte == content[0]),
            "two uploads in one file"
        );
    }
    let names = server.home.names("Uploads");
    assert!(
        !names.iter().any(|name| name.starts_with(".tidegate")),
        "{names:?}"
    );
}

#[test]
fn names_with_control_characters_are_neither_sent_nor_stored() {
    let server = serve_with_canary(&[]);
    let bad = [
        "two\nlines",
        "carriage\rreturn",
        "esc\u{1b}]0;title\u{7}",
        "c1\u{9b}2J",
        "tab\tbed",
        "del\u{7f}",
    ];
    for name in bad {
        server.home.write(&format!("Uploads/{name}"), CANARY);
    }
    let mut client = server.login("user3");
    let listed = client.command("SHOW DIRECTORY Uploads");
    client.send_line("SHOW DETAILS");
    let mut output = vec![listed];
    output.push(client.read_line());
    while !output.last().unwrap().starts_with("Please choose") {
        output.push(client.read_line());
    }
    for name in bad.iter().filter(|name| !name.contains('\n')) {
        let mut client = server.login("user3");
        for command in [
            "DOWNLOAD FILE",
            "UPLOAD FILE",
            "MAKE DIRECTORY",
            "CHECKSUM FILE",
            "SHOW DIRECTORY",
        ] {
            client.send(format!("{command}\nUploads/{name}\n"));
        }
        client.send("QUIT\n");
        output.push(String::from_utf8(client.read_to_end()).unwrap());
    }
    for text in &output {
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n'),
            "{text:?}"
        );
        assert!(
            !text.contains("title") && !text.contains("two") && !text.contains("canary"),
            "{text:?}"
        );
    }
    assert!(!server.log().chars().any(|c| c.is_control() && c != '\n'));
}

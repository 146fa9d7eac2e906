//! Hostile servers: the client reports them within bounded memory, writes nothing outside the
//! download
//! folder, and sends no control sequence to the terminal.

use std::fs;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::scripted_server::{Client, DIRECTORY, FILE, MENU, REMOTE, run, run_in};

/// Returns a script that sends the same detailed listing for each directory.
fn listing(lines: &'static [&'static str]) -> impl Fn(&mut Client) + Send + Sync + 'static {
    move |client| {
        client.accept_login();
        while client.read_line().starts_with("SHOW DIRECTORY") {
            client.read_line();
            client.send(format!(
                "The available files are: x\n{MENU}ENTRIES {}\n",
                lines.len()
            ));
            client.send(lines.join("\n") + "\n" + MENU);
        }
        client.wait_for_close();
    }
}

#[test]
fn path_traversal_by_server_names_is_rejected() {
    const NAMES: [&[&str]; 8] = [
        &["file 3 2026-11-22T18:00:00Z ../../evil"],
        &[
            "file 3 2026-11-22T18:00:00Z ..",
            "file 3 2026-11-22T18:00:00Z x",
        ],
        &["directory - 2026-11-22T18:00:00Z ."],
        &["directory - 2026-11-22T18:00:00Z /etc"],
        &["file 3 2026-11-22T18:00:00Z .tidegate.lock"],
        &["file 3 2026-11-22T18:00:00Z a\u{1b}]0;owned\u{7}"],
        &["file 3 2026-11-22T18:00:00Z "],
        &["file 3 2026-11-22T18:00:00Z \u{9b}2J"],
    ];
    for lines in NAMES {
        for args in [
            &["get", "--recursive", "USER1", "Movies"][..],
            &["get", "USER1", "Movies/*"],
            &["ls", "USER1", "Movies"],
        ] {
            let (ran, folder) = run(args, listing(lines));
            let error = format!("{REMOTE} the server's reply was not understood: ");
            assert!(
                ran.status == Some(1) && ran.stderr.starts_with(&error),
                "{ran:?}"
            );
            assert!(!folder.path().join("inside/downloads").exists());
        }
    }
    let long: &'static str = format!("file 3 2026-11-22T18:00:00Z {}", "x".repeat(256)).leak();
    let lines: &'static [&'static str] = vec![long].leak();
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], listing(lines));
    assert!(ran.status == Some(1) && ran.stderr.len() < 400, "{ran:?}");
    // A valid name that must be escaped on the terminal.
    let (ran, _) = run(
        &["get", "--recursive", "--timeout", "1", "USER1", "Movies"],
        listing(&["file 3 2026-11-22T18:00:00Z gpj\u{202e}.exe"]),
    );
    ran.assert_ended(
        1,
        "tidegate: Movies/gpj\\u{202e}.exe: timed out: no data for 1 s; use --timeout to wait \
         longer\n",
    );
}

#[test]
fn a_listing_with_duplicate_names_is_rejected() {
    let lines = &[
        "file 3 2026-11-22T18:00:00Z x",
        "directory - 2026-11-22T18:00:00Z x",
    ];
    let (ran, folder) = run(
        &["get", "--recursive", "--timeout", "2", "USER1", "Movies"],
        |client| {
            client.accept_login();
            let mut first = true;
            while client.read_line().starts_with("SHOW DIRECTORY") {
                client.read_line();
                let lines: &[&str] = if std::mem::take(&mut first) {
                    lines
                } else {
                    &[]
                };
                client.send(format!(
                    "There are no files in this directory\n{MENU}ENTRIES {}\n",
                    lines.len()
                ));
                for line in lines {
                    client.send(format!("{line}\n"));
                }
                client.send(MENU);
            }
        },
    );
    assert!(
        ran.status == Some(1)
            && ran
                .stderr
                .contains("would both be stored as Movies/x; nothing was downloaded"),
        "{ran:?}"
    );
    assert!(!folder.path().join("inside/downloads").exists());
}

#[test]
fn an_endless_listing_is_aborted() {
    let too_much = "the listing exceeds 500000 entries or 67108864 bytes of names; choose a smaller directory\n";
    // A million entries are announced.
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], |client| {
        client.accept_login();
        client.read_line();
        client.read_line();
        client.send(format!(
            "The available files are: x\n{MENU}ENTRIES 1000000\n"
        ));
        client.send_endlessly("file 3 2026-11-22T18:00:00Z x\n");
    });
    ran.assert_ended(1, &format!("{REMOTE} {too_much}"));
    // Fewer entries, whose paths take more memory.
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], |client| {
        client.accept_login();
        let name = "x".repeat(250);
        loop {
            let path = client.read_line();
            client.read_line();
            client.send(format!("The available files are: x\n{MENU}"));
            match path.len() {
                0 => return,
                1..3700 => client.send(format!("ENTRIES 1\n{DIRECTORY} {name}\n{MENU}")),
                _ => {
                    client.send("ENTRIES 400000\n");
                    return client.send_endlessly(&format!("{FILE} {name}\n"));
                }
            };
        }
    });
    ran.assert_ended(1, &format!("{REMOTE} {too_much}"));
    // An endless line of file names.
    for args in [
        &["get", "--recursive", "USER1", "Movies"][..],
        &["ls", "USER1", "Movies"],
        &["put", "USER1", "Movies", "/etc/hostname"],
    ] {
        let (ran, _) = run(args, |client| {
            client.accept_login();
            client.read_line();
            client.send("The available files are: ");
            client.send_endlessly("Joker, ");
        });
        ran.assert_ended(1, &format!("{REMOTE} {too_much}"));
    }
    // An endless line of directory names.
    let (ran, _) = run(&["ls", "USER1"], |client| {
        client.accept_login();
        client.read_line();
        client.send("The available directories are: ");
        client.send_endlessly("Movies, ");
    });
    ran.assert_ended(1, &format!("{REMOTE} {too_much}"));
    // An endless chain of directories.
    let long: &str = format!("{DIRECTORY} {}", "x".repeat(250)).leak();
    let (ran, _) = run(
        &["get", "--recursive", "USER1", "Movies"],
        listing(vec![long].leak()),
    );
    ran.assert_ended(
        1,
        &format!("{REMOTE} the protocol cannot express this name\n"),
    );
    // A thousand directories in each directory.
    let lines: Vec<&str> = (0..1000)
        .map(|number| &*format!("directory - 2026-11-22T18:00:00Z {number}").leak())
        .collect();
    let (ran, _) = run(
        &["get", "--recursive", "USER1", "Movies"],
        listing(lines.leak()),
    );
    ran.assert_ended(1, &format!("{REMOTE} {too_much}"));
}

#[test]
fn implausible_lengths_are_rejected() {
    for (length, error) in [
        (
            "9223372036854775807",
            "Movies/Joker: downloads/Joker: not enough space: 9223372036854775807 bytes are needed, ",
        ),
        (
            "9999999999999999999",
            "Movies/Joker: downloads/Joker: not enough space: 9999999999999999999 bytes are needed, ",
        ),
        (
            "18446744073709551616",
            "Movies/Joker: the server's reply was not understood: LENGTH 18446744073709551616",
        ),
        (
            "-1",
            "Movies/Joker: the server's reply was not understood: LENGTH -1",
        ),
        (
            "\u{1b}[2J",
            "Movies/Joker: the server's reply was not understood: LENGTH \\x1b[2J",
        ),
    ] {
        let (ran, folder) = run(&["get", "USER1", "Movies/Joker"], move |client| {
            client.accept_login();
            client.read_line();
            client.send(format!("LENGTH {length}\n"));
            client.send_endlessly("endless ");
        });
        assert!(
            ran.status == Some(1) && ran.stderr.starts_with(&format!("tidegate: {error}")),
            "{ran:?}"
        );
        let downloads = folder.path().join("inside/downloads");
        assert!(!downloads.exists() || fs::read_dir(downloads).unwrap().next().is_none());
    }
}

#[test]
fn a_silent_server_times_out() {
    let late = "timed out: no data for 1 s; use --timeout to wait longer\n";
    let (ran, _) = run(
        &["get", "--timeout", "1", "USER1", "Movies/Joker"],
        Client::wait_for_close,
    );
    ran.assert_ended(
        1,
        &format!(
            "tidegate: 127.0.0.1:PORT sent no greeting: {}; connect to the menu's port (default \
             2100)\n",
            late.trim_end()
        ),
    );
    let (ran, folder) = run(
        &[
            "get",
            "--timeout",
            "1",
            "USER1",
            "Movies/Joker",
            "Movies/WAR",
        ],
        |client| {
            client.accept_login();
            client.read_line();
            client.send("LENGTH 10\n12345");
            client.wait_for_close();
        },
    );
    ran.assert_ended(
        1,
        &format!(
            "tidegate: Movies/Joker: {late}{REMOTE} the connection was lost, 1 file was not \
             transferred; run the command again\n"
        ),
    );
    let part = folder.path().join("inside/downloads/Joker.part");
    assert_eq!(fs::read(part).unwrap(), b"12345");
    let (ran, _) = run(&["ls", "--timeout", "1", "USER1", "Movies"], |client| {
        client.accept_login();
        client.send(format!(
            "The available files are: x\n{MENU}ENTRIES 2\nfile 3 2026-11-22T18:00:00Z x\n"
        ));
        client.wait_for_close();
    });
    ran.assert_ended(1, &format!("{REMOTE} {late}"));
}

#[test]
fn invalid_replies_are_shown_sanitized() {
    for (reply, error) in [
        (
            "HTTP/1.1 400 Bad Request\r\n",
            "tidegate: 127.0.0.1:PORT speaks HTTP, not tidegate's menu; connect to the menu's port \
             (default 2100)",
        ),
        (
            "\u{1b}]0;owned\u{7}\u{202e}\n",
            "tidegate: 127.0.0.1:PORT is not tidegate's menu: it sent \
             '\\u{1b}]0;owned\\u{7}\\u{202e}'; connect to the menu's port (default 2100)",
        ),
        (
            "Please choose 'LOGIN' or 'QUIT'\n\u{1b}]0;owned\u{7}\u{202e}\n",
            "tidegate: user1@127.0.0.1:PORT: the server's reply was not understood: \
             \\x1b]0;owned\\x07\\xe2\\x80\\xae",
        ),
        (
            "The server is full. Please try again later.\n",
            "tidegate: user1@127.0.0.1:PORT: The server is full. Please try again later.",
        ),
        (
            "",
            "tidegate: 127.0.0.1:PORT sent no greeting: the server closed the connection; connect \
             to the menu's port (default 2100)",
        ),
        (
            "Please choose",
            "tidegate: user1@127.0.0.1:PORT: the server closed the connection",
        ),
    ] {
        let (ran, _) = run(&["ls", "USER1", "Movies"], move |client| {
            client.send(reply);
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            client.wait_for_close();
        });
        ran.assert_ended(1, &format!("{error}\n"));
    }
    let (ran, _) = run(&["ls", "USER1", "Movies"], |client| {
        client.send_endlessly("x")
    });
    ran.assert_ended(
        1,
        &format!(
            "tidegate: 127.0.0.1:PORT is not tidegate's menu: it sent '{}'; connect to the menu's \
             port (default 2100)\n",
            "x".repeat(60)
        ),
    );
    // A reply to another command.
    let (ran, _) = run(&["get", "USER1", "Movies/Joker"], |client| {
        client.accept_login();
        client.read_line();
        client.send("SHA-256 0000 Joker\n");
        client.wait_for_close();
    });
    assert!(
        ran.stderr
            .starts_with("tidegate: Movies/Joker: the server's reply was not understood: SHA-256"),
        "{ran:?}"
    );
    assert_eq!(ran.status, Some(1));
}

#[test]
fn directory_names_are_sanitized_for_the_terminal() {
    for names in ["Movies, \u{1b}[2J", "Movies, ..", "a/b"] {
        let (ran, _) = run(&["ls", "USER1"], move |client| {
            client.accept_login();
            client.read_line();
            client.send(format!("The available directories are: {names}\n{MENU}"));
            client.wait_for_close();
        });
        ran.assert_ended(
            1,
            &format!("{REMOTE} the server sent an invalid directory name\n"),
        );
    }
}

#[test]
fn a_busy_server_is_given_more_time() {
    const LENGTH: u64 = 25_000_000;
    const WORK: Duration = Duration::from_secs(2);
    let zeros: String = Sha256::digest(vec![0; LENGTH as usize])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let downloads = folder.path().join("inside/downloads");
    fs::create_dir_all(&downloads).unwrap();
    let part = fs::File::create(downloads.join("Zeros.part")).unwrap();
    part.set_len(LENGTH).unwrap();
    let ran = run_in(
        folder.path(),
        &[
            "get",
            "--continue",
            "--timeout",
            "1",
            "USER1",
            "Movies/Zeros",
        ],
        move |client| {
            client.accept_login();
            assert_eq!(client.read_line(), "RESUME DOWNLOAD Movies/Zeros\n");
            assert_eq!(client.read_line(), format!("{LENGTH}\n"));
            client.send(format!(
                "Please enter the number of bytes you already have\nLENGTH 0\n{MENU}"
            ));
            assert_eq!(client.read_line(), "CHECKSUM FILE Movies/Zeros\n");
            std::thread::sleep(WORK);
            client.send(format!("SHA-256 {zeros} Zeros\n{MENU}"));
            client.read_line();
            client.send("Connection is terminated. You are logged out.\n");
        },
    );
    ran.assert_transferred(1, 0);
    assert!(downloads.join("Zeros").exists());

    // The end of an upload has more time too, within a limit.
    for (work, status) in [(WORK, 0), (3 * WORK, 1)] {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("inside/downloads")).unwrap();
        let large = fs::File::create(folder.path().join("inside/downloads/large")).unwrap();
        large.set_len(LENGTH).unwrap();
        let args = [
            "put",
            "--force",
            "--timeout",
            "1",
            "USER1",
            "Uploads",
            "downloads/large",
        ];
        let ran = run_in(folder.path(), &args, move |client| {
            client.accept_login();
            assert_eq!(
                client.read_line(),
                format!("PUT FILE {LENGTH} Uploads/large\n")
            );
            let mut bytes = std::io::Read::take(&mut client.lines, LENGTH);
            std::io::copy(&mut bytes, &mut std::io::sink()).unwrap();
            std::thread::sleep(work);
            client.send(format!("Upload complete: large, {LENGTH} bytes\n{MENU}"));
            client.read_line();
            client.send("Connection is terminated. You are logged out.\n");
        });
        assert_eq!(ran.status, Some(status), "{ran:?}");
        if status == 1 {
            assert_eq!(
                ran.stderr,
                "tidegate: Uploads/large: timed out: no data for 4 s; use --timeout to wait \
                 longer\n"
            );
        }
    }
}

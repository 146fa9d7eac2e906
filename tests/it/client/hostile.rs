//! A server that is not what it says: it is told of, within bounded memory, and nothing of it reaches the disk outside the
//! download folder or the terminal as a command.

use std::fs;
use std::io::{BufRead, BufReader, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{PROGRAM, Ran, finish};

pub(super) const MENU: &str =
    "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'\n";

/// KiB of address space that a client may have against any server.
const MEMORY_KIB: u32 = 400_000;

/// One client of a scripted server.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) lines: BufReader<TcpStream>,
}

impl Client {
    /// Says something; a client that has gone is none of its business.
    pub(super) fn say(&mut self, text: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(text.as_ref()).is_ok()
    }

    /// The next line; empty where the client has gone.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        let _ = self.lines.read_line(&mut line);
        line
    }

    pub(super) fn log_in(&mut self) {
        self.say("Please choose 'LOGIN' or 'QUIT'\n");
        assert_eq!(self.line(), "LOGIN\n");
        self.say("Please enter your username\n");
        self.line();
        self.say("Username OK, Please enter your password\n");
        self.line();
        self.say("Login Successfully\n");
        self.say(MENU);
    }

    /// Says what never ends, until the client goes.
    pub(super) fn say_for_ever(&mut self, text: &str) {
        let text = text.repeat(1 + 60_000 / text.len());
        while self.say(&text) {}
    }

    /// Says nothing, until the client goes.
    pub(super) fn be_silent(&mut self) {
        while !self.line().is_empty() {}
    }
}

/// Serves each connection by `script`, and runs the program against it, in a folder of its own.
pub(super) fn run(
    args: &[&str],
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> (Ran, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let ran = run_in(folder.path(), args, script);
    (ran, folder)
}

pub(super) fn run_in(
    folder: &Path,
    args: &[&str],
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> Ran {
    talk_in(folder, args, "", script)
}

/// The same, with these lines to be read by the program.
pub(super) fn talk_in(
    folder: &Path,
    args: &[&str],
    lines: &str,
    script: impl Fn(&mut Client) + Send + Sync + 'static,
) -> Ran {
    let mut typed = tempfile::tempfile().unwrap();
    typed.write_all(lines.as_bytes()).unwrap();
    typed.rewind().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let script = &script;
                scope.spawn(move || {
                    let lines = BufReader::new(stream.try_clone().unwrap());
                    script(&mut Client { stream, lines });
                });
            }
        });
    });
    let inside = folder.join("inside");
    fs::create_dir_all(&inside).unwrap();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""),
            PROGRAM,
        ])
        .args(
            args.iter()
                .map(|arg| arg.replace("USER1", &format!("user1@127.0.0.1:{port}"))),
        )
        .env("TIDEGATE_PASSWORD", "1234")
        .current_dir(&inside)
        .stdin(Stdio::from(typed));
    let mut ran = finish(command);
    let said = format!("{}{}", ran.out, ran.err);
    let is_safe = |c: char| {
        matches!(c, '\n' | '\t') || !c.is_control() && !('\u{200b}'..='\u{202f}').contains(&c)
    };
    assert!(said.chars().all(is_safe), "{said:?}");
    let outside: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(outside, ["inside"], "nothing is written outside");
    let beside = fs::read_dir(inside)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        beside.into_iter().all(|name| name == "downloads"),
        "nor beside the download folder"
    );
    ran.err = ran.err.replace(&port.to_string(), "PORT");
    ran
}

/// A listing of these lines, for each directory that is asked for.
fn listing(lines: &'static [&'static str]) -> impl Fn(&mut Client) + Send + Sync + 'static {
    move |client| {
        client.log_in();
        while client.line().starts_with("SHOW DIRECTORY") {
            client.line();
            client.say(format!(
                "The available files are: x\n{MENU}ENTRIES {}\n",
                lines.len()
            ));
            client.say(lines.join("\n") + "\n" + MENU);
        }
        client.be_silent();
    }
}

pub(super) const FILE: &str = "file 3 2026-11-22T18:00:00Z";
pub(super) const DIRECTORY: &str = "directory - 2026-11-22T18:00:00Z";
pub(super) const WHO: &str = "tidegate: user1@127.0.0.1:PORT:";

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
        &["file 3 2026-11-22T18:00:00Z .bashrc"],
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
            let told = format!("{WHO} the server's reply was not understood: ");
            assert!(
                ran.status == Some(1) && ran.err.starts_with(&told),
                "{ran:?}"
            );
            assert!(!folder.path().join("inside/downloads").exists());
        }
    }
    let long: &'static str = format!("file 3 2026-11-22T18:00:00Z {}", "x".repeat(256)).leak();
    let lines: &'static [&'static str] = vec![long].leak();
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], listing(lines));
    assert!(ran.status == Some(1) && ran.err.len() < 400, "{ran:?}");
    // A name that may be, and still has no business on a terminal.
    let (ran, _) = run(
        &["get", "--recursive", "--timeout", "1", "USER1", "Movies"],
        listing(&["file 3 2026-11-22T18:00:00Z gpj\u{202e}.exe"]),
    );
    ran.failed(
        1,
        "tidegate: Movies/gpj\\u{202e}.exe: timed out: no data for 1 s; use --timeout to wait longer\n",
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
            client.log_in();
            let mut first = true;
            while client.line().starts_with("SHOW DIRECTORY") {
                client.line();
                let lines: &[&str] = if std::mem::take(&mut first) {
                    lines
                } else {
                    &[]
                };
                client.say(format!(
                    "There are no files in this directory\n{MENU}ENTRIES {}\n",
                    lines.len()
                ));
                for line in lines {
                    client.say(format!("{line}\n"));
                }
                client.say(MENU);
            }
        },
    );
    assert!(
        ran.status == Some(1)
            && ran
                .err
                .contains("would both be stored as Movies/x; nothing was downloaded"),
        "{ran:?}"
    );
    assert!(!folder.path().join("inside/downloads").exists());
}

#[test]
fn an_endless_listing_is_aborted() {
    let too_much = "the listing exceeds 500000 entries or 67108864 bytes of names; choose a smaller directory\n";
    // It announces a million.
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], |client| {
        client.log_in();
        client.line();
        client.line();
        client.say(format!(
            "The available files are: x\n{MENU}ENTRIES 1000000\n"
        ));
        client.say_for_ever("file 3 2026-11-22T18:00:00Z x\n");
    });
    ran.failed(1, &format!("{WHO} {too_much}"));
    // Fewer, whose paths take more room than that.
    let (ran, _) = run(&["get", "--recursive", "USER1", "Movies"], |client| {
        client.log_in();
        let name = "x".repeat(250);
        loop {
            let path = client.line();
            client.line();
            client.say(format!("The available files are: x\n{MENU}"));
            match path.len() {
                0 => return,
                1..3700 => client.say(format!("ENTRIES 1\n{DIRECTORY} {name}\n{MENU}")),
                _ => {
                    client.say("ENTRIES 400000\n");
                    return client.say_for_ever(&format!("{FILE} {name}\n"));
                }
            };
        }
    });
    ran.failed(1, &format!("{WHO} {too_much}"));
    // Files on one line, which are told better by the details behind it.
    for args in [
        &["get", "--recursive", "USER1", "Movies"][..],
        &["ls", "USER1", "Movies"],
        &["put", "USER1", "Movies", "/etc/hostname"],
    ] {
        let (ran, _) = run(args, |client| {
            client.log_in();
            client.line();
            client.say("The available files are: ");
            client.say_for_ever("Joker, ");
        });
        ran.failed(1, &format!("{WHO} {too_much}"));
    }
    // Directories on one line.
    let (ran, _) = run(&["ls", "USER1"], |client| {
        client.log_in();
        client.line();
        client.say("The available directories are: ");
        client.say_for_ever("Movies, ");
    });
    ran.failed(1, &format!("{WHO} {too_much}"));
    // A directory in each directory.
    let long: &str = format!("{DIRECTORY} {}", "x".repeat(250)).leak();
    let (ran, _) = run(
        &["get", "--recursive", "USER1", "Movies"],
        listing(vec![long].leak()),
    );
    ran.failed(1, &format!("{WHO} the protocol cannot express this name\n"));
    // A thousand of them in each.
    let lines: Vec<&str> = (0..1000)
        .map(|number| &*format!("directory - 2026-11-22T18:00:00Z {number}").leak())
        .collect();
    let (ran, _) = run(
        &["get", "--recursive", "USER1", "Movies"],
        listing(lines.leak()),
    );
    ran.failed(1, &format!("{WHO} {too_much}"));
}

#[test]
fn implausible_lengths_are_rejected() {
    for (length, told) in [
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
            client.log_in();
            client.line();
            client.say(format!("LENGTH {length}\n"));
            client.say_for_ever("endless ");
        });
        assert!(
            ran.status == Some(1) && ran.err.starts_with(&format!("tidegate: {told}")),
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
        Client::be_silent,
    );
    ran.failed(1, &format!("{WHO} {late}"));
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
            client.log_in();
            client.line();
            client.say("LENGTH 10\n12345");
            client.be_silent();
        },
    );
    ran.failed(
        1,
        &format!(
            "tidegate: Movies/Joker: {late}{WHO} the connection was lost, 1 file was not transferred; run the command again\n"
        ),
    );
    let part = folder.path().join("inside/downloads/Joker.part");
    assert_eq!(fs::read(part).unwrap(), b"12345");
    let (ran, _) = run(&["ls", "--timeout", "1", "USER1", "Movies"], |client| {
        client.log_in();
        client.say(format!(
            "The available files are: x\n{MENU}ENTRIES 2\nfile 3 2026-11-22T18:00:00Z x\n"
        ));
        client.be_silent();
    });
    ran.failed(1, &format!("{WHO} {late}"));
}

#[test]
fn invalid_replies_are_shown_sanitized() {
    for (said, told) in [
        (
            "HTTP/1.1 400 Bad Request\r\n",
            "the server's reply was not understood: HTTP/1.1 400 Bad Request\\r",
        ),
        (
            "\u{1b}]0;owned\u{7}\u{202e}\n",
            "the server's reply was not understood: \\x1b]0;owned\\x07\\xe2\\x80\\xae",
        ),
        (
            "The server is full. Please try again later.\n",
            "The server is full. Please try again later.",
        ),
        ("", "the server closed the connection"),
        ("Please choose", "the server closed the connection"),
    ] {
        let (ran, _) = run(&["ls", "USER1", "Movies"], move |client| {
            client.say(said);
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            client.be_silent();
        });
        ran.failed(1, &format!("{WHO} {told}\n"));
    }
    let (ran, _) = run(&["ls", "USER1", "Movies"], |client| {
        client.say_for_ever("x")
    });
    ran.failed(
        1,
        &format!("{WHO} the server sent a line that is too long\n"),
    );
    // What was not asked for is no answer, whatever it is.
    let (ran, _) = run(&["get", "USER1", "Movies/Joker"], |client| {
        client.log_in();
        client.line();
        client.say("SHA-256 0000 Joker\n");
        client.be_silent();
    });
    assert!(
        ran.err
            .starts_with("tidegate: Movies/Joker: the server's reply was not understood: SHA-256"),
        "{ran:?}"
    );
    assert_eq!(ran.status, Some(1));
}

#[test]
fn directory_names_are_sanitized_for_the_terminal() {
    for names in ["Movies, \u{1b}[2J", "Movies, ..", "a/b"] {
        let (ran, _) = run(&["ls", "USER1"], move |client| {
            client.log_in();
            client.line();
            client.say(format!("The available directories are: {names}\n{MENU}"));
            client.be_silent();
        });
        ran.failed(
            1,
            &format!("{WHO} the server sent an invalid directory name\n"),
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
            client.log_in();
            assert_eq!(client.line(), "RESUME DOWNLOAD Movies/Zeros\n");
            assert_eq!(client.line(), format!("{LENGTH}\n"));
            client.say(format!(
                "Please enter the number of bytes you already have\nLENGTH 0\n{MENU}"
            ));
            assert_eq!(client.line(), "CHECKSUM FILE Movies/Zeros\n");
            std::thread::sleep(WORK);
            client.say(format!("SHA-256 {zeros} Zeros\n{MENU}"));
            client.line();
            client.say("Connection is terminated. You are logged out.\n");
        },
    );
    ran.moved(1, 0);
    assert!(downloads.join("Zeros").exists());

    // An upload's end too, and only for so long.
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
            client.log_in();
            assert_eq!(client.line(), format!("PUT FILE {LENGTH} Uploads/large\n"));
            let mut bytes = std::io::Read::take(&mut client.lines, LENGTH);
            std::io::copy(&mut bytes, &mut std::io::sink()).unwrap();
            std::thread::sleep(work);
            client.say(format!("Upload complete: large, {LENGTH} bytes\n{MENU}"));
            client.line();
            client.say("Connection is terminated. You are logged out.\n");
        });
        assert_eq!(ran.status, Some(status), "{ran:?}");
        if status == 1 {
            assert_eq!(
                ran.err,
                "tidegate: Uploads/large: timed out: no data for 4 s; use --timeout to wait longer\n"
            );
        }
    }
}

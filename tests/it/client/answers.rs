//! A server's answers that are not what was hoped for: refusals, goodbyes to who was idle, and none at all.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::hostile::{Client, DIRECTORY, FILE, MENU, WHO, run, run_in, talk_in};

const UNREADABLE: &str = "The directory cannot be read";
const IDLE: &str = "Idle for too long. Connection is terminated.\n";

/// Answers what it is asked, with `Movies` and `Docs` at the top, a file of three bytes wherever one is asked for, and
/// `Docs` not to be read. Returns what was not understood.
fn answer(client: &mut Client) -> String {
    loop {
        let line = client.line();
        let said = match line.trim_end() {
            "SHOW DIRECTORIES" => "The available directories are: Movies, Docs\n".into(),
            "SHOW DIRECTORY Movies" => {
                client.say(format!("The available files are: Joker, deep/\n{MENU}"));
                client.line();
                format!("ENTRIES 2\n{FILE} Joker\n{DIRECTORY} deep\n")
            }
            "SHOW DIRECTORY Docs" | "SHOW DIRECTORY Movies/deep" => {
                client.say(format!("{UNREADABLE}\n{MENU}"));
                client.line();
                "Please choose a directory first with 'SHOW DIRECTORY'\n".into()
            }
            file if file.starts_with("DOWNLOAD FILE ") => "LENGTH 3\nabc".into(),
            "QUIT" => {
                client.say("Connection is terminated. You are logged out.\n");
                return line;
            }
            _ => return line,
        };
        client.say(format!("{said}{MENU}"));
    }
}

#[test]
fn put_stops_if_the_remote_checksum_is_unavailable() {
    let put = |args: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("inside/downloads");
        fs::create_dir_all(&here).unwrap();
        fs::write(here.join("Welcome"), "new").unwrap();
        run_in(folder.path(), args, |client| {
            client.log_in();
            let line = answer(client);
            assert_eq!(line, "QUIT\n", "nothing is to be put");
        })
    };
    let told = format!("tidegate: Docs/Welcome: {UNREADABLE}\n");
    put(&["put", "USER1", "Docs", "downloads/Welcome"]).failed(1, &told);

    // It could be read when it was chosen.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("inside/downloads");
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("Welcome"), "new").unwrap();
    let lines = "SHOW DIRECTORY Uploads\nupload downloads/Welcome\n";
    let ran = talk_in(folder.path(), &["connect", "USER1"], lines, |client| {
        client.log_in();
        assert_eq!(client.line(), "SHOW DIRECTORY Uploads\n");
        client.say(format!("The available files are: Welcome\n{MENU}"));
        assert_eq!(client.line(), "SHOW DIRECTORY Uploads\n");
        client.say(format!("{UNREADABLE}\n{MENU}"));
        assert_eq!(client.line(), "SHOW DETAILS\n");
        client.say(format!("ENTRIES 1\n{FILE} Welcome\n{MENU}"));
        assert_eq!(answer(client), "QUIT\n");
    });
    ran.failed(0, "");
    assert!(ran.out.contains(UNREADABLE), "{ran:?}");
}

#[test]
fn patterns_report_unreadable_directories() {
    let serve = |client: &mut Client| {
        client.log_in();
        answer(client);
    };
    let told = format!("tidegate: Docs: {UNREADABLE}\n");
    let (ran, _) = run(&["get", "USER1", "*/J*"], serve);
    ran.failed(1, &told);
    assert!(ran.out.starts_with("1 file, 3 bytes, "), "{ran:?}");
    let (ran, _) = run(&["ls", "USER1", "*/J*"], serve);
    ran.failed(1, &told);
    assert_eq!(ran.out, "3\t2026-11-22T18:00:00Z\tMovies/Joker\n");
    for command in ["get", "ls"] {
        let (ran, _) = run(&[command, "USER1", "D*/J*"], serve);
        ran.failed(1, &told);
        let (ran, _) = run(&[command, "USER1", "Docs/J*"], serve);
        ran.failed(1, &format!("tidegate: Docs/J*: {UNREADABLE}\n"));
    }
}

#[test]
fn remote_checksums_extend_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let downloads = folder.path().join("inside/downloads");
    fs::create_dir_all(&downloads).unwrap();
    let zeros = fs::File::create(downloads.join("Zeros")).unwrap();
    zeros.set_len(25_000_000).unwrap();
    let args = [
        "get",
        "--continue",
        "--timeout",
        "1",
        "USER1",
        "Movies/Zeros",
    ];
    let ran = run_in(folder.path(), &args, |client| {
        client.log_in();
        client.be_silent();
    });
    let told = "tidegate: Movies/Zeros: timed out: no data for 4 s; use --timeout to wait longer\n";
    ran.failed(1, told);
}

#[test]
fn uploads_do_not_extend_the_timeout_twice() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("inside/downloads");
    fs::create_dir_all(&here).unwrap();
    let large = fs::File::create(here.join("large")).unwrap();
    large.set_len(25_000_000).unwrap();
    let lines = "SHOW DIRECTORY Uploads\nupload downloads/large\nSHOW DIRECTORIES\n";
    let args = ["connect", "--force", "--timeout", "1", "USER1"];
    let ran = talk_in(folder.path(), &args, lines, |client| {
        client.log_in();
        client.line();
        client.say(format!("There are no files in this directory\n{MENU}"));
        assert_eq!(client.line(), "PUT FILE 25000000 Uploads/large\n");
        let mut bytes = std::io::Read::take(&mut client.lines, 25_000_000);
        std::io::copy(&mut bytes, &mut std::io::sink()).unwrap();
        client.say(format!("Upload complete: large, 25000000 bytes\n{MENU}"));
        client.be_silent();
    });
    ran.failed(
        1,
        &format!("{WHO} timed out: no data for 1 s; use --timeout to wait longer\n"),
    );
}

/// Its first `idle` connections are said to have been idle as soon as anything is asked; the others are answered. Counts them.
fn idle_at_first(idle: usize) -> (Arc<AtomicUsize>, impl Fn(&mut Client) + Send + Sync) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let serve = move |client: &mut Client| {
        client.log_in();
        if counted.fetch_add(1, SeqCst) < idle {
            client.line();
            client.say(IDLE);
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            return client.be_silent();
        }
        let line = answer(client);
        if line.starts_with("PUT FILE 3 Uploads/") {
            std::io::Read::read_exact(&mut client.lines, &mut [0; 3]).unwrap();
            client.say(format!("Upload complete: x, 3 bytes\n{MENU}"));
            answer(client);
        }
    };
    (connections, serve)
}

#[test]
fn a_session_closed_for_idleness_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (connections, serve) = idle_at_first(1);
    let lines = "DOWNLOAD FILE\nMovies/Joker\nSHOW DIRECTORIES\n";
    let ran = talk_in(folder.path(), &["connect", "USER1"], lines, serve);
    ran.failed(0, "");
    let asked = ran.out.matches("Please choose the desired file").count();
    assert_eq!((connections.load(SeqCst), asked), (2, 1), "{ran:?}");
    let landed = ran.out.contains("downloads/Joker: 1 file, 3 bytes, ");
    assert!(landed && ran.out.contains("Movies, Docs\n"), "{ran:?}");

    let (connections, serve) = idle_at_first(1);
    let (ran, _) = run(&["get", "USER1", "Movies/Joker", "Movies/WAR"], serve);
    ran.moved(2, 6);
    assert_eq!(connections.load(SeqCst), 2);

    // Its connection is idle before it comes to the upload, of which nothing is begun.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("inside/downloads");
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("x"), "new").unwrap();
    let (connections, serve) = idle_at_first(1);
    let args = ["put", "--force", "USER1", "Uploads", "downloads/x"];
    let ran = run_in(folder.path(), &args, serve);
    assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(connections.load(SeqCst), 2);
}

#[test]
fn reconnects_after_idleness_are_bounded() {
    let (connections, serve) = idle_at_first(usize::MAX);
    let (ran, _) = run(&["get", "USER1", "Movies/Joker", "Movies/WAR"], serve);
    ran.failed(
        1,
        &format!("{WHO} {IDLE}{WHO} the connection was lost, 2 files were not transferred; run the command again\n"),
    );
    assert_eq!(connections.load(SeqCst), 2);
}

//! Refusals, goodbyes after the idle timeout, and missing replies.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::scripted_server::{Client, DIRECTORY, FILE, MENU, REMOTE, run, run_in, run_with_input};

const UNREADABLE: &str = "The directory cannot be read";
const IDLE: &str = "Idle for too long. Connection is terminated.\n";

/// Serves the directories `Movies` and `Docs`, of which `Docs` is unreadable, and a file of three
/// bytes
/// at any path. Returns the first other command.
fn serve(client: &mut Client) -> String {
    loop {
        let line = client.read_line();
        let reply = match line.trim_end() {
            "SHOW DIRECTORIES" => "The available directories are: Movies, Docs\n".into(),
            "SHOW DIRECTORY Movies" => {
                client.send(format!("The available files are: Joker, deep/\n{MENU}"));
                client.read_line();
                format!("ENTRIES 2\n{FILE} Joker\n{DIRECTORY} deep\n")
            }
            "SHOW DIRECTORY Docs" | "SHOW DIRECTORY Movies/deep" => {
                client.send(format!("{UNREADABLE}\n{MENU}"));
                client.read_line();
                "Please choose a directory first with 'SHOW DIRECTORY'\n".into()
            }
            file if file.starts_with("DOWNLOAD FILE ") => "LENGTH 3\nabc".into(),
            "QUIT" => {
                client.send("Connection is terminated. You are logged out.\n");
                return line;
            }
            _ => return line,
        };
        client.send(format!("{reply}{MENU}"));
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
            client.accept_login();
            let line = serve(client);
            assert_eq!(line, "QUIT\n", "an upload was sent");
        })
    };
    let error = format!("tidegate: Docs/Welcome: {UNREADABLE}\n");
    put(&["put", "USER1", "Docs", "downloads/Welcome"]).assert_ended(1, &error);

    // The directory becomes unreadable after it was chosen.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("inside/downloads");
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("Welcome"), "new").unwrap();
    let lines = "SHOW DIRECTORY Uploads\nupload downloads/Welcome\n";
    let ran = run_with_input(folder.path(), &["connect", "USER1"], lines, |client| {
        client.accept_login();
        assert_eq!(client.read_line(), "SHOW DIRECTORY Uploads\n");
        client.send(format!("The available files are: Welcome\n{MENU}"));
        assert_eq!(client.read_line(), "SHOW DIRECTORY Uploads\n");
        client.send(format!("{UNREADABLE}\n{MENU}"));
        assert_eq!(client.read_line(), "SHOW DETAILS\n");
        client.send(format!("ENTRIES 1\n{FILE} Welcome\n{MENU}"));
        assert_eq!(serve(client), "QUIT\n");
    });
    ran.assert_ended(0, "");
    assert!(ran.stdout.contains(UNREADABLE), "{ran:?}");
}

#[test]
fn patterns_report_unreadable_directories() {
    let script = |client: &mut Client| {
        client.accept_login();
        serve(client);
    };
    let error = format!("tidegate: Docs: {UNREADABLE}\n");
    let (ran, _) = run(&["get", "USER1", "*/J*"], script);
    ran.assert_ended(1, &error);
    assert!(ran.stdout.starts_with("1 file, 3 bytes, "), "{ran:?}");
    let (ran, _) = run(&["ls", "USER1", "*/J*"], script);
    ran.assert_ended(1, &error);
    assert_eq!(ran.stdout, "3\t2026-11-22T18:00:00Z\tMovies/Joker\n");
    for command in ["get", "ls"] {
        let (ran, _) = run(&[command, "USER1", "D*/J*"], script);
        ran.assert_ended(1, &error);
        let (ran, _) = run(&[command, "USER1", "Docs/J*"], script);
        ran.assert_ended(1, &format!("tidegate: Docs/J*: {UNREADABLE}\n"));
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
        client.accept_login();
        client.wait_for_close();
    });
    let error =
        "tidegate: Movies/Zeros: timed out: no data for 4 s; use --timeout to wait longer\n";
    ran.assert_ended(1, error);
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
    let ran = run_with_input(folder.path(), &args, lines, |client| {
        client.accept_login();
        client.read_line();
        client.send(format!("There are no files in this directory\n{MENU}"));
        assert_eq!(client.read_line(), "PUT FILE 25000000 Uploads/large\n");
        let mut bytes = std::io::Read::take(&mut client.lines, 25_000_000);
        std::io::copy(&mut bytes, &mut std::io::sink()).unwrap();
        client.send(format!("Upload complete: large, 25000000 bytes\n{MENU}"));
        client.wait_for_close();
    });
    ran.assert_ended(
        1,
        &format!("{REMOTE} timed out: no data for 1 s; use --timeout to wait longer\n"),
    );
}

/// Returns a script that closes the first `idle` connections for idleness at their first command
/// and
/// serves the others, and the number of connections.
fn idle_at_first(idle: usize) -> (Arc<AtomicUsize>, impl Fn(&mut Client) + Send + Sync) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let script = move |client: &mut Client| {
        client.accept_login();
        if counted.fetch_add(1, SeqCst) < idle {
            client.read_line();
            client.send(IDLE);
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            return client.wait_for_close();
        }
        let line = serve(client);
        if line.starts_with("PUT FILE 3 Uploads/") {
            std::io::Read::read_exact(&mut client.lines, &mut [0; 3]).unwrap();
            client.send(format!("Upload complete: x, 3 bytes\n{MENU}"));
            serve(client);
        }
    };
    (connections, script)
}

#[test]
fn a_session_closed_for_idleness_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let (connections, script) = idle_at_first(1);
    let lines = "DOWNLOAD FILE\nMovies/Joker\nSHOW DIRECTORIES\n";
    let ran = run_with_input(folder.path(), &["connect", "USER1"], lines, script);
    ran.assert_ended(0, "");
    let prompts = ran.stdout.matches("Please choose the desired file").count();
    assert_eq!((connections.load(SeqCst), prompts), (2, 1), "{ran:?}");
    let downloaded = ran.stdout.contains("downloads/Joker: 1 file, 3 bytes, ");
    assert!(
        downloaded && ran.stdout.contains("Movies, Docs\n"),
        "{ran:?}"
    );

    let (connections, script) = idle_at_first(1);
    let (ran, _) = run(&["get", "USER1", "Movies/Joker", "Movies/WAR"], script);
    ran.assert_transferred(2, 6);
    assert_eq!(connections.load(SeqCst), 2);

    // The session is closed before the upload has started.
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("inside/downloads");
    fs::create_dir_all(&here).unwrap();
    fs::write(here.join("x"), "new").unwrap();
    let (connections, script) = idle_at_first(1);
    let args = ["put", "--force", "USER1", "Uploads", "downloads/x"];
    let ran = run_in(folder.path(), &args, script);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(connections.load(SeqCst), 2);
}

#[test]
fn reconnects_after_idleness_are_bounded() {
    let (connections, script) = idle_at_first(usize::MAX);
    let (ran, _) = run(&["get", "USER1", "Movies/Joker", "Movies/WAR"], script);
    ran.assert_ended(
        1,
        &format!("{REMOTE} {IDLE}{REMOTE} the connection was lost, 2 files were not transferred; run the command again\n"),
    );
    assert_eq!(connections.load(SeqCst), 2);
}

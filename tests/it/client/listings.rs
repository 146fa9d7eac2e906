//! `ls`, password sources, usage errors, and errors of the standard output.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::run::{PROGRAM, Server, client, finish};
use crate::support::needs;

#[test]
fn listings_in_a_pipe_are_plain() {
    let server = Server::new();
    let ls = |args: &[&str]| {
        let ran = server.run(args);
        ran.assert_ended(0, "");
        ran.stdout
    };
    assert_eq!(
        ls(&["ls", "USER1"]),
        "-\t-\tMovies/\n-\t-\tMusic/\n-\t-\tDocs/\n"
    );
    let docs = "-\t2026-11-22T18:00:00Z\tClassics/\n669\t2026-11-22T18:00:00Z\tHarbour Rules\n\
                989\t2026-11-22T18:00:00Z\tHow a Lock Works\n903\t2026-11-22T18:00:00Z\tTides\n";
    assert_eq!(ls(&["ls", "USER1", "Docs"]), docs);
    assert_eq!(ls(&["ls", "--bytes", "USER1", "Docs/"]), docs);
    assert_eq!(
        ls(&["ls", "USER1", "Docs/Tides"]),
        "903\t2026-11-22T18:00:00Z\tDocs/Tides\n"
    );
    assert_eq!(
        ls(&["ls", "USER1", "*/*J*"]),
        "4096\t2026-11-22T18:00:00Z\tMovies/Joker\n"
    );
    for (path, why) in [
        ("Nowhere", "No such directory"),
        ("Docs/nothing", "No such file"),
        ("Nowhere/x", "No such directory: 'Nowhere'"),
        ("Docs/x*", "nothing matches the pattern"),
        ("Docs/\u{202e}", "No such file"),
    ] {
        let shown = path.replace('\u{202e}', "\\u{202e}");
        server
            .run(&["ls", "USER1", path])
            .assert_ended(1, &format!("tidegate: {shown}: {why}\n"));
    }
}

#[test]
fn password_sources_are_tried_in_order() {
    let server = Server::new();
    let remote = server.remote("user1");
    let ls = |password: Option<&str>, file: Option<&str>| {
        let mut args = vec!["ls", &remote, "Movies"];
        args.extend(file.map(|_| "--password-file").into_iter().chain(file));
        let mut command = server.command(&args);
        if let Some(password) = password {
            command.env("TIDEGATE_PASSWORD", password);
        }
        finish(command)
    };
    fs::write(server.local("password"), "1234\r\nnot this\n").unwrap();
    fs::write(server.local("empty"), "\n1234\n").unwrap();
    assert_eq!(ls(Some("1234"), None).status, Some(0));
    assert_eq!(ls(None, Some("password")).status, Some(0));
    assert_eq!(
        ls(Some("wrong"), Some("password")).status,
        Some(0),
        "the file takes precedence"
    );
    ls(Some("wrong"), None).assert_ended(
        1,
        &format!(
            "tidegate: {remote}: login failed; check the username and the password in \
             TIDEGATE_PASSWORD\n"
        ),
    );
    ls(Some("1234\n"), None).assert_ended(
        1,
        &format!("tidegate: {remote}: the password cannot be sent: it is too long or contains a line end\n"),
    );
    fs::write(server.local("stale"), "wrong\n").unwrap();
    ls(Some("1234"), Some("stale")).assert_ended(
        1,
        &format!(
            "tidegate: {remote}: login failed; check the username and the password in stale\n"
        ),
    );
    ls(None, Some("empty")).assert_ended(
        1,
        "tidegate: empty: the first line is empty; expected a password\n",
    );
    ls(None, Some("nowhere")).assert_ended(1, "tidegate: nowhere: no such file or directory\n");
    if needs::has("setsid") {
        ls(None, None).assert_ended(
            1,
            "tidegate: there is no terminal to read a password from; use --password-file or TIDEGATE_PASSWORD\n",
        );
    }
    let unknown = format!("nobody@127.0.0.1:{}", server.port());
    let mut command = server.command(&["get", &unknown, "Movies/Joker"]);
    command.env("TIDEGATE_PASSWORD", "x");
    finish(command).assert_ended(
        1,
        &format!(
            "tidegate: {unknown}: login failed; check the username and the password in \
             TIDEGATE_PASSWORD\n"
        ),
    );
}

#[test]
fn usage_errors_precede_any_connection() {
    let folder = tempfile::tempdir().unwrap();
    for (args, what) in [
        (&["get"][..], "missing REMOTE"),
        (&["get", "USER1"], "missing PATH"),
        (&["put", "USER1"], "missing DIRECTORY"),
        (&["put", "USER1", "Uploads"], "missing FILE"),
        (
            &["ls", "user1"],
            "REMOTE 'user1': expected USER@HOST or USER@HOST:PORT",
        ),
        (
            &["ls", "user1@::1"],
            "REMOTE 'user1@::1': write an IPv6 address in brackets: USER@[::1]",
        ),
        (
            &["connect", "user1@h:0"],
            "REMOTE 'user1@h:0': the port must be a number from 1 to 65535; a path is an argument of \
             its own",
        ),
        (
            &["get", "--jobs=0", "USER1", "x/y"],
            "--jobs '0': expected a number from 1 to 256",
        ),
        (
            &["get", "--jobs=257", "USER1", "x/y"],
            "--jobs '257': expected a number from 1 to 256",
        ),
        (
            &["put", "--timeout", "0", "USER1", "x", "y"],
            "--timeout '0': expected at least one second",
        ),
        (
            &["completions", "tcsh"],
            "SHELL 'tcsh': expected bash, zsh, fish or nushell",
        ),
    ] {
        let ran = finish(client(folder.path(), 1, args));
        ran.assert_ended(
            2,
            &format!("tidegate: {what}; see 'tidegate {} --help'\n", args[0]),
        );
    }
    let ran = finish(client(folder.path(), 1, &["get", "USER1", "x/y"]));
    ran.assert_ended(
        1,
        "tidegate: cannot connect to 127.0.0.1:1: connection refused. Check the port and that the \
         server is running.\n",
    );
}

#[test]
fn a_full_standard_output_is_an_error() {
    let server = Server::new();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec \"$0\" \"$@\" >/dev/full",
            PROGRAM,
            "ls",
            &server.remote("user1"),
            "Docs",
        ])
        .env("TIDEGATE_PASSWORD", "1234");
    let ran = finish(command);
    ran.assert_ended(
        1,
        "tidegate: cannot write to standard output: no space left on device\n",
    );
    assert!(fs::metadata("/dev/full").unwrap().permissions().mode() != 0);
}

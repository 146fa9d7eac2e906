//! The messages about everyday mistakes with the client commands, and its end when the reader of
//! its output has gone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use super::run::{Server, client, finish};
use super::scripted_server;
use crate::support::changes::{Change, change, plain_home};
use crate::support::ftp::serve_ftp;

#[test]
fn an_ftp_port_is_recognized() {
    let server = serve_ftp(plain_home(), &[]);
    let folder = tempfile::tempdir().unwrap();
    let port = server.address().port();
    fs::write(folder.path().join("x"), "x").unwrap();
    for args in [
        &["ls", "USER1"][..],
        &["get", "USER1", "Movies/Joker"],
        &["put", "USER1", "Movies", "x"],
        &["connect", "USER1"],
    ] {
        finish(client(folder.path(), port, args)).assert_ended(
            1,
            &format!(
                "tidegate: 127.0.0.1:{port} speaks FTP, not tidegate's menu; connect to the menu's \
                 port (default 2100)\n"
            ),
        );
    }
}

#[test]
fn unreachable_servers_are_reported_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let ls = |remote: &str| {
        let mut command = client(folder.path(), 1, &["ls", remote]);
        command.env("TIDEGATE_PASSWORD", "x");
        finish(command)
    };
    ls("a@localhost:1").assert_ended(
        1,
        "tidegate: cannot connect to localhost:1: connection refused. Check the port and that the \
         server is running.\n",
    );
    let unknown = ls("a@no.such.invalid");
    assert!(
        unknown
            .stderr
            .starts_with("tidegate: cannot find the host of no.such.invalid:2100: ")
            && unknown
                .stderr
                .ends_with(". Check the name, or give an address.\n"),
        "{unknown:?}"
    );
}

#[test]
fn a_directory_needs_the_option_recursive() {
    let server = Server::new();
    for path in ["Docs", "Docs/", "Docs/Classics", "Docs/Classics/"] {
        let shown = path.trim_end_matches('/');
        server.run(&["get", "USER1", path]).assert_ended(
            1,
            &format!("tidegate: {shown} is a directory; add --recursive\n"),
        );
    }
    fs::create_dir(server.local("folder")).unwrap();
    server
        .run(&["put", "USER2", "Uploads", "folder"])
        .assert_ended(
            1,
            "tidegate: folder: is a directory; use --recursive to upload it\n",
        );
}

#[test]
fn a_leading_slash_is_to_be_omitted() {
    let server = Server::new();
    fs::write(server.local("x"), "x").unwrap();
    let omit = "a path begins with the name of a directory; omit the leading '/'\n";
    for (args, place) in [
        (&["get", "USER1", "/Movies/Joker"][..], "/Movies/Joker"),
        (&["get", "USER1", "/Movies/*"], "/Movies/*"),
        (&["get", "--recursive", "USER1", "/Docs"], "/Docs"),
        (&["ls", "USER1", "/Docs"], "/Docs"),
    ] {
        server
            .run(args)
            .assert_ended(1, &format!("tidegate: {place}: {omit}"));
    }
    let remote = server.remote("user2");
    server
        .run(&["put", "USER2", "/Uploads", "x"])
        .assert_ended(1, &format!("tidegate: {remote}: /Uploads: {omit}"));
    assert_eq!(server.run(&["ls", "USER1", "/"]).status, Some(0));
}

#[test]
fn mistyped_paths_get_suggestions() {
    let server = Server::new();
    fs::write(server.local("x"), "x").unwrap();
    for (args, what) in [
        (
            &["get", "USER1", "Movis/Joker"][..],
            "Movis/Joker: No such file: there is no directory 'Movis' (did you mean 'Movies'?)",
        ),
        (
            &["get", "USER1", "Movies/Jokr"],
            "Movies/Jokr: No such file (did you mean 'Joker'?)",
        ),
        (
            &["get", "USER1", "movies/*"],
            "movies/*: No such directory (did you mean 'Movies'?)",
        ),
        (
            &["get", "--recursive", "USER1", "Doc"],
            "Doc: No such directory (did you mean 'Docs'?)",
        ),
        (
            &["get", "USER1", "Doc"],
            "Doc: No such directory (did you mean 'Docs'?); name a file as DIRECTORY/FILE",
        ),
        (
            &["ls", "USER1", "Movis"],
            "Movis: No such directory (did you mean 'Movies'?)",
        ),
        (
            &["ls", "USER1", "Movis/Joker"],
            "Movis/Joker: No such directory: 'Movis' (did you mean 'Movies'?)",
        ),
        (
            &["ls", "USER1", "Docs/classics"],
            "Docs/classics: No such file (did you mean 'Classics'?)",
        ),
        (
            &["put", "USER2", "Uplods", "x"],
            "Uplods/x: No such directory (did you mean 'Uploads'?)",
        ),
        (
            &["put", "--force", "USER2", "uploads", "x"],
            "uploads/x: No such directory (did you mean 'Uploads'?)",
        ),
    ] {
        server
            .run(args)
            .assert_ended(1, &format!("tidegate: {what}\n"));
    }
}

#[test]
fn a_full_quota_is_named_with_what_is_left() {
    let server = Server::with(|home| {
        change(
            home,
            &Change::DropLines("Directories".into(), "user2:Uploads".into()),
        );
        home.append("Directories", "user2:Uploads:read,upload,quota=10k");
        home.append("Directories", "user3::quota=11k");
    });
    let used = ["Notes.old", "Welcome", "Wish List"].map(|name| {
        fs::metadata(server.served(&format!("Uploads/{name}")))
            .unwrap()
            .len()
    });
    let left = 10_000 - used.iter().sum::<u64>();
    fs::write(server.local("large"), vec![0; 11_000]).unwrap();
    fs::write(server.local("small"), "x").unwrap();
    let ran = server.run(&["put", "USER2", "Uploads", "large", "small"]);
    ran.assert_ended(
        1,
        &format!(
            "tidegate: Uploads/large: There is not enough room for that file: it has 11000 bytes, \
             and the quota of 'Uploads' has {} of 10000 bytes left; remove files or ask the \
             server's operator\n",
            left - 1
        ),
    );
    assert!(ran.stdout.starts_with("1 file, "), "{ran:?}");
    let ran = server.run(&["put", "USER3", "Uploads", "large"]);
    assert!(
        ran.stderr
            .contains("it has 11000 bytes, and your quota has "),
        "{ran:?}"
    );
    assert!(ran.stderr.contains(" of 11000 bytes left;"), "{ran:?}");
}

#[test]
fn a_lack_of_room_in_connect_is_explained() {
    let server = Server::with(|home| {
        change(
            home,
            &Change::DropLines("Directories".into(), "user2:Uploads".into()),
        );
        home.append("Directories", "user2:Uploads:read,upload,quota=2k");
    });
    fs::write(server.local("large"), vec![0; 11_000]).unwrap();
    let lines = server.local("lines");
    fs::write(
        &lines,
        "SHOW DIRECTORY Uploads\nupload large\nupload nofile\nSHOW DIRECTORY /Uploads\n\
         DOWNLOAD FILE /Movies/Joker\n",
    )
    .unwrap();
    let mut command = server.command(&["connect", "USER2"]);
    command.stdin(fs::File::open(lines).unwrap());
    let ran = finish(command);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let [no_room, no_file, directory, file] = lines[..] else {
        panic!("{ran:?}")
    };
    assert!(
        no_room.starts_with(
            "tidegate: Uploads/large: There is not enough room for that file: it has 11000 bytes, \
             and the quota of 'Uploads' has "
        ),
        "{ran:?}"
    );
    let here = server.folder.path().display();
    assert_eq!(
        no_file,
        format!("tidegate: nofile: no such file or directory in {here}")
    );
    let omit = "a path begins with the name of a directory; omit the leading '/'";
    assert_eq!(directory, format!("tidegate: /Uploads: {omit}"));
    assert_eq!(file, format!("tidegate: /Movies/Joker: {omit}"));
    assert_eq!(ran.status, Some(0));
}

#[test]
fn a_local_limit_is_named_with_what_to_do() {
    let server = Server::new();
    let program = super::run::PROGRAM;
    let mut command = Command::new("sh");
    let script = "ulimit -f 1; trap '' XFSZ; exec \"$0\" \"$@\"";
    command
        .args(["-c", script, program, "get", &server.remote("user1")])
        .arg("Movies/Joker")
        .env("TIDEGATE_PASSWORD", "1234")
        .current_dir(server.folder.path());
    finish(command).assert_ended(
        1,
        "tidegate: Movies/Joker: downloads/Joker.part: the file is larger than the local file \
         system or 'ulimit -f' allows; choose another folder with --into\n",
    );
}

/// Closes the output after its first line, as `head -1` does.
#[test]
fn a_closed_output_ends_the_client_like_other_programs() {
    let server = Server::with(|home| {
        for number in 0..2_000 {
            let path = format!("Docs/{number:060}");
            fs::write(home.file(&path), "").unwrap();
        }
    });
    let mut command = server.command(&["ls", "USER1", "Docs"]);
    // `setsid --wait` would report the signal as a status.
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    if command.get_program() == "setsid" {
        command = Command::new(&args[1]);
        command
            .args(&args[2..])
            .env("TIDEGATE_PASSWORD", "1234")
            .current_dir(server.folder.path());
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        (
            ended.status.signal(),
            String::from_utf8(ended.stderr).unwrap()
        ),
        (Some(nix::libc::SIGPIPE), String::new())
    );
}

#[test]
fn another_program_at_the_port_is_named() {
    let (ran, _) = scripted_server::run(&["get", "USER1", "Movies/Joker"], |client| {
        client.send("SSH-2.0-OpenSSH_9.6\r\n");
        client.wait_for_close();
    });
    ran.assert_ended(
        1,
        "tidegate: 127.0.0.1:PORT speaks SSH, not tidegate's menu; connect to the menu's port \
         (default 2100)\n",
    );
}

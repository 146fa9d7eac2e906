//! `connect` with input from a pipe.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use super::run::{Output, Server, finish, reader, wait};

fn connect(server: &Server, args: &[&str], lines: &str) -> Output {
    let mut command = server.command(&[&["connect"], args].concat());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = reader(child.stdout.take().unwrap());
    let err = reader(child.stderr.take().unwrap());
    // The program does not read it if the login fails.
    let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
    Output {
        status: wait(&mut child),
        stdout: out.join().unwrap(),
        stderr: err.join().unwrap(),
    }
}

const MENU: &str = "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'UPLOAD FILE' or 'QUIT'\n";
const GOODBYE: &str = "Connection is terminated. You are logged out.\n";

#[test]
fn connect_shows_the_menu_dialogue() {
    let server = Server::new();
    let ran = connect(
        &server,
        &["USER1"],
        "SHOW DIRECTORIES\nshow  directory\nDocs\nSHOW DETAILS\nchecksum file Tides\nSHOW DIRECTORY nowhere\n\
         SHOW DIRECTORY Docs/Classics/\n\nLOGIN\nbogus\nPUT FILE 3 x\nMAKE DIRECTORY x\nDOWNLOAD FILE\n\nQUIT\nSHOW DIRECTORIES\n",
    );
    ran.assert_ended(0, "");
    assert_eq!(
        ran.stdout,
        [
            MENU,
            "The available directories are: Movies, Music, Docs\n",
            "Please enter the desired directory\n",
            "The available files are: Classics/, Harbour Rules, How a Lock Works, Tides\n",
            "          -  2026-11-22 18:00  Classics/\n",
            "      669 B  2026-11-22 18:00  Harbour Rules\n",
            "      989 B  2026-11-22 18:00  How a Lock Works\n",
            "      903 B  2026-11-22 18:00  Tides\n",
            "SHA-256 ",
            &ran.stdout[ran.stdout.find("SHA-256 ").unwrap() + 8..][..64],
            " Tides\n",
            "No such directory\n",
            "The available files are: Jabberwocky, Ozymandias, Sonnet 18\n",
            MENU,
            "You are already logged in\n",
            "Unknown command. 'HELP' lists them.\n",
            "Use 'UPLOAD FILE' to send a local file\n",
            "You may not upload to this directory\n",
            "Please choose the desired file to download\n",
            GOODBYE,
        ]
        .concat()
    );
}

#[test]
fn connect_downloads_and_uploads_files() {
    let server = Server::new();
    fs::create_dir(server.local("folder")).unwrap();
    fs::write(server.local("folder/Fresh"), "fresh").unwrap();
    fs::write(server.local("Welcome"), "mine").unwrap();
    fs::create_dir(server.local("received")).unwrap();
    fs::write(server.local("received/Notes.old.part"), "x").unwrap();
    let ran = connect(
        &server,
        &["--into", "received", "USER2"],
        "upload Welcome\nSHOW DIRECTORY Uploads\nDOWNLOAD FILE Movies/Joker\nDOWNLOAD FILE Movies/Joker\nDOWNLOAD FILE\nnothing\n\
         RESUME DOWNLOAD Notes.old\nupload Welcome\nUPLOAD FILE\nfolder/Fresh\nupload nowhere\nMAKE DIRECTORY made\n",
    );
    assert_eq!(ran.status, Some(0));
    assert_eq!(
        ran.stderr,
        format!(
            "tidegate: received/Joker: already exists; use --force to replace it\n\
             tidegate: Welcome: already exists; use --force to replace it\n\
             tidegate: nowhere: no such file or directory in {}\n",
            server.folder.path().display()
        )
    );
    for line in [
        "Please choose a directory first with 'SHOW DIRECTORY'\n",
        "\nreceived/Joker: 1 file, 4096 bytes, ",
        "\nNo such file\n",
        "\nreceived/Notes.old: 1 file, ",
        "\nFresh: 1 file, 5 bytes, ",
        "\nDirectory made: made\n",
    ] {
        assert!(ran.stdout.contains(line), "{line:?} {ran:?}");
    }
    assert!(ran.stdout.ends_with(GOODBYE));
    assert_eq!(
        fs::read(server.local("received/Joker")).unwrap(),
        fs::read(server.served("Movies/Joker")).unwrap()
    );
    assert_eq!(
        fs::read(server.local("received/Notes.old")).unwrap(),
        fs::read(server.served("Uploads/Notes.old")).unwrap()
    );
    assert_eq!(fs::read(server.served("Uploads/Fresh")).unwrap(), b"fresh");
    assert_ne!(fs::read(server.served("Uploads/Welcome")).unwrap(), b"mine");
    assert!(server.served("Uploads/made").is_dir());

    let ran = connect(
        &server,
        &["--force", "USER3"],
        "SHOW DIRECTORY Uploads\nupload Welcome\n",
    );
    ran.assert_ended(0, "");
    assert_eq!(fs::read(server.served("Uploads/Welcome")).unwrap(), b"mine");
}

#[test]
fn failed_logins_and_lost_servers_exit_nonzero() {
    let mut server = Server::new();
    let remote = server.remote("user1");
    let mut command = server.command(&["connect", &remote]);
    command.env("TIDEGATE_PASSWORD", "wrong");
    finish(command).assert_ended(
        1,
        &format!(
            "tidegate: {remote}: login failed; check the username and the password in \
             TIDEGATE_PASSWORD\n"
        ),
    );

    let mut child = server.command(&["connect", "USER1"]);
    let mut child = child
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, MENU);
    server.stop();
    let _ = child.stdin.take().unwrap().write_all(b"SHOW DIRECTORIES\n");
    let err = reader(child.stderr.take().unwrap());
    assert_eq!(wait(&mut child), Some(1));
    let err = err.join().unwrap();
    assert!(
        err.starts_with(&format!("tidegate: {remote}: ")) && err.lines().count() == 1,
        "{err}"
    );
}

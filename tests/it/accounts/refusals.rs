//! Usage errors, invalid homes and passwords, and the help.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::edited_home::{EditedHome, HASH, failed, ok, printed};

#[test]
fn usage_errors_are_reported_and_change_nothing() {
    let home = EditedHome::with(&format!("a:{HASH}\n"), "");
    let before = home.read_files();
    for (args, line, command) in [
        (&[][..], "missing command; expected one of ", "tidegate"),
        (&["frobnicate"], "unknown command 'frobnicate'", "tidegate"),
        (
            &["--frobnicate"],
            "unknown option '--frobnicate'",
            "tidegate",
        ),
        (
            &["user"],
            "missing command; expected one of add, passwd, remove, list, hash",
            "tidegate user",
        ),
        (&["user", "hepl"], "unknown command 'hepl'", "tidegate user"),
        (&["init"], "missing HOME", "tidegate init"),
        (&["init", ""], "HOME '': the path is empty", "tidegate init"),
        (
            &["user", "add", "HOME"],
            "missing USER",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", "x:y"],
            "USER 'x:y': the name contains a ':'",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", "*"],
            "USER '*': the name '*' means every user",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", "#x"],
            "USER '#x': the name begins with '#', as a comment does",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", ""],
            "USER '': the name is empty",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", "b", "pass"],
            "unexpected argument 'pass'",
            "tidegate user add",
        ),
        (
            &["user", "add", "HOME", "b", "--password-stdin=x"],
            "--password-stdin takes no value",
            "tidegate user add",
        ),
        (
            &["user", "remove", "HOME", "a", "--pid-file=x"],
            "--pid-file requires --reload",
            "tidegate user remove",
        ),
        (
            &["user", "remove", "HOME", "a", "--pid-file"],
            "--pid-file needs a value",
            "tidegate user remove",
        ),
        (
            &["user", "list", "HOME", "--reload"],
            "unknown option '--reload'",
            "tidegate user list",
        ),
        (
            &["grant", "HOME", "a"],
            "missing DIRECTORY RIGHTS",
            "tidegate grant",
        ),
        (
            &["grant", "HOME", "a", ".D", "read"],
            "DIRECTORY '.D': the name begins with a dot",
            "tidegate grant",
        ),
        (
            &["grant", "HOME", "a", "D/E", "read"],
            "DIRECTORY 'D/E': the name contains a '/'; name the directory, and give its path last",
            "tidegate grant",
        ),
        (
            &["grant", "HOME", "a", "D", "write"],
            "RIGHTS 'write': unknown right 'write'",
            "tidegate grant",
        ),
        (
            &["grant", "HOME", "a", "D", "read", ""],
            "PATH '': the path is empty",
            "tidegate grant",
        ),
        (
            &["revoke", "HOME", "a"],
            "missing DIRECTORY",
            "tidegate revoke",
        ),
    ] {
        let ran = home.run(args);
        assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(
            ran.stderr.starts_with(&format!("tidegate: {line}")),
            "{args:?}: {}",
            ran.stderr
        );
        let more = format!("; see '{command} --help'\n");
        assert!(ran.stderr.ends_with(&more), "{args:?}: {}", ran.stderr);
    }
    let mut command = home.command(&["user", "remove", "HOME"]);
    command.arg(OsStr::from_bytes(b"a\xff"));
    assert_eq!(
        home.finish(&mut command, ""),
        failed(
            2,
            "tidegate: an argument is not valid UTF-8; see 'tidegate --help'\n"
        )
    );
    assert_eq!(home.read_files(), before);
}

#[test]
fn every_subcommand_has_help() {
    let home = EditedHome::new();
    for args in [
        &[][..],
        &["serve"],
        &["init"],
        &["user"],
        &["user", "add"],
        &["user", "passwd"],
        &["user", "remove"],
        &["user", "list"],
        &["user", "hash"],
        &["grant"],
        &["revoke"],
    ] {
        for help in ["--help", "-h"] {
            let ran = home.run(&[args, &[help]].concat());
            assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
            let usage = format!("Usage: {}", [&["tidegate"], args].concat().join(" "));
            assert!(ran.stdout.starts_with(&usage), "{}", ran.stdout);
            assert!(ran.stdout.contains("-h, --help"), "{}", ran.stdout);
        }
    }
    let version = concat!("tidegate ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(home.run(&["--version"]), printed(version));
}

#[test]
fn invalid_homes_are_never_edited() {
    let home = EditedHome::with("a:plain:x\nb:secret\n", "a:A:read\na:A:read\nc\n");
    let before = home.read_files();
    for args in [
        &["user", "add", "HOME", "z", "--password-stdin"][..],
        &["user", "passwd", "HOME", "a", "--password-stdin"],
        &["user", "remove", "HOME", "a"],
        &["user", "list", "HOME"],
        &["user", "hash", "HOME"],
        &["grant", "HOME", "a", "B", "read"],
        &["revoke", "HOME", "a", "A"],
        &["serve", "HOME"],
    ] {
        let ran = home.run_with(args, "x\n");
        assert_eq!(
            ran,
            failed(
                2,
                "tidegate: HOME/Credentials:2: the name is followed by neither a hash, 'plain:' \
                 nor 'anyone'; expected USER:HASH, USER:plain:PASSWORD or USER:anyone\n\
                 tidegate: HOME/Directories:2: the grant of 'A' to 'a' is already defined in \
                 line 1; expected one grant for each user and directory\n\
                 tidegate: HOME/Directories:3: the line has fewer than three fields; expected \
                 USER:DIRECTORY:RIGHTS or USER:DIRECTORY:RIGHTS:PATH\n"
            ),
            "{args:?}"
        );
    }
    assert_eq!(home.read_files(), before);
    assert!(!home.path().join("files/B").exists());
}

#[test]
fn commands_do_not_create_a_missing_home() {
    let home = EditedHome {
        folder: tempfile::tempdir().unwrap(),
    };
    fs::create_dir(home.path()).unwrap();
    let ran = home.run(&["grant", "HOME", "a", "A", "read"]);
    assert_eq!(
        ran,
        failed(
            2,
            "tidegate: HOME: not a home, since it has no Credentials and no Directories; \
             'tidegate init HOME' creates them\n"
        )
    );
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn rejected_passwords_are_not_printed() {
    let home = EditedHome::new();
    let add = ["user", "add", "HOME", "a", "--password-stdin"];
    let empty = failed(
        1,
        "tidegate: the password is empty; it is the first line of standard input\n",
    );
    assert_eq!(home.run_with(&add, ""), empty);
    assert_eq!(home.run_with(&add, "\nx\n"), empty);
    assert_eq!(home.run_with(&add, "\r\n"), empty);
    let long = "p".repeat(4096);
    assert_eq!(
        home.run_with(&add, &long),
        failed(
            1,
            "tidegate: the password is longer than 4,095 bytes; it is the first line of standard \
             input\n"
        )
    );
    assert_eq!(home.run_with(&add, &long[1..]), ok());
    assert!(home.accepts("a", &long[1..]));
}

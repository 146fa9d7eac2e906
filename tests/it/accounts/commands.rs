//! The commands that edit a home.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use tidegate::config::Home;

use super::edited_home::{EditedHome, HASH, PROGRAM, failed, mode, ok, printed, set_mode};

#[test]
fn init_refuses_an_existing_home() {
    let home = EditedHome {
        folder: tempfile::tempdir().unwrap(),
    };
    let ran = home.run(&["init", "HOME"]);
    assert_eq!(
        ran,
        printed(
            "created HOME\n\
             next: 'tidegate user add HOME USER', 'tidegate grant HOME USER DIRECTORY read'\n"
        )
    );
    assert_eq!(mode(&home.credentials()), 0o600);
    assert!(home.path().join("files").is_dir() && home.has_no_temporary_files());
    let (loaded, warnings) = Home::load(&home.path()).unwrap();
    assert_eq!((loaded.accounts().count(), warnings.len()), (0, 0));

    let before = home.read_files();
    let again = failed(
        1,
        "tidegate: HOME/Credentials: the home exists already; 'tidegate user add' adds users to \
         it\n",
    );
    assert_eq!(home.run(&["init", "HOME"]), again);
    fs::remove_file(home.credentials()).unwrap();
    let again = failed(
        1,
        "tidegate: HOME/Directories: the home exists already; 'tidegate user add' adds users to \
         it\n",
    );
    assert_eq!(home.run(&["init", "HOME"]), again);
    assert_eq!(fs::read_to_string(home.directories()).unwrap(), before.1);
}

#[test]
fn init_accepts_an_empty_folder_and_creates_missing_ones() {
    let home = EditedHome {
        folder: tempfile::tempdir().unwrap(),
    };
    let folder = home.folder.path();
    for path in [folder.to_path_buf(), folder.join("a/b")] {
        let ran = home.run(&["init", path.to_str().unwrap()]);
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
        assert!(Home::load(&path).is_ok());
    }
    fs::write(folder.join("file"), "").unwrap();
    let ran = home.run(&["init", folder.join("file").to_str().unwrap()]);
    assert_eq!(ran.status, Some(2));
    assert!(
        ran.stderr.ends_with(
            "/file: not a directory; a home is the directory that contains Credentials and \
             Directories\n"
        ),
        "{}",
        ran.stderr
    );
}

#[test]
fn users_are_added_changed_and_removed() {
    let home = EditedHome::new();
    let add = ["user", "add", "HOME", "anna b", "--password-stdin"];
    assert_eq!(home.run_with(&add, " pass:word \n"), ok());
    assert!(home.accepts("anna b", " pass:word "));
    let ran = home.run_with(&add, "other\n");
    assert_eq!(
        ran,
        failed(
            1,
            "tidegate: user 'anna b' exists already; 'tidegate user passwd' changes the password\n"
        )
    );
    assert!(home.accepts("anna b", " pass:word "));

    let passwd = ["user", "passwd", "HOME", "anna b", "--password-stdin"];
    assert_eq!(home.run_with(&passwd, "new\r\n"), ok());
    assert!(home.accepts("anna b", "new"));
    let passwd = ["user", "passwd", "HOME", "nobody", "--password-stdin"];
    assert_eq!(
        home.run_with(&passwd, "x\n"),
        failed(
            1,
            "tidegate: there is no user 'nobody'; 'tidegate user list HOME' lists them\n"
        )
    );

    assert_eq!(home.run(&["grant", "HOME", "anna b", "A", "read"]), ok());
    assert_eq!(home.run(&["grant", "HOME", "*", "B", "read"]), ok());
    assert_eq!(home.run(&["user", "remove", "HOME", "anna b"]), ok());
    let (credentials, directories) = home.read_files();
    assert!(!credentials.contains("anna") && !directories.contains("anna"));
    assert!(directories.ends_with("\n*:B:read\n"));
    let ran = home.run(&["user", "remove", "HOME", "anna b"]);
    assert_eq!(
        ran,
        failed(
            1,
            "tidegate: there is no user 'anna b'; 'tidegate user list HOME' lists them\n"
        )
    );
}

#[test]
fn remaining_grants_of_a_removed_user_can_be_removed() {
    let home = EditedHome::with("", "gone:A:read\n");
    assert_eq!(home.run(&["user", "remove", "HOME", "gone"]), ok());
    assert_eq!(home.read_files(), (String::new(), String::new()));
}

#[test]
fn user_list_omits_password_hashes() {
    let home = EditedHome::with(
        &format!("# c\nb:{HASH}\na:plain:secret\nc:{HASH}\n"),
        "*:All:read\nb:Films:read,upload\nb:All:change\na:Box:upload:/nowhere\nx:All:read\n",
    );
    set_mode(&home.credentials(), 0o644);
    for directory in ["All", "Films"] {
        fs::create_dir(home.path().join("files").join(directory)).unwrap();
    }
    let ran = home.run(&["user", "list", "HOME"]);
    assert_eq!(
        ran.stdout,
        "b: Films (read,upload), All (change)\na: All (read), Box (upload)\nc: All (read)\n"
    );
    assert_eq!(
        ran.stderr,
        "tidegate: warning: HOME/Credentials: every user of this machine can read it; restrict it \
         with 'chmod 600 HOME/Credentials'\n\
         tidegate: warning: HOME/Credentials:3: the password of 'a' is not hashed; replace it by \
         a hash with 'tidegate user hash HOME'\n\
         tidegate: warning: HOME/Directories:4: '/nowhere' does not exist; create it with \
         'mkdir -p /nowhere' or correct the path\n\
         tidegate: warning: HOME/Directories:5: a grant for 'x', but there is no such user; \
         correct the name or add the user with 'tidegate user add'\n"
    );
    assert_eq!(ran.status, Some(0));
    let home = EditedHome::with(&format!("b:{HASH}\n"), "");
    assert_eq!(
        home.run(&["user", "list", "HOME"]).stdout,
        "b: no directories\n"
    );
}

#[test]
fn plain_passwords_are_hashed_in_place() {
    let home = EditedHome::with(
        &format!("# first\na:plain: pass:word # \nb:{HASH}\n\n# last\nc:plain:x"),
        "",
    );
    set_mode(&home.credentials(), 0o664);
    assert_eq!(
        home.run(&["user", "hash", "HOME"]),
        printed("passwords hashed: 2\n")
    );
    assert_eq!(mode(&home.credentials()), 0o600);
    assert!(home.accepts("a", " pass:word # ") && home.accepts("c", "x"));
    let (credentials, _) = home.read_files();
    let shapes: Vec<_> = credentials
        .lines()
        .map(|line| line.split('$').next().unwrap())
        .collect();
    assert_eq!(shapes, ["# first", "a:", "b:", "", "# last", "c:"]);
    assert!(credentials.contains(&format!("\nb:{HASH}\n")));

    let inode = fs::metadata(home.credentials()).unwrap().ino();
    assert_eq!(
        home.run(&["user", "hash", "HOME"]),
        printed("passwords hashed: 0\n")
    );
    assert_eq!(
        fs::metadata(home.credentials()).unwrap().ino(),
        inode,
        "the file is not rewritten"
    );
}

#[test]
fn grants_are_added_replaced_and_revoked() {
    let home = EditedHome::with(
        &format!("a:{HASH}\n"),
        "# one\na:A:read\n\n# two\n*:A:read\n",
    );
    assert_eq!(
        home.run(&["grant", "HOME", "a", "A", "read,upload,change"]),
        ok()
    );
    assert!(home.path().join("files/A").is_dir());
    assert_eq!(home.run(&["grant", "HOME", "*", "B", "upload", "."]), ok());
    assert!(!home.path().join("files/B").exists());
    assert_eq!(
        home.read_files().1,
        "# one\na:A:read,upload,change\n\n# two\n*:A:read\n*:B:upload:.\n"
    );
    let ran = home.run(&["grant", "HOME", "b", "C", "read", "not/there:yet"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(0), ""));
    assert_eq!(
        ran.stderr,
        "tidegate: warning: there is no user 'b' yet; add one with 'tidegate user add'\n\
         tidegate: warning: 'HOME/not/there:yet' does not exist; create it \
         with 'mkdir -p HOME/not/there:yet' or correct the path\n"
    );
    assert_eq!(home.run(&["revoke", "HOME", "*", "A"]), ok());
    assert_eq!(home.run(&["revoke", "HOME", "b", "C"]), ok());
    assert_eq!(
        home.read_files().1,
        "# one\na:A:read,upload,change\n\n# two\n*:B:upload:.\n"
    );
    let ran = home.run(&["revoke", "HOME", "a", "B"]);
    assert_eq!(
        ran,
        failed(
            1,
            "tidegate: there is no grant of 'B' to 'a'; 'tidegate user list HOME' lists them\n"
        )
    );
    assert!(
        home.path().join("files/A").is_dir(),
        "files are never removed"
    );
}

#[test]
fn a_password_command_reads_one_line_of_standard_input() {
    let home = EditedHome::new();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(r#""$0" user add "$1" a --password-stdin && "$0" user add "$1" b --password-stdin"#)
        .arg(PROGRAM)
        .arg(home.path());
    assert_eq!(home.finish(&mut shell, "one\ntwo"), ok());
    assert!(home.accepts("a", "one") && home.accepts("b", "two"));
}

#[test]
fn edits_keep_bom_crlf_and_missing_line_ends() {
    let home = EditedHome::with(
        "\u{feff}# c\r\na:plain:x\r\n",
        "\u{feff}*:A:read\r\n\r\n# end",
    );
    assert_eq!(
        home.run_with(&["user", "add", "HOME", "b", "--password-stdin"], "y\n"),
        ok()
    );
    assert_eq!(home.run(&["grant", "HOME", "a", "B", "read"]), ok());
    let (credentials, directories) = home.read_files();
    assert!(credentials.starts_with("\u{feff}# c\r\na:plain:x\r\nb:$argon2id$"));
    assert!(credentials.ends_with("\r\n"));
    assert_eq!(directories, "\u{feff}*:A:read\r\n\r\n# end\r\na:B:read\r\n");
    assert_eq!(home.run(&["user", "remove", "HOME", "a"]), ok());
    assert!(
        home.read_files()
            .0
            .starts_with("\u{feff}# c\r\nb:$argon2id$")
    );
    assert_eq!(home.read_files().1, "\u{feff}*:A:read\r\n\r\n# end\r\n");
}

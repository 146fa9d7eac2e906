//! Changes that are cut short, that fail, that meet each other, and that are made by root.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use tidegate::config::Home;

use super::{HASH, PROGRAM, Services, failed, mode, ok, set_mode};
use crate::support::NOBODY;
use crate::support::needs;

#[test]
fn edits_keep_modes_and_symbolic_links() {
    let house = Services::with(&format!("a:{HASH}\n"), "");
    let real = house.folder.path().join("real");
    fs::rename(house.credentials(), &real).unwrap();
    symlink("../real", house.credentials()).unwrap();
    for (before, after) in [
        (0o644, 0o600),
        (0o640, 0o600),
        (0o600, 0o600),
        (0o400, 0o400),
    ] {
        set_mode(&real, before);
        assert_eq!(
            house.run_with(&["user", "passwd", "HOME", "a", "--password-stdin"], "x\n"),
            ok()
        );
        assert_eq!(mode(&real), after);
        assert!(
            fs::symlink_metadata(house.credentials())
                .unwrap()
                .is_symlink()
        );
    }
    assert!(house.lets_in("a", "x"));
    set_mode(&house.directories(), 0o664);
    assert_eq!(house.run(&["grant", "HOME", "a", "A", "read"]), ok());
    assert_eq!(mode(&house.directories()), 0o664);
    assert!(house.is_tidy());
}

/// The rest of what root does in somebody's home.
#[test]
fn files_made_by_root_belong_to_the_owner_of_the_home() {
    if !needs::has("root") {
        return;
    }
    let house = Services::new();
    fs::remove_file(house.path().join(".tidegate.lock")).unwrap();
    for path in [house.path(), house.credentials(), house.directories()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    assert_eq!(
        house.run_with(&["user", "add", "HOME", "a", "--password-stdin"], "x\n"),
        ok()
    );
    assert_eq!(house.run(&["grant", "HOME", "a", "A", "read"]), ok());
    for name in ["Credentials", "Directories", ".tidegate.lock", "files/A"] {
        let status = fs::metadata(house.path().join(name)).unwrap();
        assert_eq!((status.uid(), status.gid()), (NOBODY, NOBODY), "{name}");
    }
    assert_eq!(mode(&house.credentials()), 0o600);

    // And its owner cannot change it where he may not write; nothing is lost then.
    let before = house.texts();
    set_mode(house.folder.path(), 0o755);
    set_mode(&house.path(), 0o555);
    let program = house.folder.path().join("tidegate");
    // By another process: a handle of ours could still be open for writing in a child that another test has just started.
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(program);
    command
        .args(["user", "remove"])
        .arg(house.path())
        .arg("a")
        .uid(NOBODY)
        .gid(NOBODY);
    assert_eq!(
        house.finish(&mut command, ""),
        failed(
            1,
            "tidegate: cannot replace HOME/Credentials: Permission denied (os error 13)\n"
        )
    );
    assert_eq!(house.texts(), before);
}

#[test]
fn concurrent_edits_are_serialized() {
    let house = Services::with("", "");
    let mut children = Vec::new();
    for n in 0..8 {
        let mut child = house
            .command(&["user", "add", "HOME", &format!("u{n}"), "--password-stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "p{n}").unwrap();
        children.push(child);
        let grant = house
            .command(&["grant", "HOME", "*", &format!("D{n}"), "read"])
            .spawn();
        children.push(grant.unwrap());
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let (home, warnings) = Home::load(&house.path()).unwrap();
    assert_eq!((home.accounts().count(), warnings), (8, vec![]));
    assert_eq!(home.access("u0").unwrap().grants.len(), 8);
    assert!((0..8).all(|n| house.lets_in(&format!("u{n}"), &format!("p{n}"))));
    assert!(house.is_tidy());
}

#[test]
fn a_failed_write_keeps_the_old_file() {
    let house = Services::with("a:plain:x\nb:plain:y\n", "");
    let before = house.texts();
    // No room for a single byte: told as an error where the signal for it is ignored, an end in mid-write where it is not.
    let limited = |ignore: &str| {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!(
                "{ignore} ulimit -f 0; ulimit -c 0; exec \"$0\" user remove \"$1\" a"
            ))
            .arg(PROGRAM)
            .arg(house.path());
        shell
    };
    assert_eq!(
        house.finish(&mut limited("trap '' XFSZ;"), ""),
        failed(
            1,
            "tidegate: cannot replace HOME/Credentials: File too large (os error 27)\n"
        )
    );
    assert_eq!(house.texts(), before);
    assert!(house.is_tidy());

    let status = limited("").status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGXFSZ));
    assert_eq!(house.texts(), before);
    assert!(!house.is_tidy(), "the crash has left something");
    assert_eq!(house.run(&["user", "remove", "HOME", "a"]), ok());
    assert_eq!(house.texts().0, "b:plain:y\n");
    assert!(house.is_tidy(), "the next change clears it away");

    // What is in the way and no file is not removed.
    let in_the_way = house.path().join(".Credentials.new");
    fs::create_dir(&in_the_way).unwrap();
    let ran = house.run(&["user", "remove", "HOME", "b"]);
    assert_eq!(
        ran,
        failed(
            1,
            "tidegate: cannot remove HOME/.Credentials.new: Is a directory (os error 21)\n"
        )
    );
    assert!(in_the_way.is_dir());
    assert_eq!(house.texts().0, "b:plain:y\n");
}

#[test]
fn a_kill_during_an_edit_leaves_the_old_or_the_new_file() {
    let house = Services::with("# c\na:plain:x\n", "# c\n*:A:read\na:A:read\n");
    let (mut old, directories) = house.texts();
    let mut changed = 0;
    for n in 0..40 {
        let mut child = house
            .command(&["user", "passwd", "HOME", "a", "--password-stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "p{n}").unwrap();
        std::thread::sleep(Duration::from_millis(2 * n));
        child.kill().unwrap();
        child.wait().unwrap();
        let (new, same) = house.texts();
        assert_eq!(same, directories);
        if new != old {
            assert!(new.starts_with("# c\na:$argon2id$"));
            assert!(house.lets_in("a", &format!("p{n}")));
            changed += 1;
        }
        old = new;
    }
    eprintln!("{changed} of 40 were done before the kill");
    assert_eq!(house.run(&["user", "remove", "HOME", "a"]), ok());
    assert_eq!(house.texts(), ("# c\n".into(), "# c\n*:A:read\n".into()));
    assert!(house.is_tidy());
}

//! Edits that are killed, fail, run concurrently, or are made by root.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::libc;
use tidegate::config::Home;

use super::edited_home::{EditedHome, HASH, PROGRAM, failed, mode, ok, set_mode};
use crate::support::NOBODY;
use crate::support::needs;

#[test]
fn edits_keep_modes_and_symbolic_links() {
    let home = EditedHome::with(&format!("a:{HASH}\n"), "");
    let real = home.folder.path().join("real");
    fs::rename(home.credentials(), &real).unwrap();
    symlink("../real", home.credentials()).unwrap();
    for (before, after) in [
        (0o644, 0o600),
        (0o640, 0o600),
        (0o600, 0o600),
        (0o400, 0o400),
    ] {
        set_mode(&real, before);
        assert_eq!(
            home.run_with(&["user", "passwd", "HOME", "a", "--password-stdin"], "x\n"),
            ok()
        );
        assert_eq!(mode(&real), after);
        assert!(
            fs::symlink_metadata(home.credentials())
                .unwrap()
                .is_symlink()
        );
    }
    assert!(home.accepts("a", "x"));
    set_mode(&home.directories(), 0o664);
    assert_eq!(home.run(&["grant", "HOME", "a", "A", "read"]), ok());
    assert_eq!(mode(&home.directories()), 0o664);
    assert!(home.has_no_temporary_files());
}

#[test]
fn files_made_by_root_belong_to_the_owner_of_the_home() {
    if !needs::has("root") {
        return;
    }
    let home = EditedHome::new();
    fs::remove_file(home.path().join(".tidegate.lock")).unwrap();
    for path in [home.path(), home.credentials(), home.directories()] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    assert_eq!(
        home.run_with(&["user", "add", "HOME", "a", "--password-stdin"], "x\n"),
        ok()
    );
    assert_eq!(home.run(&["grant", "HOME", "a", "A", "read"]), ok());
    for name in ["Credentials", "Directories", ".tidegate.lock", "files/A"] {
        let status = fs::metadata(home.path().join(name)).unwrap();
        assert_eq!((status.uid(), status.gid()), (NOBODY, NOBODY), "{name}");
    }
    assert_eq!(mode(&home.credentials()), 0o600);

    // If the owner cannot write to the home, the edit fails and changes nothing.
    let before = home.read_files();
    set_mode(home.folder.path(), 0o755);
    set_mode(&home.path(), 0o555);
    let program = home.folder.path().join("tidegate");
    // Copy by another process. A handle of this process could be inherited by a child of another
    // test, and executing the copy would fail with ETXTBSY.
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new(program);
    command
        .args(["user", "remove"])
        .arg(home.path())
        .arg("a")
        .uid(NOBODY)
        .gid(NOBODY);
    assert_eq!(
        home.finish(&mut command, ""),
        failed(
            1,
            "tidegate: cannot replace HOME/Credentials: permission denied; run the command \
             as the owner of the home\n"
        )
    );
    assert_eq!(home.read_files(), before);
}

#[test]
fn concurrent_edits_are_serialized() {
    let home = EditedHome::with("", "");
    let mut children = Vec::new();
    for n in 0..8 {
        let mut child = home
            .command(&["user", "add", "HOME", &format!("u{n}"), "--password-stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "p{n}").unwrap();
        children.push(child);
        let grant = home
            .command(&["grant", "HOME", "*", &format!("D{n}"), "read"])
            .spawn();
        children.push(grant.unwrap());
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let (loaded, warnings) = Home::load(&home.path()).unwrap();
    assert_eq!((loaded.accounts().count(), warnings), (8, vec![]));
    assert_eq!(loaded.access("u0").unwrap().grants.len(), 8);
    assert!((0..8).all(|n| home.accepts(&format!("u{n}"), &format!("p{n}"))));
    assert!(home.has_no_temporary_files());
}

#[test]
fn a_failed_write_keeps_the_old_file() {
    let home = EditedHome::with("a:plain:x\nb:plain:y\n", "");
    let before = home.read_files();
    // No byte can be written. This is an error if SIGXFSZ is ignored, and kills the program if not.
    let limited = |ignore: &str| {
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(format!(
                "{ignore} ulimit -f 0; ulimit -c 0; exec \"$0\" user remove \"$1\" a"
            ))
            .arg(PROGRAM)
            .arg(home.path());
        shell
    };
    assert_eq!(
        home.finish(&mut limited("trap '' XFSZ;"), ""),
        failed(
            1,
            "tidegate: cannot replace HOME/Credentials: file too large\n"
        )
    );
    assert_eq!(home.read_files(), before);
    assert!(home.has_no_temporary_files());

    let status = limited("").status().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGXFSZ));
    assert_eq!(home.read_files(), before);
    assert!(
        !home.has_no_temporary_files(),
        "the kill leaves a temporary file"
    );
    assert_eq!(home.run(&["user", "remove", "HOME", "a"]), ok());
    assert_eq!(home.read_files().0, "b:plain:y\n");
    assert!(home.has_no_temporary_files(), "the next edit removes it");

    // A directory with the name of the temporary file is not removed.
    let directory = home.path().join(".tidegate.Credentials.new");
    fs::create_dir(&directory).unwrap();
    let ran = home.run(&["user", "remove", "HOME", "b"]);
    assert_eq!(
        ran,
        failed(
            1,
            "tidegate: cannot remove HOME/.tidegate.Credentials.new: is a directory\n"
        )
    );
    assert!(directory.is_dir());
    assert_eq!(home.read_files().0, "b:plain:y\n");
}

#[test]
fn a_kill_during_an_edit_leaves_the_old_or_the_new_file() {
    let home = EditedHome::with("# c\na:plain:x\n", "# c\n*:A:read\na:A:read\n");
    let (mut old, directories) = home.read_files();
    let mut changed = 0;
    for n in 0..40 {
        let mut child = home
            .command(&["user", "passwd", "HOME", "a", "--password-stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "p{n}").unwrap();
        std::thread::sleep(Duration::from_millis(2 * n));
        child.kill().unwrap();
        child.wait().unwrap();
        let (new, same) = home.read_files();
        assert_eq!(same, directories);
        if new != old {
            assert!(new.starts_with("# c\na:$argon2id$"));
            assert!(home.accepts("a", &format!("p{n}")));
            changed += 1;
        }
        old = new;
    }
    eprintln!("{changed} of 40 edits completed before the kill");
    assert_eq!(home.run(&["user", "remove", "HOME", "a"]), ok());
    assert_eq!(
        home.read_files(),
        ("# c\n".into(), "# c\n*:A:read\n".into())
    );
    assert!(home.has_no_temporary_files());
}

//! `--reload` signals the running server and no other process.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use tidegate::config::Home;
use tidegate::process::pid_file;
use tidegate::process::pid_file::PidFile;

use super::edited_home::{EditedHome, TIMEOUT, failed};
use crate::support::{needs, test_path};

/// Not a test by itself: other tests run it in place of a server. It holds the file until it is
/// signalled.
#[test]
fn child_holds_a_file_open() {
    if let Some(path) = std::env::var_os("TIDEGATE_TEST_PID_FILE") {
        let _held = PidFile::lock(Path::new(&path))
            .unwrap()
            .expect("no process holds it");
        std::thread::sleep(TIMEOUT);
    }
}

/// Starts a process that holds the file, and that SIGHUP kills.
fn spawn_holder(path: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    // If the tests run under nohup, a child would ignore the signal.
    let mut command = if needs::is_usable("env") {
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(program);
        command
    } else {
        Command::new(program)
    };
    let child = command
        .args([
            "--exact",
            &test_path(module_path!(), "child_holds_a_file_open"),
        ])
        .env("TIDEGATE_TEST_PID_FILE", path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while fs::read_to_string(path).unwrap_or_default() != format!("{}\n", child.id()) {
        assert!(start.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn reload_option_signals_the_running_server() {
    let home = EditedHome::with("a:plain:x\nb:plain:y\n", "a:A:read\n");
    let other_path = home.folder.path().join("pid");
    let other = format!("--pid-file={}", other_path.display());
    for (args, file) in [
        (
            &["user", "add", "HOME", "c", "--password-stdin", "--reload"][..],
            pid_file::of_home(&home.path()),
        ),
        (
            &[
                "user",
                "passwd",
                "HOME",
                "a",
                "--password-stdin",
                "--reload",
                &other,
            ],
            other_path.clone(),
        ),
        (
            &["user", "hash", "HOME", "--reload"],
            pid_file::of_home(&home.path()),
        ),
        (
            &["grant", "HOME", "b", "B", "read", "--reload"],
            pid_file::of_home(&home.path()),
        ),
        (
            &["revoke", "HOME", "b", "B", &other, "--reload"],
            other_path.clone(),
        ),
        (
            &["user", "remove", "HOME", "a", "--reload"],
            pid_file::of_home(&home.path()),
        ),
    ] {
        let mut server = spawn_holder(&file);
        let ran = home.run_with(args, "new\n");
        assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(
            server.wait().unwrap().signal(),
            Some(libc::SIGHUP),
            "{args:?}"
        );
    }
    let (loaded, _) = Home::load(&home.path()).unwrap();
    let users: Vec<_> = loaded
        .accounts()
        .map(|account| account.user.as_str())
        .collect();
    assert_eq!(users, ["b", "c"]);
}

#[test]
fn only_the_process_holding_the_pid_file_is_signalled() {
    let home = EditedHome::with("", "");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let file = pid_file::of_home(&home.path());
    fs::write(&file, format!("{}\n", other.id())).unwrap();
    let error = "tidegate: the home was changed, but no server has reloaded it: no server is running: HOME/.tidegate.pid is not locked\n";
    assert_eq!(
        home.run(&["grant", "HOME", "*", "A", "read", "--reload"]),
        failed(1, error)
    );
    assert_eq!(home.read_files().1, "*:A:read\n", "the home is edited");
    fs::remove_file(&file).unwrap();
    assert_eq!(
        home.run(&["grant", "HOME", "*", "B", "read", "--reload"]),
        failed(1, error)
    );
    assert_eq!(other.try_wait().unwrap(), None, "it runs");
    other.kill().unwrap();
    other.wait().unwrap();
}

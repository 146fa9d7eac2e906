//! `--reload`: who is told of a change, and who never is.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use tidegate::config::Home;
use tidegate::process::pid_file;
use tidegate::process::pid_file::PidFile;

use super::{Services, TIMEOUT, failed};
use crate::support::{needs, test_path};

/// Not a test of its own: what the next ones run as a server's stand-in. It holds the file until it is signalled.
#[test]
fn child_holds_a_file_open() {
    if let Some(path) = std::env::var_os("TIDEGATE_TEST_PID_FILE") {
        let _held = PidFile::lock(Path::new(&path))
            .unwrap()
            .expect("nobody holds it");
        std::thread::sleep(TIMEOUT);
    }
}

/// A process that holds the file, and dies of the signal to reload.
fn stand_in(path: &Path) -> Child {
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
    let begin = Instant::now();
    while fs::read_to_string(path).unwrap_or_default() != format!("{}\n", child.id()) {
        assert!(begin.elapsed() < TIMEOUT);
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn reload_option_signals_the_running_server() {
    let house = Services::with("a:plain:x\nb:plain:y\n", "a:A:read\n");
    let elsewhere = house.folder.path().join("pid");
    let other = format!("--pid-file={}", elsewhere.display());
    for (args, file) in [
        (
            &["user", "add", "HOME", "c", "--password-stdin", "--reload"][..],
            pid_file::of_home(&house.path()),
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
            elsewhere.clone(),
        ),
        (
            &["user", "hash", "HOME", "--reload"],
            pid_file::of_home(&house.path()),
        ),
        (
            &["grant", "HOME", "b", "B", "read", "--reload"],
            pid_file::of_home(&house.path()),
        ),
        (
            &["revoke", "HOME", "b", "B", &other, "--reload"],
            elsewhere.clone(),
        ),
        (
            &["user", "remove", "HOME", "a", "--reload"],
            pid_file::of_home(&house.path()),
        ),
    ] {
        let mut server = stand_in(&file);
        let ran = house.run_with(args, "new\n");
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{args:?}");
        assert_eq!(
            server.wait().unwrap().signal(),
            Some(libc::SIGHUP),
            "{args:?}"
        );
    }
    let (home, _) = Home::load(&house.path()).unwrap();
    let users: Vec<_> = home
        .accounts()
        .map(|account| account.user.as_str())
        .collect();
    assert_eq!(users, ["b", "c"]);
}

#[test]
fn only_the_process_holding_the_pid_file_is_signalled() {
    let house = Services::with("", "");
    let mut bystander = Command::new("sleep").arg("60").spawn().unwrap();
    let file = pid_file::of_home(&house.path());
    fs::write(&file, format!("{}\n", bystander.id())).unwrap();
    let told = "tidegate: the home is changed but no server has reloaded it: no server is running: HOME/.tidegate.pid is not locked\n";
    assert_eq!(
        house.run(&["grant", "HOME", "*", "A", "read", "--reload"]),
        failed(1, told)
    );
    assert_eq!(house.texts().1, "*:A:read\n", "the change stands");
    fs::remove_file(&file).unwrap();
    assert_eq!(
        house.run(&["grant", "HOME", "*", "B", "read", "--reload"]),
        failed(1, told)
    );
    assert_eq!(bystander.try_wait().unwrap(), None, "it lives");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

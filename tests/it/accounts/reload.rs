//! `--reload` and `reload` reach the running server and no other process, and report its result.

use std::fs;
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use tidegate::process::pid_file::PidFile;

use super::edited_home::{EditedHome, TIMEOUT, command, failed, finish};
use crate::support::{Home, Server, needs, test_path};

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

/// Runs the program on the home of a server. Returns status, standard output and standard error,
/// with `HOME` for the home.
fn run_on(server: &Server, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let home = server.home.path();
    let output = finish(&home, &mut command(&home, args), input);
    (output.status, output.stdout, output.stderr)
}

#[test]
fn reload_option_waits_until_the_change_is_in_force() {
    let server = Server::start(&[]);
    let done = |stdout: &str| (Some(0), stdout.to_owned(), String::new());
    for (args, stdout) in [
        (&["user", "add", "HOME", "new", "--password-stdin"][..], ""),
        (&["grant", "HOME", "new", "Movies", "read"], ""),
        (&["user", "passwd", "HOME", "new", "--password-stdin"], ""),
        (&["user", "hash", "HOME"], "passwords hashed: 0\n"),
    ] {
        let args = [args, &["--reload"]].concat();
        assert_eq!(run_on(&server, &args, "secret\n"), done(stdout), "{args:?}");
        let mut client = server.connect();
        client.login_with("new", "secret");
        client.quit();
    }
    let mut client = server.connect();
    client.login_with("new", "secret");
    assert_eq!(
        client.command("SHOW DIRECTORIES"),
        "The available directories are: Movies"
    );
    let revoke = ["revoke", "HOME", "new", "Movies", "--reload"];
    assert_eq!(run_on(&server, &revoke, ""), done(""));
    assert_eq!(
        client.command("SHOW DIRECTORIES"),
        "There are no directories for you"
    );
    let remove = ["user", "remove", "HOME", "new", "--reload"];
    assert_eq!(run_on(&server, &remove, ""), done(""));
    client.send_line("SHOW DIRECTORIES");
    client.expect("Your login is no longer valid. Connection is terminated.");
}

#[test]
fn reload_reports_faults_and_warnings_of_the_server() {
    let server = Server::start(&[]);
    let credentials = server.home.path().join("Credentials");
    fs::set_permissions(credentials, Permissions::from_mode(0o600)).unwrap();
    let reload = ["reload", "HOME"];
    let done = "the running server has reloaded HOME\n".to_owned();
    assert_eq!(
        run_on(&server, &reload, ""),
        (Some(0), done.clone(), String::new())
    );
    server.home.append("Credentials", "odd:plain:secret");
    let (status, stdout, stderr) = run_on(&server, &reload, "");
    assert_eq!((status, stdout), (Some(0), done));
    assert!(
        stderr.starts_with("tidegate: warning: HOME/Credentials:")
            && stderr.contains("the password of 'odd' is not hashed"),
        "{stderr}"
    );
    server.home.append("Directories", "user1:Movies:fly");
    let (status, stdout, stderr) = run_on(&server, &reload, "");
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    assert!(
        stderr.starts_with(
            "tidegate: the running server keeps all of the old accounts: HOME/Directories:"
        ) && stderr.lines().count() == 1,
        "{stderr}"
    );
    server.home.append("Directories", "user1");
    let (status, _, stderr) = run_on(&server, &reload, "");
    assert_eq!((status, stderr.lines().count()), (Some(1), 3), "{stderr}");
}

#[test]
fn reload_takes_rights_away_whatever_else_is_wrong() {
    let home = Home::new();
    let (disk, other) = (home.parent().join("disk"), home.parent().join("other"));
    for directory in [&disk, &other] {
        fs::create_dir(directory).unwrap();
    }
    let current = home.parent().join("current");
    symlink(&disk, &current).unwrap();
    home.append(
        "Directories",
        &format!("user1:Disk:read:{}", current.display()),
    );
    let server = Server::with_home(home, &[]);
    let mut client = server.login("user2");
    // The grant now leads to a directory that the sandbox does not allow.
    fs::remove_file(&current).unwrap();
    symlink(&other, &current).unwrap();
    let remove = ["user", "remove", "HOME", "user2", "--reload"];
    let (status, _, stderr) = run_on(&server, &remove, "");
    assert_eq!(status, Some(1));
    let expected = "tidegate: the home was changed, but the running server has applied everything \
                    but one grant: HOME/Directories:";
    assert!(stderr.starts_with(expected), "{stderr}");
    client.send_line("SHOW DIRECTORIES");
    client.expect("Your login is no longer valid. Connection is terminated.");
}

#[test]
fn a_running_server_with_old_accounts_is_mentioned() {
    let server = Server::start(&[]);
    let grant = ["grant", "HOME", "user1", "Extra", "read"];
    let mention = "tidegate: the running server has the old accounts: tidegate reload HOME";
    assert_eq!(
        run_on(&server, &grant, ""),
        (Some(0), String::new(), format!("{mention}\n"))
    );

    let home = Home::new();
    let run_dir = home.parent().join("run");
    let run_dir = run_dir.to_str().unwrap();
    let server = Server::with_home(home.clone(), &["--run-dir", run_dir]);
    let (status, _, stderr) = run_on(&server, &grant, "");
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "not in the home");
    let with_option = [&grant[..], &["--run-dir", run_dir]].concat();
    let (status, _, stderr) = run_on(&server, &with_option, "");
    let expected = format!("{mention} --run-dir {run_dir}\n");
    assert_eq!((status, stderr), (Some(0), expected));
    let reload = ["reload", "HOME", "--run-dir", run_dir];
    assert_eq!(run_on(&server, &reload, "").0, Some(0));
    let (status, _, stderr) = run_on(&server, &["reload", "HOME"], "");
    assert_eq!(status, Some(1));
    assert!(stderr.starts_with("tidegate: no server answers at HOME/"));
}

#[test]
fn a_server_that_leaves_without_an_answer_is_a_failure() {
    let home = EditedHome::with("", "");
    let socket = UnixListener::bind(home.path().join(".tidegate.sock")).unwrap();
    let server = thread::spawn(move || {
        // The second answer is what version 0.1.0 sends first.
        for answer in [&b"{\"warning\":\"x\"}\n"[..], b"\0m"] {
            let (mut stream, _) = socket.accept().unwrap();
            let mut request = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            lines.read_line(&mut request).unwrap();
            assert_eq!(request, "{\"v\":1,\"do\":\"reload\"}\n");
            stream.write_all(answer).unwrap();
        }
    });
    for expected in [
        "the running server has not answered: it has closed the connection",
        "the running server has not answered: it does not speak this version of the control \
         protocol; stop it and start the new one",
    ] {
        let expected = format!("tidegate: {expected}\n");
        assert_eq!(home.run(&["reload", "HOME"]), failed(1, &expected));
    }
    server.join().unwrap();
}

#[test]
fn a_pid_file_names_the_process_to_signal() {
    let home = EditedHome::with("b:plain:y\n", "");
    let file = home.folder.path().join("pid");
    let option = format!("--pid-file={}", file.display());
    let mut server = spawn_holder(&file);
    let ran = home.run(&["grant", "HOME", "b", "B", "read", "--reload", &option]);
    assert_eq!((ran.status, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(server.wait().unwrap().signal(), Some(libc::SIGHUP));
}

#[test]
fn only_the_process_holding_the_pid_file_is_signalled() {
    let home = EditedHome::with("", "");
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let file = home.path().join(".tidegate.pid");
    fs::write(&file, format!("{}\n", other.id())).unwrap();
    let option = format!("--pid-file={}", file.display());
    let begin = "tidegate: the home was changed, but no server has reloaded it:";
    let unlocked = "no server is running: HOME/.tidegate.pid is not locked";
    let no_socket = "no server answers at HOME/.tidegate.sock: no such file or directory; name \
                     its run directory with --run-dir";
    for (name, options, error) in [
        ("A", &["--reload"][..], no_socket),
        ("B", &["--reload", &option], unlocked),
    ] {
        let args = [&["grant", "HOME", "*", name, "read"], options].concat();
        let error = format!("{begin} {error}\n");
        assert_eq!(home.run(&args), failed(1, &error));
    }
    assert_eq!(home.read_files().1, "*:A:read\n*:B:read\n", "it is edited");
    assert_eq!(other.try_wait().unwrap(), None, "it runs");
    other.kill().unwrap();
    other.wait().unwrap();
}

//! Notifications to systemd, sockets passed by it, and the handover between servers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate::process::control::predecessor::Predecessor;

use crate::server::ftp::data::free_ports;
use crate::support::ftp::FtpClient;
use crate::support::needs;
use crate::support::{
    Client, FIRST_CHOICE, Home, Log, Server, TIDEGATE, TIMEOUT, eventually, pattern, refused_start,
    sandbox_option, test_path,
};

/// More bytes than the buffers of both sockets can hold.
const LONG: usize = 24 * 1024 * 1024;

#[test]
fn systemd_is_notified_of_every_state_change() {
    let home = Home::new();
    let path = home.parent().join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(TIMEOUT)).unwrap();
    let next = || {
        let mut message = [0; 512];
        let length = supervisor
            .recv(&mut message)
            .expect("a message arrives in time");
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let program = ["env", &notify, "WATCHDOG_USEC=4000000", TIDEGATE];
    let mut server = Server::launch(home, &program, &[], Log::Read);
    assert_eq!(next(), format!("READY=1\nMAINPID={}\n", server.pid()));
    assert_eq!(next(), "WATCHDOG=1\n");
    assert_eq!(next(), "WATCHDOG=1\n");

    let next_but_watchdog = || loop {
        match next() {
            alive if alive == "WATCHDOG=1\n" => {}
            other => return other,
        }
    };
    for broken in [false, true] {
        if broken {
            server.home.append("Directories", "broken");
        }
        server.signal(Signal::SIGHUP);
        let message = next_but_watchdog();
        let since = message
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect(&message);
        assert!(since.trim_end().parse::<u64>().unwrap() > 0);
        assert_eq!(
            next_but_watchdog(),
            format!("READY=1\nMAINPID={}\n", server.pid())
        );
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(next_but_watchdog(), "STOPPING=1\n");
    assert_eq!(server.exit_status(), 0);
}

/// Returns the command of a server with a passed socket as descriptor 3.
fn with_passed_socket(home: &Home, socket: OwnedFd, name: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "exec 3<&0; LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"";
    command
        .args(["-c", script, "sh", TIDEGATE, "serve"])
        .arg(home.path())
        .args(sandbox_option(&[]));
    command
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::from(socket));
    command
}

#[test]
fn passed_sockets_are_served() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A client that connects before the start waits for the server.
    let mut early = Client::connect(address);
    let command = with_passed_socket(&home, socket.into(), "menu");
    let server = Server::spawn(home.clone(), command, 1, Log::Read);
    assert_eq!(server.addresses, [address]);
    early.login("user1");
    assert_eq!(early.download("Movies/Joker").len(), 4096);
    server.login("user2").quit();

    let connected = std::net::TcpStream::connect(address).unwrap();
    let output = with_passed_socket(&home, connected.into(), "menu")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("an inherited socket is not a listener"),
        "{stderr}"
    );
}

#[test]
fn a_passed_socket_named_ftp_speaks_ftp() {
    let home = Home::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let early = Client::connect(address);
    let command = with_passed_socket(&home, socket.into(), "ftp");
    let server = Server::spawn(home, command, 1, Log::Read);
    assert_eq!(server.addresses, [address]);
    let mut ftp = FtpClient::login_over(early, "user1", "1234");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096);
    ftp.command("QUIT", "221");
}

fn successor(of: &Server) -> Server {
    successor_with(of, &[])
}

fn successor_with(of: &Server, options: &[&str]) -> Server {
    let mut command = Command::new(TIDEGATE);
    command
        .arg("serve")
        .arg(of.home.path())
        .arg("--take-over")
        .args(options)
        .args(sandbox_option(options))
        .stdin(Stdio::null());
    Server::spawn(of.home.clone(), command, of.addresses.len(), Log::Read)
}

#[test]
fn a_handover_refuses_and_loses_no_client() {
    let home = Home::new();
    let content = pattern(LONG, 61);
    home.write("Movies/Long", &content);
    let mut first = Server::with_home(home, &["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]);
    let addresses = first.addresses.clone();
    let mut idle = first.login("user1");
    let mut busy = first.login("user1");
    assert_eq!(busy.start_download("Movies/Long"), LONG as u64);

    let is_over = AtomicBool::new(false);
    let (mut second, mut third, sessions) = thread::scope(|scope| {
        let clients: Vec<_> = addresses
            .iter()
            .map(|address| scope.spawn(|| log_in_until(&is_over, *address)))
            .collect();
        thread::sleep(Duration::from_millis(100));
        let second = successor(&first);
        thread::sleep(Duration::from_millis(100));
        let third = successor(&second);
        thread::sleep(Duration::from_millis(100));
        is_over.store(true, Ordering::Relaxed);
        let sessions: usize = clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum();
        (second, third, sessions)
    });
    assert!(sessions > 20, "only {sessions} sessions");
    assert_eq!(second.addresses, addresses);
    assert_eq!(third.addresses, addresses);
    assert_eq!(second.exit_status(), 0, "all its sessions have ended");

    // The sessions of the first server continue, then it ends.
    first.log_line(&["event=relieved"]);
    assert_eq!(
        idle.command("SHOW DIRECTORIES"),
        "The available directories are: Movies, Music, Docs"
    );
    assert!(first.is_running());
    assert!(busy.read_bytes(LONG) == content);
    busy.expect_menu();
    busy.quit();
    idle.quit();
    assert_eq!(first.exit_status(), 0);

    // The PID file names the last server, which is reloaded.
    let pid = fs::read_to_string(third.home.path().join(".tidegate.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", third.pid()));
    let grant = ["grant", "user1", "Photos", "read", "--reload"];
    let status = Command::new(TIDEGATE)
        .args([grant[0].as_ref(), third.home.path().as_os_str()])
        .args(&grant[1..])
        .status();
    assert!(status.unwrap().success());
    third.log_line(&["event=reload", "result=taken-up"]);
    assert!(!first.log().contains("event=reload") && !second.log().contains("event=reload"));
    third.signal(Signal::SIGTERM);
    assert_eq!(third.exit_status(), 0);
}

/// Logs in and out repeatedly. Returns the number of sessions.
fn log_in_until(is_over: &AtomicBool, address: SocketAddr) -> usize {
    let mut sessions = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut client = Client::connect(address);
        client.login("user1");
        client.quit();
        sessions += 1;
    }
    sessions
}

#[test]
fn a_handover_keeps_ftp_data_connections() {
    let home = Home::new();
    let content = pattern(LONG, 67);
    home.write("Movies/Long", &content);
    let mut first = Server::with_home(home, &["--listen", "127.0.0.1:0", "--ftp", "127.0.0.1:0"]);
    let login = |server: &Server| {
        FtpClient::login_over(Client::connect(server.addresses[1]), "user1", "1234")
    };
    let (mut idle, mut busy) = (login(&first), login(&first));
    let mut data = busy.connect_data();
    busy.command("RETR Movies/Long", "150");
    let second = successor(&first);
    assert_eq!(second.addresses, first.addresses);
    first.log_line(&["event=relieved"]);
    let mut new = login(&second);
    assert_eq!(new.retrieve("Movies/Joker").len(), 4096);
    second.log_line(&["event=login user=user1"]);
    assert_eq!(idle.retrieve("Movies/Joker").len(), 4096);
    let mut got = Vec::new();
    data.read_to_end(&mut got).unwrap();
    assert!(got == content);
    drop(data);
    busy.expect("226");
    for mut ftp in [busy, idle] {
        ftp.command("QUIT", "221");
    }
    assert_eq!(first.exit_status(), 0);
    second.connect().expect(FIRST_CHOICE);
}

#[test]
fn passive_ports_move_to_the_successor_when_free() {
    let ports = free_ports();
    let range = format!("{}-{}", ports.0, ports.1);
    let first = Server::start(&[
        "--listen",
        "127.0.0.1:0",
        "--ftp",
        "127.0.0.1:0",
        "--passive-ports",
        &range,
    ]);
    let login = |server: &Server| {
        FtpClient::login_over(Client::connect(server.addresses[1]), "user1", "1234")
    };
    // Both ports are open, and one of them is in use by a session.
    let (mut late, mut idle) = (login(&first), login(&first));
    let used = late.passive_address();
    drop(idle.connect_data());
    let second = successor_with(&first, &["--passive-ports", &range]);
    first.log_line(&["event=relieved"]);
    let mut new = login(&second);
    let at = new.passive_address();
    assert_ne!(at, used);
    assert_eq!(late.retrieve_at(used, "Movies/Joker").len(), 4096);
    let mut other = login(&second);
    assert_eq!(other.passive_address(), used);
    for (ftp, at) in [(&mut new, at), (&mut other, used)] {
        assert_eq!(ftp.retrieve_at(at, "Movies/Joker").len(), 4096);
    }
    for mut ftp in [late, idle, new, other] {
        ftp.command("QUIT", "221");
    }
}

#[test]
fn a_relieved_server_closes_at_the_drain_timeout() {
    let mut first = Server::start(&["--drain-timeout", "1"]);
    let mut idle = first.login("user1");
    let _second = successor(&first);
    idle.expect("The server is shutting down. Connection is terminated.");
    idle.expect_end();
    assert_eq!(first.exit_status(), 0);
}

#[test]
fn a_failed_handover_changes_nothing() {
    let mut first = Server::start(&[]);
    let mut idle = first.login("user1");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, stderr) =
        refused_start(&first.home.path(), &["--take-over", "--listen", &address]);
    assert_eq!(status, 1);
    assert!(stderr.contains("cannot listen on"), "{stderr}");
    assert_eq!(idle.download("Movies/Joker").len(), 4096);
    first.login("user1").quit();
    assert!(!first.log().contains("event=relieved"));
    let pid = fs::read_to_string(first.home.path().join(".tidegate.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", first.pid()));
    let _second = successor(&first);
    idle.quit();
    assert_eq!(first.exit_status(), 0);
}

#[test]
fn a_handover_needs_a_running_server() {
    let home = Home::new();
    let (status, stderr) = refused_start(&home.path(), &["--take-over"]);
    assert_eq!(status, 1);
    let expected = format!(
        "tidegate: cannot take over from a running server: {}/.tidegate.sock: ",
        home.path().display()
    );
    assert!(stderr.starts_with(&expected), "{stderr}");
}

/// Not a test by itself: another test runs it as another user, who must not receive the listeners.
#[test]
fn child_requests_the_listeners() {
    if let Some(path) = std::env::var_os("TIDEGATE_TEST_CONTROL").map(PathBuf::from) {
        let error = Predecessor::connect(&path).unwrap_err();
        let expected = "only root and the user of the server may use the control socket";
        assert_eq!(error.to_string(), expected);
        println!("refused");
    }
}

#[test]
fn other_users_cannot_take_over() {
    let home = Home::new();
    let server = Server::with_home(home, &[]);
    let path = server.home.path().join(".tidegate.sock");
    let mode = fs::metadata(&path).unwrap();
    assert!(mode.file_type().is_socket());
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    if !needs::has("root") {
        return;
    }
    // They must not receive them even if the files are accessible.
    for path in [server.home.parent(), &server.home.path(), &path] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let binary = server.home.parent().join("it");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    chown(&binary, Some(65_534), None).unwrap();
    let output = Command::new(&binary)
        .args([
            "--exact",
            &test_path(module_path!(), "child_requests_the_listeners"),
            "--nocapture",
        ])
        .env("TIDEGATE_TEST_CONTROL", &path)
        .current_dir("/")
        .uid(65_534)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.contains("refused"),
        "{stdout}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    server.log_line(&["event=control", "result=refused", "uid=65534"]);
    server.connect().expect(FIRST_CHOICE);
    eventually("the server keeps its listeners", || {
        !server.log().contains("event=relieved")
    });
}

#[test]
fn a_second_server_needs_another_run_directory() {
    let first = Server::start(&[]);
    let path = first.home.path();
    let (status, stderr) = refused_start(&path, &["--listen", "127.0.0.1:0"]);
    let expected = format!(
        "tidegate: another server is running on {}. Replace it with --take-over, or choose \
         another run directory with --run-dir DIR.\n",
        path.display()
    );
    assert_eq!((status, stderr), (1, expected));

    let run_dir = first.home.parent().join("run");
    let option = ["--run-dir", run_dir.to_str().unwrap()];
    let mut second = Server::with_home(first.home.clone(), &option);
    assert!(run_dir.join(".tidegate.sock").exists());
    assert_eq!(fs::metadata(&run_dir).unwrap().mode() & 0o777, 0o700);
    let (status, stderr) = refused_start(&path, &option);
    assert_eq!(status, 1);
    assert!(stderr.contains(&format!(" on {}. ", run_dir.display())));
    second.login("user1").quit();
    first.login("user1").quit();
    second.signal(Signal::SIGTERM);
    assert_eq!(second.exit_status(), 0);
    assert_eq!(
        fs::read_dir(&run_dir).unwrap().count(),
        0,
        "both files are removed"
    );
}

#[test]
fn of_two_handovers_only_one_server_serves() {
    let mut first = Server::start(&[]);
    let slow = Predecessor::connect(&first.home.path().join(".tidegate.sock")).unwrap();
    let second = successor(&first);
    let error = slow
        .relieve()
        .expect_err("another server serves")
        .to_string();
    assert_eq!(
        error,
        "another server has requested the handover after this one"
    );
    assert_eq!(first.exit_status(), 0);
    second.login("user1").quit();
    let pid = fs::read_to_string(first.home.path().join(".tidegate.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", second.pid()));
}

#[test]
fn a_server_serves_on_if_the_next_one_has_left() {
    let mut first = Server::start(&[]);
    let home = first.home.path();
    let mut next = UnixStream::connect(home.join(".tidegate.sock")).unwrap();
    next.write_all(b"{\"v\":1,\"do\":\"take-over\"}\n").unwrap();
    let mut listeners = [0; 256];
    assert!(next.read(&mut listeners).unwrap() > 0);
    // The confirmation cannot be sent any more.
    next.shutdown(Shutdown::Read).unwrap();
    next.write_all(b"{\"v\":1,\"do\":\"ready\"}\n").unwrap();
    first.log_line(&[
        "event=take-over",
        "result=failed",
        "the new server has left",
    ]);
    first.login("user1").quit();
    let (status, _) = refused_start(&home, &["--listen", "127.0.0.1:0"]);
    assert_eq!(status, 1, "it has locked its run directory again");
    let second = successor(&first);
    assert_eq!(first.exit_status(), 0);
    second.login("user1").quit();
}

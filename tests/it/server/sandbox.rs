//! The sandbox: a process that enters it and tries forbidden operations, and sandboxed servers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, renameat};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendmsg, sendto,
    socket,
};
use nix::unistd::{Uid, execv, geteuid, getppid};
use tidegate::process::sandbox::Sandbox;
use tidegate::process::sandbox::rules::{SandboxMode, SandboxRules};
use tidegate::process::user::become_user;

use crate::support::{Home, NOBODY, Server, refused_start, test_path};

/// Not a test by itself: other tests run it in a process that sandboxes itself for the home in the
/// environment variable.
#[test]
fn child_in_a_sandbox() {
    let Some(home) = std::env::var_os("TIDEGATE_TEST_INSIDE").map(PathBuf::from) else {
        return;
    };
    let listening: SocketAddr = std::env::var("TIDEGATE_TEST_PORT")
        .unwrap()
        .parse()
        .unwrap();
    let network = std::env::var("TIDEGATE_TEST_NETWORK").unwrap();
    let opened = TcpListener::bind("127.0.0.1:0").unwrap();
    let rules = SandboxRules {
        read: vec![home.clone()],
        write: vec![home.join("files/Uploads")],
        remove: Vec::new(),
        log: vec![home.join("../log")],
        silent: Default::default(),
        listen: network != "none",
        connect: network == "both",
    };
    let user = become_user(None, &home).unwrap();
    let mode = if user.is_root() {
        SandboxMode::Try
    } else {
        SandboxMode::Require
    };
    let mut sandbox = Sandbox::new(mode, rules, user).unwrap();
    assert_eq!(
        sandbox.restrict_files().unwrap(),
        [""; 0],
        "Landlock is incomplete"
    );
    assert!(sandbox.restricts_files());
    assert_eq!(
        sandbox.restrict_calls().unwrap(),
        [""; 0],
        "seccomp is incomplete"
    );

    assert_server_operations_succeed(&home);
    assert_file_operations_are_denied(&home);
    assert_process_operations_are_denied();
    assert_sockets_are_denied(&home, &network, listening);
    assert!(
        opened.local_addr().is_ok(),
        "descriptors opened before are usable"
    );
    println!("all checks done");
}

fn assert_server_operations_succeed(home: &Path) {
    assert!(fs::read(home.join("files/Movies/Joker")).is_ok());
    assert!(fs::read_dir(home.join("files")).is_ok());
    let upload = home.join("files/Uploads/new");
    fs::write(&upload, "new").unwrap();
    rename(&upload, &home.join("files/Uploads/newer")).unwrap();
    fs::remove_file(home.join("files/Uploads/newer")).unwrap();
    fs::write(home.join("../log/access"), "line\n").unwrap();
}

fn assert_file_operations_are_denied(home: &Path) {
    let outside = [
        Path::new("/etc/passwd"),
        Path::new("/proc/self/environ"),
        Path::new("/dev/null"),
    ];
    for path in outside {
        assert!(is_denied(File::open(path)), "{}", path.display());
    }
    assert!(
        is_denied(File::open(home.join("../log/access"))),
        "logs are not readable"
    );
    let write = |path: &str| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(home.join(path))
    };
    for path in [
        "Credentials",
        "Directories",
        "new",
        "files/Movies/Joker",
        "files/Movies/new",
        "../outside",
    ] {
        assert!(is_denied(write(path)), "{path}");
    }
    assert!(is_denied(fs::remove_file(home.join("Credentials"))));
    assert!(is_denied(rename(
        &home.join("Credentials"),
        &home.join("files/Uploads/C")
    )));
    let linked = fs::hard_link(home.join("Credentials"), home.join("files/Uploads/C"));
    assert_eq!(
        linked.unwrap_err().kind(),
        ErrorKind::CrossesDevices,
        "Landlock denies links between directories"
    );
    assert!(is_denied(symlink(
        "/etc/passwd",
        home.join("files/Uploads/link")
    )));
    assert!(is_denied(fs::set_permissions(
        home.join("files/Uploads"),
        fs::Permissions::from_mode(0o777)
    )));
}

/// Tries to start programs and threads, to get executable memory, and to affect other processes.
fn assert_process_operations_are_denied() {
    assert_eq!(execv(c"/bin/true", &[c"true"]), Err(Errno::EPERM));
    assert!(is_denied(Command::new("/bin/true").spawn()));
    assert!(is_denied(std::thread::Builder::new().spawn(|| ())));
    assert!(is_denied(
        memmap2::MmapMut::map_anon(4096).unwrap().make_exec()
    ));

    assert_eq!(ptrace::attach(getppid()), Err(Errno::EPERM));
    assert_eq!(ptrace::traceme(), Err(Errno::EPERM));
    assert_eq!(kill(getppid(), None), Err(Errno::EPERM));
    let nothing = None::<&str>;
    assert_eq!(
        mount(nothing, "/", nothing, MsFlags::MS_REMOUNT, nothing),
        Err(Errno::EPERM)
    );
}

fn assert_sockets_are_denied(home: &Path, network: &str, listening: SocketAddr) {
    let cloexec = SockFlag::SOCK_CLOEXEC;
    for family in [
        AddressFamily::Netlink,
        AddressFamily::Packet,
        AddressFamily::Unix,
    ] {
        assert_eq!(
            socket(family, SockType::Raw, cloexec, None).unwrap_err(),
            Errno::EPERM
        );
    }
    assert_eq!(
        socket(AddressFamily::Inet, SockType::Datagram, cloexec, None).unwrap_err(),
        Errno::EPERM
    );
    assert!(is_denied(UnixStream::connect(home.join("socket"))));
    assert!(is_denied(UnixListener::bind(
        home.join("files/Uploads/socket")
    )));
    assert_eq!(
        is_denied(TcpListener::bind("127.0.0.1:0")),
        network == "none"
    );
    assert_eq!(is_denied(TcpStream::connect(listening)), network != "both");
    if network != "none" {
        assert_sends_do_not_connect(listening);
    }
}

/// Tries to connect without connect(2): by the first send of TCP Fast Open, to an address of
/// sendto(2), and by another protocol.
fn assert_sends_do_not_connect(listening: SocketAddr) {
    let cloexec = SockFlag::SOCK_CLOEXEC;
    let tcp = || socket(AddressFamily::Inet, SockType::Stream, cloexec, None).unwrap();
    let to = SockaddrStorage::from(listening);
    let fast_open = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN) | MsgFlags::MSG_NOSIGNAL;
    let bytes = [IoSlice::new(b"x")];
    for flags in [fast_open, MsgFlags::MSG_NOSIGNAL] {
        let sent = sendto(tcp().as_raw_fd(), b"x", &to, flags);
        assert_eq!(sent, Err(Errno::EPERM), "sendto {flags:?}");
    }
    let sent = sendmsg(tcp().as_raw_fd(), &bytes, &[], fast_open, Some(&to));
    assert_eq!(sent, Err(Errno::EPERM), "sendmsg");
    // The filter lets this pass, and the kernel refuses it.
    let sent = sendmsg(
        tcp().as_raw_fd(),
        &bytes,
        &[],
        MsgFlags::MSG_NOSIGNAL,
        Some(&to),
    );
    assert_eq!(sent, Err(Errno::EPIPE), "sendmsg without a connection");
    let sctp = socket(
        AddressFamily::Inet,
        SockType::Stream,
        cloexec,
        SockProtocol::Sctp,
    );
    assert_eq!(sctp.unwrap_err(), Errno::EPERM, "SCTP");
}

/// Renames a file by the system call of the server, which differs from that of `std`.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat(AT_FDCWD, from, AT_FDCWD, to)?)
}

fn is_denied<T>(result: io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn the_sandbox_denies_open_exec_connect_and_ptrace() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for network in ["none", "listen", "both"] {
        let home = Home::new();
        fs::create_dir(home.parent().join("log")).unwrap();
        fs::write(home.parent().join("outside"), "").unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                &test_path(module_path!(), "child_in_a_sandbox"),
                "--nocapture",
            ])
            .env("TIDEGATE_TEST_INSIDE", home.path())
            .env(
                "TIDEGATE_TEST_PORT",
                listener.local_addr().unwrap().to_string(),
            )
            .env("TIDEGATE_TEST_NETWORK", network)
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stdout.contains("all checks done"),
            "{network}: {stdout}{stderr}"
        );
    }
}

/// Returns a home that belongs to an unprivileged user, if the tests run as root.
fn home_of_nobody() -> Home {
    let home = Home::new();
    home.chown_to_nobody();
    home
}

/// Returns a field of the status of each thread of the server.
fn status(server: &Server, field: &str) -> Vec<String> {
    let threads = fs::read_dir(server.proc_file("task")).unwrap();
    let status = |task: PathBuf| fs::read_to_string(task.join("status")).unwrap();
    let found = threads.map(|thread| {
        let status = status(thread.unwrap().path());
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.expect("the status has the field").trim().to_owned()
    });
    found.collect()
}

#[test]
fn a_sandboxed_server_has_no_privileges_and_serves() {
    let mut server = Server::with_home(home_of_nobody(), &["--sandbox", "require"]);
    server.log_line(&[
        "event=sandbox",
        "root=no",
        "landlock=",
        "seccomp=yes",
        "core-dumps=no",
        "connect=no",
    ]);
    let uid = if geteuid().is_root() {
        Uid::from_raw(NOBODY)
    } else {
        geteuid()
    };
    for (field, value) in [
        ("Uid:", [uid.to_string().as_str(); 4].join("\t")),
        ("CapInh:", "0".repeat(16)),
        ("CapPrm:", "0".repeat(16)),
        ("CapEff:", "0".repeat(16)),
        ("CapAmb:", "0".repeat(16)),
        ("NoNewPrivs:", "1".to_owned()),
        ("Seccomp:", "2".to_owned()),
    ] {
        let threads = status(&server, field);
        assert!(
            threads.len() > 3 && threads.iter().all(|thread| *thread == value),
            "{field} {threads:?}"
        );
    }
    let limits = fs::read_to_string(server.proc_file("limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"]
    );

    let mut client = server.login("user3");
    assert_eq!(
        client.download("Docs/Tides").len() as u64,
        fs::metadata(server.home.file("Docs/Tides")).unwrap().len()
    );
    for content in ["first", "other"] {
        client.send(format!("PUT FILE 5 Uploads/Mine\n{content}"));
        client.expect("Upload complete: Mine, 5 bytes");
        client.expect_menu();
    }
    assert_eq!(
        fs::read(server.home.file("Uploads/Mine")).unwrap(),
        b"other"
    );
    client.quit();
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_status(), 0);
    let pid = server.home.path().join(".tidegate.pid");
    assert_eq!(
        fs::read_to_string(pid).unwrap_or_default(),
        "",
        "it names no process"
    );
}

#[test]
fn serving_as_root_warns_and_sandbox_require_refuses() {
    if geteuid().is_root() {
        let server = Server::start(&["--sandbox", "try"]);
        server.log_line(&["warn event=warning", "AS ROOT"]);
        server.log_line(&["event=sandbox", "uid=0 root=yes landlock=", "seccomp=yes"]);
        server.login("user1").quit();
        assert_eq!(server.log().matches("AS ROOT").count(), 1);
        let (status, stderr) = refused_start(
            &Home::new().path(),
            &["--listen", "127.0.0.1:0", "--sandbox", "require"],
        );
        assert_eq!(status, 1);
        assert!(
            stderr.contains("tidegate: --sandbox require refuses to serve as root"),
            "{stderr}"
        );
    } else {
        let home = Home::new();
        let (status, stderr) =
            refused_start(&home.path(), &["--listen", "127.0.0.1:0", "--user", "root"]);
        assert_eq!(status, 1);
        assert!(
            stderr.contains("tidegate: cannot start: cannot change to root (uid 0): "),
            "{stderr}"
        );
    }
}

#[test]
fn unreadable_credentials_prevent_the_start() {
    let home = home_of_nobody();
    let credentials = home.path().join("Credentials");
    chown(&credentials, Some(geteuid().as_raw()), None).unwrap();
    fs::set_permissions(
        &credentials,
        fs::Permissions::from_mode(if geteuid().is_root() { 0o600 } else { 0 }),
    )
    .unwrap();
    let (status, stderr) = refused_start(&home.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(status, 2);
    assert!(
        stderr.contains(
            "Credentials: cannot read the file: permission denied; run the command as the owner \
             of the file\n"
        ),
        "{stderr}"
    );
    if geteuid().is_root() {
        assert!(
            stderr.contains(&format!(
                "tidegate: the server would run as nobody (uid {NOBODY})"
            )),
            "{stderr}"
        );
    }
    let (status, stderr) = refused_start(
        &home.path(),
        &["--user", "no such user", "--listen", "127.0.0.1:0"],
    );
    assert_eq!(status, if geteuid().is_root() { 1 } else { 2 });
    assert!(
        !geteuid().is_root() || stderr.contains("there is no user 'no such user' on this system"),
        "{stderr}"
    );
}

#[test]
fn a_reload_drops_only_grants_beyond_the_sandbox_scope() {
    let home = Home::new();
    fs::create_dir(home.parent().join("outside")).unwrap();
    let server = Server::with_home(home, &["--sandbox", "try"]);
    let line = server.log_line(&["event=sandbox"]);
    assert!(
        !line.contains("landlock=no"),
        "this kernel has no Landlock: {line}"
    );
    let mut client = server.login("user1");
    let path = server.home.path().join("Directories");
    let before = fs::read_to_string(&path).unwrap();
    let line = before.lines().count() + 2;
    for (grant, operation) in [
        ("user1:Outside:read:../outside", "read"),
        ("user1:All:read,upload:.", "write to"),
    ] {
        fs::write(
            &path,
            format!("{before}user1:More:read:files/Music\n{grant}\n"),
        )
        .unwrap();
        server.signal(Signal::SIGHUP);
        let refusal = format!("the sandbox of the running server cannot {operation} ");
        server.log_line(&[
            "error event=reload result=grant-dropped",
            &format!("Directories:{line}:"),
            &refusal,
        ]);
        assert_eq!(
            client.command("SHOW DIRECTORIES"),
            "The available directories are: Movies, Music, Docs, More",
            "the valid grant is applied"
        );
    }
    fs::write(
        &path,
        format!("{before}user1:More:read:files/Music\nuser1:Extra:upload:files/Uploads\n"),
    )
    .unwrap();
    server.signal(Signal::SIGHUP);
    let expected = "The available directories are: Movies, Music, Docs, More, Extra";
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.command("SHOW DIRECTORIES") != expected {
        assert!(Instant::now() < deadline, "the reload is not applied");
    }
}

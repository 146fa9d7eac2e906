//! The start of the server: invalid homes and options, ports in use, warnings.

use std::fs;
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::needs;
use crate::support::{Home, Log, Server, TIDEGATE, refused_start};

#[test]
fn a_port_in_use_is_reported_by_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new();
    let (status, stderr) = refused_start(&home.path(), &["--listen", &address]);
    let port = taken.local_addr().unwrap().port();
    assert_eq!(
        (status, stderr),
        (
            1,
            format!(
                "tidegate: cannot listen on {address}: address in use. Another server may be \
                 running ('ss -ltnp sport = :{port}' shows it); choose another port with \
                 --listen.\n"
            )
        )
    );
}

#[test]
fn an_invalid_home_is_reported_by_file_and_line() {
    let home = Home::new();
    home.append("Credentials", "user9");
    home.append("Directories", "user1:Movies:fly");
    let (status, stderr) = refused_start(&home.path(), &["--listen", "127.0.0.1:0"]);
    assert_eq!(status, 2);
    for file in ["Credentials", "Directories"] {
        let path = home.path().join(file);
        let line = fs::read_to_string(&path).unwrap().lines().count();
        let place = format!("{}:{line}:", path.display());
        assert!(stderr.contains(&place), "{place} is not in {stderr}");
    }
    let (status, stderr) = refused_start(&home.parent().join("nowhere"), &[]);
    assert_eq!(status, 2);
    assert!(stderr.contains("nowhere: no such directory"), "{stderr}");
}

#[test]
fn usage_errors_exit_with_status_2() {
    let home = Home::new();
    for options in [
        &["--listen", "localhost"][..],
        &["--max-sessions", "0"],
        &["--nonsense"],
    ] {
        let (status, stderr) = refused_start(&home.path(), options);
        assert_eq!(status, 2, "{options:?}");
        assert!(
            stderr.starts_with("tidegate: ") && stderr.contains(options[0]),
            "{stderr}"
        );
    }
}

#[test]
fn listening_beyond_loopback_is_warned_about() {
    let server = Server::start(&["--listen", "0.0.0.0:0", "--listen", "127.0.0.1:0"]);
    let open = server.addresses[0];
    assert_eq!(open, SocketAddr::from(([0, 0, 0, 0], open.port())));
    server.log_line(&["warn event=warning", &open.to_string(), "unencrypted"]);
    assert!(!server.log().contains(&server.addresses[1].to_string()));
    server.login("user1").quit();
}

#[test]
fn write_access_to_the_home_is_warned_about() {
    let home = Home::new();
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let path = home.path();
    set(&path, 0o777);
    set(&path.join("Credentials"), 0o662);
    set(&path.join("Directories"), 0o664);
    let server = Server::with_home(home, &[]);
    let shown = path.display().to_string();
    for (file, writers) in [
        ("", "all users of this machine"),
        ("/Credentials", "all users of this machine"),
        ("/Directories", "the users of its group"),
    ] {
        let start = format!("{shown}{file}: {writers} may write");
        let remedy = format!("'chmod go-w {shown}{file}'");
        server.log_line(&["warn event=warning", &start, &remedy]);
    }
}

#[test]
fn new_files_are_writable_by_their_owner_only() {
    for (options, expected) in [(&[][..], 0o644), (&["--umask", "007"], 0o660)] {
        let home = Home::new();
        let program = ["sh", "-c", "umask 0; exec \"$@\"", "sh", TIDEGATE];
        let server = Server::launch(home, &program, options, Log::Read);
        let mut client = server.login("user2");
        client.send("PUT FILE 3 Uploads/New\nabc");
        client.expect("Upload complete: New, 3 bytes");
        let mode = fs::metadata(server.home.file("Uploads/New")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, expected, "{options:?}");
    }
}

#[test]
fn a_server_starts_without_a_user_database() {
    if !needs::has("root") || !needs::has("unshare") {
        return;
    }
    // The system's files are hidden, those of the user database included. Like in a container, the
    // user has a number only.
    let hide = "mount -t tmpfs none /etc && exec setpriv --reuid=54321 --regid=54321 \
                --clear-groups \"$@\"";
    let program = ["unshare", "-m", "sh", "-c", hide, "sh", TIDEGATE];
    let home = Home::new();
    home.chown_to(54_321);
    let server = Server::launch(home, &program, &[], Log::Read);
    server.log_line(&["event=sandbox", "uid=54321"]);
    server.login("user1").quit();

    let hide = "mount -t tmpfs none /etc && exec \"$@\"";
    let program = ["unshare", "-m", "sh", "-c", hide, "sh", TIDEGATE];
    let home = Home::new();
    home.chown_to(54_321);
    let server = Server::launch(home, &program, &["--user", "54321:54322"], Log::Read);
    server.log_line(&["event=sandbox", "uid=54321"]);
    let status = fs::read_to_string(server.proc_file("status")).unwrap();
    assert!(
        status.contains("Gid:\t54322\t54322\t54322\t54322"),
        "{status}"
    );
}

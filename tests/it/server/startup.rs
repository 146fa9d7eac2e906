//! The start of the server: invalid homes and options, ports in use, warnings.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use crate::support::{Home, Server, refused_start};

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
    assert!(stderr.contains("nowhere/Credentials:"), "{stderr}");
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

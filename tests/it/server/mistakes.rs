//! The messages about everyday mistakes with the options of `serve`.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use crate::support::ftp::FtpClient;
use crate::support::{Client, Home, Server, refused_start};

#[test]
fn wrong_listen_addresses_are_answered_with_examples() {
    let home = Home::new();
    let forms =
        "expected ADDR:PORT, such as 127.0.0.1:2100, [::1]:2100, localhost:2100, :2100 or 2100";
    for (address, what) in [
        ("::1", "write an IPv6 address and its port as [::1]:2100"),
        ("0.0.0.0", "the port is missing, such as 0.0.0.0:2100"),
        ("localhost", forms),
        ("http://localhost:2100", forms),
    ] {
        for option in ["--listen", "--ftp"] {
            let expected =
                format!("tidegate: {option} '{address}': {what}; see 'tidegate serve --help'\n");
            assert_eq!(
                refused_start(&home.path(), &[option, address]),
                (2, expected)
            );
        }
    }
}

#[test]
fn listeners_have_short_forms() {
    let server = Server::start(&["--listen", "localhost:0", "--listen", "0", "--ftp", ":0"]);
    let [named, bare, any] = server.addresses[..] else {
        panic!("three listeners")
    };
    for address in [named, bare] {
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
        Client::connect(address).login("user1");
    }
    // All addresses, IPv4 included.
    let client = Client::connect((Ipv4Addr::LOCALHOST, any.port()).into());
    let mut ftp = FtpClient::login_over(client, "user1", "1234");
    ftp.command("PASV", "227");
}

#[test]
fn wrong_values_of_options_are_answered_with_examples() {
    let home = Home::new();
    for (option, value, what) in [
        (
            "--idle-timeout",
            "5m",
            "expected whole seconds, such as 300",
        ),
        ("--max-per-address", "-1", "expected a number, 0 or more"),
        ("--max-failures", "many", "expected a number, 0 or more"),
        ("--max-sessions", "0", "expected a number of at least 1"),
        (
            "--max-upload",
            "10XB",
            "expected bytes, such as 10000000, 10M or 10MiB",
        ),
        (
            "--passive-ports",
            "9-5",
            "expected a range of ports, such as 50000-50009",
        ),
        (
            "--passive-address",
            "host",
            "expected an IPv4 address, such as 203.0.113.5",
        ),
        ("--log-format", "xml", "expected text or json"),
    ] {
        let expected =
            format!("tidegate: {option} '{value}': {what}; see 'tidegate serve --help'\n");
        assert_eq!(refused_start(&home.path(), &[option, value]), (2, expected));
    }
}

#[test]
fn an_unusable_transfer_log_is_reported() {
    let home = Home::new();
    let path = home.parent().join("none/transfers");
    let shown = path.display();
    let (status, stderr) = refused_start(
        &home.path(),
        &["--listen", "0", "--xferlog", path.to_str().unwrap()],
    );
    let expected = format!(
        "tidegate: cannot open the transfer log {shown}: no such file or directory; create its \
         directory, or choose another file with --xferlog\n"
    );
    assert!(status == 1 && stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn an_address_of_another_machine_is_reported() {
    let (status, stderr) = refused_start(&Home::new().path(), &["--listen", "192.0.2.1:2100"]);
    assert_eq!(
        (status, stderr.as_str()),
        (
            1,
            "tidegate: cannot listen on 192.0.2.1:2100: this machine does not have the address. \
             'ip address' lists those it has; --listen :2100 listens on all of them.\n"
        )
    );
}

#[test]
fn options_without_effect_are_warned_about() {
    let server = Server::start(&[
        "--passive-ports=50000-50001",
        "--passive-address=192.0.2.1",
        "--no-active-ftp",
        "--allow-loopback-active",
    ]);
    for option in [
        "--passive-ports",
        "--passive-address",
        "--no-active-ftp",
        "--allow-loopback-active",
    ] {
        let what = format!("what=\"{option} has no effect without FTP; add --ftp ADDR:PORT\"");
        server.log_line(&["warn event=warning", &what]);
    }
}

#[test]
fn contradicting_options_for_active_mode_are_warned_about() {
    let options = ["--no-active-ftp", "--allow-loopback-active"];
    let server = Server::start(&[&["--ftp=127.0.0.1:0"], &options[..]].concat());
    server.log_line(&[
        "warn event=warning",
        "what=\"--allow-loopback-active has no effect with --no-active-ftp\"",
    ]);
}

#[test]
fn small_passive_ranges_are_warned_about() {
    for (options, what) in [
        (
            &["--passive-ports=50000-50009"][..],
            "50000-50009 has 10 ports, and each session of one client address needs its own for a \
             transfer; widen it to 100 ports or set --max-per-address",
        ),
        (
            &["--passive-ports=50000-50199", "--max-sessions=201"],
            "50000-50199 has 200 ports, and each session of one client address needs its own for \
             a transfer; widen it to 201 ports or lower --max-sessions",
        ),
        (
            &["--passive-ports=50000", "--max-per-address=2"],
            "50000-50000 has 1 port, and each session of one client address needs its own for a \
             transfer; widen it to 2 ports or lower --max-per-address",
        ),
    ] {
        let server = Server::start(&[options, &["--ftp", "0"]].concat());
        server.log_line(&[&format!("what=\"--passive-ports {what}\"")]);
    }
    for fitting in [
        &["--passive-ports=50000-50099"][..],
        &["--passive-ports=50000-50001", "--max-per-address=2"],
    ] {
        let server = Server::start(&[fitting, &["--ftp", "0"]].concat());
        server.log_line(&["event=sandbox"]);
        assert!(
            !server.log().contains("--passive-ports"),
            "{}",
            server.log()
        );
    }
}

#[test]
fn directories_the_server_cannot_use_are_warned_about() {
    let home = Home::new();
    let locked = home.parent().join("locked");
    fs::create_dir(&locked).unwrap();
    let shown = locked.display();
    home.append("Directories", &format!("user1:Locked:read:{shown}"));
    home.append("Directories", &format!("user2:Inbox:upload:{shown}"));
    home.chown_to_nobody();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    let server = Server::with_home(home, &[]);
    for done in ["read", "written to"] {
        let what = format!(
            "'{shown}' cannot be {done} by this user; change its owner or permissions, or the grant"
        );
        server.log_line(&["warn event=warning", "/Directories:", &what]);
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
}

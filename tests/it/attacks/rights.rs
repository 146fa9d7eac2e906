//! Attempts to use a right in one directory for something in another one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::CANARY;
use crate::support::changes::plain_home;
use crate::support::ftp::{FtpClient, serve_ftp};
use crate::support::{Home, Server};

/// A home with these grants only. `ROOT` in a grant is the path of a folder outside the home, which
/// `fill` receives.
fn home_with(grants: &[&str], fill: impl FnOnce(&Path)) -> Home {
    let home = plain_home();
    let root = home.parent().join("srv");
    fs::create_dir(&root).unwrap();
    fill(&root);
    let root = root.to_str().unwrap();
    let grants: Vec<String> = grants
        .iter()
        .map(|grant| grant.replace("ROOT", root) + "\n")
        .collect();
    fs::write(home.path().join("Directories"), grants.concat()).unwrap();
    home.chown_to_nobody();
    home
}

#[test]
fn one_users_open_files_are_not_found_by_another() {
    let grants = ["user1:Priv:read:ROOT//.private", "user2:All:read:ROOT"];
    let home = home_with(&grants, |root| {
        fs::create_dir(root.join(".private")).unwrap();
        fs::write(root.join(".private/secret"), CANARY).unwrap();
        symlink("secret", root.join(".private/link")).unwrap();
    });
    let server = Server::with_home(home, &[]);
    let mut owner = server.login("user1");
    let mut other = server.login("user2");
    for name in ["secret", "link"] {
        assert_eq!(owner.download(&format!("Priv/{name}")), CANARY.as_bytes());
        for path in [
            format!("All/.private//{name}"),
            format!("All/.private/{name}"),
            format!("All//.private//{name}"),
            format!("All/./.private//{name}"),
        ] {
            for command in ["DOWNLOAD FILE", "RESUME DOWNLOAD", "CHECKSUM FILE"] {
                assert_eq!(other.command(&format!("{command} {path}")), "No such file");
            }
            let listed = other.command(&format!("SHOW DIRECTORY {path}"));
            assert_eq!(listed, "No such directory");
        }
    }
}

#[test]
fn change_without_read_shows_no_content_and_no_length() {
    let grants = [
        "user3:Box:change:ROOT/box",
        "user3:Mine:read,change:ROOT/box/mine",
        "user3:Other:read,change:ROOT/other",
        "user1:Later:read:ROOT/box/later/x",
    ];
    let home = home_with(&grants, |root| {
        for directory in ["box", "box/sub", "box/mine", "other"] {
            fs::create_dir(root.join(directory)).unwrap();
        }
        for secret in ["box/secret", "box/sub/secret"] {
            fs::write(root.join(secret), CANARY).unwrap();
        }
    });
    let server = serve_ftp(home, &[]);
    let mut client = FtpClient::login(&server, "user3", "3456");
    client.command("TYPE I", "200");
    let mut received = Vec::new();
    // Nothing leaves the directory, under whatever name the other one is granted.
    for to in ["/Other/sub", "/Mine/sub", "/Box/mine/sub", "/Box/sub/sub"] {
        client.command("RNFR /Box/sub", "350");
        let reply = client.command(&format!("RNTO {to}"), "550");
        assert_eq!(reply, "550 Permission denied: no right to read.", "{to}");
    }
    // Nothing gets the name of a directory that a user may read.
    client.command("RNFR /Box/mine", "350");
    client.command("RNTO /Box/away", "250");
    for to in ["/Box/mine", "/Box/later"] {
        client.command("RNFR /Box/sub", "350");
        client.command(&format!("RNTO {to}"), "550");
    }
    client.command("RNFR /Box/away", "350");
    client.command("RNTO /Box/home", "250");
    // The same reply for every offset and name.
    for name in ["secret", "missing"] {
        for offset in [1, CANARY.len(), CANARY.len() + 1] {
            client.command(&format!("REST {offset}"), "350");
            let reply = client.attempt(&format!("STOR /Box/{name}"));
            received.push(reply.clone());
            assert_eq!(
                reply, "550 Permission denied: no right to read.\r",
                "{name}"
            );
            client.passive_address();
            client.command(&format!("REST {offset}"), "350");
            let reply = client.command(&format!("STOR /Box/{name}"), "550");
            assert_eq!(reply, "550 Permission denied: no right to read.");
        }
    }
    client.passive_address();
    client.command("APPE /Box/secret", "550");
    for command in [
        "SIZE",
        "MDTM",
        "MLST",
        "RNFR",
        "HASH",
        "XCRC",
        "RETR",
        "MFMT 20200101000000",
        "STAT",
        "LIST",
        "NLST",
        "MLSD",
        "AVBL",
        "CWD",
    ] {
        received.push(client.attempt_transfer(&format!("{command} /Box/secret"), b""));
    }
    let length = CANARY.len().to_string();
    for text in received {
        let shown = text.contains("canary") || text.contains(&format!(" {length}"));
        assert!(!shown, "{text}");
    }
    // What needs no right to read still works.
    client.store("APPE /Box/new", b"new");
    client.expect("226");
    client.store("STOR /Box/secret", b"replaced");
    client.expect("226");
    client.command("RNFR /Box/sub", "350");
    client.command("RNTO /Box/renamed", "250");
    client.command("DELE /Box/new", "250");
}

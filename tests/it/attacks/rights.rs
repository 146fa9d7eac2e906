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
        let shown = text.contains("canary") || text.split_whitespace().any(|word| word == length);
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

#[test]
fn hidden_names_are_for_users_with_the_right_only() {
    let grants = [
        "user1:All:read:ROOT",
        "user2:All:read,hidden:ROOT",
        "user3:All:read,change:ROOT",
        "user4:All:read,change,hidden:ROOT",
    ];
    let home = home_with(&grants, |root| {
        fs::create_dir(root.join(".private")).unwrap();
        for name in [
            ".private/.secret",
            ".secret",
            ".tidegate.pid",
            ".tidegate-0.part",
            "visible",
        ] {
            fs::write(root.join(name), CANARY).unwrap();
        }
    });
    let root = home.parent().join("srv");
    let server = serve_ftp(home, &[]);
    let paths = ["/All/.secret", "/All/.private/.secret"];
    let own = ["/All/.tidegate.pid", "/All/.tidegate-0.part"];
    // The same listings and files for one after the other, so that one could be cached.
    for _ in 0..3 {
        let mut with_right = FtpClient::login(&server, "user2", "2345");
        let mut without = FtpClient::login(&server, "user1", "1234");
        for (client, expected) in [
            (&mut with_right, ".private\r\n.secret\r\nvisible\r\n"),
            (&mut without, "visible\r\n"),
        ] {
            assert_eq!(client.listing("NLST /All"), expected);
            for command in ["LIST -a /All", "MLSD /All"] {
                let names = client.listing(command);
                let shown = [".private", ".secret"].map(|name| names.contains(name));
                assert_eq!(shown, [expected.contains(".secret"); 2], "{names}");
                assert!(
                    !names.contains("tidegate") && !names.contains(".."),
                    "{names}"
                );
            }
            assert_eq!(client.listing("NLST /All/*"), "/All/visible\r\n");
            client.command("TYPE I", "200");
        }
        for path in paths {
            assert_eq!(with_right.retrieve(path), CANARY.as_bytes());
            for command in ["SIZE", "MDTM", "MLST", "RETR", "HASH", "STAT", "CWD"] {
                let reply = without.attempt_transfer(&format!("{command} {path}"), b"");
                assert!(reply.starts_with("550"), "{command} {path}: {reply}");
            }
        }
        for path in own {
            with_right.command(&format!("SIZE {path}"), "550");
            with_right.passive_address();
            with_right.command(&format!("RETR {path}"), "550");
        }
        with_right.command("CWD /All/.private", "250");
        with_right.command("SIZE ../.private/.secret", "213");
        with_right.command("SIZE ../../../../etc/passwd", "550");
    }

    let needs_right = "553 Names beginning with a dot need the right 'hidden'.";
    let mut client = FtpClient::login(&server, "user3", "3456");
    for command in ["STOR", "APPE"] {
        for path in paths.iter().chain(&["/All/.new", "/All/.new/x"]) {
            client.passive_address();
            let reply = client.command(&format!("{command} {path}"), "553");
            assert_eq!(reply, needs_right, "{command} {path}");
        }
    }
    let mut client = FtpClient::login(&server, "user4", "4567");
    for path in own.iter().chain(&["/All/.tidegate", "/All/.Tidegate.sock"]) {
        client.passive_address();
        let reply = client.command(&format!("STOR {path}"), "553");
        assert_eq!(reply, "553 Invalid file name.", "{path}");
        client.command(&format!("DELE {path}"), "550");
        client.command(&format!("RNFR {path}"), "550");
    }
    client.store("STOR /All/.htaccess", b"deny");
    client.expect("226");
    client.command("RNFR /All/.htaccess", "350");
    client.command("RNTO /All/.private/.htaccess", "250");
    client.command("DELE /All/.private/.htaccess", "250");
    client.command("DELE /All/.private/.secret", "250");
    client.command("RMD /All/.private", "250");
    let kept = [".tidegate.pid", ".tidegate-0.part"];
    assert!(kept.iter().all(|name| root.join(name).exists()));
}

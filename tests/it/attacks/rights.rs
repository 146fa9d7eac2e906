//! Attempts to use a right in one directory for something in another one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::CANARY;
use crate::support::changes::plain_home;
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

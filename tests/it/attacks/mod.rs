//! Known classes of attacks on file servers, tried on a server process.
//!
//! A canary file must not be readable, and the server must be unharmed afterwards.
//! `docs/security.md` lists the guarantees with their tests.

mod documentation;
mod lines;
mod paths;
mod resources;
mod rights;
mod secrets;

use std::fs;

use crate::support::{Home, Server, eventually};

/// The content of files that no client may read.
const CANARY: &str = "canary: this is a secret";

/// Starts a server with canary files in each folder above the granted directories.
fn serve_with_canary(options: &[&str]) -> Server {
    let home = Home::new();
    for place in ["../canary", "canary", "files/canary"] {
        fs::write(home.path().join(place), CANARY).unwrap();
    }
    Server::with_home(home, options)
}

/// Asserts that the server still works, has leaked no descriptors, and that the canaries are
/// unchanged.
fn assert_unharmed(server: &mut Server, descriptors: usize) {
    assert!(server.is_running());
    let mut client = server.login("user1");
    assert_eq!(client.download("Movies/Joker").len(), 4096);
    client.quit();
    eventually("the descriptors are closed", || {
        server.descriptors() <= descriptors + 2
    });
    for place in ["../canary", "canary", "files/canary"] {
        assert_eq!(
            fs::read_to_string(server.home.path().join(place)).unwrap(),
            CANARY
        );
    }
}

//! The classes of flaws that file servers have had since the 1990s, each tried on the built server: with a canary that
//! nobody may get, and a look at the process afterwards. docs/security.md tells which test holds which promise.

mod crowds;
mod lines;
mod paths;
mod promises;
mod secrets;

use std::fs;

use crate::support::{Home, Server, eventually};

/// What lies beside each home, and no client may see.
const CANARY: &str = "canary: nobody may get this";

/// A server over a home with a canary beside it, at each place that a path could lead to by mistake.
fn beside_a_canary(options: &[&str]) -> Server {
    let home = Home::new();
    for place in ["../canary", "canary", "files/canary"] {
        fs::write(home.path().join(place), CANARY).unwrap();
    }
    Server::with_home(home, options)
}

/// The server serves as before, and holds nothing that it did not hold.
fn is_unharmed(server: &mut Server, descriptors: usize) {
    assert!(server.is_running());
    let mut client = server.login("user1");
    assert_eq!(client.download("Movies/Joker").len(), 4096);
    client.quit();
    eventually("its descriptors are as many as before", || {
        server.descriptors() <= descriptors + 2
    });
    for place in ["../canary", "canary", "files/canary"] {
        assert_eq!(
            fs::read_to_string(server.home.path().join(place)).unwrap(),
            CANARY
        );
    }
}

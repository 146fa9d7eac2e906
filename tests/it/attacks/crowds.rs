//! Many connections of one, and files that must not be told complete.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{beside_a_canary, is_unharmed};
use crate::support::{Client, FIRST_CHOICE, FULL, Home, Log, Server, TIDEGATE, connect_from};

#[test]
fn a_thousand_silent_connections_do_not_block_another_address() {
    let mut server = beside_a_canary(&["--max-per-address", "50"]);
    let descriptors = server.descriptors();
    let crowd: Vec<TcpStream> = (0..1000)
        .filter_map(|_| TcpStream::connect(server.address()).ok())
        .collect();
    assert!(crowd.len() > 900);
    let mut refused = server.connect();
    refused.expect(FULL);
    let begun = Instant::now();
    let mut other = Client::from_stream(connect_from("127.0.0.2", server.address()));
    other.expect(FIRST_CHOICE);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    other.send("QUIT\n");
    other.expect("Connection is terminated.");
    drop((crowd, refused, other));
    crate::support::eventually("they have left", || server.descriptors() <= descriptors);
    is_unharmed(&mut server, descriptors);
}

#[test]
fn an_upload_beyond_rlimit_fsize_is_reported_as_failed() {
    let program = ["sh", "-c", "ulimit -f 64; exec \"$@\"", "sh", TIDEGATE]; // 32 or 64 KiB
    let home = Home::new();
    home.write("Uploads/Old", "old");
    let server = Server::launch(home, &program, &[], Log::Read);
    for (user, name) in [("user2", "New"), ("user3", "Old")] {
        let mut client = server.login(user);
        client.send(format!("PUT FILE 200000 Uploads/{name}\n"));
        client.send(vec![b'x'; 200_000]);
        let told = client.read_line();
        assert!(told.starts_with("Upload failed: "), "{told}");
        client.expect_menu();
        client.quit();
    }
    let names = server.home.names("Uploads");
    assert!(
        !names.contains(&"New".to_owned())
            && !names.iter().any(|name| name.starts_with(".tidegate")),
        "{names:?}"
    );
    assert_eq!(
        std::fs::read(server.home.file("Uploads/Old")).unwrap(),
        b"old"
    );
}

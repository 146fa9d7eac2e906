//! Many connections of one address, and an upload beyond the file size limit of the process.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{assert_unharmed, serve_with_canary};
use crate::support::{Client, FIRST_CHOICE, FULL, Home, Log, Server, TIDEGATE, connect_from};

#[test]
fn a_thousand_silent_connections_do_not_block_another_address() {
    let mut server = serve_with_canary(&["--max-per-address", "50"]);
    let descriptors = server.descriptors();
    let silent: Vec<TcpStream> = (0..1000)
        .filter_map(|_| TcpStream::connect(server.address()).ok())
        .collect();
    assert!(silent.len() > 900);
    let mut refused = server.connect();
    refused.expect(FULL);
    let start = Instant::now();
    let mut other = Client::from_stream(connect_from("127.0.0.2", server.address()));
    other.expect(FIRST_CHOICE);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    other.send("QUIT\n");
    other.expect("Connection is terminated.");
    drop((silent, refused, other));
    crate::support::eventually("the connections are closed", || {
        server.descriptors() <= descriptors
    });
    assert_unharmed(&mut server, descriptors);
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
        let result = client.read_line();
        assert!(result.starts_with("Upload failed: "), "{result}");
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

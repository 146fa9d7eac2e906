//! Quotas, rate limits and the minimum free space.

use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::changes::plain_home;
use crate::support::{Client, Home, Server, eventually};

/// Starts a server with additional lines in `Directories`.
fn start(lines: &[&str], options: &[&str]) -> Server {
    Server::with_home(home(lines), options)
}

fn home(lines: &[&str]) -> Home {
    let home = plain_home();
    for line in lines {
        home.append("Directories", line);
    }
    home
}

#[test]
fn menu_transfers_obey_the_user_rate_limit() {
    const LENGTH: usize = 500_000;
    let home = home(&["user1::rate=1M"]);
    home.write("Movies/Film", vec![b'x'; LENGTH]);
    let server = Server::with_home(home, &[]);
    let mut clients: Vec<Client> = (0..4).map(|_| server.login("user1")).collect();
    let start = Instant::now();
    for client in &mut clients {
        client.send_line("DOWNLOAD FILE Movies/Film");
    }
    // Another user is not limited.
    let mut other = server.login("user2");
    assert_eq!(other.start_download("Movies/Joker"), 4096);
    for client in &mut clients {
        assert_eq!(client.read_length(), LENGTH as u64);
        assert!(client.read_bytes(LENGTH).iter().all(|&byte| byte == b'x'));
        client.expect_menu();
    }
    // The bucket allows a burst of a tenth of a second.
    let least = (4 * LENGTH) as f64 / 1_000_000.0 - 0.1;
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds > 0.97 * least, "{seconds} s");
    assert!(seconds < 10.0 * least, "{seconds} s");
}

/// Returns the number of files in a served directory and their total size.
fn sizes(server: &Server, directory: &str) -> (usize, u64) {
    let names = server.home.names(directory);
    let size = |name: &String| {
        let path = server.home.file(&format!("{directory}/{name}"));
        std::fs::metadata(path).map_or(0, |status| status.len())
    };
    (names.len(), names.iter().map(size).sum())
}

#[test]
fn quotas_are_exact_under_a_thousand_uploading_clients() {
    let home = home(&["user2:Box:upload,quota=100k", "user3:Box:read,change"]);
    std::fs::create_dir(home.file("Box")).expect("the directory is created");
    home.write("Box/Old", vec![b'o'; 5_500]);
    let server = Server::with_home(home, &[]);
    let address = server.address();
    // Half of the clients announce an upload and never send it.
    let clients: Vec<_> = (0..8usize)
        .map(|part| {
            thread::spawn(move || {
                let mut clients: Vec<Client> = (0..125).map(|_| Client::connect(address)).collect();
                for (at, client) in clients.iter_mut().enumerate() {
                    let name = part * 125 + at;
                    client.send(format!(
                        "LOGIN\nuser2\n2345\nUPLOAD FILE Box/{name}\n1000\n"
                    ));
                }
                let mut accepted = 0;
                for (at, client) in clients.iter_mut().enumerate() {
                    (0..6).for_each(|_| drop(client.read_line()));
                    match client.read_line().as_str() {
                        "There is not enough room for that file" => {}
                        "Ready to receive 1000 bytes" if at % 2 == 0 => {
                            client.send(vec![b'x'; 1000]);
                            client.expect(&format!(
                                "Upload complete: {}, 1000 bytes",
                                part * 125 + at
                            ));
                            accepted += 1;
                        }
                        "Ready to receive 1000 bytes" => accepted += 1,
                        other => panic!("unexpected message: {other}"),
                    }
                }
                (clients, accepted)
            })
        })
        .collect();
    let (clients, accepted): (Vec<_>, Vec<usize>) = clients
        .into_iter()
        .map(|part| part.join().expect("each gets a message"))
        .unzip();
    // Exactly as many as fit.
    assert_eq!(accepted.into_iter().sum::<usize>(), 94);
    server.log_line(&["event=refused limit=quota user=user2 from=127.0.0.1:"]);

    // The quota reserved for incomplete uploads is released.
    drop(clients);
    let mut client = server.login("user2");
    let (files, bytes) = sizes(&server, "Box");
    assert_eq!(bytes, 5_500 + 1000 * (files as u64 - 1));
    let expected = format!("directory {bytes} of 100000 bytes Box");
    eventually("the rest is released", || {
        client.send_line("SHOW QUOTA");
        client.expect("QUOTA 1");
        let line = client.read_line();
        client.expect_menu();
        line == expected
    });
    let rest = 100_000 - bytes;
    client.send(format!("PUT FILE {rest} Box/Rest\n"));
    client.send(vec![b'x'; rest as usize]);
    client.expect(&format!("Upload complete: Rest, {rest} bytes"));
    client.expect_menu();
    client.send_line("PUT FILE 1 Box/One more");
    client.expect("There is not enough room for that file");
    // A user without a quota can upload more.
    let mut other = server.login("user3");
    other.send("PUT FILE 1 Box/One more\nx");
    other.expect("Upload complete: One more, 1 bytes");
}

#[test]
fn a_user_quota_spans_directories_and_survives_reloads() {
    let lines = [
        "user2:Inbox:upload",
        "user2:Outbox:upload",
        "user2::quota=10k",
    ];
    let home = home(&lines);
    for directory in ["Inbox", "Outbox"] {
        std::fs::create_dir(home.file(directory)).expect("the directory is created");
    }
    let server = Server::with_home(home, &[]);
    let put = |client: &mut Client, bytes: usize, path: &str| {
        client.send(format!("PUT FILE {bytes} {path}\n"));
        client.send(vec![b'x'; bytes]);
        client.read_line()
    };
    let (_, existing) = sizes(&server, "Uploads");
    let mut client = server.login("user2");
    put(&mut client, 4000, "Inbox/a");
    client.expect_menu();
    put(&mut client, 4000, "Outbox/a");
    client.expect_menu();
    client.send_line("SHOW QUOTA");
    client.expect("QUOTA 1");
    client.expect(&format!("user {} of 10000 bytes", 8000 + existing));
    client.expect_menu();
    assert_eq!(
        put(&mut client, 2000, "Inbox/b"),
        "There is not enough room for that file"
    );
    // A reload counts the files again, so that files removed by the operator no longer count.
    std::fs::remove_file(server.home.file("Outbox/a")).expect("the upload exists");
    server.signal(Signal::SIGHUP);
    server.log_line(&["event=reload result=taken-up"]);
    eventually("the reload has counted the files", || {
        let mut client = server.login("user2");
        client.send_line("SHOW QUOTA");
        client.expect("QUOTA 1");
        client.read_line() == format!("user {} of 10000 bytes", 4000 + existing)
    });
    let mut client = server.login("user2");
    let result = put(&mut client, 2000, "Inbox/b");
    assert_eq!(result, "Upload complete: b, 2000 bytes");
}

#[test]
fn uploads_keep_the_minimum_free_space() {
    let server = start(&[], &["--keep-free", "1000T"]);
    let mut client = server.login("user2");
    client.send("UPLOAD FILE Uploads/New\n1\n");
    client.read_line();
    client.expect("There is not enough room for that file");
    client.expect_menu();
    client.send("PUT FILE 1 Movies/New\n");
    client.expect("There is not enough room for that file");
    client.expect_end();
    let server = start(&[], &["--keep-free", "1k"]);
    let mut client = server.login("user2");
    client.send("PUT FILE 1 Uploads/New\nx");
    client.expect("Upload complete: New, 1 bytes");
}

//! Passwords in the memory of a server process.

use std::fs;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use nix::unistd::geteuid;

use crate::support::{Client, Home, Server};

#[test]
fn verified_passwords_are_erased_from_memory() {
    // Only root can read the memory of a sandboxed server.
    let options = ["--sandbox", if geteuid().is_root() { "try" } else { "off" }];
    let home = Home::new();
    let server = Server::with_home(home, &options);
    let (right, wrong) = ("1234", "not-the-PASSWORD-of-anybody");
    let mut client = server.connect();
    // The password is split, so that its first part is buffered between two ticks.
    client.send(format!("LOGIN\nuser1\n{}", &wrong[..9]));
    for _ in 0..3 {
        client.read_line();
    }
    client.send(format!(
        "{}\nLOGIN\nuser1\n{wrong}\nLOGIN\nuser1\n{right}\n",
        &wrong[9..]
    ));
    while client.read_line() != "Login Successfully" {}
    let mut incomplete = server.connect();
    incomplete.send(format!("LOGIN\nuser1\n{wrong}"));
    for _ in 0..3 {
        incomplete.read_line();
    }
    drop(incomplete);
    server.log_line(&["session=2", "event=end"]);
    let found =
        memory_with(&server, wrong.as_bytes()) + memory_with(&server, &wrong.as_bytes()[..9]);
    assert_eq!(found, 0, "the password was found in the server's memory");
    assert!(
        memory_with(&server, b"Please enter your username") > 0,
        "the search finds no known text"
    );
    client.expect_menu();
}

#[test]
fn unsolicited_passwords_are_erased_from_memory() {
    let sandbox = if geteuid().is_root() { "try" } else { "off" };
    let server = Server::with_home(Home::new(), &["--sandbox", sandbox, "--ftp", "127.0.0.1:0"]);
    let secret = "not-the-PASSWORD-of-anybody";
    let mut client = server.connect();
    let command = |client: &mut Client, line: String, code: &str| {
        client.send(line + "\r\n");
        let reply = client.read_line();
        assert!(reply.starts_with(code), "{reply}");
    };
    client.read_line();
    command(&mut client, format!("PASS {secret}"), "503 ");
    command(&mut client, "USER user1".into(), "331 ");
    command(&mut client, "PASS 1234".into(), "230 ");
    command(&mut client, format!("PASS {secret}"), "503 ");
    let long = format!("PASS {}{secret}", "x".repeat(5000));
    command(&mut client, long, "500 ");
    // A line that waits for the end of a transfer is kept until then.
    command(&mut client, "EPSV".into(), "229 ");
    client.send(format!("NLST Movies\r\nPASS {secret}\r\nABOR\r\n"));
    for code in ["426 ", "503 ", "225 "] {
        let reply = client.read_line();
        assert!(reply.starts_with(code), "{reply}");
    }
    let found = memory_with(&server, secret.as_bytes());
    assert_eq!(found, 0, "the password was found in the server's memory");
    assert!(memory_with(&server, b"Password required") > 0);
}

/// Counts the occurrences of some bytes in the memory of a server.
fn memory_with(server: &Server, wanted: &[u8]) -> usize {
    let mut memory = File::open(server.proc_file("mem")).expect("the memory is readable");
    let maps = fs::read_to_string(server.proc_file("maps")).unwrap();
    let mut found = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r') || rest.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        memory.seek(SeekFrom::Start(from)).unwrap();
        if memory.read_exact(&mut bytes).is_ok() {
            found += bytes
                .windows(wanted.len())
                .filter(|window| *window == wanted)
                .count();
        }
    }
    found
}

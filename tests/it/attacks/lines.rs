//! Overlong lines, control bytes and invalid numbers.

use super::{assert_unharmed, serve_with_canary};
use crate::support::FIRST_CHOICE;

const TOO_LONG: &str = "That line is too long. Connection is terminated.";

#[test]
fn input_after_an_overlong_line_is_not_executed() {
    let mut server = serve_with_canary(&[]);
    let descriptors = server.descriptors();
    let memory = server.memory_kib();
    for length in [4096, 4097, 8191, 8192, 8193, 100_000, 4 << 20] {
        let mut client = server.connect();
        let mut bytes = vec![b'x'; length];
        bytes.extend_from_slice(b"\nLOGIN\nuser1\n1234\nDOWNLOAD FILE Movies/Joker\n");
        // The server may close the connection before everything is sent.
        let _ = std::io::Write::write_all(&mut client.socket(), &bytes);
        client.close_sending();
        let output = String::from_utf8(client.read_to_end()).unwrap();
        assert!(
            output == format!("{FIRST_CHOICE}\n{TOO_LONG}\n"),
            "{length}: {output}"
        );
    }
    assert!(
        server.memory_kib() < memory + 4096,
        "discarded input was buffered"
    );
    assert_unharmed(&mut server, descriptors);
}

#[test]
fn telnet_and_control_bytes_are_harmless_at_any_position() {
    let mut server = serve_with_canary(&["--max-failures", "0"]);
    let descriptors = server.descriptors();
    let command = b"LOGIN\nuser1\n1234\nSHOW DIRECTORIES\n";
    let insertions: [&[u8]; 7] = [
        b"\xff",
        b"\xff\xf4",
        b"\xff\xff",
        b"\0",
        b"\r",
        b"\x1b[2J",
        b"\xc3\x28",
    ];
    for insertion in insertions {
        for at in 0..=command.len() {
            let mut client = server.connect();
            let mut bytes = command.to_vec();
            bytes.splice(at..at, insertion.iter().copied());
            bytes.extend_from_slice(b"\nQUIT\n");
            client.send(&bytes);
            client.close_sending();
            let output = String::from_utf8(client.read_to_end()).expect("messages are UTF-8");
            assert!(
                output.starts_with(FIRST_CHOICE) && output.contains("Connection is terminated"),
                "{at}: {output}"
            );
            assert!(
                !output.chars().any(|c| c.is_control() && c != '\n'),
                "{at}: {output:?}"
            );
        }
    }
    assert_unharmed(&mut server, descriptors);
}

#[test]
fn invalid_and_overflowing_numbers_are_rejected() {
    let mut server = serve_with_canary(&[]);
    let descriptors = server.descriptors();
    let mut client = server.login("user3");
    for number in [
        "-1",
        "+1",
        " 1",
        "1 ",
        "1e9",
        "0x10",
        "1.5",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775808000",
        "1000000000000000000000000000000",
        "\u{661}",
    ] {
        client.send(format!("RESUME DOWNLOAD Docs/Tides\n{number}\n"));
        client.expect("Please enter the number of bytes you already have");
        client.expect("That is not a valid number of bytes");
        client.expect_menu();
    }
    drop(client);
    // Valid numbers that exceed every disk.
    for number in [
        "9223372036854775807",
        "9223372036854775808",
        "9999999999999999999",
    ] {
        let mut client = server.login("user3");
        client.send(format!("PUT FILE {number} Uploads/Huge\n"));
        client.expect("There is not enough room for that file");
        client.expect_end();
    }
    assert!(!server.home.names("Uploads").contains(&"Huge".to_owned()));
    assert_unharmed(&mut server, descriptors);
}

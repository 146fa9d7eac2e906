//! FTP transfers through a server process.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{MsgFlags, send};

use crate::support::changes::plain_home;
use crate::support::ftp::{
    FtpClient, connect_to, read_to_end, serve_ftp, serve_ftp_at, serve_ftp_plain,
};
use crate::support::{Client, Server, connect_from, eventually};

#[test]
fn data_connections_from_other_addresses_are_rejected() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    let address = ftp.passive_address();
    let mut other = connect_from("127.0.0.2", address);
    assert_eq!(read_to_end(&mut other), b"", "it is closed");
    let mut data = connect_to(address);
    ftp.command("RETR Movies/Joker", "150");
    assert_eq!(read_to_end(&mut data).len(), 4096);
    ftp.expect("226");
}

#[test]
fn port_to_another_address_is_rejected() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    for (bounce, code) in [
        ("PORT 127,0,0,2,200,1", "501"),
        ("PORT 0,0,0,0,200,1", "501"),
        ("PORT 127,0,0,1,0,25", "504"),
        ("PORT 127,0,0,1,3,255", "504"),
        ("EPRT |1|224.0.0.1|50000|", "501"),
        ("EPRT |1|127.0.0.1|80|", "504"),
    ] {
        ftp.command(bounce, code);
        ftp.command("RETR Movies/Joker", "425");
    }
    ftp.command("EPRT |2|::1|50000|", "522");
    drop(server);
    let server = serve_ftp(plain_home(), &["--no-active-ftp"]);
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    ftp.command("PORT 127,0,0,1,200,1", "502");
}

/// A client behind a tunnel that ends on the server's machine has an address of that machine.
#[test]
fn active_mode_to_the_own_machine_is_off_when_reachable() {
    let (v4, v6) = ("PORT 127,0,0,1,200,1", "EPRT |2|::1|51201|");
    for (listeners, option, command, code) in [
        (&["127.0.0.1:0"][..], None, v4, "200"),
        (&["127.5.6.7:0"], None, v4, "200"),
        (&["[::1]:0"], None, v6, "200"),
        (&["127.0.0.1:0"], Some("--no-active-ftp"), v4, "502"),
        (&["0.0.0.0:0"], None, v4, "504"),
        (&["0.0.0.0:0"], None, "EPRT |1|127.0.0.1|51201|", "504"),
        (&["[::]:0"], None, v6, "504"),
        (&["[::]:0"], None, "EPRT |2|::ffff:127.0.0.1|51201|", "504"),
        (&["127.0.0.1:0", "0.0.0.0:0"], None, v4, "504"),
        (&["0.0.0.0:0"], Some("--allow-loopback-active"), v4, "200"),
        (&["[::]:0"], Some("--allow-loopback-active"), v6, "200"),
    ] {
        let ftp = listeners.iter().flat_map(|address| ["--ftp", *address]);
        let options: Vec<&str> = ftp.chain(option).collect();
        let server = Server::with_home(plain_home(), &options);
        let mut ftp = FtpClient::login(&server, "user1", "1234");
        ftp.command(command, code);
        ftp.command(
            "PASV",
            if listeners[0].starts_with('[') {
                "425"
            } else {
                "227"
            },
        );
    }
}

#[test]
fn active_mode_to_any_own_address_is_off_when_reachable() {
    let server = serve_ftp_at(plain_home(), "0.0.0.0:0", &[]);
    let outside = "192.0.2.1:9";
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a port is free");
    let own = match socket.connect(outside).and_then(|()| socket.local_addr()) {
        Ok(address) => address.ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(), // a machine without a network
    };
    for (address, to) in [(&*own, &*own), ("127.0.0.2", "127.0.0.1")] {
        let to = SocketAddr::new(to.parse().expect("an address"), server.address().port());
        let stream = connect_from(address, to);
        let mut ftp = FtpClient::login_over(Client::from_stream(stream), "user1", "1234");
        let port = format!("PORT {},200,1", address.replace('.', ","));
        ftp.command(&port, "504");
        ftp.command("RETR Movies/Joker", "425");
    }
}

#[test]
fn unsaved_uploads_are_not_226() {
    let server = serve_ftp(plain_home(), &["--max-upload", "10k"]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.store("STOR Uploads/large", &[7; 20_000]);
    let reply = ftp.expect("552");
    assert!(reply.ends_with("bytes available."), "{reply}");
    ftp.command("ALLO 20000", "202");
    ftp.command("CWD Uploads", "250");
    ftp.command("ALLO 20000", "552");
    assert!(!server.home.file("Uploads/large").exists());
    ftp.store("STOR small", &[7; 9_999]);
    ftp.expect("226");
    assert_eq!(ftp.retrieve("small"), [7; 9_999]);
}

#[test]
fn commands_allowed_during_a_transfer_are_answered() {
    let home = plain_home();
    home.write_sparse("Movies/Long", 64 << 20);
    let server = serve_ftp(home, &[]);
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    for synch in [false, true] {
        let mut data = ftp.connect_data();
        ftp.command("RETR Movies/Long", "150");
        ftp.command("NOOP", "200");
        ftp.command("STAT", "211");
        // It waits for the end of the transfer.
        ftp.send_line("SIZE Movies/Long");
        if synch {
            // The data mark is sent out of band (RFC 854).
            ftp.client.send(b"\xff\xf4");
            let socket = ftp.client.socket().as_raw_fd();
            send(socket, b"\xff\xf2", MsgFlags::MSG_OOB).expect("the mark is sent");
        }
        // ABOR does not wait, but its reply has its turn.
        ftp.command("ABOR", "426");
        ftp.expect("213");
        ftp.expect("225");
        let mut rest = Vec::new();
        let _ = data.read_to_end(&mut rest);
        assert!(rest.len() < 64 << 20);
        ftp.command("ABOR", "225");
    }
    // A transfer continues as the user that started it.
    for (command, code, held) in [("USER user2", "331", "230"), ("REIN", "220", "503")] {
        let mut data = ftp.connect_data();
        ftp.command("RETR Movies/Long", "150");
        ftp.command(command, code);
        ftp.send_line("CWD /");
        ftp.send_line("PASS 2345");
        assert_eq!(read_to_end(&mut data).len(), 64 << 20);
        for code in ["226", "530", held] {
            ftp.expect(code);
        }
        ftp.command("USER user1", "331");
        ftp.command("PASS 1234", "230");
        ftp.command("TYPE I", "200");
    }
    let mut data = ftp.connect_data();
    ftp.command("RETR Movies/Long", "150");
    // Some clients wait for the reply to QUIT before they read the rest.
    ftp.command("QUIT", "221");
    assert_eq!(read_to_end(&mut data).len(), 64 << 20);
    ftp.expect("226");
    ftp.client.expect_end();
}

#[test]
fn lines_after_a_transfer_are_answered_in_order() {
    let home = plain_home();
    home.write_sparse("Movies/Long", 64 << 20);
    let server = serve_ftp(home, &[]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    let codes =
        |ftp: &mut FtpClient, codes: &[&str]| codes.iter().for_each(|code| drop(ftp.expect(code)));
    // Sent with the command, before its data.
    let mut data = ftp.connect_data();
    ftp.client
        .send("RETR Movies/Joker\r\nSIZE Movies/Joker\r\nNOOP\r\nNone\r\nSTAT\r\n");
    assert_eq!(read_to_end(&mut data).len(), 4096);
    codes(&mut ftp, &["150", "226", "213", "200", "500", "211"]);
    // Sent after the end of an upload, without a wait for its reply.
    for number in 0..20 {
        let name = format!("Uploads/{number}");
        ftp.store(&format!("STOR {name}"), b"content");
        ftp.client.send(format!(
            "NOOP\r\nRNFR {name}\r\nRNTO {name}.done\r\nSTAT\r\n"
        ));
        codes(&mut ftp, &["226", "200", "350", "250", "211"]);
        assert!(server.home.file(&format!("{name}.done")).exists());
    }
    // Sent during a download.
    let mut data = ftp.connect_data();
    ftp.command("RETR Movies/Long", "150");
    ftp.client.send("PWD\r\nNOOP\r\nPASV\r\n");
    assert_eq!(read_to_end(&mut data).len(), 64 << 20);
    codes(&mut ftp, &["226", "257", "200", "227"]);
    // Held lines beyond the buffer wait in the kernel's.
    let mut data = ftp.connect_data();
    ftp.command("RETR Movies/Long", "150");
    ftp.client.send("CWD /Uploads\r\n".repeat(2000));
    assert_eq!(read_to_end(&mut data).len(), 64 << 20);
    codes(&mut ftp, &["226"]);
    codes(&mut ftp, &["250"; 2000]);
    ftp.command("NOOP", "200");
}

#[test]
fn quit_after_commands_that_wait_keeps_an_upload() {
    let server = serve_ftp_plain();
    for (name, quit) in [("kept", "QUIT\r\n"), ("lost", "")] {
        let mut ftp = FtpClient::login(&server, "user3", "3456");
        let mut data = ftp.connect_data();
        ftp.command(&format!("STOR Uploads/{name}.part"), "150");
        data.write_all(b"content").unwrap();
        ftp.client.send(format!(
            "RNFR Uploads/{name}.part\r\nRNTO Uploads/{name}\r\n{quit}"
        ));
        ftp.client.close_sending();
        // Without QUIT the server closes the data connection when it notices the end.
        if quit.is_empty() {
            assert!(matches!(data.read(&mut [0]), Ok(0) | Err(_)));
        }
        drop(data);
        match quit {
            "" => {
                for code in ["426", "550", "503"] {
                    ftp.expect(code);
                }
            }
            _ => {
                for code in ["226", "350", "250", "221"] {
                    ftp.expect(code);
                }
            }
        }
    }
    assert!(server.home.file("Uploads/kept").exists());
    assert!(!server.home.file("Uploads/lost").exists());
    assert!(!server.home.file("Uploads/lost.part").exists());
}

#[test]
fn quit_during_an_upload_keeps_it_and_a_close_does_not() {
    let server = serve_ftp_plain();
    for (name, last_command) in [("kept", "QUIT"), ("lost", "NOOP")] {
        let mut ftp = FtpClient::login(&server, "user3", "3456");
        let mut data = ftp.connect_data();
        ftp.command(&format!("STOR Uploads/{name}"), "150");
        data.write_all(b"one ").unwrap();
        let code = if last_command == "QUIT" { "221" } else { "200" };
        ftp.command(last_command, code);
        drop(ftp);
        // Without a QUIT, the server closes the data connection when it notices the end.
        let _ = data.write_all(b"two");
        drop(data);
    }
    let kept = server.home.file("Uploads/kept");
    eventually("the upload is kept", || {
        std::fs::read(&kept).is_ok_and(|content| content == b"one two")
    });
    assert!(!server.home.file("Uploads/lost").exists());
}

#[test]
fn a_new_login_drops_the_previous_data_connection() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user1", "1234");
    let mut data = ftp.connect_data();
    ftp.command("USER user2", "331");
    assert_eq!(read_to_end(&mut data), b"");
    ftp.command("PASS 2345", "230");
    ftp.command("RETR Movies/Joker", "425");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096);
}

#[test]
fn replies_report_what_was_stored() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    // File systems limit times and round them; ext4 has none after 2446.
    for time in ["99990101000000", "00010101000000", "20260101000001"] {
        let set = ftp.command(&format!("MFMT {time} Uploads/Welcome"), "213");
        let stored = ftp.command("MDTM Uploads/Welcome", "213");
        assert_eq!(set, format!("213 Modify={}; Uploads/Welcome", &stored[4..]));
    }
    let _data = ftp.connect_data();
    ftp.send_line("STAT");
    let status = ftp.read_reply().concat();
    assert!(status.contains(" Passive data connection for"), "{status}");
}

#[test]
fn uploads_are_appended_replaced_and_resumed() {
    let server = serve_ftp_plain();
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("CWD Uploads", "250");
    for (command, content, whole) in [
        ("STOR a", "hello", "hello"),
        ("APPE a", ", you", "hello, you"),
        ("APPE new", "x", "x"),
    ] {
        ftp.store(command, content.as_bytes());
        ftp.expect("226");
        let path = command.split(' ').nth(1).unwrap();
        assert_eq!(ftp.retrieve(path), whole.as_bytes(), "{command}");
    }
    ftp.command("REST 7", "350");
    ftp.store("STOR a", b"all");
    ftp.expect("226");
    assert_eq!(ftp.retrieve("a"), b"hello, all");
    ftp.command("RNFR a", "350");
    ftp.command("RNTO b", "250");
    ftp.command("RNTO c", "503");
    ftp.command("MFMT 20200229120000 b", "213");
    assert_eq!(ftp.command("MDTM b", "213"), "213 20200229120000");
    assert_eq!(ftp.command("XCRC \"b\" 0 5", "250"), "250 3610a686");
    ftp.command("MKD b", "550");
    ftp.command("MKD .b", "550");
    ftp.command("DELE b", "250");
    ftp.command("SIZE b", "550");
    // user2 has the right to upload but not to change.
    let mut ftp = FtpClient::login(&server, "user2", "2345");
    ftp.command("CWD Uploads", "250");
    ftp.command("DELE new", "550");
    let _data = ftp.connect_data();
    ftp.command("STOR new", "553");
    let mut data = ftp.connect_data();
    let reply = ftp.command("STOU", "150");
    let name = reply
        .strip_prefix("150 FILE: ")
        .expect("RFC 1123")
        .to_owned();
    data.write_all(b"unique").unwrap();
    drop(data);
    ftp.expect("226");
    assert_eq!(ftp.retrieve(&name), b"unique");
}

#[test]
fn permanent_errors_precede_425() {
    let home = plain_home();
    home.write("Uploads/ten", b"0123456789");
    let server = serve_ftp(home, &[]);
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("RETR Uploads/ten", "425");
    for command in ["RETR", "STOR"] {
        ftp.command("REST 11", "350");
        ftp.command(&format!("{command} Uploads/ten"), "554");
        ftp.command("REST 10", "350");
        ftp.command(&format!("{command} Uploads/ten"), "425");
        ftp.command("REST 1", "350");
        ftp.command(&format!("{command} Uploads/none"), "550");
    }
    for command in ["APPE", "STOR", "STOU"] {
        ftp.command(&format!("{command} Movies/new"), "550");
        ftp.command(&format!("{command} Uploads/new"), "425");
        ftp.command(&format!("{command} Nowhere/new"), "425");
    }
}

//! Uploads whose clients do not wait for the reply, and lengths announced by ALLO.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;

use crate::support::changes::plain_home;
use crate::support::eventually;
use crate::support::ftp::{FtpClient, serve_ftp};
use crate::support::server::Server;

/// How a client ends its connections after the bytes of an upload.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The data connection, then the control connection.
    DataFirst,
    /// The control connection, then the data connection.
    ControlFirst,
    /// As `DataFirst`, with the reply 150 unread, which resets the control connection.
    Unread,
    /// The control connection, while the data connection stays open.
    DataOpen,
}

const ENDS: [End; 3] = [End::DataFirst, End::ControlFirst, End::Unread];

/// Uploads `content` and leaves without waiting for the reply.
fn upload_and_leave(server: &Server, commands: &[&str], content: &[u8], end: End) {
    let mut ftp = FtpClient::login(server, "user3", "3456");
    let mut data = ftp.connect_data();
    let (store, preparations) = commands.split_last().expect("a command");
    for command in preparations {
        let code = if command.starts_with("REST") {
            "350"
        } else {
            "202"
        };
        ftp.command(command, code);
    }
    match end {
        End::Unread => {
            ftp.send_line(store);
            // The reply has arrived, but is not read.
            ftp.client.socket().peek(&mut [0]).unwrap();
        }
        _ => drop(ftp.command(store, "150")),
    }
    data.write_all(content).unwrap();
    match end {
        End::DataFirst | End::Unread => {
            drop(data);
            drop(ftp);
        }
        End::ControlFirst => {
            drop(ftp);
            drop(data);
        }
        End::DataOpen => {
            drop(ftp);
            // The server closes it.
            assert!(matches!(data.read(&mut [0]), Ok(0) | Err(_)));
        }
    }
}

#[test]
fn unconfirmed_uploads_are_discarded_and_logged() {
    let server = serve_ftp(plain_home(), &[]);
    let content = vec![7; 300_000];
    for (number, end) in ENDS.into_iter().chain([End::DataOpen]).enumerate() {
        let name = format!("Uploads/lost {number}");
        upload_and_leave(&server, &[&format!("STOR {name}")], &content, end);
        let path = server.home.file(&name);
        let path = format!("path=\"{}\"", path.display());
        let words = ["event=upload-unconfirmed", &path, "option=--trust-close"];
        let line = server.log_line(&words);
        if !matches!(end, End::DataOpen) {
            assert!(line.contains(" bytes=300000 "), "{end:?}: {line}");
        }
    }
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    ftp.command("SIZE Uploads/lost 0", "550");
    let names = server.home.names("Uploads");
    assert!(names.iter().all(|name| !name.contains("lost")), "{names:?}");
}

#[test]
fn trust_close_publishes_unconfirmed_uploads() {
    let server = serve_ftp(plain_home(), &["--trust-close"]);
    let content = vec![7; 300_000];
    for (number, end) in ENDS.into_iter().enumerate() {
        let name = format!("Uploads/kept-{number}");
        upload_and_leave(&server, &[&format!("STOR {name}")], &content, end);
        let path = server.home.file(&name);
        eventually("the upload is published", || {
            fs::read(&path).is_ok_and(|stored| stored == content)
        });
    }
    assert!(!server.log().contains("upload-unconfirmed"));
    // ABOR and a reset of the data connection still discard it.
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    let mut data = ftp.connect_data();
    ftp.command("STOR Uploads/aborted", "150");
    data.write_all(b"half").unwrap();
    ftp.command("ABOR", "426");
    ftp.expect("226");
    ftp.command("SIZE Uploads/aborted", "550");
}

#[test]
fn announced_length_confirms_an_upload() {
    let server = serve_ftp(plain_home(), &[]);
    server.home.write("Uploads/part", b"0123456789");
    let content = vec![7; 300_000];
    for (number, end) in ENDS.into_iter().enumerate() {
        let name = format!("Uploads/kept-{number}");
        let store = format!("STOR {name}");
        upload_and_leave(&server, &["ALLO 300000", &store], &content, end);
        let path = server.home.file(&name);
        eventually("the upload is published", || {
            fs::read(&path).is_ok_and(|stored| stored == content)
        });
    }
    // The length of the rest, or of the whole file.
    for (allocation, rest, whole) in [
        ("ALLO 3", "abc", "01234abc"),
        ("ALLO 9", "abcd", "01234abcd"),
    ] {
        let commands = [allocation, "REST 5", "STOR Uploads/part"];
        upload_and_leave(&server, &commands, rest.as_bytes(), End::ControlFirst);
        let path = server.home.file("Uploads/part");
        eventually("the upload is published", || {
            fs::read(&path).is_ok_and(|stored| stored == whole.as_bytes())
        });
    }
    assert!(!server.log().contains("upload-unconfirmed"));
    // Fewer or more bytes than announced confirm nothing.
    for (number, allocation) in ["ALLO 299999", "ALLO 300001"].into_iter().enumerate() {
        let store = format!("STOR Uploads/lost-{number}");
        upload_and_leave(&server, &[allocation, &store], &content, End::DataFirst);
        let path = format!("lost-{number} bytes=300000 ");
        server.log_line(&["event=upload-unconfirmed", &path]);
    }
}

#[test]
fn uploads_shorter_than_announced_are_426() {
    let server = serve_ftp(plain_home(), &["--trust-close"]);
    server.home.write("Uploads/part", b"0123456789");
    let mut ftp = FtpClient::login(&server, "user3", "3456");
    for (commands, content, code) in [
        (&["ALLO 10", "STOR Uploads/a"][..], "123456789", "426"),
        (&["ALLO 10", "STOR Uploads/a"], "", "426"),
        (&["ALLO 10", "STOR Uploads/b"], "1234567890", "226"),
        (&["ALLO 10", "STOR Uploads/c"], "12345678901", "226"),
        (&["ALLO 10 R 5", "APPE Uploads/part"], "123456789", "426"),
        (&["REST 5", "ALLO 10", "STOR Uploads/part"], "1234", "426"),
        (&["ALLO 10", "REST 5", "STOR Uploads/part"], "1234", "426"),
        // It counts for the next upload only, and not after other commands.
        (&["STOR Uploads/d"], "1", "226"),
        (&["ALLO 10", "CWD /Uploads", "STOR e"], "1", "226"),
        (&["ALLO 10", "NOOP", "TYPE I", "STOR f"], "1", "426"),
        (&["ALLO 10", "STOU"], "1", "426"),
    ] {
        let mut data = ftp.connect_data();
        let (store, preparations) = commands.split_last().expect("a command");
        for command in preparations {
            ftp.send_line(command);
            let reply = ftp.read_reply().concat();
            assert!(reply.starts_with(['2', '3']), "{command}: {reply}");
        }
        ftp.command(store, "150");
        data.write_all(content.as_bytes()).unwrap();
        data.shutdown(Shutdown::Write).unwrap();
        let reply = ftp.expect(code);
        assert_eq!(
            reply.contains("ALLO"),
            code == "426",
            "{commands:?}: {reply}"
        );
    }
    assert_eq!(
        fs::read(server.home.file("Uploads/part")).unwrap(),
        b"0123456789"
    );
    assert!(!server.home.file("Uploads/a").exists());
    assert!(!server.home.file("Uploads/f").exists());
    // In type A the announced length may be that of the file or of its lines on the wire.
    for allocation in ["ALLO 4", "ALLO 6"] {
        ftp.command("TYPE A", "200");
        let mut data = ftp.connect_data();
        ftp.command(allocation, "202");
        ftp.command("STOR /Uploads/text", "150");
        data.write_all(b"a\r\nb\r\n").unwrap();
        drop(data);
        ftp.expect("226");
    }
}

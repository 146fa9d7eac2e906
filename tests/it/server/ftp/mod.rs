//! FTP over real sockets: what a stranger, a thief and a careless program may try, and what each is told.

pub(crate) mod data;
pub(crate) mod in_process;
mod limits;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};

use crate::support::changes::plain_home;
use crate::support::{Client, Home, Server, TIMEOUT, connect_from, eventually};

/// A control connection, greeted.
pub(crate) struct Ftp {
    client: Client,
}

fn serve(home: Home, options: &[&str]) -> Server {
    Server::with_home(home, &[&["--ftp", "127.0.0.1:0"], options].concat())
}

fn serve_plain() -> Server {
    serve(plain_home(), &[])
}

impl Ftp {
    fn connect(server: &Server) -> Ftp {
        Ftp::over(server.connect())
    }

    fn over(client: Client) -> Ftp {
        let mut ftp = Ftp { client };
        ftp.expect("220");
        ftp
    }

    fn login(server: &Server, user: &str, password: &str) -> Ftp {
        Ftp::login_over(server.connect(), user, password)
    }

    pub(crate) fn login_over(client: Client, user: &str, password: &str) -> Ftp {
        let mut ftp = Ftp::over(client);
        ftp.ask(&format!("USER {user}"), "331");
        ftp.ask(&format!("PASS {password}"), "230");
        ftp.ask("TYPE I", "200");
        ftp
    }

    /// The next reply, all its lines.
    pub(crate) fn reply(&mut self) -> Vec<String> {
        let mut lines = vec![self.client.read_line()];
        let end = format!("{} ", &lines[0][..3]);
        while !lines.last().is_some_and(|line| line.starts_with(&end)) {
            lines.push(self.client.read_line());
        }
        lines
    }

    /// The next reply, its last line; it has to have this code.
    #[track_caller]
    pub(crate) fn expect(&mut self, code: &str) -> String {
        let line = self.reply().pop().expect("a reply has a line");
        let text = line.strip_suffix('\r').expect("lines end with CR LF");
        assert_eq!(&text[..3], code, "{text}");
        text.to_owned()
    }

    /// All that is told to a command, whatever that is, over both connections; where a file is asked for, `content` is one.
    pub(crate) fn try_transfer(&mut self, command: &str, content: &[u8]) -> String {
        let mut data = self.data();
        self.client.send(format!("{command}\r\n"));
        let mut told = self.reply().concat();
        if told.starts_with("150") {
            let _ = data.write_all(content);
            let _ = data.shutdown(Shutdown::Write);
            told.push_str(&String::from_utf8_lossy(&all_of(&mut data)));
            told.push_str(&self.reply().concat());
        }
        told
    }

    /// All that is told to a command, whatever that is.
    pub(crate) fn attempt(&mut self, command: &str) -> String {
        self.client.send(format!("{command}\r\n"));
        self.reply().concat()
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str, code: &str) -> String {
        self.client.send(format!("{command}\r\n"));
        self.expect(code)
    }

    /// Where the server awaits a data connection.
    #[track_caller]
    pub(crate) fn passive(&mut self) -> SocketAddr {
        let reply = self.ask("EPSV", "229");
        let port = reply.split('|').nth(3).expect("a port");
        let port = port.parse().expect("a number");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[track_caller]
    pub(crate) fn data(&mut self) -> TcpStream {
        patient(TcpStream::connect(self.passive()).expect("it is awaited"))
    }

    #[track_caller]
    pub(crate) fn retrieve(&mut self, path: &str) -> Vec<u8> {
        let at = self.passive();
        self.retrieve_at(at, path)
    }

    /// Downloads by the address that was told before.
    #[track_caller]
    pub(crate) fn retrieve_at(&mut self, at: SocketAddr, path: &str) -> Vec<u8> {
        let mut data = patient(TcpStream::connect(at).expect("it is awaited"));
        self.ask(&format!("RETR {path}"), "150");
        let content = all_of(&mut data);
        self.expect("226");
        content
    }

    /// Sends a file; how it ends is for the test to say.
    #[track_caller]
    fn store(&mut self, command: &str, content: &[u8]) {
        let mut data = self.data();
        self.ask(command, "150");
        // The server may have enough before the end.
        let _ = data.write_all(content);
        let _ = data.shutdown(Shutdown::Write);
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
        .expect("sockets have such options");
    stream
}

fn all_of(data: &mut TcpStream) -> Vec<u8> {
    let mut content = Vec::new();
    data.read_to_end(&mut content)
        .expect("the end comes in time");
    content
}

#[test]
fn an_ftp_only_server_has_no_menu() {
    let server = serve_plain();
    assert_eq!(server.addresses.len(), 1);
    let mut ftp = Ftp::login(&server, "user1", "1234");
    assert_eq!(ftp.ask("PWD", "257"), "257 \"/\" is the current directory.");
    ftp.ask("CWD Movies", "250");
    let expected = std::fs::read(server.home.file("Movies/Joker")).unwrap();
    assert_eq!(ftp.retrieve("Joker"), expected);
    assert_eq!(ftp.ask("SIZE /Movies/Joker", "213"), "213 4096");
    ftp.ask("QUIT", "221");
    ftp.client.expect_end();
}

#[test]
fn data_connections_from_other_addresses_are_rejected() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    let address = ftp.passive();
    let mut thief = connect_from("127.0.0.2", address);
    assert_eq!(all_of(&mut thief), b"", "he is let go");
    let mut data = patient(TcpStream::connect(address).expect("still awaited"));
    ftp.ask("RETR Movies/Joker", "150");
    assert_eq!(all_of(&mut data).len(), 4096);
    ftp.expect("226");
}

#[test]
fn port_to_another_address_is_rejected() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    for (bounce, code) in [
        ("PORT 127,0,0,2,200,1", "501"),
        ("PORT 0,0,0,0,200,1", "501"),
        ("PORT 127,0,0,1,0,25", "504"),
        ("PORT 127,0,0,1,3,255", "504"),
        ("EPRT |1|224.0.0.1|50000|", "501"),
        ("EPRT |1|127.0.0.1|80|", "504"),
    ] {
        ftp.ask(bounce, code);
        ftp.ask("RETR Movies/Joker", "425");
    }
    ftp.ask("EPRT |2|::1|50000|", "522");
    drop(server);
    let server = serve(plain_home(), &["--no-active-ftp"]);
    let mut ftp = Ftp::login(&server, "user1", "1234");
    ftp.ask("PORT 127,0,0,1,200,1", "502");
}

#[test]
fn refused_users_and_wrong_passwords_get_equal_replies() {
    let server = serve_plain();
    let mut said = Vec::new();
    for (user, password) in [("nobody", "1234"), ("user1", "4321")] {
        let mut ftp = Ftp::connect(&server);
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(ftp.ask(&format!("USER {user}"), "331"));
            told.push(ftp.ask(&format!("PASS {password}"), "530"));
        }
        ftp.client.expect_end();
        said.push(told);
    }
    assert_eq!(said[0], said[1]);
}

/// Passwords of the example home are hashed, which takes much longer than anything else here.
#[test]
fn refused_users_and_wrong_passwords_take_equal_time() {
    let server = serve(Home::new(), &["--max-failures", "0"]);
    let mut took = [Duration::ZERO; 2];
    for _ in 0..4 {
        for (time, user) in took.iter_mut().zip(["nobody", "user1"]) {
            let mut ftp = Ftp::connect(&server);
            ftp.ask(&format!("USER {user}"), "331");
            let asked = Instant::now();
            ftp.ask("PASS wrong", "530");
            // The least of several is what the others do not disturb.
            *time = match *time {
                Duration::ZERO => asked.elapsed(),
                least => least.min(asked.elapsed()),
            };
        }
    }
    let [unknown, known] = took;
    assert!(
        unknown < known * 2 && known < unknown * 2,
        "{unknown:?} and {known:?}"
    );
}

#[test]
fn numbers_beyond_63_bits_are_501() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    for number in [
        "18446744073709551615",
        "9223372036854775808",
        "-1",
        "+1",
        "1e9",
        "0x10",
        "1.0",
        "99999999999999999999999999999999",
    ] {
        ftp.ask(&format!("REST {number}"), "501");
        ftp.ask(&format!("ALLO {number}"), "501");
    }
    ftp.ask("REST 9223372036854775807", "350");
    let _data = ftp.data();
    ftp.ask("RETR Movies/Joker", "554");
}

#[test]
fn names_cannot_split_replies_or_log_lines() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.ask("CWD Uploads", "250");
    assert_eq!(
        ftp.ask("MKD q\"uote 221", "257"),
        "257 \"/Uploads/q\"\"uote 221\" created."
    );
    for name in ["a\rb", "a\u{1b}[2Jb", "a\u{85}b", "a\0b", "a\r\0b"] {
        ftp.client.send(format!("MKD {name}\r\n"));
        let reply = ftp.client.read_line();
        assert!(["501", "550"].contains(&&reply[..3]), "{reply}");
    }
    // Made beside the server, and not to be had through it.
    server.home.write("Uploads/line\r\n226 x\u{1b}", "x");
    ftp.ask("SIZE line", "550");
    let log = server.log();
    assert!(!log.contains('\u{1b}') && !log.contains("\n226"), "{log}");
}

#[test]
fn names_with_line_ends_are_not_listed() {
    let server = serve_plain();
    for name in [
        "line\r\n226 x",
        "return\rx",
        "escape\u{1b}[2J",
        "next\u{85}",
    ] {
        server.home.write(&format!("Uploads/{name}"), "x");
        std::fs::create_dir(server.home.file(&format!("Uploads/d{name}"))).unwrap();
    }
    server.home.write("Uploads/plain", "x");
    let mut ftp = Ftp::login(&server, "user3", "3456");
    for command in [
        "LIST Uploads",
        "NLST Uploads",
        "MLSD Uploads",
        "NLST Uploads/*",
    ] {
        let mut data = ftp.data();
        ftp.ask(command, "150");
        let listing = String::from_utf8(all_of(&mut data)).expect("UTF-8");
        ftp.expect("226");
        let lines: Vec<&str> = listing.split_terminator("\r\n").collect();
        let is_plain = |line: &&&str| line.ends_with("plain");
        assert_eq!(lines.iter().filter(is_plain).count(), 1, "{command}");
        for word in ["line", "return", "escape", "next", "226"] {
            assert!(!listing.contains(word), "{command}: {lines:?}");
        }
        assert!(
            !lines.concat().contains(char::is_control),
            "{command}: {lines:?}"
        );
    }
    ftp.ask("CWD Uploads/dline", "550");
    ftp.ask("CWD Uploads/descape\u{1b}[2J", "501");
    assert_eq!(ftp.ask("PWD", "257"), "257 \"/\" is the current directory.");
}

#[test]
fn granted_directories_offer_no_delete_or_rename() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.ask("MKD Uploads/Box", "257");
    ftp.ask("OPTS MLST type;perm;", "200");
    for (path, entry) in [
        ("/", "type=dir;perm=cpelm; Uploads"),
        ("/", "type=dir;perm=el; Movies"),
        ("/Uploads", "type=dir;perm=cdfpelm; Box"),
    ] {
        let mut data = ftp.data();
        ftp.ask(&format!("MLSD {path}"), "150");
        let listing = String::from_utf8(all_of(&mut data)).expect("UTF-8");
        ftp.expect("226");
        assert!(listing.lines().any(|line| line == entry), "{listing}");
    }
    for (path, facts) in [
        ("/Uploads", " type=dir;perm=cpelm; /Uploads"),
        ("/Uploads/Box", " type=dir;perm=cdfpelm; /Uploads/Box"),
    ] {
        ftp.client.send(format!("MLST {path}\r\n"));
        assert_eq!(ftp.reply()[1].trim_end(), facts);
    }
    for command in ["RNFR /Uploads", "RMD /Uploads"] {
        ftp.ask(command, "550");
    }
}

/// How few steps a match takes is `glob`'s to show; here, that nobody else waits for them.
#[test]
fn a_costly_glob_does_not_delay_other_sessions() {
    let server = serve_plain();
    for number in 100..200 {
        let name = format!("Uploads/{}{number}", "a".repeat(250));
        server.home.write(&name, "x");
    }
    let mut bomber = Ftp::login(&server, "user3", "3456");
    let mut other = Ftp::login(&server, "user1", "1234");
    for bomb in [
        "*a".repeat(127),
        format!("*{}b", "a".repeat(250)),
        "*/../".repeat(500),
    ] {
        let mut data = bomber.data();
        bomber.client.send(format!("NLST Uploads/{bomb}\r\n"));
        let asked = Instant::now();
        other.ask("NOOP", "200");
        // On its own it takes no millisecond; a busy machine may need more.
        assert!(asked.elapsed() < Duration::from_secs(1), "{bomb}");
        let reply = bomber.client.read_line();
        match &reply[..3] {
            "150" => {
                all_of(&mut data);
                bomber.expect("226");
            }
            code => assert_eq!(code, "550", "{reply}"),
        }
        other.ask("NOOP", "200");
    }
}

#[test]
fn a_4_mib_line_gets_one_500_and_runs_no_command() {
    let server = serve_plain();
    let mut ftp = Ftp::connect(&server);
    let line = [&b"QUIT ".repeat(1 << 19)[..], &b"NOOP ".repeat(1 << 18)[..]].concat();
    ftp.client.send(line);
    ftp.client.send("\r\n");
    ftp.expect("500");
    ftp.ask("NOOP", "200");
}

#[test]
fn telnet_and_nul_bytes_are_accepted_at_any_position() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    let line = b"CWD Movies";
    for at in 0..=line.len() {
        for telnet in [&b"\xff\xf1"[..], b"\xff\xf4\xff\xf2"] {
            ftp.client
                .send([&line[..at], telnet, &line[at..], b"\r\n"].concat());
            ftp.expect("250");
            ftp.ask("CDUP", "250");
        }
        ftp.client
            .send([&line[..at], b"\0", &line[at..], b"\r\n"].concat());
        let reply = ftp.client.read_line();
        assert!(reply.starts_with('5'), "{reply}");
    }
}

#[test]
fn http_requests_are_closed() {
    let server = serve_plain();
    for line in [
        "GET / HTTP/1.1",
        "POST / HTTP/1.1",
        "CONNECT x:443 HTTP/1.1",
        "\u{16}\u{3}\u{1}",
    ] {
        let mut ftp = Ftp::connect(&server);
        ftp.client
            .send(format!("{line}\r\nHost: x\r\nUSER a\r\n\r\n"));
        ftp.expect("421");
        ftp.client.expect_end();
    }
    let mut ftp = Ftp::connect(&server);
    for _ in 0..5 {
        ftp.ask("Header: value", "500");
    }
    ftp.ask("Header: value", "421");
}

#[test]
fn unsaved_uploads_are_not_226() {
    let server = serve(plain_home(), &["--max-upload", "10k"]);
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.store("STOR Uploads/large", &[7; 20_000]);
    let reply = ftp.expect("552");
    assert!(reply.ends_with("bytes available."), "{reply}");
    ftp.ask("ALLO 20000", "202");
    ftp.ask("CWD Uploads", "250");
    ftp.ask("ALLO 20000", "552");
    assert!(!server.home.file("Uploads/large").exists());
    ftp.store("STOR small", &[7; 9_999]);
    ftp.expect("226");
    assert_eq!(ftp.retrieve("small"), [7; 9_999]);
}

#[test]
fn commands_allowed_during_a_transfer_are_answered() {
    let home = plain_home();
    home.write_sparse("Movies/Long", 64 << 20);
    let server = serve(home, &[]);
    let mut ftp = Ftp::login(&server, "user1", "1234");
    for synch in [false, true] {
        let mut data = ftp.data();
        ftp.ask("RETR Movies/Long", "150");
        ftp.ask("NOOP", "200");
        ftp.ask("STAT", "211");
        ftp.ask("CWD /", "450");
        if synch {
            // As RFC 854 has it: the mark goes out of band.
            ftp.client.send(b"\xff\xf4");
            let socket = ftp.client.socket().as_raw_fd();
            send(socket, b"\xff\xf2", MsgFlags::MSG_OOB).expect("two bytes go");
        }
        ftp.ask("ABOR", "426");
        ftp.expect("226");
        let mut rest = Vec::new();
        let _ = data.read_to_end(&mut rest);
        assert!(rest.len() < 64 << 20);
        ftp.ask("ABOR", "225");
    }
    // Whoever comes after, what is under way is still his who began it.
    for (command, code) in [("USER user2", "331"), ("REIN", "220")] {
        let mut data = ftp.data();
        ftp.ask("RETR Movies/Long", "150");
        ftp.ask(command, code);
        ftp.ask("CWD /", "530");
        ftp.ask("PASS 2345", "450");
        assert_eq!(all_of(&mut data).len(), 64 << 20);
        ftp.expect("226");
        ftp.ask("PWD", "530");
        ftp.ask("USER user1", "331");
        ftp.ask("PASS 1234", "230");
        ftp.ask("TYPE I", "200");
    }
    let mut data = ftp.data();
    ftp.ask("RETR Movies/Long", "150");
    // As soon as it may be said, since some wait for it before they take the rest.
    ftp.ask("QUIT", "221");
    assert_eq!(all_of(&mut data).len(), 64 << 20);
    ftp.expect("226");
    ftp.client.expect_end();
}

#[test]
fn quit_during_an_upload_keeps_it_and_a_close_does_not() {
    let server = serve_plain();
    for (name, last_word) in [("kept", "QUIT"), ("lost", "NOOP")] {
        let mut ftp = Ftp::login(&server, "user3", "3456");
        let mut data = ftp.data();
        ftp.ask(&format!("STOR Uploads/{name}"), "150");
        data.write_all(b"one ").unwrap();
        let code = if last_word == "QUIT" { "221" } else { "200" };
        ftp.ask(last_word, code);
        drop(ftp);
        // What ends without a word has its data connection closed, however late it is seen.
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
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    let mut data = ftp.data();
    ftp.ask("USER user2", "331");
    assert_eq!(all_of(&mut data), b"");
    ftp.ask("PASS 2345", "230");
    ftp.ask("RETR Movies/Joker", "425");
    assert_eq!(ftp.retrieve("Movies/Joker").len(), 4096);
}

#[test]
fn uploads_are_appended_replaced_and_resumed() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.ask("CWD Uploads", "250");
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
    ftp.ask("REST 7", "350");
    ftp.store("STOR a", b"all");
    ftp.expect("226");
    assert_eq!(ftp.retrieve("a"), b"hello, all");
    ftp.ask("RNFR a", "350");
    ftp.ask("RNTO b", "250");
    ftp.ask("RNTO c", "503");
    ftp.ask("MFMT 20200229120000 b", "213");
    assert_eq!(ftp.ask("MDTM b", "213"), "213 20200229120000");
    assert_eq!(ftp.ask("XCRC \"b\" 0 5", "250"), "250 3610a686");
    ftp.ask("MKD b", "550");
    ftp.ask("MKD .b", "550");
    ftp.ask("DELE b", "250");
    ftp.ask("SIZE b", "550");
    // user2 may add and not change.
    let mut ftp = Ftp::login(&server, "user2", "2345");
    ftp.ask("CWD Uploads", "250");
    ftp.ask("DELE new", "550");
    let _data = ftp.data();
    ftp.ask("STOR new", "553");
    let mut data = ftp.data();
    let reply = ftp.ask("STOU", "150");
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
fn anonymous_accounts_accept_any_password() {
    let home = plain_home();
    home.append("Credentials", "anonymous:anyone");
    home.append("Directories", "anonymous:Docs:read,upload");
    let server = serve(home, &[]);
    server.log_line(&["accepts any password", "anonymous"]);
    let mut ftp = Ftp::login(&server, "anonymous", "me@example.org");
    ftp.ask("SIZE /Docs/Tides", "213");
    ftp.ask("SIZE /Movies/Joker", "550");
    ftp.ask("DELE /Docs/Tides", "550");
}

#[test]
fn rejected_idle_and_stopped_sessions_get_421() {
    let server = serve(
        plain_home(),
        &["--max-sessions", "1", "--idle-timeout", "2"],
    );
    let mut ftp = Ftp::login(&server, "user1", "1234");
    let mut second = server.connect();
    assert!(second.read_line().starts_with("421 Too many connections"));
    second.expect_end();
    assert!(ftp.expect("421").contains("Idle"));
    ftp.client.expect_end();
    drop(server);
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    server.signal(Signal::SIGTERM);
    assert!(ftp.expect("421").contains("shutting down"));
    ftp.client.expect_end();
}

#[test]
fn stat_and_site_are_answered_before_login() {
    let server = serve_plain();
    let mut ftp = Ftp::connect(&server);
    ftp.ask("STAT", "211");
    ftp.ask("STAT /", "530");
    ftp.ask("SITE HELP", "214");
    ftp.ask("SITE HELP HELP", "214");
    ftp.ask("SITE HELP ?!?", "501");
    ftp.ask("SITE CHMOD", "501");
    ftp.ask("SITE CHMOD 777 x", "502");
}

#[test]
fn permanent_errors_precede_425() {
    let home = plain_home();
    home.write("Uploads/ten", b"0123456789");
    let server = serve(home, &[]);
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.ask("RETR Uploads/ten", "425");
    for command in ["RETR", "STOR"] {
        ftp.ask("REST 11", "350");
        ftp.ask(&format!("{command} Uploads/ten"), "554");
        ftp.ask("REST 10", "350");
        ftp.ask(&format!("{command} Uploads/ten"), "425");
        ftp.ask("REST 1", "350");
        ftp.ask(&format!("{command} Uploads/none"), "550");
    }
    for command in ["APPE", "STOR", "STOU"] {
        ftp.ask(&format!("{command} Movies/new"), "550");
        ftp.ask(&format!("{command} Uploads/new"), "425");
        ftp.ask(&format!("{command} Nowhere/new"), "425");
    }
}

#[test]
fn invalid_facts_and_directory_times_are_rejected() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user3", "3456");
    ftp.ask("OPTS MLST type", "501");
    ftp.ask("OPTS MLST type ;", "501");
    ftp.ask("OPTS MLST Type;none;", "200");
    ftp.ask("OPTS MLST", "200");
    ftp.ask("MDTM /", "550");
    ftp.ask("MDTM Movies", "550");
}

#[test]
fn abor_after_an_urgent_telnet_synch_is_executed() {
    let server = serve_plain();
    let mut ftp = Ftp::login(&server, "user1", "1234");
    let socket = ftp.client.socket().as_raw_fd();
    for byte in [b"\xf4", b"\xff"] {
        send(socket, byte, MsgFlags::MSG_OOB).expect("a byte goes");
    }
    ftp.ask("abor", "225");
}

//! A client of the menu over a socket, whose waits are bounded by [`TIMEOUT`].

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};

use super::TIMEOUT;

/// The first message of a session.
pub(crate) const FIRST_CHOICE: &str = "Please choose 'LOGIN' or 'QUIT'";

/// The only message of a rejected connection.
pub(crate) const FULL: &str = "The server is full. Please try again later.";

/// Connects from a given local address.
pub(crate) fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let from = SocketAddr::new(from.parse::<IpAddr>().expect("an address"), 0);
    let family = match from {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("a socket is created");
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).expect("the address is local");
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).expect("the server listens");
    let stream = TcpStream::from(fd);
    set_timeouts(&stream);
    stream
}

pub(super) fn set_timeouts(stream: &TcpStream) {
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(TIMEOUT)))
        .expect("a socket has timeouts");
}

/// One end of a connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, TIMEOUT);
        Client::from_stream(stream.expect("the server listens"))
    }

    pub(crate) fn from_stream(stream: TcpStream) -> Client {
        set_timeouts(&stream);
        stream.set_nodelay(true).expect("TCP has the option");
        let stream = BufReader::new(stream);
        Client { stream }
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.get_mut().write_all(bytes.as_ref());
        sent.expect("the server reads in time");
    }

    pub(crate) fn send_line(&mut self, line: impl Display) {
        self.send(format!("{line}\n"));
    }

    /// Reads a line and returns it without its end.
    #[track_caller]
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        read.expect("a line arrives in time");
        assert_eq!(line.pop(), Some(b'\n'), "the connection ended in a line");
        String::from_utf8(line).expect("lines are UTF-8")
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, line: &str) {
        assert_eq!(self.read_line(), line);
    }

    /// Reads a line, which must be the menu.
    #[track_caller]
    pub(crate) fn expect_menu(&mut self) {
        let line = self.read_line();
        assert!(line.starts_with("Please choose: "), "no menu: {line}");
    }

    #[track_caller]
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let read = self.stream.read_exact(&mut bytes);
        read.expect("the bytes arrive in time");
        bytes
    }

    /// Reads until the server closes or resets the connection, then closes it.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = self.stream.read_to_end(&mut rest);
        self.close_sending();
        match read {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
                panic!("the connection does not end in time: {error}")
            }
            _ => rest,
        }
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert_eq!(String::from_utf8_lossy(&rest), "", "bytes before the end");
    }

    /// Logs in as a user of the example home.
    #[track_caller]
    pub(crate) fn login(&mut self, user: &str) {
        let password = match user {
            "user1" => "1234",
            "user2" => "2345",
            "user3" => "3456",
            "user4" => "4567",
            _ => panic!("the example home has no {user}"),
        };
        self.login_with(user, password);
    }

    #[track_caller]
    pub(crate) fn login_with(&mut self, user: &str, password: &str) {
        self.send(format!("LOGIN\n{user}\n{password}\n"));
        self.expect(FIRST_CHOICE);
        self.expect("Please enter your username");
        self.expect("Username OK, Please enter your password");
        self.expect("Login Successfully");
        self.expect_menu();
    }

    /// Requests a file and returns its length. The content follows.
    #[track_caller]
    pub(crate) fn start_download(&mut self, path: &str) -> u64 {
        self.send_line(format_args!("DOWNLOAD FILE {path}"));
        self.read_length()
    }

    #[track_caller]
    pub(crate) fn read_length(&mut self) -> u64 {
        let line = self.read_line();
        let length = line.strip_prefix("LENGTH ");
        let length = length.and_then(|length| length.parse().ok());
        length.unwrap_or_else(|| panic!("no length: {line}"))
    }

    #[track_caller]
    pub(crate) fn download(&mut self, path: &str) -> Vec<u8> {
        let length = self.start_download(path);
        let content = self.read_bytes(length as usize);
        self.expect_menu();
        content
    }

    /// Sends a command that has one line of output, and returns it.
    #[track_caller]
    pub(crate) fn command(&mut self, command: &str) -> String {
        self.send_line(command);
        let output = self.read_line();
        self.expect_menu();
        output
    }

    #[track_caller]
    pub(crate) fn quit(&mut self) {
        self.send_line("QUIT");
        self.expect("Connection is terminated. You are logged out.");
        self.expect_end();
    }

    /// Half-closes the connection.
    pub(crate) fn close_sending(&self) {
        // The server may have closed first.
        let _ = self.socket().shutdown(Shutdown::Write);
    }

    /// Resets the connection, as the kernel does if a process dies with unread bytes.
    pub(crate) fn reset(self) {
        let abort = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(self.socket(), sockopt::Linger, &abort).expect("sockets have the option");
    }
}

//! An FTP client over a socket, whose waits are bounded by [`TIMEOUT`].

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};

use super::changes::plain_home;
use super::client::{Client, set_timeouts};
use super::home::Home;
use super::server::Server;

/// Starts a server with an FTP listener only.
pub(crate) fn serve_ftp(home: Home, options: &[&str]) -> Server {
    serve_ftp_at(home, "127.0.0.1:0", options)
}

/// Starts a server with an FTP listener only, at this address.
pub(crate) fn serve_ftp_at(home: Home, address: &str, options: &[&str]) -> Server {
    Server::with_home(home, &[&["--ftp", address], options].concat())
}

/// Starts a server with an FTP listener only, on a home with plain passwords.
pub(crate) fn serve_ftp_plain() -> Server {
    serve_ftp(plain_home(), &[])
}

/// A control connection after the greeting.
pub(crate) struct FtpClient {
    pub(crate) client: Client,
}

impl FtpClient {
    pub(crate) fn connect(server: &Server) -> FtpClient {
        FtpClient::from_client(server.connect())
    }

    fn from_client(client: Client) -> FtpClient {
        let mut ftp = FtpClient { client };
        ftp.expect("220");
        ftp
    }

    pub(crate) fn login(server: &Server, user: &str, password: &str) -> FtpClient {
        FtpClient::login_over(server.connect(), user, password)
    }

    pub(crate) fn login_over(client: Client, user: &str, password: &str) -> FtpClient {
        let mut ftp = FtpClient::from_client(client);
        ftp.command(&format!("USER {user}"), "331");
        ftp.command(&format!("PASS {password}"), "230");
        ftp.command("TYPE I", "200");
        ftp
    }

    /// Reads a reply and returns its lines.
    #[track_caller]
    pub(crate) fn read_reply(&mut self) -> Vec<String> {
        let mut lines = vec![self.client.read_line()];
        let end = format!("{} ", &lines[0][..3]);
        while !lines.last().is_some_and(|line| line.starts_with(&end)) {
            lines.push(self.client.read_line());
        }
        lines
    }

    /// Reads a reply, which must have this code, and returns its last line.
    #[track_caller]
    pub(crate) fn expect(&mut self, code: &str) -> String {
        let line = self.read_reply().pop().expect("a reply has a line");
        let text = line.strip_suffix('\r').expect("lines end with CR LF");
        assert_eq!(&text[..3], code, "{text}");
        text.to_owned()
    }

    /// Sends a command, whose reply must have this code, and returns the last line of the reply.
    #[track_caller]
    pub(crate) fn command(&mut self, command: &str, code: &str) -> String {
        self.send_line(command);
        self.expect(code)
    }

    pub(crate) fn send_line(&mut self, line: &str) {
        self.client.send(format!("{line}\r\n"));
    }

    /// Sends a command and returns the reply.
    pub(crate) fn attempt(&mut self, command: &str) -> String {
        self.send_line(command);
        self.read_reply().concat()
    }

    /// Sends a command that may transfer data, and returns everything received over both
    /// connections. An upload has this content.
    pub(crate) fn attempt_transfer(&mut self, command: &str, content: &[u8]) -> String {
        let mut data = self.connect_data();
        let mut received = self.attempt(command);
        if received.starts_with("150") {
            let _ = data.write_all(content);
            let _ = data.shutdown(Shutdown::Write);
            received.push_str(&String::from_utf8_lossy(&read_to_end(&mut data)));
            received.push_str(&self.read_reply().concat());
        }
        received
    }

    /// Returns the text of a listing over a new data connection.
    #[track_caller]
    pub(crate) fn listing(&mut self, command: &str) -> String {
        let mut data = self.connect_data();
        self.command(command, "150");
        let text = read_to_end(&mut data);
        self.expect("226");
        String::from_utf8(text).expect("the listing is text")
    }

    /// Sends EPSV and returns the address of the data connection.
    #[track_caller]
    pub(crate) fn passive_address(&mut self) -> SocketAddr {
        let reply = self.command("EPSV", "229");
        let port = reply.split('|').nth(3).expect("the reply has a port");
        let port = port.parse().expect("the port is a number");
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    /// Opens a passive data connection.
    #[track_caller]
    pub(crate) fn connect_data(&mut self) -> TcpStream {
        connect_to(self.passive_address())
    }

    #[track_caller]
    pub(crate) fn retrieve(&mut self, path: &str) -> Vec<u8> {
        let address = self.passive_address();
        self.retrieve_at(address, path)
    }

    /// Downloads a file over a data connection to an address that the server has sent before.
    #[track_caller]
    pub(crate) fn retrieve_at(&mut self, address: SocketAddr, path: &str) -> Vec<u8> {
        let mut data = connect_to(address);
        self.command(&format!("RETR {path}"), "150");
        let content = read_to_end(&mut data);
        self.expect("226");
        content
    }

    /// Sends the content of an upload. The final reply follows.
    #[track_caller]
    pub(crate) fn store(&mut self, command: &str, content: &[u8]) {
        let mut data = self.connect_data();
        self.command(command, "150");
        // The server may refuse the rest.
        let _ = data.write_all(content);
        let _ = data.shutdown(Shutdown::Write);
    }
}

/// Opens a data connection.
#[track_caller]
pub(crate) fn connect_to(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    set_timeouts(&stream);
    stream
}

/// Reads a data connection to its end.
#[track_caller]
pub(crate) fn read_to_end(data: &mut TcpStream) -> Vec<u8> {
    let mut content = Vec::new();
    let read = data.read_to_end(&mut content);
    read.expect("the data connection ends in time");
    content
}

//! The requests of each protocol, and the meaning of the replies.

use tidegate::protocol::menu::reply_parser::{Message, parse_message};

use crate::client::message::{ClientEvent, ClientRequest, ServerReply};
use crate::fixture::{DIRECTORY, TINY_FILE, UPLOADS};

/// A protocol, with the parser state of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireProtocol {
    /// tidegate's menu.
    Menu,
    /// HTTP/1.1 on a persistent connection (RFC 9112), as far as static files need it.
    Http {
        /// Status of the response whose header is being read.
        status: u16,
        /// Its content length.
        length: u64,
    },
    /// FTP (RFC 959), with a passive data connection (RFC 2428) for each file.
    Ftp {
        /// Whether all clients log in as `anonymous`.
        anonymous: bool,
    },
}

impl WireProtocol {
    pub(crate) const HTTP: WireProtocol = WireProtocol::Http {
        status: 0,
        length: 0,
    };

    /// Logs in. With HTTP, which has no login here, downloads a first file instead.
    pub(crate) fn login(&self, user: &str, password: &str) -> ClientRequest {
        match self {
            WireProtocol::Menu => ClientRequest::new(format!("LOGIN\n{user}\n{password}\n")),
            WireProtocol::Http { .. } => self.download(TINY_FILE),
            WireProtocol::Ftp { anonymous: true } => {
                ClientRequest::new("USER anonymous\r\nPASS load@\r\nTYPE I\r\n")
            }
            WireProtocol::Ftp { anonymous: false } => {
                ClientRequest::new(format!("USER {user}\r\nPASS {password}\r\nTYPE I\r\n"))
            }
        }
    }

    /// Returns whether `event` completes [`WireProtocol::login`].
    pub(crate) fn completes_login(&self, event: &ClientEvent) -> bool {
        match self {
            WireProtocol::Menu | WireProtocol::Ftp { .. } => *event == ClientEvent::Ready,
            WireProtocol::Http { .. } => matches!(event, ClientEvent::Downloaded { .. }),
        }
    }

    /// Logs in, downloads one file and quits, in one segment. FTP needs a dialogue for the download
    /// and leaves it out.
    pub(crate) fn short_session(&self, user: &str, password: &str, file: &str) -> ClientRequest {
        match self {
            WireProtocol::Menu => ClientRequest::new(format!(
                "LOGIN\n{user}\n{password}\nDOWNLOAD FILE {DIRECTORY}/{file}\nQUIT\n"
            )),
            WireProtocol::Http { .. } => ClientRequest::new(format!(
                "GET /{file} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"
            )),
            WireProtocol::Ftp { .. } => {
                let mut request = self.login(user, password);
                request.text.extend_from_slice(b"QUIT\r\n");
                request
            }
        }
    }

    /// Returns whether `event` completes [`WireProtocol::short_session`].
    pub(crate) fn completes_short_session(&self, event: &ClientEvent) -> bool {
        match self {
            WireProtocol::Ftp { .. } => *event == ClientEvent::Ready,
            WireProtocol::Menu | WireProtocol::Http { .. } => {
                matches!(event, ClientEvent::Downloaded { .. })
            }
        }
    }

    /// Downloads a file of [`DIRECTORY`].
    pub(crate) fn download(&self, file: &str) -> ClientRequest {
        match self {
            WireProtocol::Menu => ClientRequest::new(format!("DOWNLOAD FILE {DIRECTORY}/{file}\n")),
            WireProtocol::Http { .. } => {
                ClientRequest::new(format!("GET /{file} HTTP/1.1\r\nHost: load\r\n\r\n"))
            }
            WireProtocol::Ftp { .. } => passive_transfer(format!("RETR {DIRECTORY}/{file}\r\n"), 0),
        }
    }

    /// Uploads `length` bytes to a file of [`UPLOADS`].
    pub(crate) fn upload(&self, file: &str, length: u64) -> ClientRequest {
        let text = match self {
            WireProtocol::Menu => format!("PUT FILE {length} {UPLOADS}/{file}\n"),
            WireProtocol::Http { .. } => format!(
                "PUT /{UPLOADS}/{file} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n\r\n"
            ),
            WireProtocol::Ftp { .. } => {
                return passive_transfer(format!("STOR {UPLOADS}/{file}\r\n"), length);
            }
        };
        ClientRequest {
            body: length,
            ..ClientRequest::new(text)
        }
    }

    /// Lists a directory. Menu only.
    pub(crate) fn list(&self, name: &str) -> ClientRequest {
        ClientRequest::new(format!("SHOW DIRECTORY {name}\n"))
    }

    /// Parses a line without its line feed. Returns `None` if it is invalid.
    pub(crate) fn parse(&mut self, line: &[u8]) -> Option<ServerReply> {
        match self {
            WireProtocol::Menu => parse_menu(line),
            WireProtocol::Http { status, length } => parse_http(line, status, length),
            WireProtocol::Ftp { .. } => parse_ftp(line),
        }
    }
}

/// A transfer over a passive data connection, whose port the server has to name first.
fn passive_transfer(command: String, body: u64) -> ClientRequest {
    ClientRequest {
        text: b"EPSV\r\n".to_vec(),
        text_after_port: command.into_bytes(),
        body,
    }
}

fn parse_menu(line: &[u8]) -> Option<ServerReply> {
    Some(match parse_message(line)? {
        Message::Menu => ServerReply::Ready,
        Message::Length(length) => ServerReply::File(length),
        Message::UploadComplete { .. } => ServerReply::Uploaded,
        Message::Files(_) | Message::Nothing(_) => ServerReply::Listed,
        Message::LoginFailed => ServerReply::LoginFailed,
        Message::Refused(_) | Message::UploadFailed(_) => ServerReply::Refused,
        _ => ServerReply::Ignored,
    })
}

fn parse_ftp(line: &[u8]) -> Option<ServerReply> {
    let line = str::from_utf8(line).ok()?.trim_end();
    Some(match (line.get(..4)?, line.as_bytes()[0]) {
        ("229 ", _) => ServerReply::Port(line.split('|').nth(3)?.parse().ok()?),
        ("230 ", _) => ServerReply::Ready,
        ("125 " | "150 ", _) => ServerReply::TransferStarted,
        ("226 ", _) => ServerReply::TransferComplete,
        (_, b'4' | b'5') => ServerReply::Refused,
        _ => ServerReply::Ignored,
    })
}

fn parse_http(line: &[u8], status: &mut u16, length: &mut u64) -> Option<ServerReply> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(rest) = line.strip_prefix(b"HTTP/1.1 ") {
        *status = str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
        *length = 0;
    } else if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
        *length = str::from_utf8(&line[15..]).ok()?.trim().parse().ok()?;
    } else if line.is_empty() {
        return Some(match status {
            200 => ServerReply::File(*length),
            100 => ServerReply::Ignored,
            201 | 204 if *length == 0 => ServerReply::Uploaded,
            // An error page follows; the client closes instead of reading it.
            _ => return None,
        });
    }
    Some(ServerReply::Ignored)
}

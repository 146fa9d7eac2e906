//! What the clients say to each kind of server, and what the lines of its answers mean.
//!
//! Must not know: sockets, scenarios.

use tidegate::protocol::menu::reply_parser::{Sentence, sentence};

use crate::client::load_generator::{News, Words};

/// What a server speaks, as one client of it has heard so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// tidegate's.
    Menu,
    /// HTTP/1.1 on a standing connection (RFC 9112), no more of it than static files need.
    Http {
        /// The status of the answer whose header is being read.
        status: u16,
        /// The length of what follows the header.
        length: u64,
    },
    /// FTP (RFC 959), with a passive data connection (RFC 2428) for each file.
    Ftp {
        /// Whether everybody comes in as `anonymous`.
        anonymous: bool,
    },
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    Ready,
    /// So many bytes of a file follow.
    File(u64),
    /// A file goes over a data connection to this port of the server.
    Port(u16),
    /// What goes over the data connection follows.
    Opened,
    /// All of it went.
    TransferDone,
    Uploaded,
    ListingTarget,
    LoginFailed,
    Refused,
}

/// The directory that every user may read.
pub(crate) const DIRECTORY: &str = "Load";

/// The directory that every user may change.
pub(crate) const UPLOADS: &str = "Uploads";

/// A file of one KiB that is in every directory of files.
pub(crate) const TINY: &str = "tiny";

impl Dialect {
    pub(crate) const HTTP: Dialect = Dialect::Http {
        status: 0,
        length: 0,
    };

    /// To come in. HTTP knows no login; a first answer is as near as it gets.
    pub(crate) fn login(&self, user: &str, password: &str) -> Words {
        match self {
            Dialect::Menu => text(format!("LOGIN\n{user}\n{password}\n")),
            Dialect::Http { .. } => self.download(TINY),
            Dialect::Ftp { anonymous: true } => {
                text("USER anonymous\r\nPASS load@\r\nTYPE I\r\n".into())
            }
            Dialect::Ftp { anonymous: false } => {
                text(format!("USER {user}\r\nPASS {password}\r\nTYPE I\r\n"))
            }
        }
    }

    /// Whether somebody who said [`Dialect::login`] is in.
    pub(crate) fn is_login(&self, news: &News) -> bool {
        match self {
            Dialect::Menu | Dialect::Ftp { .. } => *news == News::Ready,
            Dialect::Http { .. } => matches!(news, News::Downloaded { .. }),
        }
    }

    /// Whether somebody who said [`Dialect::visit`] has what he came for.
    pub(crate) fn is_visit(&self, news: &News) -> bool {
        match self {
            Dialect::Ftp { .. } => *news == News::Ready,
            _ => matches!(news, News::Downloaded { .. }),
        }
    }

    /// To download a file of [`DIRECTORY`].
    pub(crate) fn download(&self, name: &str) -> Words {
        match self {
            Dialect::Menu => text(format!("DOWNLOAD FILE {DIRECTORY}/{name}\n")),
            Dialect::Http { .. } => text(format!("GET /{name} HTTP/1.1\r\nHost: load\r\n\r\n")),
            Dialect::Ftp { .. } => transfer(format!("RETR {DIRECTORY}/{name}\r\n"), 0),
        }
    }

    /// To upload `length` bytes under a name.
    pub(crate) fn upload(&self, name: &str, length: u64) -> Words {
        let text = match self {
            Dialect::Menu => format!("PUT FILE {length} {UPLOADS}/{name}\n"),
            Dialect::Http { .. } => format!(
                "PUT /{UPLOADS}/{name} HTTP/1.1\r\nHost: load\r\nContent-Length: {length}\r\n\r\n"
            ),
            Dialect::Ftp { .. } => {
                return transfer(format!("STOR {UPLOADS}/{name}\r\n"), length);
            }
        };
        Words {
            text: text.into_bytes(),
            body: length,
            ..Words::default()
        }
    }

    /// To come in, download one file and go, all in one; with FTP, where that takes a dialogue, to come in and go.
    pub(crate) fn visit(&self, user: &str, password: &str, name: &str) -> Words {
        match self {
            Dialect::Menu => text(format!(
                "LOGIN\n{user}\n{password}\nDOWNLOAD FILE {DIRECTORY}/{name}\nQUIT\n"
            )),
            Dialect::Http { .. } => text(format!(
                "GET /{name} HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n"
            )),
            Dialect::Ftp { .. } => {
                let mut words = self.login(user, password);
                words.text.extend_from_slice(b"QUIT\r\n");
                words
            }
        }
    }

    /// To list a directory; the menu alone.
    pub(crate) fn list(&self, name: &str) -> Words {
        text(format!("SHOW DIRECTORY {name}\n"))
    }

    /// What a line, its end stripped, says; `None` where it cannot be understood.
    pub(crate) fn hear(&mut self, line: &[u8]) -> Option<Heard> {
        match self {
            Dialect::Menu => hear_menu(line),
            Dialect::Http { status, length } => hear_http(line, status, length),
            Dialect::Ftp { .. } => hear_ftp(line),
        }
    }
}

fn text(text: String) -> Words {
    Words {
        text: text.into_bytes(),
        ..Words::default()
    }
}

/// A file over a data connection of FTP, for which the server has to name a port first.
fn transfer(command: String, length: u64) -> Words {
    Words {
        text: b"EPSV\r\n".to_vec(),
        over_data: command.into_bytes(),
        body: length,
    }
}

fn hear_menu(line: &[u8]) -> Option<Heard> {
    Some(match sentence(line)? {
        Sentence::Menu => Heard::Ready,
        Sentence::Length(length) => Heard::File(length),
        Sentence::UploadComplete { .. } => Heard::Uploaded,
        Sentence::Files(_) | Sentence::Nothing(_) => Heard::ListingTarget,
        Sentence::LoginFailed => Heard::LoginFailed,
        Sentence::Refused(_) | Sentence::UploadFailed(_) => Heard::Refused,
        _ => Heard::Nothing,
    })
}

fn hear_ftp(line: &[u8]) -> Option<Heard> {
    let line = str::from_utf8(line).ok()?.trim_end();
    Some(match (line.get(..4)?, line.as_bytes()[0]) {
        ("229 ", _) => Heard::Port(line.split('|').nth(3)?.parse().ok()?),
        ("230 ", _) => Heard::Ready,
        ("125 " | "150 ", _) => Heard::Opened,
        ("226 ", _) => Heard::TransferDone,
        (_, b'4' | b'5') => Heard::Refused,
        _ => Heard::Nothing,
    })
}

fn hear_http(line: &[u8], status: &mut u16, length: &mut u64) -> Option<Heard> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if let Some(rest) = line.strip_prefix(b"HTTP/1.1 ") {
        *status = str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
        *length = 0;
    } else if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
        *length = str::from_utf8(&line[15..]).ok()?.trim().parse().ok()?;
    } else if line.is_empty() {
        return Some(match status {
            200 => Heard::File(*length),
            100 => Heard::Nothing,
            201 | 204 if *length == 0 => Heard::Uploaded,
            // A page about what went wrong follows, which nobody reads.
            _ => return None,
        });
    }
    Some(Heard::Nothing)
}

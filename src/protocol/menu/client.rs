//! The client's side of the menu: sends commands and parses the server's messages.
//!
//! A [`ClientSession`] remembers the commands sent, so that any number of them can be pipelined,
//! and checks that each message replies to the oldest one. A message that does not, or that
//! contains an impossible number or name, is a [`Violation`]. No received data is kept.

use std::collections::VecDeque;
use std::io::Write;

use thiserror::Error;

use crate::domain::request::QuotaUsage;
use crate::limits::{LINE_BYTES_MAX, NUMBER_DIGITS_MAX, SERVER_LINE_BYTES_MAX};
use crate::protocol::menu::command::MenuCommand;
use crate::protocol::menu::reply_parser::{
    DetailsEntry, Message, parse_entry, parse_message, parse_quota,
};
use crate::protocol::menu::text;

/// The client's side of one connection.
#[derive(Debug)]
pub struct ClientSession {
    /// Commands without a reply, oldest first.
    pending: VecDeque<PendingReply>,
    expected: Expected,
    is_logged_in: bool,
}

/// The message that the next received byte belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// The menu, or before a login the first choice.
    Menu,
    /// The reply to the oldest command.
    Reply,
    /// Names up to the end of the line.
    Names,
    /// This many lines of details.
    Entries(u64),
    /// This many lines of quotas.
    Quotas(u64),
    /// Nothing: the server has closed.
    Close,
}

/// A command without a reply.
#[derive(Debug)]
struct PendingReply {
    /// A prompt that precedes the reply.
    prompt: Option<&'static str>,
    kind: ReplyKind,
}

/// The kind of reply that a command has.
#[derive(Debug)]
enum ReplyKind {
    /// To a username.
    PasswordPrompt,
    /// To a password.
    Login,
    /// To `SHOW DIRECTORIES` and `SHOW DIRECTORY`: names after this text.
    Names(&'static str),
    Details,
    Quotas,
    File,
    /// To the name in `RESUME DOWNLOAD`: the prompt for the offset, which was sent ahead.
    Offset,
    /// To that offset if the name was refused: the server takes it for a command.
    StrayOffset,
    /// The name of the file.
    Checksum(String),
    Upload {
        name: String,
        length: u64,
    },
    /// The name of the directory.
    DirectoryMade(String),
    Goodbye,
}

/// An event that the server's messages report.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// The server asks for the password: call [`ClientSession::password`].
    PasswordWanted,
    /// The login succeeded.
    LoggedIn,
    /// The login failed; another one may be tried.
    LoginFailed,
    /// A piece of the names of directories or entries, separated by `, `, cut anywhere and not
    /// validated. There is no limit to their total length.
    Names {
        /// The piece.
        piece: &'a [u8],
        /// Whether it is the last one.
        is_last: bool,
    },
    /// This many [`ClientEvent::Entry`] follow.
    Entries(u64),
    /// An entry of the chosen directory.
    Entry(DetailsEntry<'a>),
    /// This many [`ClientEvent::Quota`] follow.
    Quotas(u64),
    /// A quota of the user.
    Quota(QuotaUsage),
    /// The bytes of the file follow. The caller consumes them before the next
    /// [`ClientSession::receive`].
    File {
        /// Number of bytes.
        length: u64,
    },
    /// The SHA-256 of the file.
    Checksum([u8; 32]),
    /// The upload is complete and durable.
    Uploaded,
    /// The directory was created.
    DirectoryMade,
    /// The command failed for this reason. The bytes of an upload were discarded.
    Refused(&'static str),
    /// The server sent this message and closes.
    Goodbye(&'static str),
}

/// The result of [`ClientSession::receive`].
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Bytes of the buffer that are consumed; the caller removes them.
    pub used: usize,
    /// The event, or `None` if more bytes are needed.
    pub event: Option<ClientEvent<'a>>,
}

/// The server violates the protocol.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// A line of more than [`SERVER_LINE_BYTES_MAX`] bytes.
    #[error("the server sent a line that is too long")]
    LineTooLong,
    /// A message that is no reply to the oldest command: its beginning, escaped for a terminal.
    #[error("the server's reply was not understood: {0}")]
    Unexpected(String),
}

/// A name or number that cannot be sent: empty, with a control character, with a blank at an end
/// where none is possible, too long for a line, or a number of more than 19 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the protocol cannot express this name")]
pub struct InvalidName;

/// Sending. Each method appends its lines to `out`, or nothing if it fails. Paths start at the top:
/// `Movies/Joker`.
impl ClientSession {
    /// Creates the session of a new connection.
    pub fn new() -> ClientSession {
        ClientSession {
            pending: VecDeque::new(),
            expected: Expected::Menu,
            is_logged_in: false,
        }
    }

    /// Sends a username. The password cannot be pipelined: after an unknown username the server
    /// would take it for a command.
    pub fn login(&mut self, user: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        assert!(!self.is_logged_in, "one login per connection");
        if user.contains(char::is_control) || user.len() >= LINE_BYTES_MAX {
            return Err(InvalidName);
        }
        writeln!(out, "{}\n{user}", MenuCommand::Login.words()).expect(VEC);
        self.expect_reply(Some(text::ENTER_USERNAME), ReplyKind::PasswordPrompt);
        Ok(())
    }

    /// Sends the password after [`ClientEvent::PasswordWanted`].
    pub fn password(&mut self, password: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidName> {
        assert!(
            self.pending.is_empty(),
            "nothing is pipelined before a password"
        );
        if password.contains(&b'\n')
            || password.ends_with(b"\r")
            || password.len() >= LINE_BYTES_MAX
        {
            return Err(InvalidName);
        }
        out.extend_from_slice(password);
        out.push(b'\n');
        self.expect_reply(None, ReplyKind::Login);
        Ok(())
    }

    /// Lists the granted directories: [`ClientEvent::Names`].
    pub fn show_directories(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowDirectories.words()).expect(VEC);
        self.expect_reply(None, ReplyKind::Names(text::DIRECTORIES));
    }

    /// Chooses a directory and lists it: [`ClientEvent::Names`].
    pub fn show_directory(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = send_command(MenuCommand::ShowDirectory, path, text::ENTER_DIRECTORY, out)?;
        self.expect_reply(prompt, ReplyKind::Names(text::FILES));
        Ok(())
    }

    /// Lists the chosen directory with details: [`ClientEvent::Entries`].
    pub fn show_details(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowDetails.words()).expect(VEC);
        self.expect_reply(None, ReplyKind::Details);
    }

    /// Shows the user's quotas: [`ClientEvent::Quotas`].
    pub fn show_quota(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowQuota.words()).expect(VEC);
        self.expect_reply(None, ReplyKind::Quotas);
    }

    /// Downloads a file: [`ClientEvent::File`].
    pub fn download(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = send_command(MenuCommand::DownloadFile, path, text::CHOOSE_FILE, out)?;
        self.expect_reply(prompt, ReplyKind::File);
        Ok(())
    }

    /// Downloads a file from byte `from`: [`ClientEvent::File`] with the rest of it.
    pub fn resume(&mut self, path: &str, from: u64, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        check_number(from)?;
        let prompt = send_command(MenuCommand::ResumeDownload, path, text::CHOOSE_FILE, out)?;
        writeln!(out, "{from}").expect(VEC);
        self.expect_reply(prompt, ReplyKind::Offset);
        Ok(())
    }

    /// Announces an upload, whose `length` bytes the caller sends next: [`ClientEvent::Uploaded`].
    /// An existing file is replaced where the user has the right to.
    pub fn put(&mut self, path: &str, length: u64, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let line = format!("{} {length} {path}\n", MenuCommand::PutFile.words());
        self.announce_upload(path, length, &line, out)
    }

    /// Announces an upload as [`ClientSession::put`] does. An existing file is not replaced.
    pub fn put_new(
        &mut self,
        path: &str,
        length: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidName> {
        let (command, new) = (MenuCommand::PutFile.words(), text::NEW);
        let line = format!("{command} {new} {length} {path}\n");
        self.announce_upload(path, length, &line, out)
    }

    fn announce_upload(
        &mut self,
        path: &str,
        length: u64,
        line: &str,
        out: &mut Vec<u8>,
    ) -> Result<(), InvalidName> {
        check_path(path)?;
        check_number(length)?;
        if has_outer_blank(path) || line.len() > LINE_BYTES_MAX {
            return Err(InvalidName);
        }
        out.extend_from_slice(line.as_bytes());
        let name = last_part(path);
        self.expect_reply(None, ReplyKind::Upload { name, length });
        Ok(())
    }

    /// Creates a directory: [`ClientEvent::DirectoryMade`].
    pub fn make_directory(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = send_command(
            MenuCommand::MakeDirectory,
            path,
            text::ENTER_NEW_DIRECTORY,
            out,
        )?;
        self.expect_reply(prompt, ReplyKind::DirectoryMade(last_part(path)));
        Ok(())
    }

    /// Computes the SHA-256 of a file: [`ClientEvent::Checksum`].
    pub fn checksum(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = send_command(MenuCommand::ChecksumFile, path, text::CHOOSE_CHECKSUM, out)?;
        self.expect_reply(prompt, ReplyKind::Checksum(last_part(path)));
        Ok(())
    }

    /// Ends the session: [`ClientEvent::Goodbye`].
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::Quit.words()).expect(VEC);
        self.expect_reply(None, ReplyKind::Goodbye);
    }

    /// Returns the number of commands without a reply.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    fn expect_reply(&mut self, prompt: Option<&'static str>, kind: ReplyKind) {
        self.pending.push_back(PendingReply { prompt, kind });
    }
}

/// Receiving.
impl ClientSession {
    /// Parses received bytes up to the next event. After [`ClientEvent::File`] the bytes of the
    /// file are next in the buffer.
    pub fn receive<'a>(&mut self, buffer: &'a [u8]) -> Result<Received<'a>, Violation> {
        let mut used = 0;
        loop {
            let rest = &buffer[used..];
            if self.expected == Expected::Names {
                return Ok(self.receive_names(rest, used));
            }
            // The line of names may be longer than any buffer, so it is not parsed as a whole.
            if let Some(introduction) = self.introduction_of_names()
                && rest.starts_with(introduction.as_bytes())
            {
                self.expected = Expected::Names;
                used += introduction.len();
                continue;
            }
            let limited = &rest[..rest.len().min(SERVER_LINE_BYTES_MAX)];
            let Some(end) = limited.iter().position(|&byte| byte == b'\n') else {
                return match rest.len() > SERVER_LINE_BYTES_MAX {
                    true => Err(Violation::LineTooLong),
                    false => Ok(Received { used, event: None }),
                };
            };
            used += end + 1;
            let line = &rest[..end];
            let event = self
                .receive_line(line)
                .map_err(|Unexpected| Violation::unexpected(line))?;
            if event.is_some() {
                return Ok(Received { used, event });
            }
        }
    }

    /// Returns the text before the names, if a line of names is next.
    fn introduction_of_names(&self) -> Option<&'static str> {
        match (&self.expected, self.pending.front()?) {
            (
                Expected::Reply,
                PendingReply {
                    prompt: None,
                    kind: ReplyKind::Names(introduction),
                },
            ) => Some(introduction),
            _ => None,
        }
    }

    fn receive_names<'a>(&mut self, rest: &'a [u8], used: usize) -> Received<'a> {
        let (piece, is_last) = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&rest[..end], true),
            None => (rest, false),
        };
        if is_last {
            self.replied(Expected::Menu);
        }
        let event = (is_last || !piece.is_empty()).then_some(ClientEvent::Names { piece, is_last });
        Received {
            used: used + piece.len() + usize::from(is_last),
            event,
        }
    }

    /// Handles a line; `None` if it is no event for the caller.
    fn receive_line<'a>(&mut self, line: &'a [u8]) -> Result<Option<ClientEvent<'a>>, Unexpected> {
        match self.expected {
            Expected::Entries(left) => {
                let entry = parse_entry(line).ok_or(Unexpected)?;
                match left {
                    1 => self.replied(Expected::Menu),
                    _ => self.expected = Expected::Entries(left - 1),
                }
                return Ok(Some(ClientEvent::Entry(entry)));
            }
            Expected::Quotas(left) => {
                let quota = parse_quota(line).ok_or(Unexpected)?;
                match left {
                    1 => self.replied(Expected::Menu),
                    _ => self.expected = Expected::Quotas(left - 1),
                }
                return Ok(Some(ClientEvent::Quota(quota)));
            }
            _ => {}
        }
        match (&self.expected, parse_message(line).ok_or(Unexpected)?) {
            (Expected::Menu | Expected::Reply, Message::Goodbye(goodbye)) => {
                self.expected = Expected::Close;
                Ok(Some(ClientEvent::Goodbye(goodbye)))
            }
            (Expected::Menu, Message::Menu) if self.is_logged_in => {
                self.expected = Expected::Reply;
                Ok(None)
            }
            (Expected::Menu, Message::FirstChoice) if !self.is_logged_in => {
                self.expected = Expected::Reply;
                Ok(None)
            }
            (Expected::Reply, message) => self.receive_reply(message),
            _ => Err(Unexpected),
        }
    }

    fn receive_reply<'a>(
        &mut self,
        message: Message<'a>,
    ) -> Result<Option<ClientEvent<'a>>, Unexpected> {
        let pending = self.pending.front_mut().ok_or(Unexpected)?;
        if let Some(prompt) = pending.prompt.take() {
            return match message == Message::Prompt(prompt) {
                true => Ok(None),
                false => Err(Unexpected),
            };
        }
        let (event, next) = match (&pending.kind, message) {
            (ReplyKind::PasswordPrompt, Message::Prompt(text::ENTER_PASSWORD)) => {
                (Some(ClientEvent::PasswordWanted), Expected::Reply)
            }
            (ReplyKind::Login, Message::LoginSuccessful) => {
                self.is_logged_in = true;
                (Some(ClientEvent::LoggedIn), Expected::Menu)
            }
            (ReplyKind::Details, Message::Entries(count @ 1..)) => {
                self.expected = Expected::Entries(count);
                return Ok(Some(ClientEvent::Entries(count)));
            }
            (ReplyKind::Quotas, Message::Quotas(count @ 1..)) => {
                self.expected = Expected::Quotas(count);
                return Ok(Some(ClientEvent::Quotas(count)));
            }
            (ReplyKind::Offset, Message::Prompt(text::ENTER_OFFSET)) => {
                pending.kind = ReplyKind::File;
                return Ok(None);
            }
            (ReplyKind::Offset, Message::Refused(reason)) => {
                pending.kind = ReplyKind::StrayOffset;
                self.expected = Expected::Menu;
                return Ok(Some(ClientEvent::Refused(reason)));
            }
            (ReplyKind::StrayOffset, Message::Refused(text::UNKNOWN_COMMAND)) => {
                (None, Expected::Menu)
            }
            // The bytes are not discarded, so they would be taken for commands.
            (ReplyKind::Upload { .. }, Message::Refused(reason)) => {
                (Some(ClientEvent::Goodbye(reason)), Expected::Close)
            }
            (kind, message) => (Some(last_event(kind, message)?), Expected::Menu),
        };
        self.replied(next);
        Ok(event)
    }

    /// The oldest command has its reply.
    fn replied(&mut self, next: Expected) {
        self.pending.pop_front();
        self.expected = next;
    }
}

/// Returns the event for a message that ends a command, after which the menu follows.
fn last_event<'a>(kind: &ReplyKind, message: Message<'a>) -> Result<ClientEvent<'a>, Unexpected> {
    Ok(match (kind, message) {
        (ReplyKind::PasswordPrompt | ReplyKind::Login, Message::LoginFailed) => {
            ClientEvent::LoginFailed
        }
        (ReplyKind::Names(_), Message::Nothing(_)) => ClientEvent::Names {
            piece: b"",
            is_last: true,
        },
        (ReplyKind::Details, Message::Entries(0)) => ClientEvent::Entries(0),
        (ReplyKind::Quotas, Message::Nothing(text::NO_QUOTA)) => ClientEvent::Quotas(0),
        (ReplyKind::File, Message::Length(length)) => ClientEvent::File { length },
        (ReplyKind::Checksum(wanted), Message::Checksum { hash, name }) if name == wanted => {
            ClientEvent::Checksum(hash)
        }
        (
            ReplyKind::Upload {
                name: sent,
                length: announced,
            },
            Message::UploadComplete { name, length },
        ) if name == sent && length == *announced => ClientEvent::Uploaded,
        (ReplyKind::Upload { .. }, Message::UploadFailed(reason)) => ClientEvent::Refused(reason),
        (ReplyKind::DirectoryMade(wanted), Message::DirectoryMade(name)) if name == wanted => {
            ClientEvent::DirectoryMade
        }
        (
            ReplyKind::Names(_)
            | ReplyKind::Details
            | ReplyKind::Quotas
            | ReplyKind::File
            | ReplyKind::Checksum(_)
            | ReplyKind::DirectoryMade(_),
            Message::Refused(reason),
        ) => ClientEvent::Refused(reason),
        _ => return Err(Unexpected),
    })
}

impl Default for ClientSession {
    fn default() -> ClientSession {
        ClientSession::new()
    }
}

/// A line that is no reply to the oldest command.
struct Unexpected;

impl Violation {
    fn unexpected(line: &[u8]) -> Violation {
        const SHOWN_BYTES_MAX: usize = 200;
        let shown = &line[..line.len().min(SHOWN_BYTES_MAX)];
        Violation::Unexpected(shown.escape_ascii().to_string())
    }
}

/// Appends a command and the answer to its prompt. An answer with blanks at an end cannot be on the
/// line of the command; then the prompt precedes the reply and is returned.
fn send_command(
    command: MenuCommand,
    path: &str,
    prompt: &'static str,
    out: &mut Vec<u8>,
) -> Result<Option<&'static str>, InvalidName> {
    check_path(path)?;
    let words = command.words();
    if words.len() + " ".len() + path.len() >= LINE_BYTES_MAX {
        return Err(InvalidName);
    }
    let has_outer_blank = has_outer_blank(path);
    let between = if has_outer_blank { '\n' } else { ' ' };
    writeln!(out, "{words}{between}{path}").expect(VEC);
    Ok(has_outer_blank.then_some(prompt))
}

fn check_path(path: &str) -> Result<(), InvalidName> {
    match path.is_empty() || path.contains(char::is_control) {
        true => Err(InvalidName),
        false => Ok(()),
    }
}

/// Tabs need no check here, since control characters are refused.
fn has_outer_blank(path: &str) -> bool {
    path.starts_with(' ') || path.ends_with(' ')
}

fn check_number(number: u64) -> Result<(), InvalidName> {
    match number.to_string().len() > NUMBER_DIGITS_MAX {
        true => Err(InvalidName),
        false => Ok(()),
    }
}

fn last_part(path: &str) -> String {
    let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
    name.to_owned()
}

const VEC: &str = "writing to a Vec cannot fail";

//! The menu's dialogue seen from the other end: the lines that ask, and what a server's bytes say.
//!
//! A [`ClientSession`] remembers what was asked, so that any number of commands can be sent ahead, and holds the server to
//! it: each answer has to be one to the oldest command, its numbers and names have to be possible ones, and what is none
//! of that is a [`Violation`]. It keeps nothing of what it hears.
//!
//! Must not know: descriptors, clocks, files.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

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
    /// The answers that are owed, oldest first.
    owed: VecDeque<Owed>,
    expects: Expects,
    is_logged_in: bool,
}

/// What the next byte belongs to.
#[derive(Debug, PartialEq, Eq)]
enum Expects {
    /// The menu, or before a login the first choice.
    Choice,
    /// The answer to the oldest command.
    PromptAnswer,
    /// Names up to the line's end.
    Names,
    /// So many lines of details.
    Entries(u64),
    /// So many lines of quotas.
    Quotas(u64),
    /// Nothing: a goodbye was said.
    End,
}

/// An answer that is owed.
#[derive(Debug)]
struct Owed {
    /// A prompt that comes first.
    prompt: Option<&'static str>,
    answer: PromptAnswer,
}

#[derive(Debug)]
enum PromptAnswer {
    /// To a username.
    PasswordPrompt,
    /// To a password.
    Login,
    /// To `SHOW DIRECTORIES` and `SHOW DIRECTORY`: names behind this.
    Names(&'static str),
    Details,
    Quotas,
    File,
    /// To the name in `RESUME DOWNLOAD`: the prompt for the number, which was sent ahead.
    Offset,
    /// To that number where the name was refused: it was taken for a command.
    StrayNumber,
    /// The file's name.
    Checksum(String),
    Uploaded {
        name: String,
        length: u64,
    },
    /// The directory's name.
    DirectoryMade(String),
    Goodbye,
}

/// What a server has said.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientEvent<'a> {
    /// Send [`ClientSession::password`] now.
    PasswordWanted,
    /// The login was proved.
    LoggedIn,
    /// The login was not; another one may be tried.
    LoginFailed,
    /// Names of directories, or of a directory's entries, separated by `, `: a piece of them, cut anywhere. They may be
    /// of any length, and nothing about them was checked.
    Names {
        /// The piece.
        piece: &'a [u8],
        /// Whether it was the last one.
        is_last: bool,
    },
    /// So many events of the next kind follow.
    Entries(u64),
    /// One entry of the chosen directory.
    Entry(DetailsEntry<'a>),
    /// So many events of the next kind follow.
    Quotas(u64),
    /// One quota of the user's.
    Quota(QuotaUsage),
    /// So many bytes of the file follow. The caller takes them before it listens on.
    File {
        /// Bytes that follow.
        length: u64,
    },
    /// The file's SHA-256.
    Checksum([u8; 32]),
    /// The upload is whole and durable.
    Uploaded,
    /// The directory is there.
    DirectoryMade,
    /// The command was not done, for this reason; for an upload its bytes were thrown away.
    Refused(&'static str),
    /// The server has said this and closes.
    Goodbye(&'static str),
}

/// How far [`ClientSession::hear`] came.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Bytes of the buffer that are done with; the caller cuts them off.
    pub used: usize,
    /// What they said; `None` where more bytes are needed.
    pub event: Option<ClientEvent<'a>>,
}

/// A server that does not keep to the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum Violation {
    /// A line of more than [`SERVER_LINE_BYTES_MAX`] bytes.
    LineTooLong,
    /// A line that is no answer to what was asked, its beginning made safe for a terminal.
    Unexpected(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::LineTooLong => f.write_str("the server sent a line that is too long"),
            Violation::Unexpected(line) => {
                write!(f, "the server's answer was not understood: {line}")
            }
        }
    }
}

impl std::error::Error for Violation {}

/// A name or a number that cannot be said in the protocol: empty, with a control character, led or followed by a blank
/// where none can stand, too long for a line, or a number of more than 19 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the protocol cannot say this name")
    }
}

impl std::error::Error for InvalidName {}

/// Asking: each appends its lines to `out`, or nothing where it fails. Paths are paths from the top, `Movies/Joker`.
impl ClientSession {
    /// The dialogue of a connection that stands.
    pub fn new() -> ClientSession {
        ClientSession {
            owed: VecDeque::new(),
            expects: Expects::Choice,
            is_logged_in: false,
        }
    }

    /// Asks for a login. The password is not sent ahead: after an unknown username it would be a command.
    pub fn login(&mut self, user: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        assert!(!self.is_logged_in, "one login a connection");
        if user.contains(char::is_control) || user.len() >= LINE_BYTES_MAX {
            return Err(InvalidName);
        }
        writeln!(out, "{}\n{user}", MenuCommand::Login.words()).expect(VEC);
        self.owe(Some(text::ENTER_USERNAME), PromptAnswer::PasswordPrompt);
        Ok(())
    }

    /// Answers [`ClientEvent::PasswordWanted`].
    pub fn password(&mut self, password: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidName> {
        assert!(self.owed.is_empty(), "nothing is sent ahead of a password");
        if password.contains(&b'\n')
            || password.ends_with(b"\r")
            || password.len() >= LINE_BYTES_MAX
        {
            return Err(InvalidName);
        }
        out.extend_from_slice(password);
        out.push(b'\n');
        self.owe(None, PromptAnswer::Login);
        Ok(())
    }

    /// Asks for the directories that the user may enter: [`ClientEvent::Names`].
    pub fn show_directories(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowDirectories.words()).expect(VEC);
        self.owe(None, PromptAnswer::Names(text::DIRECTORIES));
    }

    /// Enters a directory: [`ClientEvent::Names`].
    pub fn show_directory(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = ask(MenuCommand::ShowDirectory, path, text::ENTER_DIRECTORY, out)?;
        self.owe(prompt, PromptAnswer::Names(text::FILES));
        Ok(())
    }

    /// Asks for the details of the chosen directory: [`ClientEvent::Entries`].
    pub fn show_details(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowDetails.words()).expect(VEC);
        self.owe(None, PromptAnswer::Details);
    }

    /// Asks for the user's quotas: [`ClientEvent::Quotas`].
    pub fn show_quota(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::ShowQuota.words()).expect(VEC);
        self.owe(None, PromptAnswer::Quotas);
    }

    /// Asks for a file: [`ClientEvent::File`].
    pub fn download(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = ask(MenuCommand::DownloadFile, path, text::CHOOSE_FILE, out)?;
        self.owe(prompt, PromptAnswer::File);
        Ok(())
    }

    /// Asks for a file from byte `from` on: [`ClientEvent::File`] with what is left of it.
    pub fn resume(&mut self, path: &str, from: u64, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        check_number(from)?;
        let prompt = ask(MenuCommand::ResumeDownload, path, text::CHOOSE_FILE, out)?;
        writeln!(out, "{from}").expect(VEC);
        self.owe(prompt, PromptAnswer::Offset);
        Ok(())
    }

    /// Announces an upload, whose `length` bytes the caller sends right behind it: [`ClientEvent::Uploaded`].
    pub fn put(&mut self, path: &str, length: u64, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        check_path(path)?;
        check_number(length)?;
        let line = format!("{} {length} {path}\n", MenuCommand::PutFile.words());
        if has_outer_blank(path) || line.len() > LINE_BYTES_MAX {
            return Err(InvalidName);
        }
        out.extend_from_slice(line.as_bytes());
        let name = last_part(path);
        self.owe(None, PromptAnswer::Uploaded { name, length });
        Ok(())
    }

    /// Makes a directory: [`ClientEvent::DirectoryMade`].
    pub fn make_directory(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = ask(
            MenuCommand::MakeDirectory,
            path,
            text::ENTER_NEW_DIRECTORY,
            out,
        )?;
        self.owe(prompt, PromptAnswer::DirectoryMade(last_part(path)));
        Ok(())
    }

    /// Asks for a file's SHA-256: [`ClientEvent::Checksum`].
    pub fn checksum(&mut self, path: &str, out: &mut Vec<u8>) -> Result<(), InvalidName> {
        let prompt = ask(MenuCommand::ChecksumFile, path, text::CHOOSE_CHECKSUM, out)?;
        self.owe(prompt, PromptAnswer::Checksum(last_part(path)));
        Ok(())
    }

    /// Says goodbye: [`ClientEvent::Goodbye`].
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        writeln!(out, "{}", MenuCommand::Quit.words()).expect(VEC);
        self.owe(None, PromptAnswer::Goodbye);
    }

    /// Commands that were sent and not answered yet.
    pub fn unanswered(&self) -> usize {
        self.owed.len()
    }

    fn owe(&mut self, prompt: Option<&'static str>, answer: PromptAnswer) {
        self.owed.push_back(Owed { prompt, answer });
    }
}

/// Hearing.
impl ClientSession {
    /// Takes what the server has sent, up to the next event. Where it is [`ClientEvent::File`], the file's bytes are the next
    /// in the buffer.
    pub fn receive<'a>(&mut self, buffer: &'a [u8]) -> Result<Received<'a>, Violation> {
        let mut used = 0;
        loop {
            let rest = &buffer[used..];
            if self.expects == Expects::Names {
                return Ok(self.hear_names(rest, used));
            }
            // The names behind it may be longer than any buffer.
            if self.expects == Expects::PromptAnswer
                && let Some(&Owed {
                    prompt: None,
                    answer: PromptAnswer::Names(before),
                }) = self.owed.front()
                && rest.starts_with(before.as_bytes())
            {
                self.expects = Expects::Names;
                used += before.len();
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
                .hear_line(line)
                .map_err(|Unexpected| Violation::unexpected(line))?;
            if event.is_some() {
                return Ok(Received { used, event });
            }
        }
    }

    fn hear_names<'a>(&mut self, rest: &'a [u8], used: usize) -> Received<'a> {
        let (piece, is_last) = match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => (&rest[..end], true),
            None => (rest, false),
        };
        if is_last {
            self.answered(Expects::Choice);
        }
        let event = (is_last || !piece.is_empty()).then_some(ClientEvent::Names { piece, is_last });
        Received {
            used: used + piece.len() + usize::from(is_last),
            event,
        }
    }

    /// Takes a line; `None` where it tells the caller nothing.
    fn hear_line<'a>(&mut self, line: &'a [u8]) -> Result<Option<ClientEvent<'a>>, Unexpected> {
        if let Expects::Entries(left) = self.expects {
            let entry = parse_entry(line).ok_or(Unexpected)?;
            match left {
                1 => self.answered(Expects::Choice),
                _ => self.expects = Expects::Entries(left - 1),
            }
            return Ok(Some(ClientEvent::Entry(entry)));
        }
        if let Expects::Quotas(left) = self.expects {
            let quota = parse_quota(line).ok_or(Unexpected)?;
            match left {
                1 => self.answered(Expects::Choice),
                _ => self.expects = Expects::Quotas(left - 1),
            }
            return Ok(Some(ClientEvent::Quota(quota)));
        }
        match (&self.expects, parse_message(line).ok_or(Unexpected)?) {
            (Expects::Choice | Expects::PromptAnswer, Message::Goodbye(goodbye)) => {
                self.expects = Expects::End;
                Ok(Some(ClientEvent::Goodbye(goodbye)))
            }
            (Expects::Choice, Message::Menu) if self.is_logged_in => {
                self.expects = Expects::PromptAnswer;
                Ok(None)
            }
            (Expects::Choice, Message::FirstChoice) if !self.is_logged_in => {
                self.expects = Expects::PromptAnswer;
                Ok(None)
            }
            (Expects::PromptAnswer, sentence) => self.hear_answer(sentence),
            _ => Err(Unexpected),
        }
    }

    fn hear_answer<'a>(
        &mut self,
        sentence: Message<'a>,
    ) -> Result<Option<ClientEvent<'a>>, Unexpected> {
        let owed = self.owed.front_mut().ok_or(Unexpected)?;
        if let Some(prompt) = owed.prompt.take() {
            return match sentence == Message::Prompt(prompt) {
                true => Ok(None),
                false => Err(Unexpected),
            };
        }
        let mut next = Expects::Choice;
        let event = match (&owed.answer, sentence) {
            (PromptAnswer::PasswordPrompt, Message::Prompt(text::ENTER_PASSWORD)) => {
                next = Expects::PromptAnswer;
                Some(ClientEvent::PasswordWanted)
            }
            (PromptAnswer::PasswordPrompt | PromptAnswer::Login, Message::LoginFailed) => {
                Some(ClientEvent::LoginFailed)
            }
            (PromptAnswer::Login, Message::LoginSuccessful) => {
                self.is_logged_in = true;
                Some(ClientEvent::LoggedIn)
            }
            (PromptAnswer::Names(_), Message::Nothing(_)) => Some(ClientEvent::Names {
                piece: b"",
                is_last: true,
            }),
            (PromptAnswer::Details, Message::Entries(count @ 1..)) => {
                self.expects = Expects::Entries(count);
                return Ok(Some(ClientEvent::Entries(count)));
            }
            (PromptAnswer::Quotas, Message::Quotas(count @ 1..)) => {
                self.expects = Expects::Quotas(count);
                return Ok(Some(ClientEvent::Quotas(count)));
            }
            (PromptAnswer::Quotas, Message::Nothing(text::NO_QUOTA)) => {
                Some(ClientEvent::Quotas(0))
            }
            (PromptAnswer::Details, Message::Entries(0)) => Some(ClientEvent::Entries(0)),
            (PromptAnswer::File, Message::Length(length)) => Some(ClientEvent::File { length }),
            (PromptAnswer::Offset, Message::Prompt(text::ENTER_OFFSET)) => {
                owed.answer = PromptAnswer::File;
                return Ok(None);
            }
            (PromptAnswer::Offset, Message::Refused(refused)) => {
                owed.answer = PromptAnswer::StrayNumber;
                self.expects = Expects::Choice;
                return Ok(Some(ClientEvent::Refused(refused)));
            }
            (PromptAnswer::StrayNumber, Message::Refused(text::UNKNOWN_COMMAND)) => None,
            (PromptAnswer::Checksum(wanted), Message::Checksum { hash, name })
                if name == wanted =>
            {
                Some(ClientEvent::Checksum(hash))
            }
            (
                PromptAnswer::Uploaded {
                    name: sent,
                    length: announced,
                },
                Message::UploadComplete { name, length },
            ) if name == sent && length == *announced => Some(ClientEvent::Uploaded),
            (PromptAnswer::Uploaded { .. }, Message::UploadFailed(reason)) => {
                Some(ClientEvent::Refused(reason))
            }
            // Only what is said behind the bytes leaves the connection usable.
            (PromptAnswer::Uploaded { .. }, Message::Refused(refused)) => {
                next = Expects::End;
                Some(ClientEvent::Goodbye(refused))
            }
            (PromptAnswer::DirectoryMade(wanted), Message::DirectoryMade(name))
                if name == wanted =>
            {
                Some(ClientEvent::DirectoryMade)
            }
            (
                PromptAnswer::Names(_)
                | PromptAnswer::Details
                | PromptAnswer::Quotas
                | PromptAnswer::File
                | PromptAnswer::Checksum(_)
                | PromptAnswer::DirectoryMade(_),
                Message::Refused(refused),
            ) => Some(ClientEvent::Refused(refused)),
            _ => return Err(Unexpected),
        };
        self.answered(next);
        Ok(event)
    }

    fn answered(&mut self, next: Expects) {
        self.owed.pop_front();
        self.expects = next;
    }
}

impl Default for ClientSession {
    fn default() -> ClientSession {
        ClientSession::new()
    }
}

/// A line that does not answer what was asked.
struct Unexpected;

impl Violation {
    fn unexpected(line: &[u8]) -> Violation {
        const SHOWN_BYTES_MAX: usize = 200;
        let shown = &line[..line.len().min(SHOWN_BYTES_MAX)];
        Violation::Unexpected(shown.escape_ascii().to_string())
    }
}

/// Appends a command with the answer to its first prompt; returns the prompt where that has to be waited for, since an
/// answer with outer blanks cannot stand on the command's line.
fn ask(
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

/// A tab would be one as well, were it not a control character.
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

const VEC: &str = "a Vec takes every byte";

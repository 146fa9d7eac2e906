//! Parses the server's messages, for the client.

use jiff::Timestamp;

use crate::domain::path::is_name;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::text;
use crate::protocol::text::{number, parse_hex};

/// A message of the server, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first choice, before a login.
    FirstChoice,
    /// The menu, after a login.
    Menu,
    /// A prompt; one of the constants of [`text`].
    Prompt(&'static str),
    /// The login succeeded.
    LoginSuccessful,
    /// The login failed.
    LoginFailed,
    /// The names of the granted directories.
    Directories(&'a str),
    /// The names of a directory's entries.
    Files(&'a str),
    /// There are no directories, files or quotas.
    Nothing(&'static str),
    /// The number of bytes that follow.
    Length(u64),
    /// The number of lines of details that follow.
    Entries(u64),
    /// The number of lines of quotas that follow.
    Quotas(u64),
    /// The checksum of a file.
    Checksum {
        /// The SHA-256.
        hash: [u8; 32],
        /// The file's name.
        name: &'a str,
    },
    /// The upload of this many bytes can begin.
    Ready(u64),
    /// The upload is complete and durable.
    UploadComplete {
        /// The file's name.
        name: &'a str,
        /// Its length in bytes.
        length: u64,
    },
    /// The bytes of an upload were received and discarded for this reason.
    UploadFailed(&'static str),
    /// A directory of this name was created.
    DirectoryMade(&'a str),
    /// An error; one of the constants of [`text`].
    Refused(&'static str),
    /// The connection closes; one of the constants of [`text`].
    Goodbye(&'static str),
}

/// Parses a message. `None` for anything else, such as the lines of `HELP` and of details.
pub fn parse_message(line: &[u8]) -> Option<Message<'_>> {
    let line = str::from_utf8(line).ok()?;
    Some(match line {
        text::FIRST_CHOICE => Message::FirstChoice,
        text::MENU | text::MENU_WITH_UPLOAD => Message::Menu,
        text::LOGIN_SUCCESSFUL => Message::LoginSuccessful,
        text::LOGIN_FAILED => Message::LoginFailed,
        _ => return parse_variable(line).or_else(|| parse_fixed(line)),
    })
}

/// Parses a message that contains a number or a name.
fn parse_variable(line: &str) -> Option<Message<'_>> {
    Some(if let Some(length) = line.strip_prefix(text::LENGTH) {
        Message::Length(number(length.as_bytes())?)
    } else if let Some(count) = line.strip_prefix(text::ENTRIES) {
        Message::Entries(number(count.as_bytes())?)
    } else if let Some(count) = line.strip_prefix(text::QUOTA) {
        Message::Quotas(number(count.as_bytes())?)
    } else if let Some(names) = line.strip_prefix(text::DIRECTORIES) {
        Message::Directories(names)
    } else if let Some(names) = line.strip_prefix(text::FILES) {
        Message::Files(names)
    } else if let Some(checksum) = line.strip_prefix(text::SHA_256) {
        let (hash, name) = checksum.split_once(' ')?;
        Message::Checksum {
            hash: parse_hex(hash)?,
            name,
        }
    } else if let Some(length) = line.strip_prefix(text::READY) {
        Message::Ready(byte_count(length)?)
    } else if let Some(complete) = line.strip_prefix(text::UPLOAD_COMPLETE) {
        let (name, length) = complete.rsplit_once(text::SEPARATOR)?;
        Message::UploadComplete {
            name,
            length: byte_count(length)?,
        }
    } else if let Some(reason) = line.strip_prefix(text::UPLOAD_FAILED) {
        Message::UploadFailed(one_of(&text::ERRORS, reason)?)
    } else {
        Message::DirectoryMade(line.strip_prefix(text::DIRECTORY_MADE)?)
    })
}

/// Parses a message that is always the same.
fn parse_fixed<'a>(line: &str) -> Option<Message<'a>> {
    one_of(&text::PROMPTS, line)
        .map(Message::Prompt)
        .or_else(|| one_of(&text::EMPTY, line).map(Message::Nothing))
        .or_else(|| one_of(&text::ERRORS, line).map(Message::Refused))
        .or_else(|| one_of(&text::GOODBYES, line).map(Message::Goodbye))
}

fn one_of(messages: &[&'static str], line: &str) -> Option<&'static str> {
    messages.iter().copied().find(|&message| message == line)
}

/// Parses the number in `11 bytes`.
fn byte_count(words: &str) -> Option<u64> {
    number(words.strip_suffix(text::BYTES)?.as_bytes())
}

/// An entry of `SHOW DETAILS`.
#[derive(Debug, PartialEq, Eq)]
pub struct DetailsEntry<'a> {
    /// The name, for which [`is_name`] holds.
    pub name: &'a str,
    /// The size in bytes; `None` for a directory.
    pub size: Option<u64>,
    /// The modification time in seconds since 1970.
    pub modified: i64,
}

/// Parses a line of `SHOW QUOTA`.
pub fn parse_quota(line: &[u8]) -> Option<QuotaUsage> {
    let (kind, rest) = str::from_utf8(line).ok()?.split_once(' ')?;
    let (used, rest) = rest.split_once(" of ")?;
    let (limit, rest) = rest.split_once(text::BYTES)?;
    let (files, rest) = match rest.strip_prefix(", ") {
        Some(rest) => {
            let (used, rest) = rest.split_once(" of ")?;
            let (limit, rest) = rest.split_once(text::FILES_UNIT)?;
            let files = (number(used.as_bytes())?, number(limit.as_bytes())?);
            (Some(files), rest)
        }
        None => (None, rest),
    };
    let directory = match kind {
        text::USER if rest.is_empty() => None,
        text::DIRECTORY => {
            let name = rest.strip_prefix(' ').filter(|name| is_name(name))?;
            Some(name.to_owned())
        }
        _ => return None,
    };
    Some(QuotaUsage {
        directory,
        used: number(used.as_bytes())?,
        limit: number(limit.as_bytes())?,
        files,
    })
}

/// Parses a line of `SHOW DETAILS`.
pub fn parse_entry(line: &[u8]) -> Option<DetailsEntry<'_>> {
    let mut fields = str::from_utf8(line).ok()?.splitn(4, ' ');
    let (kind, size) = (fields.next()?, fields.next()?);
    let size = match (kind, size) {
        (text::FILE, size) => Some(number(size.as_bytes())?),
        (text::DIRECTORY, "-") => None,
        _ => return None,
    };
    let modified = parse_time(fields.next()?)?;
    let name = fields.next().filter(|name| is_name(name))?;
    Some(DetailsEntry {
        name,
        size,
        modified,
    })
}

/// Parses a time in exactly the format of [`text::append_details`], into seconds since 1970.
fn parse_time(text: &str) -> Option<i64> {
    let seconds = text.parse::<Timestamp>().ok()?.as_second();
    let written = Timestamp::from_second(seconds).ok()?.to_string();
    (written == text).then_some(seconds)
}

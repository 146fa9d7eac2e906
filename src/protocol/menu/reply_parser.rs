//! What the lines of a server say: the menu's sentences, understood again.
//!
//! Must not know: what was asked.

use jiff::Timestamp;

use crate::domain::path::is_name;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::command::number;
use crate::protocol::menu::text;

/// One line of the server's, its end stripped.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Before a login: what can be done.
    FirstChoice,
    /// After a login: what can be done.
    Menu,
    /// A prompt, one of `menu_text`'s.
    Prompt(&'static str),
    /// The login was proved.
    LoginSuccessful,
    /// The login was not.
    LoginFailed,
    /// Behind this, on the same line, stand directories.
    Directories(&'a str),
    /// Behind this, on the same line, stand a directory's entries.
    Files(&'a str),
    /// There are no directories, or no files.
    Nothing(&'static str),
    /// So many bytes follow.
    Length(u64),
    /// So many lines of details follow.
    Entries(u64),
    /// So many lines of quotas follow.
    Quotas(u64),
    /// A file's checksum.
    Checksum {
        /// The SHA-256.
        hash: [u8; 32],
        /// The file's name.
        name: &'a str,
    },
    /// So many bytes may be sent now.
    Ready(u64),
    /// An upload is whole and durable.
    UploadComplete {
        /// The file's name.
        name: &'a str,
        /// Its bytes.
        length: u64,
    },
    /// The bytes of an upload were taken, and thrown away for this reason.
    UploadFailed(&'static str),
    /// A directory of this name was made.
    DirectoryMade(&'a str),
    /// Something is wrong; one of `menu_text`'s.
    Refused(&'static str),
    /// The connection closes; one of `menu_text`'s.
    Goodbye(&'static str),
}

/// What a line says; `None` where it is none of the menu's, as with the lines of `HELP` and of details.
pub fn parse_message(line: &[u8]) -> Option<Message<'_>> {
    let line = str::from_utf8(line).ok()?;
    Some(match line {
        text::FIRST_CHOICE => Message::FirstChoice,
        text::MENU | text::MENU_WITH_UPLOAD => Message::Menu,
        text::LOGIN_SUCCESSFUL => Message::LoginSuccessful,
        text::LOGIN_FAILED => Message::LoginFailed,
        _ => return worded(line).or_else(|| fixed(line)),
    })
}

/// A sentence with something in it.
fn worded(line: &str) -> Option<Message<'_>> {
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
            hash: text::parse_hex(hash)?,
            name,
        }
    } else if let Some(length) = line.strip_prefix(text::READY) {
        Message::Ready(bytes(length)?)
    } else if let Some(complete) = line.strip_prefix(text::UPLOAD_COMPLETE) {
        let (name, length) = complete.rsplit_once(text::SEPARATOR)?;
        Message::UploadComplete {
            name,
            length: bytes(length)?,
        }
    } else if let Some(reason) = line.strip_prefix(text::UPLOAD_FAILED) {
        Message::UploadFailed(one_of(&text::WRONGS, reason)?)
    } else {
        Message::DirectoryMade(line.strip_prefix(text::DIRECTORY_MADE)?)
    })
}

/// A sentence that is always the same.
fn fixed<'a>(line: &str) -> Option<Message<'a>> {
    one_of(&text::PROMPTS, line)
        .map(Message::Prompt)
        .or_else(|| one_of(&text::NOTHINGS, line).map(Message::Nothing))
        .or_else(|| one_of(&text::WRONGS, line).map(Message::Refused))
        .or_else(|| one_of(&text::GOODBYES, line).map(Message::Goodbye))
}

fn one_of(sentences: &[&'static str], line: &str) -> Option<&'static str> {
    sentences.iter().copied().find(|&sentence| sentence == line)
}

/// The number in `11 bytes`.
fn bytes(number_of: &str) -> Option<u64> {
    number(number_of.strip_suffix(text::BYTES)?.as_bytes())
}

/// One entry of a directory.
#[derive(Debug, PartialEq, Eq)]
pub struct DetailsEntry<'a> {
    /// Its name, one that can stand in a folder: not empty, no `/`, not led by a dot, no control character.
    pub name: &'a str,
    /// Bytes of a file; `None` for a directory.
    pub size: Option<u64>,
    /// When it was last changed: seconds since 1970.
    pub modified: i64,
}

/// One line of quotas.
pub fn parse_quota(line: &[u8]) -> Option<QuotaUsage> {
    let (kind, rest) = str::from_utf8(line).ok()?.split_once(' ')?;
    let (count, rest) = rest.split_once(" of ")?;
    let (most, name) = match kind {
        text::USER => (rest.strip_suffix(text::BYTES)?, None),
        text::DIRECTORY => {
            let (most, name) = rest.split_once(text::BYTES)?;
            let name = name.strip_prefix(' ').filter(|name| is_name(name))?;
            (most, Some(name.to_owned()))
        }
        _ => return None,
    };
    Some(QuotaUsage {
        directory: name,
        used: number(count.as_bytes())?,
        limit: number(most.as_bytes())?,
    })
}

/// One line of details.
pub fn parse_entry(line: &[u8]) -> Option<DetailsEntry<'_>> {
    let mut fields = str::from_utf8(line).ok()?.splitn(4, ' ');
    let (kind, size) = (fields.next()?, fields.next()?);
    let size = match (kind, size) {
        (text::FILE, size) => Some(number(size.as_bytes())?),
        (text::DIRECTORY, "-") => None,
        _ => return None,
    };
    let modified = time(fields.next()?)?;
    let name = fields.next().filter(|name| is_name(name))?;
    Some(DetailsEntry {
        name,
        size,
        modified,
    })
}

/// Seconds since 1970 of a time as `menu_text` writes it, and no other way.
fn time(text: &str) -> Option<i64> {
    let seconds = text.parse::<Timestamp>().ok()?.as_second();
    let written = Timestamp::from_second(seconds).ok()?.to_string();
    (written == text).then_some(seconds)
}

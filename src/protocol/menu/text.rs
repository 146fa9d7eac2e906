//! Every sentence that the menu can say, once, and how a listing is written.
//!
//! Must not know: when a sentence is said.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

use crate::domain::error::ErrorCode;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::command::MenuCommand;

/// The first choice: before a login, what a client can do.
pub const FIRST_CHOICE: &str = "Please choose 'LOGIN' or 'QUIT'";
/// The menu of a user who may add files nowhere.
pub const MENU: &str =
    "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'";
/// The menu of a user who may add files somewhere.
pub const MENU_WITH_UPLOAD: &str = "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'UPLOAD FILE' or 'QUIT'";

/// The prompt for the username.
pub const ENTER_USERNAME: &str = "Please enter your username";
/// The prompt for the password.
pub const ENTER_PASSWORD: &str = "Username OK, Please enter your password";
/// The prompt of `SHOW DIRECTORY`.
pub const ENTER_DIRECTORY: &str = "Please enter the desired directory";
/// The prompt of `DOWNLOAD FILE` and `RESUME DOWNLOAD`.
pub const CHOOSE_FILE: &str = "Please choose the desired file to download";
/// The second prompt of `RESUME DOWNLOAD`.
pub const ENTER_OFFSET: &str = "Please enter the number of bytes you already have";
/// The prompt of `UPLOAD FILE`.
pub const ENTER_UPLOAD: &str = "Please enter the name of the file to upload";
/// The second prompt of `UPLOAD FILE`.
pub const ENTER_LENGTH: &str = "Please enter the length of the file in bytes";
/// The prompt of `MAKE DIRECTORY`.
pub const ENTER_NEW_DIRECTORY: &str = "Please enter the name of the new directory";
/// The prompt of `CHECKSUM FILE`.
pub const CHOOSE_CHECKSUM: &str = "Please choose the desired file";

/// A login that was proved.
pub const LOGIN_SUCCESSFUL: &str = "Login Successfully";
/// A login that was not, whatever was wrong.
pub const LOGIN_FAILED: &str = "Login Failed";
/// What the names of the granted directories stand behind.
pub const DIRECTORIES: &str = "The available directories are: ";
/// What the names of a directory's entries stand behind.
pub const FILES: &str = "The available files are: ";
/// What separates names.
pub const SEPARATOR: &str = ", ";
/// What the number of bytes that follow stands behind.
pub const LENGTH: &str = "LENGTH ";
/// What the number of entries that follow stands behind.
pub const ENTRIES: &str = "ENTRIES ";
/// What the number of quotas that follow stands behind.
pub const QUOTA: &str = "QUOTA ";
/// What a checksum in lower-case hexadecimal, a blank and the file's name stand behind.
pub const SHA_256: &str = "SHA-256 ";
/// What the announced length stands behind when its bytes can come.
pub const READY: &str = "Ready to receive ";
/// What stands behind a number of bytes in a sentence.
pub const BYTES: &str = " bytes";
/// What an uploaded file's name and length stand behind.
pub const UPLOAD_COMPLETE: &str = "Upload complete: ";
/// What the reason stands behind, after announced bytes were taken.
pub const UPLOAD_FAILED: &str = "Upload failed: ";
/// What the name of a new directory stands behind.
pub const DIRECTORY_MADE: &str = "Directory made: ";

/// A command that needs a login.
pub const LOG_IN_FIRST: &str = "Please log in first";
/// `LOGIN` after a login.
pub const ALREADY_LOGGED_IN: &str = "You are already logged in";
/// No command that there is; never the client's bytes back.
pub const UNKNOWN_COMMAND: &str = "Unknown command. 'HELP' lists them.";
/// A bare name, or `SHOW DETAILS`, without a chosen directory.
pub const CHOOSE_DIRECTORY_FIRST: &str = "Please choose a directory first with 'SHOW DIRECTORY'";
/// A directory without entries.
pub const NO_FILES: &str = "There are no files in this directory";
/// A user without a grant.
pub const NO_DIRECTORIES: &str = "There are no directories for you";
/// A user without a quota.
pub const NO_QUOTA: &str = "There is no quota for you";
/// No number, or one beyond a file's end.
pub const BAD_NUMBER: &str = "That is not a valid number of bytes";

/// The goodbye to `QUIT` before a login.
pub const GOODBYE: &str = "Connection is terminated.";
/// The goodbye to `QUIT` after a login.
pub const GOODBYE_LOGGED_OUT: &str = "Connection is terminated. You are logged out.";
/// The goodbye to a line over the limit.
pub const LINE_TOO_LONG: &str = "That line is too long. Connection is terminated.";
/// The goodbye after too many failed logins.
pub const TOO_MANY_FAILURES: &str = "Too many failed logins. Connection is terminated.";
/// The goodbye to who is silent for too long.
pub const IDLE: &str = "Idle for too long. Connection is terminated.";
/// The goodbye to who lost his account by a reload.
pub const LOGIN_INVALID: &str = "Your login is no longer valid. Connection is terminated.";
/// The goodbye to who finds no free place.
pub const SERVER_FULL: &str = "The server is full. Please try again later.";
/// The goodbye to who has as many sessions as he may.
pub const TOO_MANY_SESSIONS: &str = "You have too many sessions. Please try again later.";
/// The goodbye to who is turned away, since too many logins have failed from where he is.
pub const TURNED_AWAY: &str = "Too many failed logins. Please try again later.";
/// The goodbye when the server stops.
pub const STOPPING: &str = "The server is shutting down. Connection is terminated.";

/// The prompts.
pub(crate) const PROMPTS: [&str; 9] = [
    ENTER_USERNAME,
    ENTER_PASSWORD,
    ENTER_DIRECTORY,
    CHOOSE_FILE,
    ENTER_OFFSET,
    ENTER_UPLOAD,
    ENTER_LENGTH,
    ENTER_NEW_DIRECTORY,
    CHOOSE_CHECKSUM,
];

/// What stands instead of names where there are none.
pub(crate) const NOTHINGS: [&str; 3] = [NO_FILES, NO_DIRECTORIES, NO_QUOTA];

/// What is said when something is wrong and the connection stays.
pub(crate) const WRONGS: [&str; 15] = [
    LOG_IN_FIRST,
    ALREADY_LOGGED_IN,
    UNKNOWN_COMMAND,
    CHOOSE_DIRECTORY_FIRST,
    BAD_NUMBER,
    refusal(ErrorCode::NoSuchDirectory),
    refusal(ErrorCode::DirectoryUnreadable),
    refusal(ErrorCode::NoSuchFile),
    refusal(ErrorCode::FileUnreadable),
    refusal(ErrorCode::FileUnwritable),
    refusal(ErrorCode::UploadDenied),
    refusal(ErrorCode::FileExists),
    refusal(ErrorCode::DirectoryExists),
    refusal(ErrorCode::InvalidName),
    refusal(ErrorCode::NoSpace),
];

/// What is said last.
pub(crate) const GOODBYES: [&str; 10] = [
    GOODBYE,
    GOODBYE_LOGGED_OUT,
    LINE_TOO_LONG,
    TOO_MANY_FAILURES,
    IDLE,
    LOGIN_INVALID,
    SERVER_FULL,
    TOO_MANY_SESSIONS,
    TURNED_AWAY,
    STOPPING,
];

/// Appends one line.
pub fn say(out: &mut Vec<u8>, sentence: impl Display) {
    writeln!(out, "{sentence}").expect("a Vec takes every byte");
}

/// The sentence for a refusal.
pub const fn refusal(refusal: ErrorCode) -> &'static str {
    match refusal {
        ErrorCode::NoSuchDirectory => "No such directory",
        ErrorCode::DirectoryUnreadable => "The directory cannot be read",
        ErrorCode::NoSuchFile => "No such file",
        ErrorCode::FileUnreadable => "The file cannot be read",
        ErrorCode::FileUnwritable => "The file cannot be written",
        ErrorCode::UploadDenied => "You may not upload to this directory",
        ErrorCode::FileExists => "The file already exists",
        ErrorCode::DirectoryExists => "The directory already exists",
        ErrorCode::InvalidName => "That is not a valid file name",
        ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge => {
            "There is not enough room for that file"
        }
        ErrorCode::ChangeDenied
        | ErrorCode::NotEmpty
        | ErrorCode::CrossDevice
        | ErrorCode::IntoItself
        | ErrorCode::OffsetBeyondEnd
        | ErrorCode::FileShrank
        | ErrorCode::NoPassivePort
        | ErrorCode::NoDataConnection
        | ErrorCode::DataConnectionLost
        | ErrorCode::DataConnectionIdle
        | ErrorCode::Aborted => unreachable!(),
        ErrorCode::TooManySessions => TOO_MANY_SESSIONS,
        ErrorCode::LoginBlocked => TURNED_AWAY,
    }
}

/// What `HELP` says of a command.
pub fn help(command: MenuCommand) -> &'static str {
    match command {
        MenuCommand::Login => "LOGIN - log in with a username and a password",
        MenuCommand::ShowDirectories => {
            "SHOW DIRECTORIES - list the directories that you may enter"
        }
        MenuCommand::ShowDirectory => "SHOW DIRECTORY - enter a directory and list its files",
        MenuCommand::ShowDetails => {
            "SHOW DETAILS - list the chosen directory with sizes and times, for programs"
        }
        MenuCommand::DownloadFile => "DOWNLOAD FILE - get a file",
        MenuCommand::ResumeDownload => {
            "RESUME DOWNLOAD - get the rest of a file that you have a part of"
        }
        MenuCommand::UploadFile => "UPLOAD FILE - send a file, step by step",
        MenuCommand::PutFile => {
            "PUT FILE LENGTH NAME - send a file in one go, its bytes right behind this line"
        }
        MenuCommand::MakeDirectory => "MAKE DIRECTORY - make a new directory",
        MenuCommand::ChecksumFile => "CHECKSUM FILE - show the SHA-256 of a file",
        MenuCommand::ShowQuota => "SHOW QUOTA - show how much of your quotas is taken",
        MenuCommand::Help => "HELP - show these lines",
        MenuCommand::Quit => "QUIT - say goodbye and close the connection",
    }
}

/// Appends one entry to a listing of the form [`crate::domain::listing::ListingFormat::Names`]: a directory with a `/` behind its name, entries
/// separated, no line end.
pub fn append_name(out: &mut Vec<u8>, name: &str, is_directory: bool) {
    if !out.is_empty() {
        out.extend_from_slice(SEPARATOR.as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    if is_directory {
        out.push(b'/');
    }
}

/// Appends one entry to a listing of the form [`crate::domain::listing::ListingFormat::Details`]: `file SIZE MTIME NAME` or `directory - MTIME
/// NAME` and the line end. `size` is in bytes, `modified` in seconds since 1970; a time outside of the years that RFC
/// 3339 can write is moved to the nearest one inside.
pub fn append_details(out: &mut Vec<u8>, name: &str, is_directory: bool, size: u64, modified: i64) {
    let modified = Timestamp::from_second(modified.clamp(MODIFIED_MIN, MODIFIED_MAX))
        .expect("the clamp keeps it within jiff's years");
    if is_directory {
        say(out, format_args!("{DIRECTORY} - {modified} {name}"));
    } else {
        say(out, format_args!("{FILE} {size} {modified} {name}"));
    }
}

/// Appends one quota: `user BYTES of BYTES bytes` or `directory BYTES of BYTES bytes NAME`, and the line end.
pub fn append_quota(out: &mut Vec<u8>, quota: &QuotaUsage) {
    let QuotaUsage {
        directory,
        used: bytes,
        limit: most,
    } = quota;
    match directory {
        None => say(out, format_args!("{USER} {bytes} of {most}{BYTES}")),
        Some(name) => say(
            out,
            format_args!("{DIRECTORY} {bytes} of {most}{BYTES} {name}"),
        ),
    }
}

/// Appends bytes in lower-case hexadecimal.
pub(crate) fn append_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a Vec takes every byte");
    }
}

/// The bytes that [`append_hex`] wrote.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// What a file's details begin with.
pub const FILE: &str = "file";
/// What a user's own quota begins with.
pub const USER: &str = "user";
/// What a directory's details and its quota begin with.
pub const DIRECTORY: &str = "directory";

/// `0000-01-01T00:00:00Z`.
const MODIFIED_MIN: i64 = -62_167_219_200;
/// `9999-12-30T22:00:00Z`, the last second that jiff knows.
const MODIFIED_MAX: i64 = 253_402_207_200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_tell_every_sentence() {
        let docs = include_str!("../../../docs/protocol.md");
        let others = [
            FIRST_CHOICE,
            MENU,
            MENU_WITH_UPLOAD,
            LOGIN_SUCCESSFUL,
            LOGIN_FAILED,
            DIRECTORIES,
            FILES,
            LENGTH,
            ENTRIES,
            QUOTA,
            SHA_256,
            READY,
            UPLOAD_COMPLETE,
            UPLOAD_FAILED,
            DIRECTORY_MADE,
        ];
        let sentences = [&PROMPTS[..], &NOTHINGS, &WRONGS, &GOODBYES, &others].concat();
        let commands = MenuCommand::ALL.map(MenuCommand::words);
        for words in sentences.iter().chain(&commands) {
            assert!(
                docs.contains(words),
                "docs/protocol.md does not tell: {words}"
            );
        }
    }

    #[test]
    fn names_are_separated() {
        let mut out = Vec::new();
        append_name(&mut out, "Classics", true);
        append_name(&mut out, "Free Fire", false);
        append_name(&mut out, "Joker", false);
        assert_eq!(out, b"Classics/, Free Fire, Joker");
    }

    #[test]
    fn quotas_are_lines() {
        let mut out = Vec::new();
        for directory in [None, Some("Free Films".to_owned())] {
            let (bytes, most) = (0, 5_000_000_000);
            append_quota(
                &mut out,
                &QuotaUsage {
                    directory,
                    used: bytes,
                    limit: most,
                },
            );
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "user 0 of 5000000000 bytes\ndirectory 0 of 5000000000 bytes Free Films\n"
        );
    }

    #[test]
    fn details_are_lines() {
        let mut out = Vec::new();
        append_details(&mut out, "Classics", true, 4096, 1_795_370_400);
        append_details(&mut out, "Free Fire", false, 0, -1);
        append_details(&mut out, "x", false, u64::MAX, i64::MIN);
        append_details(&mut out, "y", false, 1, i64::MAX);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "directory - 2026-11-22T18:00:00Z Classics\n\
             file 0 1969-12-31T23:59:59Z Free Fire\n\
             file 18446744073709551615 0000-01-01T00:00:00Z x\n\
             file 1 9999-12-30T22:00:00Z y\n"
        );
    }
}

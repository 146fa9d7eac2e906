//! The messages of the menu and the format of its listings.
//!
//! The messages are a contract with people and programs: docs/protocol.md lists them all.

use std::fmt::Display;
use std::io::Write;

use jiff::Timestamp;

use crate::domain::error::ErrorCode;
use crate::domain::request::QuotaUsage;
use crate::protocol::menu::command::MenuCommand;

/// The first choice, shown before a login.
pub const FIRST_CHOICE: &str = "Please choose 'LOGIN' or 'QUIT'";
/// The menu of a user without the right to add files.
pub const MENU: &str =
    "Please choose: 'SHOW DIRECTORIES' or 'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'QUIT'";
/// The menu of a user who may add files to some directory.
pub const MENU_WITH_UPLOAD: &str = "Please choose: 'SHOW DIRECTORIES' or \
    'SHOW DIRECTORY' or 'DOWNLOAD FILE' or 'UPLOAD FILE' or 'QUIT'";

/// Prompt for the username.
pub const ENTER_USERNAME: &str = "Please enter your username";
/// Prompt for the password.
pub const ENTER_PASSWORD: &str = "Username OK, Please enter your password";
/// Prompt of `SHOW DIRECTORY`.
pub const ENTER_DIRECTORY: &str = "Please enter the desired directory";
/// Prompt of `DOWNLOAD FILE` and `RESUME DOWNLOAD`.
pub const CHOOSE_FILE: &str = "Please choose the desired file to download";
/// Second prompt of `RESUME DOWNLOAD`.
pub const ENTER_OFFSET: &str = "Please enter the number of bytes you already have";
/// Prompt of `UPLOAD FILE`.
pub const ENTER_UPLOAD: &str = "Please enter the name of the file to upload";
/// Second prompt of `UPLOAD FILE`.
pub const ENTER_LENGTH: &str = "Please enter the length of the file in bytes";
/// Prompt of `MAKE DIRECTORY`.
pub const ENTER_NEW_DIRECTORY: &str = "Please enter the name of the new directory";
/// Prompt of `CHECKSUM FILE`.
pub const CHOOSE_CHECKSUM: &str = "Please choose the desired file";

/// The login succeeded.
pub const LOGIN_SUCCESSFUL: &str = "Login Successfully";
/// The login failed, for whatever reason.
pub const LOGIN_FAILED: &str = "Login Failed";
/// Precedes the names of the granted directories.
pub const DIRECTORIES: &str = "The available directories are: ";
/// Precedes the names of a directory's entries.
pub const FILES: &str = "The available files are: ";
/// Separates names.
pub const SEPARATOR: &str = ", ";
/// Precedes the number of bytes that follow.
pub const LENGTH: &str = "LENGTH ";
/// Precedes the number of lines of details that follow.
pub const ENTRIES: &str = "ENTRIES ";
/// Precedes the number of lines of quotas that follow.
pub const QUOTA: &str = "QUOTA ";
/// Precedes a checksum in lower-case hexadecimal, a blank and the name of the file.
pub const SHA_256: &str = "SHA-256 ";
/// Precedes the announced length when an upload can begin.
pub const READY: &str = "Ready to receive ";
/// Follows a number of bytes.
pub const BYTES: &str = " bytes";
/// Precedes the name and length of an uploaded file.
pub const UPLOAD_COMPLETE: &str = "Upload complete: ";
/// Precedes the reason after the bytes of a failed upload were received.
pub const UPLOAD_FAILED: &str = "Upload failed: ";
/// Precedes the name of a new directory.
pub const DIRECTORY_MADE: &str = "Directory made: ";

/// The command requires a login.
pub const LOG_IN_FIRST: &str = "Please log in first";
/// `LOGIN` after a login.
pub const ALREADY_LOGGED_IN: &str = "You are already logged in";
/// Unknown command. Never repeats the client's bytes.
pub const UNKNOWN_COMMAND: &str = "Unknown command. 'HELP' lists them.";
/// A bare name or `SHOW DETAILS` without a chosen directory.
pub const CHOOSE_DIRECTORY_FIRST: &str = "Please choose a directory first with 'SHOW DIRECTORY'";
/// The directory is empty.
pub const NO_FILES: &str = "There are no files in this directory";
/// The user has no grant.
pub const NO_DIRECTORIES: &str = "There are no directories for you";
/// The user has no quota.
pub const NO_QUOTA: &str = "There is no quota for you";
/// Not a number, or beyond the end of the file.
pub const BAD_NUMBER: &str = "That is not a valid number of bytes";

/// `QUIT` before a login.
pub const GOODBYE: &str = "Connection is terminated.";
/// `QUIT` after a login.
pub const GOODBYE_LOGGED_OUT: &str = "Connection is terminated. You are logged out.";
/// The line exceeds the limit.
pub const LINE_TOO_LONG: &str = "That line is too long. Connection is terminated.";
/// Too many failed logins in this session.
pub const TOO_MANY_FAILURES: &str = "Too many failed logins. Connection is terminated.";
/// The idle or login timeout expired.
pub const IDLE: &str = "Idle for too long. Connection is terminated.";
/// The account was removed or changed by a reload.
pub const LOGIN_REVOKED: &str = "Your login is no longer valid. Connection is terminated.";
/// The server is full.
pub const SERVER_FULL: &str = "The server is full. Please try again later.";
/// The user has too many sessions.
pub const TOO_MANY_SESSIONS: &str = "You have too many sessions. Please try again later.";
/// The login throttle blocks the client.
pub const LOGIN_BLOCKED: &str = "Too many failed logins. Please try again later.";
/// The server shuts down.
pub const STOPPING: &str = "The server is shutting down. Connection is terminated.";

/// The word after PUT FILE for an upload that replaces no file.
pub(crate) const NEW: &str = "NEW";

/// All prompts.
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

/// Messages in place of an empty list.
pub(crate) const EMPTY: [&str; 3] = [NO_FILES, NO_DIRECTORIES, NO_QUOTA];

/// Errors after which the session continues.
pub(crate) const ERRORS: [&str; 16] = [
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
    refusal(ErrorCode::HiddenDenied),
    refusal(ErrorCode::NoSpace),
];

/// Messages after which the server closes the connection.
pub(crate) const GOODBYES: [&str; 10] = [
    GOODBYE,
    GOODBYE_LOGGED_OUT,
    LINE_TOO_LONG,
    TOO_MANY_FAILURES,
    IDLE,
    LOGIN_REVOKED,
    SERVER_FULL,
    TOO_MANY_SESSIONS,
    LOGIN_BLOCKED,
    STOPPING,
];

/// Appends a message and a line end.
pub fn append_line(out: &mut Vec<u8>, message: impl Display) {
    writeln!(out, "{message}").expect("writing to a Vec cannot fail");
}

/// Returns the message for an error.
pub const fn refusal(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoSuchDirectory => "No such directory",
        ErrorCode::DirectoryUnreadable => "The directory cannot be read",
        ErrorCode::NoSuchFile => "No such file",
        ErrorCode::FileUnreadable => "The file cannot be read",
        ErrorCode::FileUnwritable => "The file cannot be written",
        ErrorCode::UploadDenied => "You may not upload to this directory",
        ErrorCode::FileExists => "The file already exists",
        ErrorCode::DirectoryExists => "The directory already exists",
        ErrorCode::InvalidName => "That is not a valid file name",
        ErrorCode::HiddenDenied => "Names beginning with a dot need the right 'hidden'",
        ErrorCode::NoSpace | ErrorCode::OverQuota | ErrorCode::TooLarge => {
            "There is not enough room for that file"
        }
        ErrorCode::TooManySessions => TOO_MANY_SESSIONS,
        ErrorCode::LoginBlocked => LOGIN_BLOCKED,
        // Only FTP's requests have these errors.
        ErrorCode::ChangeDenied
        | ErrorCode::ReadDenied
        | ErrorCode::NotEmpty
        | ErrorCode::NotEmptyHidden
        | ErrorCode::NotEmptyUnlisted
        | ErrorCode::CrossDevice
        | ErrorCode::IntoItself
        | ErrorCode::OffsetBeyondEnd
        | ErrorCode::UploadTooShort
        | ErrorCode::FileShrank
        | ErrorCode::NoPassivePort
        | ErrorCode::NoDataConnection
        | ErrorCode::DataConnectionLost
        | ErrorCode::DataConnectionIdle
        | ErrorCode::Aborted => unreachable!(),
    }
}

/// Returns the line of `HELP` for a command.
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

/// Appends the name of an entry to a listing in the format
/// [`ListingFormat::Names`](crate::domain::listing::ListingFormat::Names): separated from the name
/// before it, a directory with a trailing `/`, no line end.
pub fn append_name(out: &mut Vec<u8>, name: &str, is_directory: bool) {
    if !out.is_empty() {
        out.extend_from_slice(SEPARATOR.as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    if is_directory {
        out.push(b'/');
    }
}

/// Appends an entry to a listing in the format
/// [`ListingFormat::Details`](crate::domain::listing::ListingFormat::Details): `file SIZE MTIME
/// NAME` or `directory - MTIME NAME`. `size` is in bytes, `modified` in seconds since 1970, clamped
/// to the years that RFC 3339 can express.
pub fn append_details(out: &mut Vec<u8>, name: &str, is_directory: bool, size: u64, modified: i64) {
    let modified = Timestamp::from_second(modified.clamp(MODIFIED_MIN, MODIFIED_MAX))
        .expect("the clamp keeps it in jiff's range");
    if is_directory {
        append_line(out, format_args!("{DIRECTORY} - {modified} {name}"));
    } else {
        append_line(out, format_args!("{FILE} {size} {modified} {name}"));
    }
}

/// Appends the line of one quota: `user BYTES of BYTES bytes` or
/// `directory BYTES of BYTES bytes NAME`. A limit of files is reported after the bytes:
/// `user BYTES of BYTES bytes, FILES of FILES files`.
pub fn append_quota(out: &mut Vec<u8>, quota: &QuotaUsage) {
    let QuotaUsage {
        directory,
        used,
        limit,
        files,
    } = quota;
    let files = match files {
        Some((used, limit)) => format!(", {used} of {limit}{FILES_UNIT}"),
        None => String::new(),
    };
    let used = format_args!("{used} of {limit}{BYTES}{files}");
    match directory {
        None => append_line(out, format_args!("{USER} {used}")),
        Some(name) => append_line(out, format_args!("{DIRECTORY} {used} {name}")),
    }
}

/// Follows the numbers of files of a quota.
pub const FILES_UNIT: &str = " files";
/// First word of the details of a file.
pub const FILE: &str = "file";
/// First word of the user's own quota.
pub const USER: &str = "user";
/// First word of the details of a directory and of its quota.
pub const DIRECTORY: &str = "directory";

/// `0000-01-01T00:00:00Z`.
const MODIFIED_MIN: i64 = -62_167_219_200;
/// `9999-12-30T22:00:00Z`, the largest second that jiff supports.
const MODIFIED_MAX: i64 = 253_402_207_200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docs_list_every_message() {
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
        let messages = [&PROMPTS[..], &EMPTY, &ERRORS, &GOODBYES, &others].concat();
        let commands = MenuCommand::ALL.map(MenuCommand::words);
        for words in messages.iter().chain(&commands) {
            assert!(
                docs.contains(words),
                "docs/protocol.md does not have: {words}"
            );
        }
    }

    #[test]
    fn names_are_separated_by_commas() {
        let mut out = Vec::new();
        append_name(&mut out, "Classics", true);
        append_name(&mut out, "Free Fire", false);
        append_name(&mut out, "Joker", false);
        assert_eq!(out, b"Classics/, Free Fire, Joker");
    }

    #[test]
    fn quotas_are_one_per_line() {
        let mut out = Vec::new();
        for (directory, files) in [
            (None, None),
            (Some("Free Films"), None),
            (None, Some((3, 10_000))),
            (Some("Free Films"), Some((0, 1))),
        ] {
            let quota = QuotaUsage {
                directory: directory.map(str::to_owned),
                used: 0,
                limit: 5_000_000_000,
                files,
            };
            append_quota(&mut out, &quota);
        }
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "user 0 of 5000000000 bytes\n\
             directory 0 of 5000000000 bytes Free Films\n\
             user 0 of 5000000000 bytes, 3 of 10000 files\n\
             directory 0 of 5000000000 bytes, 0 of 1 files Free Films\n"
        );
    }

    #[test]
    fn details_are_one_per_line() {
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

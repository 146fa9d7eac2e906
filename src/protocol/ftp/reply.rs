//! FTP's replies: codes and texts, with the section that defines the code. Sections without an RFC
//! are of RFC 959.

use std::fmt::Display;
use std::io::Write;
use std::net::{IpAddr, SocketAddrV4};

use crate::domain::access::Rights;
use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, MlstFacts};
use crate::protocol::ftp::listing::append_facts;
use crate::protocol::step::{DataMode, Representation};
use crate::protocol::text::hex;

/// A reply of one line: its code and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply(pub(super) u16, pub(super) &'static str);

// The connection (5.4, connection establishment; 4.2.2, 421).

pub(super) const GREETING: Reply = Reply(220, "tidegate FTP server ready.");
pub(super) const SERVER_FULL: Reply = Reply(421, "Too many connections; try again later.");
pub(super) const LOGIN_BLOCKED: Reply = Reply(421, "Too many failed logins; try again later.");
pub(super) const IDLE: Reply = Reply(421, "Idle timeout; closing control connection.");
pub(super) const STOPPING: Reply = Reply(421, "Server shutting down; closing control connection.");
pub(super) const LOGIN_REVOKED: Reply =
    Reply(421, "Login no longer valid; closing control connection.");
pub(super) const NOT_FTP: Reply = Reply(421, "This is an FTP server; closing control connection.");

// Syntax (4.2.2). The client's bytes are never repeated.

pub(super) const UNKNOWN_COMMAND: Reply = Reply(500, "Unknown command.");
pub(super) const LINE_TOO_LONG: Reply = Reply(500, "Line too long.");
pub(super) const WRONG_ARGUMENT: Reply = Reply(501, "Argument missing or not allowed.");
pub(super) const CONTROL_CHARACTER: Reply = Reply(501, "Control character in argument.");
pub(super) const BAD_NUMBER: Reply = Reply(501, "Invalid number.");
pub(super) const BAD_TIME: Reply = Reply(501, "Invalid time; use YYYYMMDDHHMMSS in UTC.");
pub(super) const BAD_RANGE: Reply = Reply(501, "Invalid path or byte range.");
pub(super) const NOT_IMPLEMENTED: Reply = Reply(502, "Command not implemented.");
pub(super) const LOG_IN_FIRST: Reply = Reply(530, "Please log in with USER and PASS.");

// Login and logout (4.1.1).

/// The same for every user, so that usernames cannot be probed.
pub(super) const PASSWORD_REQUIRED: Reply = Reply(331, "Password required.");
pub(super) const LOGGED_IN: Reply = Reply(230, "Login successful.");
pub(super) const LOGIN_FAILED: Reply = Reply(530, "Login incorrect.");
pub(super) const TOO_MANY_FAILURES: Reply = Reply(
    530,
    "Login incorrect; too many failures, closing control connection.",
);
pub(super) const USER_FIRST: Reply = Reply(503, "Send USER first.");
pub(super) const ALREADY_LOGGED_IN: Reply = Reply(503, "Already logged in.");
pub(super) const NO_ACCOUNT: Reply = Reply(202, "No account required.");
pub(super) const LOGGED_OUT: Reply = Reply(220, "Logged out; ready for a new user.");
pub(super) const GOODBYE: Reply = Reply(221, "Goodbye.");

// Transfer parameters (4.1.2).

pub(super) const TYPE_UNSUPPORTED: Reply = Reply(504, "Type not supported; use A, I or L 8.");
pub(super) const STRUCTURE: Reply = Reply(200, "Structure set to F.");
pub(super) const STRUCTURE_UNSUPPORTED: Reply = Reply(504, "Structure not supported; use F.");
pub(super) const MODE: Reply = Reply(200, "Mode set to S.");
pub(super) const MODE_UNSUPPORTED: Reply = Reply(504, "Mode not supported; use S.");
pub(super) const ADDRESS_ACCEPTED: Reply = Reply(200, "Data address accepted.");
pub(super) const BAD_ADDRESS: Reply = Reply(501, "Invalid address.");
/// RFC 2577, 3: no connections to third parties (bounce attack).
pub(super) const FOREIGN_ADDRESS: Reply = Reply(501, "Address is not the client's.");
/// RFC 2577, 3: no connections to well-known services.
pub(super) const RESERVED_PORT: Reply = Reply(504, "Ports below 1024 are not allowed.");
pub(super) const ACTIVE_DISABLED: Reply = Reply(502, "Active mode is disabled; use EPSV or PASV.");
/// The parameter is at fault: other clients may use the command.
pub(super) const LOCAL_ACTIVE_DISABLED: Reply = Reply(
    504,
    "Active mode to the server's own machine is disabled; use EPSV or PASV.",
);
/// RFC 2428, 4.
pub(super) const EPSV_ONLY: Reply = Reply(501, "Only EPSV is allowed after EPSV ALL.");
pub(super) const EPSV_ALL: Reply = Reply(200, "EPSV ALL accepted."); // RFC 2428, 4
pub(super) const PASV_NEEDS_IPV4: Reply = Reply(425, "PASV requires IPv4; use EPSV.");
const NEEDS_IPV4: Reply = Reply(522, "Network protocol not supported, use (1)"); // RFC 2428, 2
const NEEDS_IPV6: Reply = Reply(522, "Network protocol not supported, use (2)"); // RFC 2428, 2

// Transfers (4.1.3).

pub(super) const NO_DATA_ADDRESS: Reply = Reply(425, "Send EPSV, PASV, EPRT or PORT first.");
pub(super) const SENDING_LISTING: Reply = Reply(150, "Sending directory listing.");
pub(super) const SENDING_ASCII: Reply = Reply(150, "Sending file, type A.");
pub(super) const READY_TO_RECEIVE: Reply = Reply(150, "Ready to receive file.");
pub(super) const TRANSFER_COMPLETE: Reply = Reply(226, "Transfer complete.");
pub(super) const UPLOAD_COMPLETE: Reply = Reply(226, "Transfer complete; file stored.");
pub(super) const ABORTED: Reply = Reply(426, "Transfer aborted.");
pub(super) const ABORT_SUCCESSFUL: Reply = Reply(226, "Abort successful.");
pub(super) const NO_TRANSFER: Reply = Reply(225, "No transfer to abort.");
pub(super) const REST_NEEDS_IMAGE: Reply = Reply(501, "Restarting requires type I.");
pub(super) const REST_UNSUPPORTED: Reply = Reply(450, "Cannot restart this command; REST ignored.");
pub(super) const BEYOND_END: Reply = Reply(554, "Offset is beyond the end of the file.");
pub(super) const NO_ALLOCATION: Reply = Reply(202, "No storage allocation necessary.");

// Files (4.1.3).

pub(super) const RNFR_FIRST: Reply = Reply(503, "Send RNFR first.");
pub(super) const READY_FOR_RNTO: Reply = Reply(350, "File exists; ready for RNTO.");
pub(super) const RENAMED: Reply = Reply(250, "Rename successful.");
pub(super) const DELETED: Reply = Reply(250, "File deleted.");
pub(super) const DIRECTORY_REMOVED: Reply = Reply(250, "Directory removed.");
/// For MKD, which may reply 550 but not 553 (5.4).
pub(super) const MKD_FILE_EXISTS: Reply = Reply(550, "A file of that name exists.");
/// For MKD, which may reply 550 but not 553 (5.4).
pub(super) const MKD_BAD_NAME: Reply = Reply(550, "Invalid directory name.");
pub(super) const MKD_HIDDEN_NAME: Reply =
    Reply(550, "Names beginning with a dot need the right 'hidden'.");
pub(super) const TOP_IS_FIXED: Reply = Reply(550, "Cannot change the top-level directories.");
/// RFC 3659, 4.2: the size in type A is known only after reading the file.
pub(super) const SIZE_NEEDS_IMAGE: Reply = Reply(550, "SIZE requires type I.");
pub(super) const IS_DIRECTORY: Reply = Reply(550, "Is a directory.");
pub(super) const NOT_A_DIRECTORY: Reply = Reply(501, "Not a directory."); // RFC 3659, 7.2
pub(super) const SPACE_UNKNOWN: Reply = Reply(550, "The free space is unknown.");
pub(super) const AVBL_NEEDS_DIRECTORY: Reply = Reply(550, "No space information for /.");

// Other commands.

pub(super) const SYSTEM: Reply = Reply(215, "UNIX Type: L8"); // 4.1.3
pub(super) const OK: Reply = Reply(200, "OK.");
pub(super) const HOST_ACCEPTED: Reply = Reply(220, "Host accepted."); // RFC 7151, 3.2
pub(super) const HOST_TOO_LATE: Reply = Reply(503, "HOST must precede USER."); // RFC 7151, 3.3
pub(super) const ENGLISH: Reply = Reply(200, "Language is English."); // RFC 2640, 4.1
pub(super) const ENGLISH_ONLY: Reply = Reply(504, "Only English is supported.");
pub(super) const UTF8_ON: Reply = Reply(200, "UTF-8 is always on."); // RFC 2640, 2
pub(super) const UTF8_ALWAYS_ON: Reply = Reply(501, "UTF-8 cannot be turned off.");
pub(super) const BAD_OPTION: Reply = Reply(501, "Unknown option."); // RFC 2389, 4
pub(super) const BAD_FACTS: Reply = Reply(501, "Invalid list of facts."); // RFC 3659, 7.9
pub(super) const NO_TLS: Reply = Reply(504, "TLS is not supported."); // RFC 2228, 3
pub(super) const AUTH_FIRST: Reply = Reply(503, "Send AUTH first."); // RFC 2228, 3
pub(super) const NO_CHMOD: Reply = Reply(502, "SITE CHMOD not implemented.");
pub(super) const SITE_UNKNOWN: Reply = Reply(500, "Unknown SITE command.");
pub(super) const HELP_UNKNOWN: Reply = Reply(501, "Unknown command; HELP lists all commands.");
/// The end of STAT for a path, after [`begin_status_listing`].
pub(super) const STATUS_LISTING_ENDS: Reply = Reply(213, "End of status.");

/// Returns the reply to EPRT or EPSV with another address family than the control connection's (RFC
/// 2428, 2).
pub(super) const fn needs_family(own: IpAddr) -> Reply {
    match own {
        IpAddr::V4(_) => NEEDS_IPV4,
        IpAddr::V6(_) => NEEDS_IPV6,
    }
}

/// Returns the reply to TYPE (4.1.2).
pub(super) const fn type_set(representation: Representation) -> Reply {
    match representation {
        Representation::Ascii => Reply(200, "Type set to A."),
        Representation::Image => Reply(200, "Type set to I."),
    }
}

/// Returns the reply to an error, unless the command requires another one.
pub(super) const fn error(code: ErrorCode) -> Reply {
    match code {
        ErrorCode::NoSuchDirectory => Reply(550, "No such directory."),
        ErrorCode::DirectoryUnreadable => Reply(550, "Cannot read directory."),
        ErrorCode::NoSuchFile => Reply(550, "No such file or directory."),
        ErrorCode::FileUnreadable => Reply(451, "Cannot read file."),
        ErrorCode::FileUnwritable => Reply(451, "Cannot write file."),
        ErrorCode::UploadDenied => Reply(550, "Permission denied: no right to upload."),
        ErrorCode::ChangeDenied => Reply(550, "Permission denied: no right to change files."),
        ErrorCode::ReadDenied => Reply(550, "Permission denied: no right to read."),
        ErrorCode::FileExists => Reply(553, "File exists."),
        ErrorCode::DirectoryExists => Reply(550, "Directory exists."),
        ErrorCode::InvalidName => Reply(553, "Invalid file name."),
        ErrorCode::HiddenDenied => {
            Reply(553, "Names beginning with a dot need the right 'hidden'.")
        }
        ErrorCode::NoSpace => Reply(452, "Insufficient storage space."),
        ErrorCode::OverQuota => Reply(552, "Quota exceeded."),
        ErrorCode::TooLarge => Reply(552, "File too large."),
        ErrorCode::NotEmpty => Reply(550, "Directory not empty."),
        ErrorCode::NotEmptyHidden => Reply(
            550,
            "Directory not empty: it has names beginning with a dot, which need the right 'hidden'.",
        ),
        ErrorCode::NotEmptyUnlisted => Reply(
            550,
            "Directory not empty: it has special files, broken links, unfinished uploads or \
             invalid names.",
        ),
        ErrorCode::CrossDevice => Reply(553, "Cannot rename across file systems."),
        ErrorCode::IntoItself => Reply(553, "Cannot move a directory into itself."),
        ErrorCode::OffsetBeyondEnd => BEYOND_END,
        ErrorCode::UploadTooShort => Reply(426, "Fewer bytes than announced by ALLO; not stored."),
        ErrorCode::FileShrank => Reply(451, "File was truncated during the transfer."),
        ErrorCode::NoPassivePort => Reply(425, "No passive port available; try again later."),
        ErrorCode::NoDataConnection => Reply(425, "Cannot open data connection."),
        ErrorCode::DataConnectionLost => Reply(426, "Data connection lost."),
        ErrorCode::DataConnectionIdle => Reply(426, "Data connection timed out."),
        ErrorCode::Aborted => ABORTED,
        ErrorCode::LoginBlocked => LOGIN_BLOCKED,
        ErrorCode::TooManySessions => {
            Reply(421, "Too many sessions of this user; try again later.")
        }
    }
}

/// Appends a reply of one line.
pub(super) fn append(out: &mut Vec<u8>, Reply(code, text): Reply) {
    line(out, format_args!("{code} {text}"));
}

/// Appends the reply to an error for lack of space, with the space that is left.
pub(super) fn append_no_space(out: &mut Vec<u8>, code: ErrorCode, left: u64) {
    let Reply(code, text) = error(code);
    line(out, format_args!("{code} {text} {left} bytes available."));
}

/// Appends the reply to PWD (5.4, appendix II).
pub(super) fn append_current_directory(out: &mut Vec<u8>, path: impl Display) {
    let path = quoted(path);
    line(
        out,
        format_args!("257 \"{path}\" is the current directory."),
    );
}

/// Appends the reply to MKD (5.4, appendix II).
pub(super) fn append_directory_created(out: &mut Vec<u8>, path: impl Display) {
    line(out, format_args!("257 \"{}\" created.", quoted(path)));
}

/// Appends the reply to CWD and CDUP.
pub(super) fn append_directory_changed(out: &mut Vec<u8>, path: impl Display) {
    let path = quoted(path);
    line(out, format_args!("250 Directory changed to \"{path}\"."));
}

/// Appends the reply to PASV (4.1.2).
pub(super) fn append_passive(out: &mut Vec<u8>, address: SocketAddrV4) {
    let [a, b, c, d] = address.ip().octets();
    let [high, low] = address.port().to_be_bytes();
    line(
        out,
        format_args!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})."),
    );
}

/// Appends the reply to EPSV (RFC 2428, 3).
pub(super) fn append_extended_passive(out: &mut Vec<u8>, port: u16) {
    line(
        out,
        format_args!("229 Entering Extended Passive Mode (|||{port}|)"),
    );
}

/// Appends the reply to REST (RFC 3659, 5.3).
pub(super) fn append_restarting(out: &mut Vec<u8>, offset: u64) {
    line(out, format_args!("350 Restarting at byte {offset}."));
}

/// Appends the first reply to RETR in type I. Clients parse the length in parentheses.
pub(super) fn append_sending(out: &mut Vec<u8>, length: u64) {
    line(out, format_args!("150 Sending file ({length} bytes)."));
}

/// Appends the first reply to STOU (RFC 1123, 4.1.2.9).
pub(super) fn append_receiving_as(out: &mut Vec<u8>, name: &str) {
    line(out, format_args!("150 FILE: {}", printable(name)));
}

/// Appends the last reply to STOU.
pub(super) fn append_stored_as(out: &mut Vec<u8>, name: &str) {
    let name = printable(name);
    line(
        out,
        format_args!("226 Transfer complete; file stored as {name}"),
    );
}

/// Appends the reply to SIZE (RFC 3659, 4.2), MDTM (RFC 3659, 3.2) or AVBL
/// (draft-peterson-streamlined-ftp-command-extensions, 4): a value.
pub(super) fn append_value(out: &mut Vec<u8>, value: impl Display) {
    line(out, format_args!("213 {value}"));
}

/// Appends the reply to MFMT (draft-somers-ftp-mfxx, 3.1).
pub(super) fn append_modified(out: &mut Vec<u8>, time: impl Display, path: &str) {
    line(out, format_args!("213 Modify={time}; {}", printable(path)));
}

/// Appends the reply to HASH for the bytes up to `end` (draft-bryan-ftpext-hash, 3.2).
pub(super) fn append_hash(out: &mut Vec<u8>, algorithm: &str, end: u64, digest: &[u8], path: &str) {
    let (digest, path) = (hex(digest), printable(path));
    line(out, format_args!("213 {algorithm} 0-{end} {digest} {path}"));
}

/// Appends the reply to XCRC and the like.
pub(super) fn append_digest(out: &mut Vec<u8>, digest: &[u8]) {
    line(out, format_args!("250 {}", hex(digest)));
}

/// Appends the reply to STAT during a transfer (4.1.3).
pub(super) fn append_progress(out: &mut Vec<u8>, bytes: u64) {
    line(
        out,
        format_args!("211 Transfer in progress: {bytes} bytes transferred."),
    );
}

/// Appends the reply to STAT without a path (4.1.3).
pub(super) fn append_status(
    out: &mut Vec<u8>,
    user: Option<&str>,
    peer: impl Display,
    is_ascii: bool,
    data_mode: Option<DataMode>,
) {
    line(
        out,
        format_args!("211-tidegate {}", env!("CARGO_PKG_VERSION")),
    );
    line(out, format_args!(" Connected from {peer}"));
    match user {
        Some(user) => line(out, format_args!(" Logged in as {}", printable(user))),
        None => line(out, " Not logged in"),
    }
    let kind = if is_ascii { 'A' } else { 'I' };
    line(out, format_args!(" Type {kind}, structure F, mode S"));
    let data = match data_mode {
        None => "No data connection",
        Some(DataMode::Passive) => "Passive data connection for the next transfer",
        Some(DataMode::Active(_)) => "Active data connection for the next transfer",
    };
    line(out, format_args!(" {data}"));
    line(out, "211 End");
}

/// Appends the start of the reply to STAT for a path; no line of the listing begins with a digit
/// (4.2).
pub(super) fn begin_status_listing(out: &mut Vec<u8>) {
    line(out, "213-Status:");
}

/// Appends the reply to MLST (RFC 3659, 7.2).
pub(super) fn append_entry_facts(
    out: &mut Vec<u8>,
    facts: MlstFacts,
    status: &FileStatus,
    rights: Rights,
    path: impl Display,
) {
    line(out, "250-Facts");
    out.push(b' ');
    append_facts(out, facts, status, rights);
    line(out, format_args!(" {}", printable(path)));
    line(out, "250 End");
}

/// Appends the reply to MLST for `/`, which is not a directory on disk.
pub(super) fn append_top_facts(out: &mut Vec<u8>, facts: MlstFacts) {
    let kind = if facts.kind { "type=dir;" } else { "" };
    let perm = if facts.perm { "perm=el;" } else { "" };
    line(out, "250-Facts");
    line(out, format_args!(" {kind}{perm} /"));
    line(out, "250 End");
}

/// Appends a line and CR LF.
pub(super) fn line(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}\r\n").expect("writing to a Vec cannot fail");
}

/// Returns a name with every control character replaced, so that it cannot end the line or begin a
/// Telnet command.
fn printable(name: impl Display) -> String {
    let mut name = name.to_string();
    if name.contains(char::is_control) {
        name = name.replace(char::is_control, "?");
    }
    name
}

/// Returns a printable name for use within quotes, which are doubled (appendix II).
fn quoted(name: impl Display) -> String {
    printable(name).replace('"', "\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_end_the_line_or_the_quotes() {
        let mut out = Vec::new();
        append_directory_created(&mut out, "/a\"b\r\n221 x\u{1b}\u{85}");
        assert_eq!(out, "257 \"/a\"\"b??221 x??\" created.\r\n".as_bytes());
    }
}

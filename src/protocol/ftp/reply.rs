//! Every reply that FTP can give, once: its code and its text, with the section that asks for it. RFC 959 where no other
//! is named.
//!
//! Must not know: when a reply is given.

use std::fmt;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddrV4};

use crate::domain::access::Rights;
use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, MlstFacts};
use crate::domain::request::Algorithm;
use crate::protocol::ftp::command::{VERBS, Verb};
use crate::protocol::ftp::listing::append_facts;

/// A reply of one line: its code and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply(pub u16, pub &'static str);

// The connection (5.4, connection establishment; 4.2.2, 421).

/// The greeting.
pub const READY: Reply = Reply(220, "tidegate is ready.");
/// No free place.
pub const FULL: Reply = Reply(421, "The server is full. Please try again later.");
/// To who comes from where too many logins have failed.
pub const TURNED_AWAY: Reply = Reply(421, "Too many failed logins. Please try again later.");
/// Silence.
pub const IDLE: Reply = Reply(421, "Idle for too long. Closing the control connection.");
/// The server stops.
pub const STOPPING: Reply = Reply(
    421,
    "The server is shutting down. Closing the control connection.",
);
/// The account was removed or changed by a reload.
pub const LOGIN_INVALID: Reply = Reply(
    421,
    "Your login is no longer valid. Closing the control connection.",
);
/// Too much that is no FTP before a login.
pub const NOT_FTP: Reply = Reply(
    421,
    "This is an FTP server. Closing the control connection.",
);

// Commands as such (4.2.2).

/// No command that there is; never the client's bytes back.
pub const UNKNOWN: Reply = Reply(500, "Unknown command. HELP lists them.");
/// A line of more than [`crate::limits::LINE_BYTES_MAX`] bytes.
pub const LINE_TOO_LONG: Reply = Reply(500, "That line is too long and was thrown away.");
/// A missing argument, or one too many.
pub const WRONG_ARGUMENT: Reply = Reply(
    501,
    "Wrong number of arguments. HELP and the command tell what it takes.",
);
/// A control character where a name is expected.
pub const CONTROL_CHARACTER: Reply =
    Reply(501, "Control characters cannot be part of an argument.");
/// No number, or one beyond 63 bits.
pub const BAD_NUMBER: Reply = Reply(501, "That is not a number of bytes.");
/// No time.
pub const BAD_TIME: Reply = Reply(
    501,
    "That is not a time. It is written YYYYMMDDHHMMSS, in UTC.",
);
/// No range.
pub const BAD_RANGE: Reply = Reply(501, "That is not a path in quotes and a range of bytes.");
/// Known, and not done.
pub const NOT_IMPLEMENTED: Reply = Reply(502, "That command is not implemented.");
/// A command that needs a login.
pub const LOG_IN_FIRST: Reply = Reply(530, "Please log in with USER and PASS first.");
/// Anything but ABOR, NOOP, QUIT, REIN, STAT and USER amid a transfer.
pub const BUSY: Reply = Reply(
    450,
    "A transfer is in progress. Please wait for its end, or say ABOR.",
);

// Login and logout (4.1.1).

/// USER, whoever it is.
pub const PASSWORD_PLEASE: Reply = Reply(331, "Please give the password.");
/// PASS, proved.
pub const LOGGED_IN: Reply = Reply(230, "You are logged in.");
/// PASS, not proved, whatever was wrong.
pub const LOGIN_FAILED: Reply = Reply(530, "Login failed.");
/// The last of too many failures.
pub const TOO_MANY_FAILURES: Reply = Reply(
    530,
    "Login failed, for too many times. Closing the control connection.",
);
/// PASS without USER.
pub const USER_FIRST: Reply = Reply(503, "Please give the name with USER first.");
/// PASS after a login.
pub const ALREADY_LOGGED_IN: Reply = Reply(503, "You are already logged in.");
/// ACCT.
pub const NO_ACCOUNTS: Reply = Reply(202, "No account is needed.");
/// REIN.
pub const NEW_USER: Reply = Reply(220, "You are logged out. Ready for a new user.");
/// QUIT.
pub const GOODBYE: Reply = Reply(221, "Goodbye.");

// Parameters of transfers (4.1.2).

/// TYPE A.
pub const TYPE_ASCII: Reply = Reply(200, "Type is A: line ends are converted.");
/// TYPE I or L 8.
pub const TYPE_IMAGE: Reply = Reply(200, "Type is I: bytes are sent as they are.");
/// Another type.
pub const TYPE_UNKNOWN: Reply = Reply(504, "Only the types A, I and L 8 are known.");
/// STRU F.
pub const STRUCTURE: Reply = Reply(200, "Structure is F.");
/// Another structure.
pub const STRUCTURE_UNKNOWN: Reply = Reply(504, "Only the structure F is known.");
/// MODE S.
pub const MODE: Reply = Reply(200, "Mode is S.");
/// Another mode.
pub const MODE_UNKNOWN: Reply = Reply(504, "Only the mode S is known.");
/// PORT and EPRT.
pub const PORT_TAKEN: Reply = Reply(200, "The server will connect to that address.");
/// PORT or EPRT of nothing that is an address.
pub const BAD_PORT: Reply = Reply(501, "That is not an address.");
/// PORT or EPRT to anybody else (RFC 2577, 3).
pub const FOREIGN_PORT: Reply = Reply(501, "The server connects only to the client's own address.");
/// PORT or EPRT to a port of the machine's own services (RFC 2577, 3).
pub const RESERVED_PORT: Reply = Reply(504, "The server connects only to ports from 1024 on.");
/// PORT or EPRT where the operator wants none.
pub const NO_ACTIVE: Reply = Reply(
    502,
    "The server connects to nobody. Please use passive mode: EPSV or PASV.",
);
/// PORT, EPRT or PASV after EPSV ALL (RFC 2428, 4).
pub const EPSV_ONLY: Reply = Reply(501, "After EPSV ALL there is only EPSV.");
/// EPSV ALL (RFC 2428, 4).
pub const EPSV_ALL: Reply = Reply(200, "From now on there is only EPSV.");
/// PASV over IPv6.
pub const PASV_NEEDS_IPV4: Reply = Reply(425, "PASV cannot tell an IPv6 address. Please use EPSV.");
const NEEDS_IPV4: Reply = Reply(522, "Network protocol not supported, use (1)");
const NEEDS_IPV6: Reply = Reply(522, "Network protocol not supported, use (2)");

// Transfers (4.1.3).

/// No PASV, EPSV, PORT or EPRT before.
pub const NO_DATA_ADDRESS: Reply = Reply(425, "Please say EPSV, PASV, EPRT or PORT first.");
/// A listing is sent.
pub const SENDING_LISTING: Reply = Reply(150, "Here comes the listing.");
/// A file with converted line ends is sent.
pub const SENDING_TEXT: Reply = Reply(150, "Here comes the file, with line ends converted.");
/// A file can come.
pub const RECEIVING: Reply = Reply(150, "Ready for the file.");
/// All was sent.
pub const SENT: Reply = Reply(226, "All of it was sent.");
/// All came and is kept.
pub const RECEIVED: Reply = Reply(226, "All of it has come, and is kept.");
/// ABOR amid a transfer: the first of two replies.
pub const ABORTED: Reply = Reply(426, "The transfer was aborted.");
/// ABOR amid a transfer: the second one.
pub const ABORT_DONE: Reply = Reply(226, "ABOR is done.");
/// ABOR with nothing to abort.
pub const NOTHING_TO_ABORT: Reply = Reply(225, "There is no transfer to abort.");
/// REST with TYPE A.
pub const REST_NEEDS_IMAGE: Reply = Reply(501, "Only transfers of type I can begin in the middle.");
/// STOU or APPE behind REST.
pub const REST_DOES_NOT_FIT: Reply =
    Reply(450, "This cannot begin in the middle. REST is forgotten.");
/// REST beyond a file's end.
pub const BEYOND_END: Reply = Reply(554, "The file does not have as many bytes.");
/// ALLO of what there is room for.
pub const ROOM_ENOUGH: Reply = Reply(202, "There is room; nothing needs to be reserved.");

// Files (4.1.3).

/// RNTO without RNFR.
pub const RNFR_FIRST: Reply = Reply(503, "Please name the file with RNFR first.");
/// RNFR of what is there.
pub const RNTO_PLEASE: Reply = Reply(350, "It is there. Please say RNTO and its new name.");
/// RNTO.
pub const RENAMED: Reply = Reply(250, "It has its new name.");
/// DELE.
pub const DELETED: Reply = Reply(250, "The file is deleted.");
/// RMD.
pub const DIRECTORY_REMOVED: Reply = Reply(250, "The directory is removed.");
/// MKD where a file has the name: of the replies for a name, only 550 is for MKD (RFC 959, 5.4).
pub const NAME_TAKEN: Reply = Reply(550, "A file has that name already.");
/// MKD where the name cannot be one, for the same reason.
pub const NO_NAME: Reply = Reply(550, "That is no name for a directory.");
/// What would change the granted directories themselves.
pub const TOP_IS_FIXED: Reply = Reply(550, "The directories in / are the operator's.");
/// SIZE with TYPE A, which would have to read the file (RFC 3659, 4.2).
pub const SIZE_NEEDS_IMAGE: Reply = Reply(550, "SIZE is known for type I only.");
/// SIZE, RETR and the like of a directory.
pub const NO_FILE: Reply = Reply(550, "That is a directory.");
/// MLSD of a file (RFC 3659, 7.2).
pub const NO_DIRECTORY: Reply = Reply(501, "That is not a directory.");
/// AVBL at the top.
pub const NO_SPACE_AT_TOP: Reply = Reply(
    550,
    "Space is counted in a directory, and / is none of its own.",
);

// The rest.

/// SYST (4.1.3).
pub const SYSTEM: Reply = Reply(215, "UNIX Type: L8");
/// NOOP.
pub const NOTHING: Reply = Reply(200, "Nothing was done.");
/// CLNT.
pub const NOTED: Reply = Reply(200, "Noted.");
/// HOST (RFC 7151, 3.2).
pub const HOST_READY: Reply = Reply(220, "tidegate is ready, whatever its name.");
/// HOST after USER (RFC 7151, 3.3).
pub const HOST_TOO_LATE: Reply = Reply(503, "HOST comes before USER.");
/// LANG (RFC 2640, 4.1).
pub const ENGLISH: Reply = Reply(200, "English it is.");
/// LANG of another language.
pub const ENGLISH_ONLY: Reply = Reply(504, "English only.");
/// OPTS UTF8 ON (RFC 2640, 2).
pub const UTF8_ON: Reply = Reply(200, "Names are UTF-8, always.");
/// OPTS UTF8 OFF.
pub const UTF8_STAYS: Reply = Reply(501, "Names are UTF-8, always.");
/// OPTS of anything without options (RFC 2389, 4).
pub const NO_OPTIONS: Reply = Reply(501, "That has no such options.");
/// OPTS MLST of no facts (RFC 3659, 7.9).
pub const BAD_FACTS: Reply = Reply(
    501,
    "MlstFacts are written one behind the other, each with a ; behind it.",
);
/// AUTH (RFC 2228, 3): there is no mechanism.
pub const NO_MECHANISM: Reply = Reply(504, "There is no TLS here yet, nor another mechanism.");
/// PBSZ and PROT (RFC 2228, 3).
pub const AUTH_FIRST: Reply = Reply(503, "This comes after AUTH, and there is no TLS here yet.");
/// SITE CHMOD.
pub const NO_MODES: Reply = Reply(
    502,
    "SITE CHMOD is not implemented: what may be done with a file follows from its directory.",
);
/// Another SITE.
pub const SITE_UNKNOWN: Reply = Reply(500, "Unknown SITE command. SITE HELP lists them.");

/// HELP of no command.
pub const HELP_UNKNOWN: Reply = Reply(501, "There is no such command. HELP lists them.");

/// EPRT or EPSV of a family that the control connection does not have (RFC 2428, 2): the one that it has.
pub const fn needs_family(own: IpAddr) -> Reply {
    match own {
        IpAddr::V4(_) => NEEDS_IPV4,
        IpAddr::V6(_) => NEEDS_IPV6,
    }
}

/// The reply to a refusal where the command adds nothing to it.
pub const fn refusal(refusal: ErrorCode) -> Reply {
    match refusal {
        ErrorCode::NoSuchDirectory => Reply(550, "No such directory."),
        ErrorCode::DirectoryUnreadable => Reply(550, "The directory cannot be read."),
        ErrorCode::NoSuchFile => Reply(550, "No such file."),
        ErrorCode::FileUnreadable => Reply(451, "The file cannot be read."),
        ErrorCode::FileUnwritable => Reply(451, "The file cannot be written."),
        ErrorCode::UploadDenied => Reply(550, "You may not upload to this directory."),
        ErrorCode::ChangeDenied => Reply(550, "You may not change what is in this directory."),
        ErrorCode::FileExists => Reply(553, "The file already exists."),
        ErrorCode::DirectoryExists => Reply(550, "The directory already exists."),
        ErrorCode::InvalidName => Reply(553, "That is not a valid file name."),
        ErrorCode::NoSpace => Reply(452, "There is not enough room for that file."),
        ErrorCode::OverQuota => Reply(552, "That is more than your quota allows."),
        ErrorCode::TooLarge => Reply(552, "The file is larger than the server takes."),
        ErrorCode::NotEmpty => Reply(550, "The directory is not empty."),
        ErrorCode::CrossDevice => Reply(553, "Nothing can be moved between these two directories."),
        ErrorCode::IntoItself => Reply(553, "A directory cannot be moved into itself."),
        ErrorCode::OffsetBeyondEnd => BEYOND_END,
        ErrorCode::FileShrank => Reply(451, "The file became shorter while it was sent."),
        ErrorCode::NoPassivePort => Reply(
            425,
            "No port became free for a data connection. Please try again.",
        ),
        ErrorCode::NoDataConnection => Reply(425, "The data connection could not be made."),
        ErrorCode::DataConnectionLost => Reply(426, "The data connection broke."),
        ErrorCode::DataConnectionIdle => Reply(426, "No data has moved for too long."),
        ErrorCode::Aborted => ABORTED,
        ErrorCode::LoginBlocked => TURNED_AWAY,
        ErrorCode::TooManySessions => {
            Reply(421, "You have too many sessions. Please try again later.")
        }
    }
}

/// Appends a reply of one line.
pub fn say(out: &mut Vec<u8>, Reply(code, text): Reply) {
    line(out, format_args!("{code} {text}"));
}

/// The reply to a refusal for want of room, with what there is.
pub fn no_room(out: &mut Vec<u8>, why: ErrorCode, left: u64) {
    let Reply(code, text) = refusal(why);
    line(out, format_args!("{code} {text} {left} bytes are left."));
}

/// PWD, MKD (5.4 and appendix II): a path in quotes.
pub fn path(out: &mut Vec<u8>, path: impl Display, is_new: bool) {
    let what = if is_new {
        "is made"
    } else {
        "is the current directory"
    };
    line(out, format_args!("257 \"{}\" {what}.", quoted(path)));
}

/// CWD, CDUP.
pub fn directory_changed(out: &mut Vec<u8>, path: impl Display) {
    line(out, format_args!("250 Now in \"{}\".", quoted(path)));
}

/// PASV (4.1.2).
pub fn passive(out: &mut Vec<u8>, address: SocketAddrV4) {
    let [a, b, c, d] = address.ip().octets();
    let [high, low] = address.port().to_be_bytes();
    line(
        out,
        format_args!("227 Entering Passive Mode ({a},{b},{c},{d},{high},{low})."),
    );
}

/// EPSV (RFC 2428, 3).
pub fn extended_passive(out: &mut Vec<u8>, port: u16) {
    line(
        out,
        format_args!("229 Entering Extended Passive Mode (|||{port}|)"),
    );
}

/// REST (RFC 3659, 5.3).
pub fn restarting(out: &mut Vec<u8>, from: u64) {
    line(
        out,
        format_args!("350 The next transfer begins behind byte {from}."),
    );
}

/// RETR of type I: how much comes stands where clients look for it.
pub fn sending(out: &mut Vec<u8>, length: u64) {
    line(
        out,
        format_args!("150 Here comes the file ({length} bytes)."),
    );
}

/// STOU (RFC 1123, 4.1.2.9).
pub fn receiving_as(out: &mut Vec<u8>, name: &str) {
    line(out, format_args!("150 FILE: {}", plain(name)));
}

/// STOU, when it is there.
pub fn received_as(out: &mut Vec<u8>, name: &str) {
    line(
        out,
        format_args!("226 All of it has come, and is kept as {}", plain(name)),
    );
}

/// SIZE (RFC 3659, 4.2), MDTM (3.2): one value. AVBL (draft-peterson-streamlined-ftp-command-extensions, 4) likewise.
pub fn value(out: &mut Vec<u8>, value: impl Display) {
    line(out, format_args!("213 {value}"));
}

/// MFMT (draft-somers-ftp-mfxx, 3.1).
pub fn modified(out: &mut Vec<u8>, time: impl Display, path: &str) {
    line(out, format_args!("213 Modify={time}; {}", plain(path)));
}

/// HASH (draft-bryan-ftpext-hash, 3.2).
pub fn hash(
    out: &mut Vec<u8>,
    algorithm: Algorithm,
    (from, end): (u64, u64),
    digest: &[u8],
    path: &str,
) {
    let (name, digest) = (algorithm_name(algorithm), hex(digest));
    line(
        out,
        format_args!("213 {name} {from}-{end} {digest} {}", plain(path)),
    );
}

/// XCRC and its like.
pub fn digest(out: &mut Vec<u8>, digest: &[u8]) {
    line(out, format_args!("250 {}", hex(digest)));
}

/// STAT amid a transfer (4.1.3).
pub fn progress(out: &mut Vec<u8>, moved: u64) {
    line(
        out,
        format_args!("211 A transfer is in progress: {moved} bytes so far."),
    );
}

/// STAT (4.1.3).
pub fn status(out: &mut Vec<u8>, user: Option<&str>, peer: impl Display, is_ascii: bool) {
    line(
        out,
        format_args!("211-tidegate {}", env!("CARGO_PKG_VERSION")),
    );
    line(out, format_args!(" Connected from {peer}"));
    match user {
        Some(user) => line(out, format_args!(" Logged in as {}", plain(user))),
        None => line(out, " Not logged in"),
    }
    let kind = if is_ascii { 'A' } else { 'I' };
    line(out, format_args!(" Type {kind}, structure F, mode S"));
    line(out, " No data connection");
    line(out, "211 End");
}

/// STAT of a path: what stands before the listing (4.2: lines between begin with no digit).
pub fn begin_listing(out: &mut Vec<u8>) {
    line(out, "213-Here comes the listing.");
}

/// STAT of a path: what stands behind it.
pub const LISTING_ENDS: Reply = Reply(213, "End");

/// MLST (RFC 3659, 7.2).
pub fn facts(
    out: &mut Vec<u8>,
    wanted: MlstFacts,
    found: &FileStatus,
    rights: Rights,
    path: impl Display,
) {
    line(out, "250-Facts");
    out.push(b' ');
    append_facts(out, wanted, found, rights);
    line(out, format_args!(" {}", plain(path)));
    line(out, "250 End");
}

/// MLST of the top, which is nothing on a disk.
pub fn facts_of_top(out: &mut Vec<u8>, wanted: MlstFacts) {
    let kind = if wanted.kind { "type=dir;" } else { "" };
    let perm = if wanted.perm { "perm=el;" } else { "" };
    line(out, "250-Facts");
    line(out, format_args!(" {kind}{perm} /"));
    line(out, "250 End");
}

/// OPTS MLST (RFC 3659, 7.9): the facts from now on.
pub fn facts_chosen(out: &mut Vec<u8>, wanted: MlstFacts) {
    let mut names = String::new();
    for (name, is_wanted) in fact_names(wanted) {
        if is_wanted {
            let _ = write!(names, "{name};");
        }
    }
    let blank = if names.is_empty() { "" } else { " " };
    line(out, format_args!("200 MLST OPTS{blank}{names}"));
}

/// OPTS HASH (draft-bryan-ftpext-hash, 3.3): the algorithm from now on.
pub fn algorithm_chosen(out: &mut Vec<u8>, algorithm: Algorithm) {
    line(out, format_args!("200 {}", algorithm_name(algorithm)));
}

/// FEAT (RFC 2389, 3.2).
pub fn features(out: &mut Vec<u8>, wanted: MlstFacts, algorithm: Algorithm) {
    line(out, "211-Features:");
    for feature in [
        "AVBL",
        "CLNT",
        "EPRT",
        "EPSV",
        "HOST",
        "LANG EN*",
        "MDTM",
        "MFMT",
        "REST STREAM",
        "SIZE",
        "TVFS",
        "UTF8",
        "XCRC",
        "XMD5",
        "XSHA1",
        "XSHA256",
        "XSHA512",
    ] {
        line(out, format_args!(" {feature}"));
    }
    let mut algorithms = String::new();
    for each in ALGORITHMS {
        let mark = if each == algorithm { "*" } else { "" };
        let _ = write!(algorithms, "{}{mark};", algorithm_name(each));
    }
    line(out, format_args!(" HASH {algorithms}"));
    let mut facts = String::new();
    for (name, is_wanted) in fact_names(wanted) {
        let mark = if is_wanted { "*" } else { "" };
        let _ = write!(facts, "{name}{mark};");
    }
    line(out, format_args!(" MLST {facts}"));
    line(out, "211 End");
}

/// HELP (4.1.3).
pub fn help(out: &mut Vec<u8>) {
    line(out, "214-These commands are known:");
    for verbs in VERBS.chunks(10) {
        let words: Vec<&str> = verbs.iter().map(|verb| verb.word).collect();
        line(out, format_args!(" {}", words.join(" ")));
    }
    line(out, "214 HELP and a command tells what it takes.");
}

/// HELP of a command.
pub fn help_of(out: &mut Vec<u8>, verb: &Verb) {
    let blank = if verb.argument.is_empty() { "" } else { " " };
    line(
        out,
        format_args!("214 {}{blank}{}", verb.word, verb.argument),
    );
}

/// SITE HELP.
pub fn help_of_site(out: &mut Vec<u8>) {
    line(out, "214-These SITE commands are known:");
    line(out, " HELP");
    line(out, "214 End");
}

/// The algorithms of HASH, the best first.
pub const ALGORITHMS: [Algorithm; 5] = [
    Algorithm::Sha512,
    Algorithm::Sha256,
    Algorithm::Sha1,
    Algorithm::Md5,
    Algorithm::Crc32,
];

/// An algorithm's name in HASH (the registry of draft-bryan-ftpext-hash).
pub fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha512 => "SHA-512",
        Algorithm::Sha256 => "SHA-256",
        Algorithm::Sha1 => "SHA-1",
        Algorithm::Md5 => "MD5",
        Algorithm::Crc32 => "CRC32",
    }
}

/// The facts' names, in the order in which FEAT has them, each with whether it is wanted.
pub fn fact_names(facts: MlstFacts) -> [(&'static str, bool); 5] {
    [
        ("type", facts.kind),
        ("perm", facts.perm),
        ("size", facts.size),
        ("modify", facts.modify),
        ("unique", facts.unique),
    ]
}

/// Appends a line and its end.
fn line(out: &mut Vec<u8>, text: impl Display) {
    write!(out, "{text}\r\n").expect("a Vec takes every byte");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A name of the client's that can end no line: whatever would, or would be telnet's, is a `?`.
fn plain(name: impl Display) -> String {
    let mut name = name.to_string();
    if name.contains(char::is_control) {
        name = name.replace(char::is_control, "?");
    }
    name
}

/// The same, within quotes: those in it are doubled (appendix II).
fn quoted(name: impl Display) -> String {
    plain(name).replace('"', "\"\"")
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reply(code, text) = self;
        write!(f, "{code} {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_no_line_and_no_quotes() {
        let mut out = Vec::new();
        path(&mut out, "/a\"b\r\n221 x\u{1b}\u{85}", true);
        assert_eq!(out, "257 \"/a\"\"b??221 x??\" is made.\r\n".as_bytes());
    }

    #[test]
    fn lines_between_the_first_and_the_last_begin_with_a_blank() {
        let facts = MlstFacts {
            kind: true,
            size: true,
            modify: true,
            perm: true,
            unique: false,
            of_top: false,
        };
        let mut out = Vec::new();
        features(&mut out, facts, Algorithm::Sha256);
        help(&mut out);
        status(&mut out, Some("221 me"), "127.0.0.1", true);
        facts_of_top(&mut out, facts);
        help_of_site(&mut out);
        let text = String::from_utf8(out).unwrap();
        let mut open: Option<&str> = None;
        for line in text.split_terminator("\r\n") {
            match open {
                None if line.as_bytes()[3] == b'-' => open = Some(&line[..3]),
                None => {}
                Some(code) if line.starts_with(&format!("{code} ")) => open = None,
                Some(_) => assert!(line.starts_with(' '), "{line}"),
            }
        }
        assert_eq!(open, None);
        assert!(text.contains("\r\n MLST type*;perm*;size*;modify*;unique;\r\n"));
        assert!(text.contains(" HASH SHA-512;SHA-256*;SHA-1;MD5;CRC32;\r\n"));
    }
}

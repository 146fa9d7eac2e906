//! The protocol as a value: bytes and facts go in, bytes and one wish come out.
//!
//! [`Session::step`] takes one [`Input`], appends its sentences to the buffer it is given and returns exactly one
//! [`Action`]. Every effect is asked for ([`Action::Request`]) and answered ([`Input::Response`]); whether at once or later
//! the session cannot tell.
//!
//! Must not know: descriptors, clocks, the file system, threads.

pub mod ftp;
pub mod line;
pub mod menu;

use crate::protocol::ftp::session::{Ftp, Settings};
use crate::protocol::menu::session::Menu;
use std::net::SocketAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::Access;
/// What a [`GrantedPath`] lies in, and what may be done there.
pub use crate::config::directories::{Grant, Rights};
use crate::limits::NAME_BYTES_MAX;

/// What a session is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// The connection stands; the first input, once.
    Begin,
    /// There is no room for this session; instead of `Begin`.
    ServerFull,
    /// Too many logins have failed lately from where this connection comes; instead of `Begin`.
    LoginBlocked,
    /// A line without its end, after [`Action::ReadLine`].
    Line(&'a [u8]),
    /// More than [`crate::limits::LINE_BYTES_MAX`] bytes came without a line end. Who wants to read on gets the next line: the
    /// rest of this one is thrown away.
    LineTooLong,
    /// The answer to the one open [`Action::Request`].
    Response(Response),
    /// What [`Action::Send`], [`Action::Receive`] or [`Action::Discard`] asked for is done: every byte is on its way, an
    /// incoming file is durable under its name, or why it is not. ConnectionKind a data connection also the client has seen the end, or
    /// the time for it is over, and it is closed. The one answer to [`Action::Abort`], too.
    TransferDone(Result<(), ErrorCode>),
    /// The answer to [`Action::Listen`]: the address to tell the client.
    Listening(Result<SocketAddr, ErrorCode>),
    /// The answer to [`Action::Connect`]: the data connection stands, or why it does not.
    DataConnected(Result<(), ErrorCode>),
    /// Nothing was moved for too long, or no login came in time; only while a line is awaited and nothing else.
    Idle,
    /// The server stops; only while a line is awaited and nothing else.
    Stopping,
}

/// The one wish of a step.
///
/// While a data connection is made or bytes move over it, lines are read all the same. The answer to such a line is
/// [`Action::ReadLine`], [`Action::Abort`], or an [`Action::Request`] of [`Request::Progress`] alone; what was begun goes on beside it.
#[derive(Debug)]
pub enum Action {
    /// The next line, please; and let what was begun go on.
    ReadLine,
    /// Put this to the house; nothing else happens before its answer.
    Request(Request),
    /// Send `length` bytes of what [`Response::Opened`] or [`Response::Listing`] opened, from byte `from` on.
    Send {
        /// On which of the two connections.
        over: ConnectionKind,
        /// What becomes of line ends on the way.
        representation: Representation,
        /// The first byte that is sent.
        from: u64,
        /// How many bytes are sent.
        length: u64,
    },
    /// Take `length` bytes, or all up to the end of the data connection, into what [`Response::Created`] created, make them durable
    /// and publish them.
    Receive {
        /// On which of the two connections.
        over: ConnectionKind,
        /// What becomes of line ends on the way.
        representation: Representation,
        /// How many bytes were announced; `None` only over a data connection.
        length: Option<u64>,
    },
    /// Take `length` bytes and throw them away.
    Discard {
        /// How many bytes were announced.
        length: u64,
    },
    /// An address at which this client alone is awaited, for one data connection, please; it may take as long as
    /// [`ErrorCode::NoPassivePort`] says. An earlier one is given back. Answered by [`Input::Listening`].
    Listen,
    /// Make the data connection. Answered by [`Input::DataConnected`].
    Connect(DataMode),
    /// Let go of the data connection, of the address where one is awaited, and of the transfer, whichever there are. If a
    /// connection is being made, [`Input::DataConnected`] with [`ErrorCode::Aborted`] is the answer. Else it is [`Input::TransferDone`] with
    /// that refusal, also where there was nothing to let go of; and with `Ok` where it came too late.
    Abort,
    /// Send what is owed, then close; a data connection at once.
    Close(CloseReason),
}

/// Why a connection ended; for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said goodbye.
    Quit,
    /// The client closed its sending half, and all it had asked for was done.
    ClientLeft,
    /// The connection was reset.
    Reset,
    /// Nothing was moved for too long, or no login came in time.
    Idle,
    /// Too many failed logins.
    LoginFailures,
    /// A line was too long.
    LineTooLong,
    /// The account was removed or changed.
    LoginRevoked,
    /// What follows a refused `PUT FILE` could not be told from commands.
    PutRefused,
    /// There was no room for the session.
    Full,
    /// The user has as many sessions as he may.
    TooManySessions,
    /// Too many logins had failed before.
    LoginBlocked,
    /// A transfer moved less than the operator's floor.
    TooSlow,
    /// The server stops.
    Stopping,
    /// The server stopped before the work was done.
    DrainTimeout,
    /// A file became shorter than what was announced of it.
    FileShrank,
    /// Sending failed for a reason that the log tells.
    SendFailed,
    /// Whoever it was spoke another protocol.
    NotFtp,
}

impl CloseReason {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            CloseReason::Quit => "quit",
            CloseReason::ClientLeft => "client-left",
            CloseReason::Reset => "reset",
            CloseReason::Idle => "idle",
            CloseReason::LoginFailures => "login-failures",
            CloseReason::LineTooLong => "line-too-long",
            CloseReason::LoginRevoked => "login-revoked",
            CloseReason::PutRefused => "put-refused",
            CloseReason::Full => "full",
            CloseReason::TooManySessions => "too-many-sessions",
            CloseReason::LoginBlocked => "turned-away",
            CloseReason::TooSlow => "too-slow",
            CloseReason::Stopping => "stopping",
            CloseReason::DrainTimeout => "cut-off",
            CloseReason::FileShrank => "file-shrank",
            CloseReason::SendFailed => "broken",
            CloseReason::NotFtp => "not-ftp",
        }
    }
}

/// Which connection a transfer goes over (RFC 959 has two; the menu has only the first).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// The one that the commands come on.
    Control,
    /// The one that [`Action::Connect`] made, for this transfer alone.
    Data,
}

/// How a data connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataMode {
    /// The client comes to the address of [`Input::Listening`].
    Passive,
    /// The server goes to this address, which the session has found to be the client's own.
    Active(SocketAddr),
}

/// What becomes of line ends on their way (RFC 959, 3.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// The bytes as they are.
    Image,
    /// CR LF on the wire, LF in the file: an LF without a CR before it gets one on its way out, and a CR LF becomes an LF on
    /// its way in. Offsets and lengths count bytes of the file.
    Ascii,
}

/// A place in what a user may see: a granted directory and a path below it, parts parted by one `/`, as the client
/// gave it and not checked in any way; empty for the granted directory itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedPath {
    /// The granted directory in which the path begins.
    pub grant: Arc<Grant>,
    /// The path below it.
    pub below: String,
}

/// Whether `name` can be one part of a path, and so whether a server may name a file so: the name stays in its folder, and
/// shows on a terminal as what it is. It is not empty, not led by a dot, without control characters (Unicode's Cc), without
/// `/`, and of at most [`NAME_BYTES_MAX`] bytes.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && !name.contains(|character: char| character == '/' || character.is_control())
}

/// What a listing tells of.
#[derive(Clone, Debug)]
pub enum ListingTarget {
    /// The granted directories themselves, which are what FTP shows as `/`; those of them that match, where there is a pattern
    /// (`glob`). One that is not there is left out.
    Top {
        /// Whose.
        access: Arc<Access>,
        /// Which of them.
        pattern: Option<String>,
    },
    /// The entries of a directory.
    Directory(GrantedPath),
    /// The entries of a directory; or a file, as the only entry; or, where neither is there and `glob` is set, what in the directory
    /// above matches the last part (`glob`), nothing included.
    Path {
        /// The directory, the file or the pattern.
        place: GrantedPath,
        /// What stands before the names of what is listed as a file or a match, in the form [`ListingFormat::Lines`].
        prefix: String,
        /// Whether the last part may be a pattern.
        glob: bool,
    },
}

/// In which form a listing is wanted; `menu_text` and `ftp_list` know how each looks. What the user may do with an entry shows in the
/// last two, so they are never shared by users with different rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListingFormat {
    /// The menu's: names on one line.
    Names,
    /// The menu's: an entry a line, for programs.
    Details,
    /// FTP's NLST: a name a line.
    Lines,
    /// FTP's LIST: as `ls -l` has it.
    Long,
    /// FTP's MLSD.
    Facts(Facts),
}

/// Which facts a client wants to see of each entry (RFC 3659, 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// `type`
    pub kind: bool,
    /// `size`
    pub size: bool,
    /// `modify`
    pub modify: bool,
    /// `perm`
    pub perm: bool,
    /// `unique`
    pub unique: bool,
    /// Not for the client to choose: the entries are granted directories themselves, which nobody may remove or rename.
    pub of_top: bool,
}

/// What is at a place, a regular file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content, in seconds since 1970.
    pub modified: i64,
    /// What it is known by as long as it is there, whatever its name: device and inode.
    pub identity: (u64, u64),
}

/// What an upload builds on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadBase {
    /// Nothing: what comes is the file.
    Nothing,
    /// So many first bytes of the file that is there ([`ErrorCode::OffsetBeyondEnd`] where it has less, or there is none).
    First(u64),
    /// The whole file that is there, if there is one.
    All,
}

/// How a checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-1 (FIPS 180-4), for clients that know no better.
    Sha1,
    /// MD5 (RFC 1321), for clients that know no better.
    Md5,
    /// CRC-32 as zip and Ethernet have it, four bytes, the highest first.
    Crc32,
}

/// What a session asks of the house.
#[derive(Debug)]
pub enum Request {
    /// Is there such a user? Where usernames are hidden the house says yes to every name.
    LookUpUser {
        /// As the client gave it.
        user: String,
    },
    /// Is this his password?
    Authenticate {
        /// As the client gave it.
        user: String,
        /// As the client gave it; wiped when dropped.
        password: Zeroizing<Vec<u8>>,
        /// Whether nobody is to learn from the time it takes if there is such a user: the dialect has asked for a password whoever
        /// it was.
        conceal: bool,
    },
    /// A listing, as text.
    List {
        /// Of what.
        listed: ListingTarget,
        /// How it is written.
        form: ListingFormat,
    },
    /// Open a file to read.
    OpenRead {
        /// The file.
        place: GrantedPath,
    },
    /// May a file of this name be made there?
    CheckUpload {
        /// The file to be.
        place: GrantedPath,
    },
    /// Is there room for an upload of this length, as far as can be known?
    CheckSpace {
        /// Where it would lie; without one the home's own file system counts.
        grant: Option<Arc<Grant>>,
        /// Announced bytes.
        length: u64,
    },
    /// Make ready to receive a file.
    Create {
        /// The file to be.
        place: GrantedPath,
        /// Announced bytes, if any were.
        length: Option<u64>,
        /// What they are put behind; anything but nothing replaces a file, and needs the right to.
        base: UploadBase,
    },
    /// Make ready to receive a file under a name that nobody has taken.
    CreateUnique {
        /// Where it will lie.
        directory: GrantedPath,
    },
    /// Make a directory.
    MakeDirectory {
        /// The directory to be.
        place: GrantedPath,
    },
    /// The checksum of a file, or of a part of it.
    Checksum {
        /// The file.
        place: GrantedPath,
        /// How it is made.
        algorithm: Algorithm,
        /// The first byte that counts.
        from: u64,
        /// The byte behind the last one that counts; `None` is the file's end.
        end: Option<u64>,
    },
    /// What is there? Where the user may not read, only a directory is found.
    Status {
        /// What is looked at, links within the granted directory followed.
        place: GrantedPath,
    },
    /// Give a file or a directory another name, also in another granted directory of the same file system. A file or a link
    /// that has the new name is replaced.
    Rename {
        /// As it is; never a granted directory itself.
        from: GrantedPath,
        /// As it is to be; never a granted directory itself.
        to: GrantedPath,
    },
    /// Remove a file or a link.
    Remove {
        /// The file.
        place: GrantedPath,
    },
    /// Remove an empty directory.
    RemoveDirectory {
        /// The directory; never a granted one itself.
        place: GrantedPath,
    },
    /// Set when a file or a directory was last changed.
    SetModified {
        /// What is set.
        place: GrantedPath,
        /// Seconds since 1970.
        modified: i64,
    },
    /// How many bytes can still be written there?
    Space {
        /// A directory, or a file in one.
        place: GrantedPath,
    },
    /// How much of his quotas has the user taken?
    Quota,
    /// How many bytes have moved over the data connection? Always answered at once.
    Progress,
}

/// What the house answers.
#[derive(Clone, Debug)]
pub enum Response {
    /// To `Account`: whether a password is worth asking for.
    UserLookedUp(bool),
    /// To `Verify`: what the user may do, or `None` for a wrong name or password.
    Authenticated(Option<Arc<Access>>),
    /// To `List`: the text of so many bytes waits to be sent; how many entries it tells of.
    Listing {
        /// Bytes of the text.
        length: u64,
        /// Entries in it.
        entries: usize,
    },
    /// To `OpenRead`: the file of so many bytes waits to be sent.
    Opened {
        /// Its size at this moment.
        length: u64,
    },
    /// To `Judge` and `Room`: nothing speaks against it now.
    Allowed,
    /// To `Create`: the bytes can come.
    Created,
    /// To `MakeDirectory`: it is there, and durable.
    DirectoryCreated,
    /// To `CreateUnique`: the bytes can come.
    CreatedUnique {
        /// The name of the file to be, a last part of a path.
        name: String,
    },
    /// To `Checksum`.
    Checksum {
        /// As many bytes as the algorithm makes.
        digest: Box<[u8]>,
        /// The byte behind the last one that was counted.
        end: u64,
    },
    /// To `Status`.
    Status(FileStatus),
    /// To `Rename`, `Remove`, `RemoveDirectory` and `SetModified`: it is so, and durable.
    Done,
    /// To `Space`: so many bytes.
    Space(u64),
    /// To `Quota`: the user's own, if he has one, then those of his directories.
    Quota(Vec<Quota>),
    /// To `Progress`: so many bytes.
    Progress(u64),
    /// To any. To `Account` and `Verify` it is the end: too many logins have failed before, or the login was right and its
    /// user has too many sessions.
    Refused(ErrorCode),
}

/// A bound on bytes, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The name of the directory that it bounds, or `None` for all together that the user may add files to.
    pub directory: Option<String>,
    /// Bytes that lie there or are on their way.
    pub bytes: u64,
    /// How many there may be.
    pub most: u64,
}

/// Why the house does not do what it was asked. Carries nothing of the client's; the dialects put it into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The directory does not exist, is no directory, or leads outside.
    NoSuchDirectory,
    /// The directory is there, and the server may not read it.
    DirectoryUnreadable,
    /// The file does not exist, is not a regular file, cannot be a name, or leads outside.
    NoSuchFile,
    /// The file is there, and the server may not read it, or reading failed.
    FileUnreadable,
    /// The server may not write there, or writing failed.
    FileUnwritable,
    /// No right to upload here.
    UploadDenied,
    /// The name is taken, and the user may not change it, or it is nothing that can be replaced.
    FileExists,
    /// A directory of that name is there.
    DirectoryExists,
    /// Not a name that a file can be given.
    InvalidName,
    /// No room.
    NoSpace,
    /// More than a quota allows.
    OverQuota,
    /// ConnectionKind the operator's limit for one upload.
    TooLarge,
    /// No right to change what is there: to rename, to remove, to set a time.
    ChangeDenied,
    /// The directory that is to be removed is not empty.
    NotEmpty,
    /// What is to be renamed would have to be copied: the two directories lie in different file systems.
    CrossDevice,
    /// A directory cannot be moved into itself.
    IntoItself,
    /// The file does not have as many bytes.
    OffsetBeyondEnd,
    /// The file became shorter while it was sent.
    FileShrank,
    /// No address for a data connection has become free within [`crate::limits::PASSIVE_PORT_TIMEOUT`].
    NoPassivePort,
    /// The data connection was not made: nobody came in time, or the client's side refused it.
    NoDataConnection,
    /// The data connection broke.
    DataConnectionLost,
    /// No byte has moved over the data connection for too long.
    DataConnectionIdle,
    /// The session has asked for an end ([`Action::Abort`]).
    Aborted,
    /// The user has as many sessions as he may.
    TooManySessions,
    /// Too many logins have failed lately, of this user from where he is, or from there.
    LoginBlocked,
}

/// The dialogue with one client: one of the dialects.
#[derive(Debug)]
pub enum Session {
    /// The menu, for people and programs with a socket.
    Menu(Menu),
    /// FTP, for every program that speaks it. Boxed, since it holds more and those who wait at the menu should not pay for that.
    Ftp(Box<Ftp>),
}

/// Which dialogue a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// [`Session::Menu`].
    Menu,
    /// [`Session::Ftp`].
    Ftp(Settings),
}

impl Dialect {
    /// A session with the client at this other end of a control connection; it waits for [`Input::Begin`].
    pub fn session(self, peer: SocketAddr) -> Session {
        match self {
            Dialect::Menu => Session::Menu(Menu::new()),
            Dialect::Ftp(settings) => Session::Ftp(Box::new(Ftp::new(settings, peer))),
        }
    }
}

impl Session {
    /// Takes one input, appends to `out` what is to be sent before anything else happens, and says what it wants.
    pub fn step(&mut self, input: Input<'_>, out: &mut Vec<u8>) -> Action {
        match self {
            Session::Menu(menu) => menu.step(input, out),
            Session::Ftp(ftp) => ftp.step(input, out),
        }
    }

    /// Tells a logged-in session after a reload what its user may do now, or `None` where the login no longer holds.
    /// It counts from the next command on.
    pub fn reloaded(&mut self, access: Option<Arc<Access>>) {
        match self {
            Session::Menu(menu) => menu.reloaded(access),
            Session::Ftp(ftp) => ftp.reloaded(access),
        }
    }

    /// Whether a login has been proved, even if it no longer holds.
    pub fn is_logged_in(&self) -> bool {
        match self {
            Session::Menu(menu) => menu.is_logged_in(),
            Session::Ftp(ftp) => ftp.is_logged_in(),
        }
    }

    /// Whether the client has said amid a transfer that it goes behind it.
    pub fn is_leaving(&self) -> bool {
        match self {
            Session::Menu(_) => false,
            Session::Ftp(ftp) => ftp.is_leaving(),
        }
    }

    /// What the logged-in user may do, as of the last reload; `None` before a login and after one that was revoked.
    pub fn access(&self) -> Option<&Arc<Access>> {
        match self {
            Session::Menu(menu) => menu.access(),
            Session::Ftp(ftp) => ftp.access(),
        }
    }
}

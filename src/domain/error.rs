//! The reasons why a request is refused and why a connection is closed.

/// The reason why a control connection was closed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent QUIT.
    Quit,
    /// The client closed its sending half, and all of its commands were answered.
    ClientLeft,
    /// The connection was reset.
    Reset,
    /// The idle or login timeout expired.
    Idle,
    /// Too many logins failed in this session.
    LoginFailures,
    /// A line exceeded the limit.
    LineTooLong,
    /// The account was removed or changed by a reload.
    LoginRevoked,
    /// `PUT FILE` was refused and its bytes would be parsed as commands.
    PutRefused,
    /// The server was full.
    Full,
    /// The user had too many sessions.
    TooManySessions,
    /// The login throttle blocked the client.
    LoginBlocked,
    /// The stall detector ended a transfer.
    TooSlow,
    /// The server shut down.
    Stopping,
    /// The server shut down before the session's work was done.
    DrainTimeout,
    /// A file became shorter than the announced length.
    FileShrank,
    /// Sending failed; the log has the error.
    SendFailed,
    /// The peer does not speak FTP.
    NotFtp,
}

impl CloseReason {
    /// The value of `reason=` in the log.
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

/// The reason why a request is refused or a transfer fails. Contains nothing that the client sent;
/// each dialect has its own text or reply for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The directory does not exist, is not a directory, or lies outside the granted directory.
    NoSuchDirectory,
    /// The directory exists, but the server cannot read it.
    DirectoryUnreadable,
    /// The file does not exist, is not a regular file, has an invalid name, or lies outside the
    /// granted directory.
    NoSuchFile,
    /// The file exists, but the server cannot open or read it.
    FileUnreadable,
    /// The server cannot write to the directory, or writing failed.
    FileUnwritable,
    /// The user has no right to upload to the directory.
    UploadDenied,
    /// The name is taken and the user may not replace the file, or it is not a file or link.
    FileExists,
    /// A directory of that name exists.
    DirectoryExists,
    /// Not a valid name for a new file.
    InvalidName,
    /// The new name begins with a dot, or the change would show such names, and the user has no
    /// right to them.
    HiddenDenied,
    /// The file system is full.
    NoSpace,
    /// The upload exceeds a quota.
    OverQuota,
    /// The upload exceeds the operator's limit for one file.
    TooLarge,
    /// The user has no right to rename, remove or modify in the directory.
    ChangeDenied,
    /// The operation would show content that the user has no right to read.
    ReadDenied,
    /// The directory to be removed is not empty.
    NotEmpty,
    /// The same, and the user sees nothing in it for lack of the right to names that begin with a
    /// dot.
    NotEmptyHidden,
    /// The same, and nothing in it is ever listed.
    NotEmptyUnlisted,
    /// The two directories of a rename lie in different file systems.
    CrossDevice,
    /// A directory cannot be moved into itself.
    IntoItself,
    /// The file is shorter than the requested offset.
    OffsetBeyondEnd,
    /// The client sent fewer bytes than it had announced.
    UploadTooShort,
    /// The file became shorter during the transfer.
    FileShrank,
    /// No passive port became free within
    /// [`PASSIVE_PORT_TIMEOUT`](crate::limits::PASSIVE_PORT_TIMEOUT).
    NoPassivePort,
    /// The data connection was not established in time, or was refused by the client.
    NoDataConnection,
    /// The data connection was lost.
    DataConnectionLost,
    /// No byte was moved over the data connection for too long.
    DataConnectionIdle,
    /// The session asked for the end of the transfer.
    Aborted,
    /// The user has too many sessions.
    TooManySessions,
    /// The login throttle blocks the client's address, for this user or for all.
    LoginBlocked,
}

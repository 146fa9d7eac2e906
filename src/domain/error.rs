//! Why a request is refused and why a connection ends.

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

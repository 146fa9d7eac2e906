//! Requests from a session to the server's services, and the responses.
//!
//! A new operation begins here: a variant of [`Request`], and of [`Response`] where none fits.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;

/// The existing bytes to which an upload adds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadBase {
    /// None: the upload is the whole file.
    Empty,
    /// This many leading bytes of the existing file. [`ErrorCode::OffsetBeyondEnd`] if it is
    /// shorter or missing.
    Prefix(u64),
    /// The whole existing file, if there is one.
    Whole,
}

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-1 (FIPS 180-4), for older clients.
    Sha1,
    /// MD5 (RFC 1321), for older clients.
    Md5,
    /// CRC-32 as in zip and Ethernet: four bytes, most significant first.
    Crc32,
}

/// A request from a session to the services. A session has at most one open.
#[derive(Debug)]
pub enum Request {
    /// Looks up a username. Always succeeds where the operator hides usernames.
    LookUpUser {
        /// The name as the client sent it.
        user: String,
    },
    /// Verifies a password.
    Authenticate {
        /// The name as the client sent it.
        user: String,
        /// The password as the client sent it; wiped when dropped.
        password: Zeroizing<Vec<u8>>,
        /// Whether an unknown user has to take as long as a wrong password, because the dialect
        /// asks for a password before it looks up the user.
        conceal_user: bool,
    },
    /// Formats a listing.
    List {
        /// The directory, file or pattern.
        target: ListingTarget,
        /// The format of the entries.
        format: ListingFormat,
    },
    /// Opens a file for reading.
    OpenRead {
        /// The file.
        path: GrantedPath,
    },
    /// Checks directory, right and name of an upload before its length is known.
    CheckUpload {
        /// The file to be created.
        path: GrantedPath,
    },
    /// Checks that there is room for an upload, as far as this can be known in advance.
    CheckSpace {
        /// The directory of the upload; without one the file system of the home is checked.
        grant: Option<Arc<Grant>>,
        /// The announced length in bytes.
        length: u64,
    },
    /// Creates a staged upload.
    Create {
        /// The file to be created or replaced.
        path: GrantedPath,
        /// The announced length in bytes, if there is one.
        length: Option<u64>,
        /// The existing bytes to keep. Anything but [`UploadBase::Empty`] replaces a file and needs
        /// the rights to change and to read it.
        base: UploadBase,
    },
    /// Creates a staged upload under an unused name that the server chooses.
    CreateUnique {
        /// The directory of the new file.
        directory: GrantedPath,
    },
    /// Creates a directory.
    MakeDirectory {
        /// The directory to be created.
        path: GrantedPath,
    },
    /// Computes the checksum of a file or of a byte range.
    Checksum {
        /// The file.
        path: GrantedPath,
        /// The algorithm.
        algorithm: Algorithm,
        /// The first byte of the range.
        start: u64,
        /// One past the last byte of the range; `None` is the end of the file.
        end: Option<u64>,
    },
    /// Reads the status of a file or directory. Without the read right only a directory is found.
    Status {
        /// The file or directory; links inside the granted directory are followed.
        path: GrantedPath,
    },
    /// Renames a file or directory, within one file system. An existing file or link is replaced.
    /// To leave a directory, the user needs the right to read there.
    Rename {
        /// The current path; never a granted directory itself.
        from: GrantedPath,
        /// The new path; never a granted directory itself.
        to: GrantedPath,
    },
    /// Removes a file or link.
    Remove {
        /// The file.
        path: GrantedPath,
    },
    /// Removes an empty directory.
    RemoveDirectory {
        /// The directory; never a granted directory itself.
        path: GrantedPath,
    },
    /// Sets the modification time of a file or directory.
    SetModified {
        /// The file or directory.
        path: GrantedPath,
        /// The new time in seconds since 1970.
        modified: i64,
    },
    /// Returns the number of bytes that can still be written.
    Space {
        /// A directory, or a file in one.
        path: GrantedPath,
    },
    /// Returns the usage of the user's quotas.
    Quota,
}

impl Request {
    /// Whether the client may cancel the request: all but those of a login. A change that has begun
    /// is completed nevertheless.
    pub fn can_be_cancelled(&self) -> bool {
        !matches!(
            self,
            Request::LookUpUser { .. } | Request::Authenticate { .. }
        )
    }
}

/// A response of the services to the open [`Request`].
#[derive(Clone, Debug)]
pub enum Response {
    /// To [`Request::LookUpUser`]: whether to ask for a password.
    UserLookedUp(bool),
    /// To [`Request::Authenticate`]: the user's access, or `None` for a wrong name or password.
    Authenticated(Option<Arc<Access>>),
    /// To [`Request::List`]: the listing is ready to be sent.
    Listing {
        /// Bytes of the formatted listing.
        length: u64,
        /// Number of entries.
        entries: usize,
    },
    /// To [`Request::OpenRead`]: the file is ready to be sent.
    Opened {
        /// Its size in bytes when it was opened.
        length: u64,
    },
    /// To [`Request::CheckUpload`] and [`Request::CheckSpace`]: no objection at the moment.
    Allowed,
    /// To [`Request::Create`]: the upload can begin.
    Created,
    /// To [`Request::CreateUnique`]: the upload can begin.
    CreatedUnique {
        /// The chosen name, without its directory.
        name: String,
    },
    /// To [`Request::MakeDirectory`]: the directory exists and is durable.
    DirectoryCreated,
    /// To [`Request::Checksum`].
    Checksum {
        /// The digest; its length depends on the algorithm.
        digest: Box<[u8]>,
        /// One past the last byte that was read.
        end: u64,
    },
    /// To [`Request::Status`].
    Status(FileStatus),
    /// To [`Request::Rename`], [`Request::Remove`] and [`Request::RemoveDirectory`]: the change is
    /// durable.
    Done,
    /// To [`Request::SetModified`]: the time that the file system has stored, in seconds since
    /// 1970. It may have rounded or limited the requested one.
    Modified(i64),
    /// To [`Request::Space`]: bytes left; `u64::MAX` if unknown or unlimited.
    Space(u64),
    /// To [`Request::Quota`]: the user's own quota first, if there is one, then those of
    /// directories.
    Quota(Vec<QuotaUsage>),
    /// To any request. After [`Request::LookUpUser`] and [`Request::Authenticate`] the session
    /// ends: the login is blocked, or the user has too many sessions.
    Refused(ErrorCode),
}

/// A quota and its usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The directory that is limited, or `None` for all directories to which the user may add
    /// files.
    pub directory: Option<String>,
    /// Bytes stored or reserved by uploads in progress.
    pub used: u64,
    /// The limit in bytes.
    pub limit: u64,
    /// Files and directories, and their limit, if there is one.
    pub files: Option<(u64, u64)>,
}

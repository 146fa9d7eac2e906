//! What a session asks of the server, and the results.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::domain::access::Access;
use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::listing::{FileStatus, ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;

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

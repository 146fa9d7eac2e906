//! Listings: their targets, formats and entries.

use std::sync::Arc;

use crate::domain::access::{Access, Rights};
use crate::domain::path::GrantedPath;

/// The target of a listing.
#[derive(Clone, Debug)]
pub enum ListingTarget {
    /// The granted directories, which FTP shows as `/`. A directory that does not exist is left
    /// out.
    Top {
        /// The user's access.
        access: Arc<Access>,
        /// A glob pattern that the names have to match.
        pattern: Option<String>,
    },
    /// The entries of a directory.
    Directory(GrantedPath),
    /// The entries of a directory; or a single file; or, if neither exists and `glob` is set, the
    /// entries of the parent directory that match the last component, possibly none.
    Path {
        /// The directory, file or pattern.
        path: GrantedPath,
        /// A prefix for the names of a file or of matches, in [`ListingFormat::Lines`] only.
        prefix: String,
        /// Whether the last component may be a pattern.
        glob: bool,
    },
}

/// The format of a listing. [`ListingFormat::Long`] and [`ListingFormat::Facts`] show what the user
/// may do with an entry, so they must not be shared by users with different rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListingFormat {
    /// The menu's `SHOW DIRECTORY`: names on one line.
    Names,
    /// The menu's `SHOW DETAILS`: one entry per line, for programs.
    Details,
    /// FTP's NLST: one name per line.
    Lines,
    /// FTP's LIST: as `ls -l`.
    Long,
    /// FTP's MLSD.
    Facts(MlstFacts),
}

impl ListingFormat {
    /// Whether an entry can be formatted from its name and kind alone.
    pub fn needs_only_names(self) -> bool {
        matches!(self, ListingFormat::Names | ListingFormat::Lines)
    }
}

/// The facts that a client wants to see of each entry (RFC 3659, 7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MlstFacts {
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
    /// Set by the session, not by the client: the entries are granted directories, which cannot be
    /// removed or renamed.
    pub of_top: bool,
}

/// The status of a regular file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Size in bytes.
    pub size: u64,
    /// Last modification of the content, in seconds since 1970.
    pub modified: i64,
    /// Device and inode.
    pub identity: (u64, u64),
}

/// One entry of a listing, as storage finds it and the protocol formats it.
#[derive(Clone, Copy, Debug)]
pub struct ListingEntry<'a> {
    /// Prepended to the name in [`ListingFormat::Lines`]; other formats ignore it.
    pub prefix: &'a str,
    /// A name for which [`is_name`](crate::domain::path::is_name) holds.
    pub name: &'a str,
    /// The status. Only `is_directory` is valid if the format
    /// [needs only names](ListingFormat::needs_only_names).
    pub status: FileStatus,
    /// The rights of the grant in which the entry lies.
    pub rights: Rights,
}

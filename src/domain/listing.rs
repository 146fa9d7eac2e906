//! What is listed and how.

use std::sync::Arc;

use crate::domain::access::Access;
use crate::domain::path::GrantedPath;

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

//! The file `Directories`: a grant a line, `USER:DIRECTORY:RIGHTS[:PATH]`, and who may see what.

use std::path::PathBuf;

/// What a user may do in a directory. `change` contains what `upload` allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// List and download.
    pub read: bool,
    /// Add new files.
    pub upload: bool,
    /// Add and replace files.
    pub change: bool,
}

impl Rights {
    /// Whether new files may be added.
    pub fn may_add(self) -> bool {
        self.upload || self.change
    }
}

/// One directory that a user may see.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name that the user sees.
    pub name: String,
    /// What he may do there.
    pub rights: Rights,
    /// Where it lies: the path as the server opens it.
    pub path: PathBuf,
}

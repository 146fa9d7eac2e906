//! The amounts that quotas count.

use crate::kernel::{FileKind, Status};

/// The amounts that a quota counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageUse {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Regular files, directories and symbolic links.
    pub files: u64,
}

impl StorageUse {
    /// One file of this size.
    pub fn file(bytes: u64) -> StorageUse {
        StorageUse { bytes, files: 1 }
    }

    /// The amounts of a single name, without the names below it.
    pub fn of(found: Option<Status>) -> StorageUse {
        match found {
            Some(found) if found.kind == FileKind::File => StorageUse::file(found.size),
            Some(found) if found.kind != FileKind::Other => StorageUse::file(0),
            _ => StorageUse::default(),
        }
    }

    /// The sum of both.
    pub fn plus(self, other: StorageUse) -> StorageUse {
        StorageUse {
            bytes: self.bytes.saturating_add(other.bytes),
            files: self.files.saturating_add(other.files),
        }
    }

    /// The part beyond the other, in each number.
    pub fn minus(self, other: StorageUse) -> StorageUse {
        StorageUse {
            bytes: self.bytes.saturating_sub(other.bytes),
            files: self.files.saturating_sub(other.files),
        }
    }

    /// The larger of both, in each number.
    pub fn max(self, other: StorageUse) -> StorageUse {
        StorageUse {
            bytes: self.bytes.max(other.bytes),
            files: self.files.max(other.files),
        }
    }
}

//! Grants and rights.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::byte_size::ByteSize;

/// What one user may access. Created at a login, shared by all sessions of the user, and replaced by
/// a reload.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// The user's name.
    pub user: String,
    /// The granted directories, each name once, in the order of the file `Directories`.
    pub grants: Vec<Arc<Grant>>,
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

/// What a user may do in a directory, and how much. `change` contains what `upload` allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// List and download.
    pub read: bool,
    /// Add new files.
    pub upload: bool,
    /// Add, replace, rename and delete.
    pub change: bool,
    /// Bytes that the directory may hold where this user adds to it, whoever put them there; `None` is no limit.
    pub quota: Option<u64>,
}

impl Rights {
    /// Whether new files may be added.
    pub fn may_add(self) -> bool {
        self.upload || self.change
    }
}

/// As the file has them: `read,upload,quota=10G`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.read, "read"),
            (self.upload, "upload"),
            (self.change, "change"),
        ];
        let mut names = names.iter().filter(|(has, _)| *has).map(|(_, name)| name);
        if let Some(first) = names.next() {
            f.write_str(first)?;
        }
        names.try_for_each(|name| write!(f, ",{name}"))?;
        match self.quota {
            None => Ok(()),
            Some(quota) => write!(f, ",quota={}", ByteSize(quota)),
        }
    }
}

/// At least one of `read`, `upload`, `change`, and `quota=BYTES` if there is to be a limit, each once, parted by `,`; else what is
/// wrong.
impl FromStr for Rights {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Rights, &'static str> {
        let mut rights = Rights::default();
        for name in text.split(',') {
            let right = match name {
                "read" => &mut rights.read,
                "upload" => &mut rights.upload,
                "change" => &mut rights.change,
                "" => return Err("a missing right"),
                limit => {
                    let quota = limit.strip_prefix("quota=").ok_or("an unknown right")?;
                    if rights
                        .quota
                        .replace(ByteSize::parse_positive(quota)?)
                        .is_some()
                    {
                        return Err("a limit twice");
                    }
                    continue;
                }
            };
            if std::mem::replace(right, true) {
                return Err("a right twice");
            }
        }
        match rights.read || rights.may_add() {
            true => Ok(rights),
            false => Err("no right"),
        }
    }
}

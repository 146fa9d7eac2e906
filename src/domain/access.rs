//! Access of a user: grants and rights.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::domain::quota::Quota;
use crate::domain::suggestion::Suggestion;

/// The grants of one user. Created at a login, shared by all sessions of the user, and replaced
/// by a reload.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    /// The user's name.
    pub user: String,
    /// The granted directories, each name once, in the order of the file `Directories`.
    pub grants: Vec<Arc<Grant>>,
}

impl Access {
    /// Returns the grant of this name.
    pub fn grant(&self, name: &str) -> Option<&Arc<Grant>> {
        self.grants.iter().find(|grant| grant.name == name)
    }

    /// Returns whether the user may add files to any directory.
    pub fn may_add(&self) -> bool {
        self.grants.iter().any(|grant| grant.rights.may_add())
    }
}

/// A directory granted to a user.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The name that the user sees.
    pub name: String,
    /// The user's rights in the directory and below it.
    pub rights: Rights,
    /// The path of the directory as the server opens it.
    pub path: PathBuf,
}

/// The rights in a granted directory. `change` includes what `upload` allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// List and download.
    pub read: bool,
    /// Add new files.
    pub upload: bool,
    /// Add, replace, rename and delete.
    pub change: bool,
    /// The other rights apply to names that begin with a dot too.
    pub hidden: bool,
    /// Maximum content of the directory, files of other users included, when this user adds to
    /// it; `None` is unlimited.
    pub quota: Option<Quota>,
}

impl Rights {
    /// Describes a list of rights, for messages.
    pub const EXPECTED: &str = "a list of read, upload, change, hidden, quota=SIZE";

    /// Returns whether new files may be added.
    pub fn may_add(self) -> bool {
        self.upload || self.change
    }
}

/// Formats the rights as in `Directories`: `read,upload,quota=10G`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (self.read, "read"),
            (self.upload, "upload"),
            (self.change, "change"),
            (self.hidden, "hidden"),
        ];
        let mut names = names.iter().filter(|(has, _)| *has).map(|(_, name)| name);
        if let Some(first) = names.next() {
            f.write_str(first)?;
        }
        names.try_for_each(|name| write!(f, ",{name}"))?;
        match self.quota {
            None => Ok(()),
            Some(quota) => write!(f, ",quota={quota}"),
        }
    }
}

/// Parses at least one of `read`, `upload`, `change`, and optionally `hidden` and `quota=SIZE` or
/// each at most once, separated by `,`. The error names the fault.
impl FromStr for Rights {
    type Err = String;

    fn from_str(text: &str) -> Result<Rights, String> {
        let mut rights = Rights::default();
        for word in text.split(',') {
            let shown = word.escape_debug();
            let is_repeated = match word {
                "read" => std::mem::replace(&mut rights.read, true),
                "upload" => std::mem::replace(&mut rights.upload, true),
                "change" => std::mem::replace(&mut rights.change, true),
                "hidden" => std::mem::replace(&mut rights.hidden, true),
                "" => return Err("a right is missing".into()),
                _ => {
                    let quota = word.strip_prefix("quota=");
                    let quota = quota.ok_or_else(|| unknown_right(word))?;
                    let quota = quota
                        .parse()
                        .map_err(|_| format!("invalid quota '{shown}'"))?;
                    rights.quota.replace(quota).is_some()
                }
            };
            if is_repeated {
                return Err(format!("repeated right '{shown}'"));
            }
        }
        match rights.read || rights.may_add() {
            true => Ok(rights),
            false if rights.hidden => Err("'hidden' needs read, upload or change".into()),
            false => Err("no right is given".into()),
        }
    }
}

/// Describes an unknown right. Whether only the letter case is wrong shows in [`Rights::EXPECTED`].
fn unknown_right(word: &str) -> String {
    const NAMES: [&str; 4] = ["read", "upload", "change", "hidden"];
    if word.contains('#') {
        let word = word.escape_debug();
        return format!("unknown right '{word}' (write a comment on a line of its own)");
    }
    let names = NAMES.into_iter();
    let names = names.filter(|name| !name.eq_ignore_ascii_case(word));
    let suggestion = Suggestion::new(word, names);
    format!("unknown right '{}'{suggestion}", word.escape_debug())
}

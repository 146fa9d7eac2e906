//! From root to the user that serves.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd;
use nix::unistd::{Gid, Uid, getegid, geteuid, initgroups, setgroups, setresgid, setresuid};

/// The user that a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    name: Option<String>,
    changed: bool,
}

impl User {
    /// Whether it is root.
    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Whether the process was root's before.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }
}

/// The name, where the system knows one, and the number.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// Where the process is root's, makes it that of the user with this name, or, without one, of the owner of `home`, for
/// good. Where it is not, it stays what it is. Before any thread is started.
///
/// # Errors
/// Where there is no such user, or the process may not become him.
pub fn become_user(name: Option<&str>, home: &Path) -> io::Result<User> {
    let now = geteuid();
    let asked = name.map(find).transpose()?;
    let (uid, gid, name) = match asked {
        Some(user) => (user.uid, user.gid, Some(user.name)),
        None if now.is_root() => {
            let owner = fs::metadata(home)?;
            let uid = Uid::from_raw(owner.uid());
            match unistd::User::from_uid(uid)? {
                Some(user) => (uid, user.gid, Some(user.name)),
                None => (uid, Gid::from_raw(owner.gid()), None),
            }
        }
        None => {
            let name = unistd::User::from_uid(now)?.map(|user| user.name);
            (now, getegid(), name)
        }
    };
    let changed = uid != now;
    let user = User { uid, name, changed };
    if !changed {
        return Ok(user);
    }
    let cannot =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot become {user}: {error}"));
    change(&user, gid).map_err(cannot)?;
    Ok(user)
}

fn find(name: &str) -> io::Result<unistd::User> {
    unistd::User::from_name(name)?
        .ok_or_else(|| io::Error::other(format!("there is no user '{name}' on this system")))
}

/// Groups first: afterwards there is no power left to change them.
fn change(user: &User, gid: Gid) -> io::Result<()> {
    match &user.name {
        Some(name) => initgroups(&CString::new(name.as_str())?, gid)?,
        None => setgroups(&[])?,
    }
    setresgid(gid, gid, gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    Ok(())
}

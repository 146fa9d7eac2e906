//! Changing from root to the user of the server.

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};
use nix::unistd;
use nix::unistd::{Gid, Uid, getegid, geteuid, initgroups, setgroups, setresgid, setresuid};

/// The user of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessUser {
    uid: Uid,
    name: Option<String>,
    changed: bool,
}

impl ProcessUser {
    /// Whether the user is root.
    pub fn is_root(&self) -> bool {
        self.uid.is_root()
    }

    /// Whether the process changed from root to this user.
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// The user id.
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }
}

/// Formats the name, if the system knows one, and the user id.
impl fmt::Display for ProcessUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// Sets the umask of the process: `mask`, or else the inherited one with write access of group and
/// others removed. No other thread may run.
pub fn set_umask(mask: Option<u32>) {
    let inherited = umask(Mode::from_bits_truncate(0o777));
    umask(match mask {
        Some(mask) => Mode::from_bits_truncate(mask),
        None => inherited | Mode::S_IWGRP | Mode::S_IWOTH,
    });
}

/// Changes the process irreversibly to the user `name`, or to the owner of `home` if the process is
/// root and no name is given. Without a name, a process that is not root stays as it is. No other
/// thread may run.
///
/// # Errors
/// If there is no such user, or the process may not change to it.
pub fn become_user(name: Option<&str>, home: &Path) -> io::Result<ProcessUser> {
    let current = geteuid();
    let requested = name.map(find_user).transpose()?;
    let (uid, gid, name) = match requested {
        Some(user) => (user.uid, user.gid, Some(user.name)),
        None if current.is_root() => {
            let owner = fs::metadata(home)?;
            let uid = Uid::from_raw(owner.uid());
            match unistd::User::from_uid(uid)? {
                Some(user) => (uid, user.gid, Some(user.name)),
                None => (uid, Gid::from_raw(owner.gid()), None),
            }
        }
        None => {
            let name = unistd::User::from_uid(current)?.map(|user| user.name);
            (current, getegid(), name)
        }
    };
    let changed = uid != current;
    let user = ProcessUser { uid, name, changed };
    if changed {
        set_ids(&user, gid).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot change to {user}: {error}"))
        })?;
    }
    Ok(user)
}

fn find_user(name: &str) -> io::Result<unistd::User> {
    unistd::User::from_name(name)?
        .ok_or_else(|| io::Error::other(format!("there is no user '{name}' on this system")))
}

/// Sets the groups first, because the process cannot change them afterwards.
fn set_ids(user: &ProcessUser, gid: Gid) -> io::Result<()> {
    match &user.name {
        Some(name) => initgroups(&CString::new(name.as_str())?, gid)?,
        None => setgroups(&[])?,
    }
    setresgid(gid, gid, gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    Ok(())
}

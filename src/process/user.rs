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

/// Changes the process irreversibly to the user `requested`, or to the owner of `home` if the
/// process is root and no user is requested. Otherwise the process stays as it is. `requested` is a
/// name, or a number with an optional group, as in `1000:1000`. No other thread may run.
///
/// # Errors
/// If there is no such user, or the process may not change to it.
pub fn become_user(requested: Option<&str>, home: &Path) -> io::Result<ProcessUser> {
    let current = geteuid();
    let (uid, gid, name) = match requested {
        Some(requested) => find_user(requested)?,
        None if current.is_root() => {
            let owner = fs::metadata(home)?;
            let uid = Uid::from_raw(owner.uid());
            match entry_of(uid) {
                Some(user) => (uid, user.gid, Some(user.name)),
                None => (uid, Gid::from_raw(owner.gid()), None),
            }
        }
        None => (current, getegid(), entry_of(current).map(|user| user.name)),
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

/// Returns the entry of the user database, which may be missing as a whole, as in a container.
fn entry_of(uid: Uid) -> Option<unistd::User> {
    unistd::User::from_uid(uid).ok().flatten()
}

/// Finds a user by name or by `UID` or `UID:GID`. A number without an entry and without a group
/// gets the group of the same number.
fn find_user(requested: &str) -> io::Result<(Uid, Gid, Option<String>)> {
    // A name may consist of digits.
    let named = unistd::User::from_name(requested);
    if let Ok(Some(user)) = named {
        return Ok((user.uid, user.gid, Some(user.name)));
    }
    let (uid, gid) = requested
        .split_once(':')
        .map_or((requested, None), |(uid, gid)| (uid, Some(gid)));
    let Some((uid, gid)) = parse_id(uid).zip(gid.map_or(Some(None), |gid| parse_id(gid).map(Some)))
    else {
        return Err(match named {
            Err(error) => io::Error::new(
                io::Error::from(error).kind(),
                format!(
                    "cannot look up the user '{requested}': {error}; a number needs no look-up"
                ),
            ),
            Ok(_) => io::Error::other(format!(
                "there is no user '{requested}' on this system; expected a name, UID or UID:GID"
            )),
        });
    };
    let uid = Uid::from_raw(uid);
    let entry = entry_of(uid);
    let gid = match (gid, &entry) {
        (Some(gid), _) => Gid::from_raw(gid),
        (None, Some(user)) => user.gid,
        (None, None) => Gid::from_raw(uid.as_raw()),
    };
    Ok((uid, gid, entry.map(|user| user.name)))
}

/// Parses a user or group id. The highest number means "unchanged" in setresuid(2).
fn parse_id(digits: &str) -> Option<u32> {
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let id = digits.parse().ok().filter(|id| *id != u32::MAX);
    id.filter(|_| is_number)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_number_without_an_entry() {
        let ids = |requested| {
            let (uid, gid, name) = find_user(requested).unwrap();
            (uid.as_raw(), gid.as_raw(), name)
        };
        assert_eq!(ids("3999999999"), (3_999_999_999, 3_999_999_999, None));
        assert_eq!(ids("3999999999:7"), (3_999_999_999, 7, None));
        assert_eq!(ids("0:5"), (0, 5, Some("root".into())));
        assert_eq!(ids("root"), ids("0"));
        for wrong in [
            "",
            "1:",
            ":1",
            "-1",
            "+1",
            "4294967295",
            "1:4294967295",
            "root:0",
            "no such",
        ] {
            assert!(find_user(wrong).is_err(), "{wrong}");
        }
    }
}

//! A home whose content and times are fixed, and the changes that dialogues make to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Home;

/// The modification time of every file: 2026-11-22T18:00:00Z, in seconds since 1970.
pub(crate) const MODIFIED: i64 = 1_795_370_400;

/// A change to a home. Paths are relative to its folder `files`.
#[derive(Debug)]
pub(crate) enum Change {
    /// Creates a file with this content.
    File(Vec<u8>, Vec<u8>),
    Directory(Vec<u8>),
    /// Creates a symbolic link with this target.
    Link(Vec<u8>, Vec<u8>),
    Fifo(Vec<u8>),
    /// Removes all permissions of a file or directory.
    Unreadable(Vec<u8>),
    /// Removes a file, link or directory with its content.
    Remove(Vec<u8>),
    /// Appends a line to `Credentials` or `Directories`.
    AddLine(String, String),
    /// Removes the lines of `Credentials` or `Directories` that start with this text.
    DropLines(String, String),
}

/// Returns a copy of the example home with plain passwords, which need no hashing.
pub(crate) fn plain_home() -> Home {
    let home = Home::new();
    touch_all(&home.path().join("files")).expect("times can be set");
    let credentials: String = (1..=4)
        .map(|user| format!("user{user}:plain:{}\n", password(user)))
        .collect();
    fs::write(home.path().join("Credentials"), credentials).expect("the credentials are replaced");
    home
}

/// Returns the path of a served file.
pub(crate) fn path_in(home: &Home, path: &[u8]) -> PathBuf {
    home.path().join("files").join(OsStr::from_bytes(path))
}

/// Makes a change. Sets the modification times of the created entry and of its directory to
/// [`MODIFIED`].
pub(crate) fn change(home: &Home, change: &Change) {
    make(home, change).unwrap_or_else(|error| panic!("{change:?}: {error}"));
}

/// Restores the permissions that removing a folder requires.
pub(crate) fn make_readable(path: &Path) {
    let Ok(status) = fs::symlink_metadata(path) else {
        return;
    };
    if status.permissions().mode() & 0o700 == 0 {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    }
    if status.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            make_readable(&entry.path());
        }
    }
}

fn make(home: &Home, change: &Change) -> io::Result<()> {
    match change {
        Change::File(path, bytes) => {
            let path = path_in(home, path);
            fs::write(&path, bytes)?;
            touch(&path)?;
            touch_parent(&path)
        }
        Change::Directory(path) => {
            let path = path_in(home, path);
            fs::create_dir(&path)?;
            touch(&path)?;
            touch_parent(&path)
        }
        Change::Link(path, target) => {
            let path = path_in(home, path);
            symlink(OsStr::from_bytes(target), &path)?;
            touch_parent(&path)
        }
        Change::Fifo(path) => {
            let path = path_in(home, path);
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
            touch_parent(&path)
        }
        Change::Unreadable(path) => {
            fs::set_permissions(path_in(home, path), fs::Permissions::from_mode(0o0))
        }
        Change::Remove(path) => {
            let path = path_in(home, path);
            match fs::symlink_metadata(&path)?.is_dir() {
                true => fs::remove_dir_all(&path)?,
                false => fs::remove_file(&path)?,
            }
            touch_parent(&path)
        }
        Change::AddLine(file, line) => {
            home.append(file, line);
            Ok(())
        }
        Change::DropLines(file, beginning) => {
            let path = home.path().join(file);
            let text = fs::read_to_string(&path)?;
            let kept = text.lines().filter(|line| !line.starts_with(beginning));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            fs::write(&path, kept)
        }
    }
}

/// Returns the password of a numbered user of the example home: `1234`, `2345` and so on.
fn password(user: u32) -> String {
    (user..user + 4).map(|digit| digit.to_string()).collect()
}

fn touch_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            touch_all(&entry?.path())?;
        }
    }
    touch(path)
}

fn touch_parent(path: &Path) -> io::Result<()> {
    touch(path.parent().expect("a served path has a parent"))
}

fn touch(path: &Path) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED.unsigned_abs());
    File::open(path)?.set_modified(time)
}

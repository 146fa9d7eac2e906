//! A home whose every byte and time is known, and the changes that a dialogue asks for.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::Home;

/// When every file was last changed: 2026-11-22T18:00:00Z, in seconds since 1970.
pub(crate) const MODIFIED: i64 = 1_795_370_400;

/// A change of a home. Paths are relative to its `files/`.
#[derive(Debug)]
pub(crate) enum Change {
    /// A file of these bytes.
    File(Vec<u8>, Vec<u8>),
    Directory(Vec<u8>),
    /// A symbolic link and where it leads.
    Link(Vec<u8>, Vec<u8>),
    Fifo(Vec<u8>),
    /// A file or directory that its owner cannot read either.
    Unreadable(Vec<u8>),
    /// What is there goes, whatever it is.
    Remove(Vec<u8>),
    /// A line behind the last one of one of the home's two files.
    AddLine(String, String),
    /// The lines of one of the home's two files that begin so go.
    DropLines(String, String),
}

/// A copy of the example home, its passwords in plain so that no hash is computed.
pub(crate) fn plain_home() -> Home {
    let home = Home::new();
    touch_all(&home.path().join("files")).expect("the times of our own files");
    let credentials: String = (1..=4)
        .map(|user| format!("user{user}:plain:{}\n", password(user)))
        .collect();
    fs::write(home.path().join("Credentials"), credentials).expect("our own file");
    home
}

/// Where a path relative to the home's `files/` lies.
pub(crate) fn path_in(home: &Home, path: &[u8]) -> PathBuf {
    home.path().join("files").join(OsStr::from_bytes(path))
}

/// Makes a change; what is made, and the directory that it is made in, were last changed when all the others were.
pub(crate) fn change(home: &Home, change: &Change) {
    make(home, change).unwrap_or_else(|error| panic!("{change:?}: {error}"));
}

/// Gives back what keeps a home from being removed.
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

/// The password of the example home's user of this number: `1234`, `2345` and so on.
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
    touch(path.parent().expect("a path in files/"))
}

fn touch(path: &Path) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(MODIFIED.unsigned_abs());
    File::open(path)?.set_modified(time)
}

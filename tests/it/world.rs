//! A copy of the example home in a temporary folder, to be changed at will.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

/// A change of the home, as a dialogue asks for it. Paths are relative to the home's `files/`.
#[derive(Debug)]
pub(crate) enum Change {
    /// A file of these bytes.
    File(Vec<u8>, Vec<u8>),
    /// A file of so many zeros, which takes no room.
    Sparse(Vec<u8>, u64),
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

/// The home, and with it everything that was changed in it, until it is dropped.
pub(crate) struct World {
    folder: TempDir,
}

impl World {
    /// The example home, its passwords in plain so that no hash is computed, every file of it last changed at
    /// 2026-11-22T18:00:00Z.
    pub(crate) fn new() -> World {
        let folder = TempDir::new().expect("a temporary folder");
        copy(&example(), &folder.path().join("home")).expect("a copy of the example home");
        let world = World { folder };
        let credentials: String = (1..=4)
            .map(|user| format!("user{user}:plain:{}\n", password(user)))
            .collect();
        fs::write(world.home().join("Credentials"), credentials).expect("Credentials");
        world
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where a path relative to the home's `files/` lies.
    pub(crate) fn path(&self, path: &[u8]) -> PathBuf {
        self.home().join("files").join(OsStr::from_bytes(path))
    }

    /// Makes a change; what is made, and the directory that it is made in, were last changed when all the others were.
    pub(crate) fn change(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::File(path, bytes) => {
                fs::write(self.path(path), bytes)?;
                touch(&self.path(path))?;
                touch(self.path(path).parent().expect("a path in files/"))
            }
            Change::Sparse(path, length) => {
                File::create(self.path(path))?.set_len(*length)?;
                touch(&self.path(path))?;
                touch(self.path(path).parent().expect("a path in files/"))
            }
            Change::Directory(path) => {
                fs::create_dir(self.path(path))?;
                touch(&self.path(path))?;
                touch(self.path(path).parent().expect("a path in files/"))
            }
            Change::Link(path, target) => {
                symlink(OsStr::from_bytes(target), self.path(path))?;
                touch(self.path(path).parent().expect("a path in files/"))
            }
            Change::Fifo(path) => {
                nix::unistd::mkfifo(&self.path(path), nix::sys::stat::Mode::S_IRWXU)?;
                touch(self.path(path).parent().expect("a path in files/"))
            }
            Change::Unreadable(path) => {
                fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o0))
            }
            Change::Remove(path) => {
                let path = self.path(path);
                match fs::symlink_metadata(&path)?.is_dir() {
                    true => fs::remove_dir_all(path),
                    false => fs::remove_file(path),
                }
            }
            Change::AddLine(file, line) => {
                let path = self.home().join(file);
                fs::write(&path, fs::read_to_string(&path)? + line + "\n")
            }
            Change::DropLines(file, beginning) => {
                let path = self.home().join(file);
                let text = fs::read_to_string(&path)?;
                let kept = text.lines().filter(|line| !line.starts_with(beginning));
                fs::write(
                    &path,
                    kept.map(|line| format!("{line}\n")).collect::<String>(),
                )
            }
        }
    }
}

impl Drop for World {
    /// Gives back what keeps the folder from being removed.
    fn drop(&mut self) {
        let _ = make_readable(&self.home().join("files"));
    }
}

/// The example home itself.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/home")
}

/// The password of the example home's user of this number: `1234`, `2345` and so on.
fn password(user: u32) -> String {
    (user..user + 4).map(|digit| digit.to_string()).collect()
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return touch(to);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    touch(to)
}

/// Sets the time of the last change, a directory's included, to 2026-11-22T18:00:00Z.
fn touch(path: &Path) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_370_400);
    File::open(path)?.set_modified(time)
}

fn make_readable(path: &Path) -> io::Result<()> {
    let status = fs::symlink_metadata(path)?;
    if status.permissions().mode() & 0o700 == 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    if status.is_dir() {
        for entry in fs::read_dir(path)? {
            make_readable(&entry?.path())?;
        }
    }
    Ok(())
}

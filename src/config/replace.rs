//! The lock of a home, and its files and directories created and replaced atomically and durably.

use std::ffi::OsString;
use std::fs;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::config::error::EditError;

/// The name of the lock file in a home.
const LOCK: &str = ".tidegate.lock";

/// How long an edit waits for the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes the lock of a home and waits for it for at most [`LOCK_TIMEOUT`]. Closing the returned
/// file, or the end of the process, releases it. The file is never removed: otherwise two processes
/// could hold locks on different files of that name.
pub(super) fn lock(home: &Path) -> Result<File, EditError> {
    let path = home.join(LOCK);
    let file = match open_lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match create_file(home, &path, 0o600, "") {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_lock(&path),
                created => created,
            }
        }
        opened => opened,
    }
    .map_err(failed("open", &path))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(EditError::Locked(path)),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}

/// Replaces the content of `file`: writes and syncs a complete copy and renames it over the file,
/// so that a crash leaves the old content or the new one. Keeps owner and group; the mode loses the
/// bits outside `mask`. If `file` is a symbolic link, its target is replaced. The caller holds the
/// lock.
pub(super) fn replace_file(file: &Path, text: &[u8], mask: u32) -> Result<(), EditError> {
    let file = &file.canonicalize().map_err(failed("find", file))?;
    let old = fs::metadata(file).map_err(failed("find", file))?;
    // No grant gives access to names that begin like this.
    let mut name = OsString::from(".tidegate.");
    name.push(file.file_name().unwrap_or_default());
    name.push(".new");
    let new = &file.with_file_name(name);
    // A crash may have left one; nothing else uses it, since the caller holds the lock.
    match fs::remove_file(new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", new)(source));
        }
        _ => {}
    }
    let written = write_copy(new, text, &old, mask)
        .and_then(|()| fs::rename(new, file))
        .map_err(failed("replace", file));
    if written.is_err() {
        let _ = fs::remove_file(new);
        return written;
    }
    file.parent().map_or(Ok(()), sync_directory)
}

/// Writes a synced file with the owner of `old` and a mode that is no wider.
fn write_copy(new: &Path, text: &[u8], old: &Metadata, mask: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    let created = file.metadata()?;
    if (created.uid(), created.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(old.mode() & mask))?;
    file.write_all(text)?;
    file.sync_all()
}

/// Creates a synced file in a home. If root creates it, it gets the home's owner.
pub(super) fn create_file(home: &Path, path: &Path, mode: u32, text: &str) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    give_to_owner(home, &file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(file)
}

/// Creates the directory `relative` in a home, with missing parents. If root creates them, they get
/// the home's owner.
pub(super) fn create_directory(home: &Path, relative: &Path) -> Result<(), EditError> {
    let mut path = home.to_path_buf();
    for component in relative {
        let parent = path.clone();
        path.push(component);
        if path.is_dir() {
            continue;
        }
        let created = DirBuilder::new().mode(0o755).create(&path).and_then(|()| {
            // Not a symbolic link that has replaced the new directory.
            let created = OpenOptions::new()
                .read(true)
                .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
                .open(&path)?;
            give_to_owner(home, &created)
        });
        created.map_err(failed("create", &path))?;
        sync_directory(&parent)?;
    }
    Ok(())
}

/// Gives a new file or directory to the home's owner, if this process is root.
fn give_to_owner(home: &Path, created: &File) -> io::Result<()> {
    let (home, created_as) = (fs::metadata(home)?, created.metadata()?);
    let is_owned = (home.uid(), home.gid()) == (created_as.uid(), created_as.gid());
    if is_owned || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    fchown(created, Some(home.uid()), Some(home.gid()))
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), EditError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

/// For `map_err`: adds the action (a verb) and the path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EditError {
    let path = path.to_path_buf();
    move |source| EditError::Io {
        action,
        path,
        source,
    }
}

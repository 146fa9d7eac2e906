//! A home made, and its two files changed: one change at a time, each file replaced whole.
//!
//! A change is made under the lock `HOME/.tidegate.lock`, out of the files as they then are, so that no two changes lose
//! each other. A file is replaced by a complete and synced copy in one rename, so that a crash leaves the old one or the new one. What
//! takes something away comes first where a change touches both.
//!
//! Must not know: the person at the prompt, passwords.

use std::fmt;
use std::fs;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;

use crate::config::credentials::Credentials;
use crate::config::directories::{Directories, EVERYBODY, FILES};
use crate::config::{CREDENTIALS, DIRECTORIES, HomeError, read};
use crate::domain::access::Rights;
use crate::domain::byte_size::ByteSize;

/// Name of the file in a home whose lock a change holds.
const LOCK: &str = ".tidegate.lock";

/// How long a change waits for another one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a home was not made or changed.
#[derive(Debug)]
pub enum EditError {
    /// The home has faults; nothing was changed.
    Faults(Vec<HomeError>),
    /// There is a home already: this file of it.
    HomeExists(PathBuf),
    /// There is such a user already.
    UserExists(String),
    /// There is no such user.
    NoSuchUser(String),
    /// The user has no grant of his own for this directory.
    NoSuchGrant(String, String),
    /// Another change holds the lock for too long.
    Busy(PathBuf),
    /// The system did not do its part.
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EditError::Faults(faults) => {
                let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
                f.write_str(&told.join("\n"))
            }
            EditError::HomeExists(path) => {
                write!(f, "there is a home already: {}", path.display())
            }
            EditError::UserExists(user) => write!(f, "there is a user '{user}' already"),
            EditError::NoSuchUser(user) => write!(f, "there is no user '{user}'"),
            EditError::NoSuchGrant(user, directory) => {
                write!(f, "there is no grant of '{directory}' to '{user}'")
            }
            EditError::Busy(path) => write!(f, "another change holds {}", path.display()),
            EditError::Io {
                doing,
                path,
                source,
            } => write!(f, "{doing} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for EditError {}

/// Makes a new home at `home`, the folder too if it is not there: both files, with a comment on how they are written, and `files/`.
///
/// # Errors
/// [`EditError::HomeExists`] if either file is there already; nothing is changed then.
pub fn init(home: &Path) -> Result<(), EditError> {
    fs::create_dir_all(home).map_err(doing("making", home))?;
    let _lock = lock(home)?;
    let (credentials, directories) = (home.join(CREDENTIALS), home.join(DIRECTORIES));
    for file in [&credentials, &directories] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(EditError::HomeExists(file.clone()));
        }
    }
    make_directory(home, &home.join(FILES))?;
    for (file, mode, text) in [
        (&directories, 0o644, DIRECTORIES_COMMENT),
        (&credentials, 0o600, CREDENTIALS_COMMENT),
    ] {
        write_new(home, file, mode, text).map_err(doing("writing", file))?;
    }
    sync_directory(home)?;
    match home
        .canonicalize()
        .map_err(doing("finding", home))?
        .parent()
    {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Adds a user with the hash of his password.
pub fn add_user(home: &Path, user: &str, hash: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    if edit.credentials.has(user) {
        return Err(EditError::UserExists(user.to_owned()));
    }
    edit.write_credentials(&edit.credentials.with(user, hash))
}

/// Gives a user another hash.
pub fn set_hash(home: &Path, user: &str, hash: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    if !edit.credentials.has(user) {
        return Err(EditError::NoSuchUser(user.to_owned()));
    }
    edit.write_credentials(&edit.credentials.with(user, hash))
}

/// Removes a user and his own grants; also the grants alone, where only they are left of him.
pub fn remove_user(home: &Path, user: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    let credentials = edit.credentials.without(user);
    let directories = edit.directories.without(user, None);
    if credentials.is_none() && directories.is_none() {
        return Err(EditError::NoSuchUser(user.to_owned()));
    }
    // A grant of his own may be narrower than everybody's, so he goes first.
    if let Some(text) = credentials {
        edit.write_credentials(&text)?;
    }
    if let Some(text) = directories {
        edit.write_directories(&text)?;
    }
    Ok(())
}

/// Replaces every plain password by what `hash` makes of it, and tells how many there were.
pub fn hash_plain(home: &Path, hash: impl Fn(&[u8]) -> String) -> Result<usize, EditError> {
    let edit = Edit::begin(home)?;
    let (text, count) = edit.credentials.hashed(hash);
    if count > 0 {
        edit.write_credentials(&text)?;
    }
    Ok(count)
}

/// Grants a directory, in place of an earlier grant of the two, and makes `files/DIRECTORY` where no PATH is given. Tells
/// what should be known of it: a user or a directory that is not there, a limit that is gone.
pub fn grant(
    home: &Path,
    user: &str,
    directory: &str,
    rights: Rights,
    path: Option<&str>,
) -> Result<Vec<String>, EditError> {
    let edit = Edit::begin(home)?;
    let mut warnings = Vec::new();
    if user != EVERYBODY && !edit.credentials.has(user) {
        warnings.push(format!("there is no user '{user}' yet"));
    }
    match path.map(|path| home.join(path)) {
        None => make_directory(home, &home.join(FILES).join(directory))?,
        Some(path) if path.is_dir() => {}
        Some(path) => warnings.push(format!("there is no directory {} yet", path.display())),
    }
    let earlier = (edit.directories.records().iter())
        .find(|record| record.user == user && record.grant.name == directory);
    if let Some(quota) = earlier.and_then(|record| record.grant.rights.quota)
        && rights.quota.is_none()
    {
        warnings.push(format!(
            "the earlier grant had quota={}, and this one has none",
            ByteSize(quota)
        ));
    }
    edit.write_directories(&edit.directories.with(user, directory, rights, path))?;
    Ok(warnings)
}

/// Takes a grant back.
pub fn revoke(home: &Path, user: &str, directory: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    match edit.directories.without(user, Some(directory)) {
        Some(text) => edit.write_directories(&text),
        None => Err(EditError::NoSuchGrant(
            user.to_owned(),
            directory.to_owned(),
        )),
    }
}

const CREDENTIALS_COMMENT: &str = "\
# Who may come in, a user a line: USER:HASH, as 'tidegate user add' writes it.
# USER:plain:PASSWORD is accepted too; 'tidegate user hash' turns it into a hash.
";

const DIRECTORIES_COMMENT: &str = "\
# Who may see what, a grant a line: USER:DIRECTORY:RIGHTS, and :PATH behind it for a
# directory that does not lie in files/. USER * is everybody; a line of one's own counts
# before it. RIGHTS: read, upload (add new files), change (add, replace, rename, delete),
# parted by ',', and quota=BYTES among them for a limit. USER::LIMITS bounds a user:
# sessions=N, rate=BYTES (a second), quota=BYTES, parted by ','.
";

/// A change under way: both files as they are, and the lock.
struct Edit<'a> {
    home: &'a Path,
    credentials: Credentials,
    directories: Directories,
    _lock: File,
}

impl Edit<'_> {
    fn begin(home: &Path) -> Result<Edit<'_>, EditError> {
        // Where there is no home, none is begun by a lock file.
        read(home).map_err(EditError::Faults)?;
        let lock = lock(home)?;
        let (credentials, directories) = read(home).map_err(EditError::Faults)?;
        Ok(Edit {
            home,
            credentials,
            directories,
            _lock: lock,
        })
    }

    /// Passwords: nobody but the owner may read it from now on, whoever could before.
    fn write_credentials(&self, text: &[u8]) -> Result<(), EditError> {
        replace(&self.home.join(CREDENTIALS), text, 0o600)
    }

    fn write_directories(&self, text: &[u8]) -> Result<(), EditError> {
        replace(&self.home.join(DIRECTORIES), text, 0o777)
    }
}

/// Takes the lock of a home, and waits a bounded time for who has it. It ends with the file's handle, so with its process at the latest.
/// The file stays: to remove it would let two hold a lock of that name.
fn lock(home: &Path) -> Result<File, EditError> {
    let path = home.join(LOCK);
    let file = match open_lock(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match write_new(home, &path, 0o600, "") {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_lock(&path),
                made => made,
            }
        }
        opened => opened,
    }
    .map_err(doing("opening", &path))?;
    let begin = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begin.elapsed() < LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(EditError::Busy(path)),
            Err(TryLockError::Error(source)) => return Err(doing("locking", &path)(source)),
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Replaces the content of `file`, durably and at once. Owner and group stay; the mode loses what is not in `mask`. Where `file` is a
/// link, the file that it leads to is replaced.
fn replace(file: &Path, text: &[u8], mask: u32) -> Result<(), EditError> {
    let file = &file.canonicalize().map_err(doing("finding", file))?;
    let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else {
        unreachable!("a file that was read has a name in a directory");
    };
    let old = fs::metadata(file).map_err(doing("finding", file))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".new");
    let new = &directory.join(new);
    // One that a crash has left: the lock is ours, so nobody is at work on it.
    match fs::remove_file(new) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            return Err(doing("removing", new)(source));
        }
        _ => {}
    }
    let written = write_beside(new, text, &old, mask)
        .and_then(|()| fs::rename(new, file))
        .map_err(doing("replacing", file));
    if written.is_err() {
        let _ = fs::remove_file(new);
        return written;
    }
    sync_directory(directory)
}

/// Writes a synced copy for `replace`, with the owner of the old file and a mode no wider than its.
fn write_beside(new: &Path, text: &[u8], old: &Metadata, mask: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(old.mode() & mask))?;
    file.write_all(text)?;
    file.sync_all()
}

/// A new file of a home, synced; it belongs to the home's owner, also where root makes it for him.
fn write_new(home: &Path, path: &Path, mode: u32, text: &str) -> io::Result<File> {
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

/// A directory of a home, and those above it within the home, where it is not there yet; each belongs to the home's owner.
fn make_directory(home: &Path, path: &Path) -> Result<(), EditError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| parent.starts_with(home));
    let Some(parent) = parent else {
        unreachable!("{} lies within the home", path.display());
    };
    make_directory(home, parent)?;
    DirBuilder::new()
        .mode(0o755)
        .create(path)
        .and_then(|()| {
            // The one just made: not a link that somebody has put in its place.
            let made = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
                .open(path)?;
            give_to_owner(home, &made)
        })
        .map_err(doing("making", path))?;
    sync_directory(parent)
}

/// Gives a file or directory just made to the home's owner.
fn give_to_owner(home: &Path, made: &File) -> io::Result<()> {
    let (home, status) = (fs::metadata(home)?, made.metadata()?);
    if (home.uid(), home.gid()) == (status.uid(), status.gid()) || !nix::unistd::geteuid().is_root()
    {
        return Ok(());
    }
    fchown(made, Some(home.uid()), Some(home.gid()))
}

/// Makes names in a directory durable.
fn sync_directory(directory: &Path) -> Result<(), EditError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(doing("syncing", directory))
}

/// For `map_err`: the system's error, with what was being done.
fn doing(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EditError {
    let path = path.to_path_buf();
    move |source| EditError::Io {
        doing,
        path,
        source,
    }
}

//! Creating a home and editing its two files.
//!
//! An edit holds the lock `HOME/.tidegate.lock` from reading the files to replacing them, so that
//! concurrent edits are not lost. Each file is replaced atomically, see `config::replace`. An
//! edit of both files revokes before it grants.

use std::fs;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::config::credentials::Credentials;
use crate::config::directories::{Directories, FILES};
use crate::config::error::{EditError, HomeError};
use crate::config::files::{CREDENTIALS, DIRECTORIES, read_home};
use crate::config::granted_directory::unusable_directory;
use crate::config::replace::{
    create_directory, create_file, failed, lock, replace_file, sync_directory,
};
use crate::domain::access::Rights;
use crate::domain::name::ALL_USERS;
use crate::domain::suggestion::Suggestion;

/// Creates a home at `home`, and the directory itself if it is missing: both files, with a comment
/// on their format, and `files/`.
///
/// # Errors
/// [`EditError::HomeExists`] if one of the files exists; nothing is changed then.
pub fn init(home: &Path) -> Result<(), EditError> {
    if home.is_file() {
        let faults = vec![HomeError::HomeIsFile(home.to_owned())];
        return Err(EditError::Faults(faults));
    }
    let mut directory = DirBuilder::new();
    let created = directory.recursive(true).mode(0o755).create(home);
    created.map_err(failed("create", home))?;
    let _lock = lock(home)?;
    let (credentials, directories) = (home.join(CREDENTIALS), home.join(DIRECTORIES));
    for file in [&credentials, &directories] {
        if fs::symlink_metadata(file).is_ok() {
            return Err(EditError::HomeExists(file.clone()));
        }
    }
    create_directory(home, Path::new(FILES))?;
    for (file, mode, text) in [
        (&directories, 0o644, DIRECTORIES_COMMENT),
        (&credentials, 0o600, CREDENTIALS_COMMENT),
    ] {
        create_file(home, file, mode, text).map_err(failed("write", file))?;
    }
    sync_directory(home)?;
    let absolute = home.canonicalize().map_err(failed("find", home))?;
    absolute.parent().map_or(Ok(()), sync_directory)
}

/// Adds a user with the hash of a password.
pub fn add_user(home: &Path, user: &str, hash: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    if edit.credentials.has(user) {
        return Err(EditError::UserExists(user.to_owned()));
    }
    edit.write_credentials(&edit.credentials.with(user, hash))
}

/// Replaces the hash of a user.
pub fn set_hash(home: &Path, user: &str, hash: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    if !edit.credentials.has(user) {
        return Err(edit.no_such_user(user));
    }
    edit.write_credentials(&edit.credentials.with(user, hash))
}

/// Removes a user with the user's grants and limits. Also removes grants and limits of a user
/// without an account.
pub fn remove_user(home: &Path, user: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    let credentials = edit.credentials.without(user);
    let directories = edit.directories.without(user, None);
    if credentials.is_none() && directories.is_none() {
        return Err(edit.no_such_user(user));
    }
    // The account goes first: an own grant may be narrower than the one of all users.
    if let Some(text) = credentials {
        edit.write_credentials(&text)?;
    }
    if let Some(text) = directories {
        edit.write_directories(&text)?;
    }
    Ok(())
}

/// Replaces every plain password by the result of `hash`. Returns the number of them.
pub fn hash_plain(home: &Path, hash: impl Fn(&[u8]) -> String) -> Result<usize, EditError> {
    let edit = Edit::begin(home)?;
    let (text, count) = edit.credentials.hashed(hash);
    if count > 0 {
        edit.write_credentials(&text)?;
    }
    Ok(count)
}

/// Grants a directory, replacing an earlier grant of it to the same user. Creates `files/DIRECTORY`
/// if no path is given. Returns warnings: an unknown user, a missing directory, a removed quota.
pub fn grant(
    home: &Path,
    user: &str,
    directory: &str,
    rights: Rights,
    path: Option<&str>,
) -> Result<Vec<String>, EditError> {
    let edit = Edit::begin(home)?;
    let mut warnings = Vec::new();
    if user != ALL_USERS && !edit.credentials.has(user) {
        warnings.push(format!(
            "there is no user '{user}'{} yet; add one with 'tidegate user add'",
            edit.credentials.similar_user(user)
        ));
    }
    match path.map(|path| home.join(path)) {
        None => create_directory(home, &Path::new(FILES).join(directory))?,
        Some(path) => warnings.extend(unusable_directory(&path, rights)),
    }
    let mut records = edit.directories.records().iter();
    let earlier = records.find(|record| record.user == user && record.grant.name == directory);
    if let Some(quota) = earlier.and_then(|record| record.grant.rights.quota)
        && rights.quota.is_none()
    {
        warnings.push(format!(
            "the replaced grant had quota={quota}; the new one has no quota"
        ));
    }
    edit.write_directories(&edit.directories.with(user, directory, rights, path))?;
    Ok(warnings)
}

/// Removes a grant.
pub fn revoke(home: &Path, user: &str, directory: &str) -> Result<(), EditError> {
    let edit = Edit::begin(home)?;
    match edit.directories.without(user, Some(directory)) {
        Some(text) => edit.write_directories(&text),
        None => Err(edit.no_such_grant(user, directory)),
    }
}

const CREDENTIALS_COMMENT: &str = "\
# One user per line: USER:HASH, as written by 'tidegate user add'.
# USER:plain:PASSWORD is accepted too; 'tidegate user hash' replaces it by a hash.
";

const DIRECTORIES_COMMENT: &str = "\
# One grant per line: USER:DIRECTORY:RIGHTS, or USER:DIRECTORY:RIGHTS:PATH for a
# directory outside files/. USER * is every user; a user's own line takes precedence.
# RIGHTS is a comma-separated list of read, upload (add new files), change (add,
# replace, rename, delete), hidden (names that begin with a dot, too) and
# quota=SIZE or quota=SIZE/FILES. USER::LIMITS limits a user; LIMITS is a
# comma-separated list of sessions=N, rate=BYTES (per second) and quota=SIZE.
";

/// An edit in progress: both files as they are, and the lock.
struct Edit<'a> {
    home: &'a Path,
    credentials: Credentials,
    directories: Directories,
    _lock: File,
}

impl Edit<'_> {
    fn begin(home: &Path) -> Result<Edit<'_>, EditError> {
        // Read first, so that no lock file is created where there is no home.
        read_home(home).map_err(EditError::Faults)?;
        let lock = lock(home)?;
        let (credentials, directories) = read_home(home).map_err(EditError::Faults)?;
        Ok(Edit {
            home,
            credentials,
            directories,
            _lock: lock,
        })
    }

    fn no_such_user(&self, user: &str) -> EditError {
        let records = self.credentials.records().iter();
        let users = records.map(|(_, account)| account.user.as_str());
        EditError::no_such_user(self.home, user, users)
    }

    /// Suggests another directory of the user, or else a similar user who has one of this name.
    fn no_such_grant(&self, user: &str, directory: &str) -> EditError {
        let records = self.directories.records();
        let of_user = records.iter().filter(|record| record.user == user);
        let names = of_user.map(|record| record.grant.name.as_str());
        let mut suggestion = Suggestion::new(directory, names);
        if suggestion.candidate().is_none() {
            let same = (records.iter()).filter(|record| record.grant.name == directory);
            suggestion = Suggestion::new(user, same.map(|record| record.user.as_str()));
        }
        EditError::NoSuchGrant {
            user: user.to_owned(),
            directory: directory.to_owned(),
            suggestion,
            home: self.home.to_owned(),
        }
    }

    /// Makes the file private to its owner, whatever its mode was.
    fn write_credentials(&self, text: &[u8]) -> Result<(), EditError> {
        replace_file(&self.home.join(CREDENTIALS), text, 0o600)
    }

    fn write_directories(&self, text: &[u8]) -> Result<(), EditError> {
        replace_file(&self.home.join(DIRECTORIES), text, 0o777)
    }
}

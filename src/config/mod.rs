//! What people edit: a home's two files, `Credentials` and `Directories`, and what follows from them.
//!
//! A [`Home`] is a value: loaded whole or not at all, never changed afterwards. A reload makes a new one.
//!
//! Must not know: sockets, sessions, the wire's words.

pub mod credentials;
pub mod directories;
pub mod edit;
pub mod records;
pub mod sandbox_scope;

pub use crate::config::records::check_user;

use crate::auth::password;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::password::{Cost, Verifier};
use crate::config::credentials::{Account, Credentials, Secret};
use crate::config::directories::{Directories, EVERYBODY, Grants};
use crate::config::sandbox_scope::SandboxScope;
use crate::domain::access::{Access, Grant};
use crate::domain::user_limits::UserLimits;
use crate::limits;

/// Name of the file of accounts in a home.
const CREDENTIALS: &str = "Credentials";

/// Name of the file of grants in a home.
const DIRECTORIES: &str = "Directories";

/// Both files of a home, as they were read.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// In the file's order.
    accounts: Vec<Arc<Account>>,
    /// Places in `accounts`.
    by_user: HashMap<String, usize>,
    grants: Grants,
    /// By user, everybody's among them.
    limits: HashMap<String, UserLimits>,
    typical: Cost,
    /// Where the server is closed in: what a reload can take up.
    fence: Option<Arc<SandboxScope>>,
}

impl Home {
    /// Reads both files of the home at `path`, with what should be told of them though it is no fault: plain passwords, a file of
    /// accounts that anybody may read, grants for nobody, directories that are not there.
    ///
    /// # Errors
    /// All faults of both files.
    pub fn load(path: &Path) -> Result<(Home, Vec<String>), Vec<HomeError>> {
        let (credentials, directories) = read(path)?;
        let warnings = warnings(path, &credentials, &directories);
        Ok((Home::new(path, &credentials, &directories), warnings))
    }

    fn new(path: &Path, credentials: &Credentials, directories: &Directories) -> Home {
        let accounts: Vec<_> = credentials
            .records()
            .iter()
            .map(|(_, account)| Arc::clone(account))
            .collect();
        let mut costs: HashMap<Cost, usize> = HashMap::new();
        for cost in accounts
            .iter()
            .filter_map(|account| Cost::of(&account.secret))
        {
            *costs.entry(cost).or_default() += 1;
        }
        Home {
            path: path.to_path_buf(),
            by_user: accounts
                .iter()
                .enumerate()
                .map(|(at, account)| (account.user.clone(), at))
                .collect(),
            accounts,
            grants: Grants::new(directories.records()),
            limits: directories
                .limits()
                .iter()
                .map(|record| (record.user.clone(), record.limits))
                .collect(),
            fence: None,
            typical: costs
                .into_iter()
                .max_by_key(|&(_, count)| count)
                .map_or(Cost::OURS, |(cost, _)| cost),
        }
    }

    /// From now on a reload takes up only what lies within.
    pub fn close_in(&mut self, fence: SandboxScope) {
        self.fence = Some(Arc::new(fence));
    }

    /// Reads both files again and compares the accounts. Verifies one password for each account whose
    /// plain password was replaced by a hash.
    pub fn reload(&self, verifier: &mut Verifier) -> Reloaded {
        let result = Home::load(&self.path).and_then(|loaded| self.within_fence(loaded));
        let mut revoked = HashSet::new();
        if let Ok((new, _)) = &result {
            for old in &self.accounts {
                let current = new.account(&old.user);
                if !current.is_some_and(|new| password::same_login(old, new, verifier)) {
                    revoked.insert(old.user.clone());
                }
            }
        }
        Reloaded { result, revoked }
    }

    /// A home that was loaded anew, within the fence of this one; or what of it lies beyond.
    fn within_fence(
        &self,
        (mut new, warnings): (Home, Vec<String>),
    ) -> Result<(Home, Vec<String>), Vec<HomeError>> {
        let Some(fence) = &self.fence else {
            return Ok((new, warnings));
        };
        let faults = fence.faults(&new);
        new.fence = Some(Arc::clone(fence));
        match faults.is_empty() {
            true => Ok((new, warnings)),
            false => Err(faults),
        }
    }

    /// Where it lies, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record of a user.
    pub fn account(&self, user: &str) -> Option<&Arc<Account>> {
        self.by_user.get(user).map(|&at| &self.accounts[at])
    }

    /// All records, in the file's order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter()
    }

    /// What a user may do, or `None` where there is no such user.
    pub fn access(&self, user: &str) -> Option<Arc<Access>> {
        self.account(user)?;
        Some(Arc::new(Access {
            user: user.to_owned(),
            grants: self.grants.seen_by(user),
        }))
    }

    /// What is bounded for a user: by his own line, or else by everybody's.
    pub fn limits(&self, user: &str) -> UserLimits {
        let own = self.limits.get(user);
        own.or_else(|| self.limits.get(EVERYBODY))
            .copied()
            .unwrap_or_default()
    }

    /// Directories whose bytes somebody's quota bounds, each once.
    pub fn counted_paths(&self) -> BTreeSet<PathBuf> {
        let is_user_bounded = self.limits.values().any(|limits| limits.quota.is_some());
        let counts = |grant: &&Grant| {
            grant.rights.quota.is_some() || (is_user_bounded && grant.rights.may_add())
        };
        let counted = self.grants.all().filter(counts);
        counted.map(|grant| grant.path.clone()).collect()
    }

    /// Every directory that is granted to anybody, once.
    pub fn granted_paths(&self) -> Vec<PathBuf> {
        let paths: BTreeSet<&PathBuf> = self.grants.all().map(|grant| &grant.path).collect();
        paths.into_iter().cloned().collect()
    }

    /// What a server of this home reads: the home with its two files, which may be links, and every granted directory.
    pub fn read_reach(&self) -> Vec<PathBuf> {
        let own = [PathBuf::new(), CREDENTIALS.into(), DIRECTORIES.into()];
        let granted = self.grants.all().map(|grant| grant.path.clone());
        own.map(|name| self.path.join(name))
            .into_iter()
            .chain(granted)
            .collect()
    }

    /// Where it writes: every directory to which anybody may add files. `files` counts as one, so that a directory in it can
    /// be granted, made or replaced while the server runs.
    pub fn write_reach(&self) -> Vec<PathBuf> {
        let grants = self.grants.all().filter(|grant| grant.rights.may_add());
        let mut paths: Vec<PathBuf> = grants.map(|grant| grant.path.clone()).collect();
        let files = self.path.join(directories::FILES);
        if paths.iter().any(|path| path.starts_with(&files)) {
            paths.push(files);
        }
        paths
    }

    /// The cost of most of the hashes here, for [`password::Verifier::verify_hidden`].
    pub fn typical_cost(&self) -> Cost {
        self.typical
    }
}

/// What came of reading a home again.
#[derive(Debug)]
pub struct Reloaded {
    /// The home as it is now and what should be told of it, or all faults of both files.
    pub result: Result<(Home, Vec<String>), Vec<HomeError>>,
    /// Users whose logins have become invalid: their record was removed, or changed to another login.
    /// Empty if the result is an error.
    pub revoked: HashSet<String>,
}

/// A fault in one of the two files, for the person with the editor. Tells of no password and no hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeError {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, the first is 1; `None` where the file as a whole is at fault.
    pub line: Option<usize>,
    /// What is wrong.
    pub found: String,
    /// What would be right.
    pub expected: &'static str,
}

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " found {}; expected {}", self.found, self.expected)
    }
}

impl std::error::Error for HomeError {}

/// Reads and parses both files; all faults of both.
fn read(home: &Path) -> Result<(Credentials, Directories), Vec<HomeError>> {
    let file = home.join(CREDENTIALS);
    let credentials = read_text(&file).and_then(|text| Credentials::parse(&file, text));
    let file = home.join(DIRECTORIES);
    let directories = read_text(&file).and_then(|text| Directories::parse(&file, text, home));
    match (credentials, directories) {
        (Ok(credentials), Ok(directories)) => Ok((credentials, directories)),
        (credentials, directories) => Err(credentials
            .err()
            .into_iter()
            .chain(directories.err())
            .flatten()
            .collect()),
    }
}

/// The bytes of a regular file of bounded size. Never waits for the other end of a FIFO.
fn read_text(file: &Path) -> Result<Zeroizing<Vec<u8>>, Vec<HomeError>> {
    let fault = |found: String, expected| {
        vec![HomeError {
            file: file.to_path_buf(),
            line: None,
            found,
            expected,
        }]
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => fault(
            "no such file".into(),
            "a home, as 'tidegate init HOME' makes one",
        ),
        _ => fault(
            format!("that it cannot be read: {error}"),
            "a file that can be read",
        ),
    };
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(file)
        .map_err(failed)?;
    let status = open.metadata().map_err(failed)?;
    if !status.is_file() {
        return Err(fault("something else".into(), "a regular file"));
    }
    let too_large = || fault("more than 64 MiB".into(), "a file of at most 64 MiB");
    if status.len() > limits::HOME_FILE_BYTES_MAX {
        return Err(too_large());
    }
    // Room for all and a byte, so that no copy of a password is left behind by growing.
    let mut text = Zeroizing::new(Vec::with_capacity(status.len() as usize + 1));
    open.take(limits::HOME_FILE_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > limits::HOME_FILE_BYTES_MAX {
        return Err(too_large());
    }
    Ok(text)
}

/// What should be told of a home without a fault.
fn warnings(home: &Path, credentials: &Credentials, directories: &Directories) -> Vec<String> {
    let mut warnings = Vec::new();
    let file = home.join(CREDENTIALS);
    if fs::metadata(&file).is_ok_and(|status| status.mode() & 0o004 != 0) {
        warnings.push(format!(
            "{}: anybody on this machine may read it; 'chmod 600' ends that",
            file.display()
        ));
    }
    for (line, account) in credentials.records() {
        if account.user.trim() != account.user {
            warnings.push(format!(
                "{}:{line}: the blank at an end of '{}' belongs to the name",
                file.display(),
                account.user,
            ));
        }
        if let Secret::Plain(_) = account.secret {
            warnings.push(format!(
                "{}:{line}: the password of '{}' stands in plain; 'tidegate user hash {}' hashes it",
                file.display(),
                account.user,
                home.display(),
            ));
        }
    }
    let grants = Grants::new(directories.records());
    for (line, account) in credentials.records() {
        let seen = match account.secret {
            Secret::Anyone => grants.seen_by(&account.user),
            Secret::Hash(_) | Secret::Plain(_) => Vec::new(),
        };
        for grant in seen.iter().filter(|grant| grant.rights.may_add()) {
            warnings.push(format!(
                "{}:{line}: '{}' takes any password and may do more than read in '{}' ({})",
                file.display(),
                account.user,
                grant.name,
                grant.rights,
            ));
        }
    }
    let users: std::collections::HashSet<&str> = credentials
        .records()
        .iter()
        .map(|(_, account)| account.user.as_str())
        .collect();
    let file = home.join(DIRECTORIES);
    for record in directories.limits() {
        if record.user != EVERYBODY && !users.contains(record.user.as_str()) {
            warnings.push(format!(
                "{}:{}: limits of '{}', and there is no such user",
                file.display(),
                record.line,
                record.user,
            ));
        }
    }
    for record in directories.records() {
        if record.user != EVERYBODY && !users.contains(record.user.as_str()) {
            warnings.push(format!(
                "{}:{}: a grant for '{}', and there is no such user",
                file.display(),
                record.line,
                record.user,
            ));
        }
        if !record.grant.path.is_dir() {
            warnings.push(format!(
                "{}:{}: the directory '{}' is not there",
                file.display(),
                record.line,
                record.grant.path.display(),
            ));
        }
    }
    warnings
}

const _: () = assert!(limits::HOME_FILE_BYTES_MAX == 64 << 20);

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn home(credentials: &[u8], directories: &[u8]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(CREDENTIALS);
        fs::write(&file, credentials).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(home.path().join(DIRECTORIES), directories).unwrap();
        home
    }

    #[test]
    fn who_takes_any_password_and_may_do_more_than_read_is_warned_of() {
        let home = home(
            b"guest:anyone\nreader:anyone\n",
            b"*:A:read:.\nguest:B:read,upload:.\n",
        );
        let (_, warnings) = Home::load(home.path()).unwrap();
        let shown = home.path().display();
        assert_eq!(
            warnings,
            [format!(
                "{shown}/Credentials:1: 'guest' takes any password and may do more than read in 'B' (read,upload)"
            )]
        );
    }

    #[test]
    fn a_home_is_loaded_with_its_warnings() {
        let home = home(
            b"b:plain:x\nc :plain:y\na:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OTAxMjM0NQ\n",
            b"*:A:read\nb:B:read:.\nc:B:upload:.\n*::sessions=9\nb::rate=1k\nd::quota=1k\n",
        );
        let path = home.path();
        let (loaded, warnings) = Home::load(path).unwrap();
        assert_eq!(loaded.path(), path);
        let users: Vec<_> = loaded.accounts().map(|account| &account.user).collect();
        assert_eq!(users, ["b", "c ", "a"]);
        assert_eq!(loaded.account("a").unwrap().user, "a");
        assert!(loaded.account("c").is_none() && loaded.access("c").is_none());
        let access = loaded.access("b").unwrap();
        assert_eq!(access.user, "b");
        let names: Vec<_> = access.grants.iter().map(|grant| &grant.name).collect();
        assert_eq!(names, ["A", "B"]);
        assert_eq!(loaded.limits("a").to_string(), "sessions=9");
        assert_eq!(loaded.limits("b").to_string(), "rate=1k");
        assert_eq!(
            Some(loaded.typical_cost()),
            Cost::of(&loaded.account("a").unwrap().secret)
        );
        let shown = path.display();
        assert_eq!(
            warnings,
            [
                format!(
                    "{shown}/Credentials:1: the password of 'b' stands in plain; 'tidegate user hash {shown}' hashes it"
                ),
                format!("{shown}/Credentials:2: the blank at an end of 'c ' belongs to the name"),
                format!(
                    "{shown}/Credentials:2: the password of 'c ' stands in plain; 'tidegate user hash {shown}' hashes it"
                ),
                format!("{shown}/Directories:6: limits of 'd', and there is no such user"),
                format!("{shown}/Directories:1: the directory '{shown}/files/A' is not there"),
                format!("{shown}/Directories:3: a grant for 'c', and there is no such user"),
            ]
        );
    }

    #[test]
    fn an_open_file_of_accounts_is_a_warning() {
        let home = home(b"", b"");
        let file = home.path().join(CREDENTIALS);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let (_, warnings) = Home::load(home.path()).unwrap();
        assert!(warnings[0].contains("anybody on this machine may read it"));
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn all_faults_of_both_files_are_told() {
        let broken = home(b"x\ny\n", b"z\n");
        let faults = Home::load(broken.path()).unwrap_err();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [Some(1), Some(2), Some(1)]);
        assert!(faults[2].file.ends_with(DIRECTORIES));
    }

    #[test]
    fn what_is_no_file_is_a_fault_and_not_waited_for() {
        let home = home(b"", b"");
        fs::remove_file(home.path().join(CREDENTIALS)).unwrap();
        fs::remove_file(home.path().join(DIRECTORIES)).unwrap();
        let fifo = home.path().join(CREDENTIALS);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let faults = Home::load(home.path()).unwrap_err();
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let shown = home.path().display();
        assert_eq!(
            told,
            [
                format!("{shown}/Credentials: found something else; expected a regular file"),
                format!(
                    "{shown}/Directories: found no such file; expected a home, as 'tidegate init HOME' makes one"
                ),
            ]
        );
    }
}

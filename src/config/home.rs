//! A loaded home.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::auth::account::Account;
use crate::auth::phc::Cost;
use crate::config::credentials::Credentials;
use crate::config::directories::{Directories, FILES};
use crate::config::error::HomeError;
use crate::config::files::{CREDENTIALS, DIRECTORIES, read_home};
use crate::config::grants::Grants;
use crate::config::sandbox_scope::SandboxScope;
use crate::config::warnings::warnings;
use crate::domain::access::{Access, Grant, Rights};
use crate::domain::name::ALL_USERS;
use crate::domain::user_limits::UserLimits;

/// Accounts, grants and limits of a home, as they were when it was loaded.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    /// In the order of the file.
    accounts: Vec<Arc<Account>>,
    /// Indices into `accounts`.
    by_user: HashMap<String, usize>,
    grants: Grants,
    /// By user, [`ALL_USERS`] included.
    limits: HashMap<String, UserLimits>,
    costliest: Cost,
    /// The directories that a reload can grant; `None` without a file sandbox.
    sandbox_scope: Option<Arc<SandboxScope>>,
}

/// A home and the warnings about it.
pub type LoadedHome = (Home, Vec<String>);

impl Home {
    /// Loads the home at `path`. The warnings report valid but doubtful records: plain
    /// passwords, a file of accounts that every user of the machine can read, grants for unknown
    /// users, missing directories.
    ///
    /// # Errors
    /// All faults of both files.
    pub fn load(path: &Path) -> Result<LoadedHome, Vec<HomeError>> {
        Home::load_where(path, &|_| true)
    }

    /// [`Home::load`] without a look at the granted directories for which `may_look` returns false:
    /// a look could wait for a file system that does not answer.
    ///
    /// # Errors
    /// As for [`Home::load`].
    pub fn load_where(
        path: &Path,
        may_look: &dyn Fn(&Path) -> bool,
    ) -> Result<LoadedHome, Vec<HomeError>> {
        let (credentials, directories) = read_home(path)?;
        let warnings = warnings(path, &credentials, &directories, may_look);
        Ok((Home::new(path, &credentials, &directories), warnings))
    }

    fn new(path: &Path, credentials: &Credentials, directories: &Directories) -> Home {
        let records = credentials.records().iter();
        let accounts: Vec<_> = records.map(|(_, account)| Arc::clone(account)).collect();
        let by_user = accounts.iter().enumerate();
        let limits = directories.limits().iter();
        Home {
            path: path.to_path_buf(),
            by_user: by_user
                .map(|(at, account)| (account.user.clone(), at))
                .collect(),
            grants: Grants::new(directories.records()),
            limits: limits
                .map(|record| (record.user.clone(), record.limits))
                .collect(),
            costliest: costliest(&accounts),
            sandbox_scope: None,
            accounts,
        }
    }

    /// Restricts later reloads to directories inside `scope`.
    pub fn set_sandbox_scope(&mut self, scope: Arc<SandboxScope>) {
        self.sandbox_scope = Some(scope);
    }

    pub(super) fn sandbox_scope(&self) -> Option<&Arc<SandboxScope>> {
        self.sandbox_scope.as_ref()
    }

    /// The home's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file `Directories`.
    pub(super) fn directories_file(&self) -> PathBuf {
        self.path.join(DIRECTORIES)
    }

    /// Drops the grants in these lines of `Directories`.
    pub(super) fn drop_grants(&mut self, lines: &HashSet<usize>) {
        self.grants = self.grants.without(lines);
    }

    pub(super) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The account of a user.
    pub fn account(&self, user: &str) -> Option<&Arc<Account>> {
        self.by_user.get(user).map(|&at| &self.accounts[at])
    }

    /// All accounts, in the order of the file.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter()
    }

    /// The access of a user; `None` if there is no such user.
    pub fn access(&self, user: &str) -> Option<Arc<Access>> {
        self.account(user)?;
        Some(Arc::new(Access {
            user: user.to_owned(),
            grants: self.grants.visible_to(user),
        }))
    }

    /// The limits of a user: from the user's own line, else from the line of all users.
    pub fn limits(&self, user: &str) -> UserLimits {
        let own = self.limits.get(user);
        own.or_else(|| self.limits.get(ALL_USERS))
            .copied()
            .unwrap_or_default()
    }

    /// The directories to which a quota applies, each once.
    pub fn counted_paths(&self) -> BTreeSet<PathBuf> {
        let has_user_quota = self.limits.values().any(|limits| limits.quota.is_some());
        let is_counted = |grant: &&Grant| {
            grant.rights.quota.is_some() || (has_user_quota && grant.rights.may_add())
        };
        let counted = self.grants.all().filter(is_counted);
        counted.map(|grant| grant.path.clone()).collect()
    }

    /// The granted directories, each once.
    pub fn granted_paths(&self) -> Vec<PathBuf> {
        let paths: BTreeSet<&PathBuf> = self.grants.all().map(|grant| &grant.path).collect();
        paths.into_iter().cloned().collect()
    }

    /// Whether a path is, or contains, that of a directory in which a grant to any user shows more
    /// than `rights` do: content or hidden names.
    pub fn leads_to_more(&self, path: &Path, rights: Rights) -> bool {
        let shows_more =
            |other: Rights| other.read && (!rights.read || (other.hidden && !rights.hidden));
        let mut more = self.grants.all().filter(|grant| shows_more(grant.rights));
        more.any(|grant| grant.path.starts_with(path))
    }

    /// The paths that the server of this home reads: the home, its two files (which may be symbolic
    /// links) and the granted directories.
    pub fn readable_paths(&self) -> Vec<PathBuf> {
        let own = [PathBuf::new(), CREDENTIALS.into(), DIRECTORIES.into()];
        let own = own.map(|name| self.path.join(name)).into_iter();
        let granted = self.grants.all().map(|grant| grant.path.clone());
        own.chain(granted).collect()
    }

    /// Where the server of this home writes: the directories to which a user may add files. If one
    /// of them is in `files`, all of `files` is included, so that directories in it can be granted,
    /// created or replaced without a restart.
    pub fn writable_paths(&self) -> Vec<PathBuf> {
        let grants = self.grants.all().filter(|grant| grant.rights.may_add());
        let mut paths: Vec<PathBuf> = grants.map(|grant| grant.path.clone()).collect();
        let files = self.path.join(FILES);
        if paths.iter().any(|path| path.starts_with(&files)) {
            paths.push(files);
        }
        paths
    }

    /// The highest cost among the hashes of this home, for
    /// [`crate::auth::verifier::Verifier::verify_hidden`].
    pub fn costliest(&self) -> Cost {
        self.costliest
    }
}

/// The highest cost among the hashes; [`Cost::OURS`] without a hash.
fn costliest(accounts: &[Arc<Account>]) -> Cost {
    let costs = accounts
        .iter()
        .filter_map(|account| Cost::of(&account.secret));
    costs.max_by_key(|cost| cost.work()).unwrap_or(Cost::OURS)
}

#[cfg(test)]
mod tests;

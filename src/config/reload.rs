//! Reloading: reading a home again and finding the logins that become invalid.

use std::collections::HashSet;
use std::sync::Arc;

use crate::auth::verifier::{Verifier, same_login};
use crate::config::error::HomeError;
use crate::config::home::{Home, LoadedHome};

/// The result of reading a home again.
#[derive(Debug)]
pub struct ReloadOutcome {
    /// The new home with its warnings, or all faults of both files.
    pub result: Result<LoadedHome, Vec<HomeError>>,
    /// The users whose logins become invalid: their record was removed or changed to another login.
    /// Empty if the result is an error.
    pub revoked: HashSet<String>,
}

impl Home {
    /// Reads both files again and compares the accounts. Verifies one password for each account
    /// whose plain password was replaced by a hash.
    pub fn reload(&self, verifier: &mut Verifier) -> ReloadOutcome {
        let result = Home::load(self.path()).and_then(|loaded| self.within_sandbox(loaded));
        let mut revoked = HashSet::new();
        if let Ok((new, _)) = &result {
            for old in self.accounts() {
                let same = new
                    .account(&old.user)
                    .is_some_and(|new| same_login(old, new, verifier));
                if !same {
                    revoked.insert(old.user.clone());
                }
            }
        }
        ReloadOutcome { result, revoked }
    }

    /// Gives a newly loaded home the sandbox scope of this one. Fails if it grants a directory
    /// outside.
    fn within_sandbox(
        &self,
        (mut new, warnings): LoadedHome,
    ) -> Result<LoadedHome, Vec<HomeError>> {
        let Some(scope) = self.sandbox_scope() else {
            return Ok((new, warnings));
        };
        let faults = scope.faults(&new.directories_file(), new.grants());
        new.set_sandbox_scope(Arc::clone(scope));
        match faults.is_empty() {
            true => Ok((new, warnings)),
            false => Err(faults),
        }
    }
}

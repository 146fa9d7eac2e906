//! Reloading: reading a home again and finding the logins that become invalid.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::auth::verifier::{Verifier, same_login};
use crate::config::error::HomeError;
use crate::config::home::{Home, LoadedHome};

/// The result of reading a home again.
#[derive(Debug)]
pub struct ReloadOutcome {
    /// The new home with its warnings, or all faults of both files.
    pub result: Result<LoadedHome, Vec<HomeError>>,
    /// The grants that the new home lacks because they cannot be used.
    pub dropped: Vec<HomeError>,
    /// The users whose logins become invalid: their record was removed or changed to another login.
    /// Empty if the result is an error.
    pub revoked: HashSet<String>,
}

impl Home {
    /// Reads both files again and compares the accounts. Verifies one password for each account
    /// whose plain password was replaced by a hash. Looks only at directories for which `may_look`
    /// returns true; the others are granted as they are.
    pub fn reload(
        &self,
        verifier: &mut Verifier,
        may_look: &dyn Fn(&Path) -> bool,
    ) -> ReloadOutcome {
        let mut result = Home::load_where(self.path(), may_look);
        let mut revoked = HashSet::new();
        let mut dropped = Vec::new();
        if let Ok((new, _)) = &mut result {
            dropped = self.drop_outside_sandbox(new, may_look);
            for old in self.accounts() {
                let same = new
                    .account(&old.user)
                    .is_some_and(|new| same_login(old, new, verifier));
                if !same {
                    revoked.insert(old.user.clone());
                }
            }
        }
        ReloadOutcome {
            result,
            dropped,
            revoked,
        }
    }

    /// Gives a newly loaded home the sandbox scope of this one, and drops its grants outside.
    fn drop_outside_sandbox(
        &self,
        new: &mut Home,
        may_look: &dyn Fn(&Path) -> bool,
    ) -> Vec<HomeError> {
        let Some(scope) = self.sandbox_scope() else {
            return Vec::new();
        };
        let faults = scope.faults(&new.directories_file(), new.grants(), may_look);
        new.set_sandbox_scope(Arc::clone(scope));
        let lines = faults.iter().map(|(line, _)| *line).collect();
        new.drop_grants(&lines);
        faults.into_iter().map(|(_, fault)| fault).collect()
    }
}

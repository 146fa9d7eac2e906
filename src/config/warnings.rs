//! Warnings about a valid home.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::auth::account::Secret;
use crate::config::credentials::Credentials;
use crate::config::directories::Directories;
use crate::config::files::{CREDENTIALS, DIRECTORIES};
use crate::config::granted_directory::unusable_directory;
use crate::config::grants::Grants;
use crate::config::permissions::{file_warnings, write_warnings};
use crate::domain::name::ALL_USERS;

/// Returns the warnings about a home, a line each.
pub(super) fn warnings(
    home: &Path,
    credentials: &Credentials,
    directories: &Directories,
    may_look: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    let mut warnings = write_warnings(home);
    for file in [CREDENTIALS, DIRECTORIES] {
        warnings.extend(file_warnings(&home.join(file)));
    }
    warnings.extend(account_warnings(home, credentials));
    warnings.extend(anonymous_warnings(home, credentials, directories));
    warnings.extend(grant_warnings(home, credentials, directories, may_look));
    warnings
}

/// Readable accounts, names with spaces at an end, plain passwords.
fn account_warnings(home: &Path, credentials: &Credentials) -> Vec<String> {
    let mut warnings = Vec::new();
    let file = home.join(CREDENTIALS);
    let shown = file.display();
    if fs::metadata(&file).is_ok_and(|metadata| metadata.mode() & 0o004 != 0) {
        warnings.push(format!(
            "{shown}: every user of this machine can read it; restrict it with 'chmod 600 {shown}'"
        ));
    }
    for (line, account) in credentials.records() {
        let user = &account.user;
        if user.trim() != user {
            warnings.push(format!(
                "{shown}:{line}: the name '{user}' begins or ends with a space"
            ));
        }
        if let Secret::Plain(password) = &account.secret {
            let doubt = plain_doubt(password);
            warnings.extend(
                doubt.map(|what| format!("{shown}:{line}: the password of '{user}' {what}")),
            );
            warnings.push(format!(
                "{shown}:{line}: the password of '{user}' is not hashed; replace it by a hash with \
                 'tidegate user hash {}'",
                home.display(),
            ));
        }
    }
    warnings
}

/// Describes a plain password that is probably not the one that was meant.
fn plain_doubt(password: &str) -> Option<&'static str> {
    if password.contains(" #") {
        return Some(
            "contains ' #': everything after 'plain:' is the password; write a comment on a line \
             of its own",
        );
    }
    if password.starts_with('$') && password.matches('$').count() > 2 {
        return Some("looks like a hash: a hash follows the name without 'plain:'");
    }
    (password.trim() != password)
        .then_some("begins or ends with a space, which is part of the password")
}

/// Users without a password who may write.
fn anonymous_warnings(
    home: &Path,
    credentials: &Credentials,
    directories: &Directories,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let file = home.join(CREDENTIALS);
    let grants = Grants::new(directories.records());
    for (line, account) in credentials.records() {
        if account.secret != Secret::Anyone {
            continue;
        }
        for grant in grants.visible_to(&account.user) {
            if grant.rights.may_add() {
                warnings.push(format!(
                    "{}:{line}: '{}' accepts any password and may write to '{}' ({})",
                    file.display(),
                    account.user,
                    grant.name,
                    grant.rights,
                ));
            }
        }
    }
    warnings
}

/// Lines for unknown users and missing directories.
fn grant_warnings(
    home: &Path,
    credentials: &Credentials,
    directories: &Directories,
    may_look: &dyn Fn(&Path) -> bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let records = credentials.records().iter();
    let users: HashSet<&str> = records.map(|(_, account)| &*account.user).collect();
    let is_unknown = |user: &str| user != ALL_USERS && !users.contains(user);
    let file = home.join(DIRECTORIES);
    let file = file.display();
    for record in directories.limits() {
        let (line, user) = (record.line, &record.user);
        if is_unknown(user) {
            warnings.push(format!(
                "{file}:{line}: limits for '{user}', but there is no such user{}; correct the name \
                 or add the user with 'tidegate user add'",
                credentials.similar_user(user)
            ));
        }
    }
    for record in directories.records() {
        let (line, user) = (record.line, &record.user);
        if is_unknown(user) {
            warnings.push(format!(
                "{file}:{line}: a grant for '{user}', but there is no such user{}; correct the \
                 name or add the user with 'tidegate user add'",
                credentials.similar_user(user)
            ));
        }
        let path = &record.grant.path;
        if may_look(path)
            && let Some(what) = unusable_directory(path, record.grant.rights)
        {
            warnings.push(format!("{file}:{line}: {what}"));
        }
    }
    warnings
}

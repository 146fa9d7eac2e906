//! The file `Credentials`: one account per line, `USER:HASH`, `USER:plain:PASSWORD` or
//! `USER:anyone`.
//!
//! Parses text and returns edited text; reads and writes no files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::auth::account::{Account, Secret};
use crate::auth::phc;
use crate::config::error::HomeError;
use crate::config::records;
use crate::config::records::RecordError;
use crate::domain::name::check_user_name;
use crate::domain::suggestion::Suggestion;
use crate::limits::LINE_BYTES_MAX;

/// The parsed file: its text and its records.
pub struct Credentials {
    text: Zeroizing<Vec<u8>>,
    /// Each with the number of its line, in the order of the file; each user once.
    records: Vec<(usize, Arc<Account>)>,
}

impl Credentials {
    /// Parses the text of `file`.
    ///
    /// # Errors
    /// All faults, each with its line.
    pub fn parse(file: &Path, text: Zeroizing<Vec<u8>>) -> Result<Credentials, Vec<HomeError>> {
        let mut lines: HashMap<String, usize> = HashMap::new();
        let records = records::parse(file, &text, |number, line| {
            let account = parse_record(line)?;
            if let Some(first) = lines.get(&account.user) {
                return Err(RecordError::new(
                    format!("user '{}' is already defined in line {first}", account.user),
                    "each user once",
                ));
            }
            lines.insert(account.user.clone(), number);
            Ok((number, Arc::new(account)))
        })?;
        Ok(Credentials { text, records })
    }

    /// The records with the numbers of their lines, in the order of the file.
    pub fn records(&self) -> &[(usize, Arc<Account>)] {
        &self.records
    }

    /// Whether the user exists.
    pub fn has(&self, user: &str) -> bool {
        self.line_of(user).is_some()
    }

    /// Suggests an existing user for the name of a missing one.
    pub fn similar_user(&self, user: &str) -> Suggestion {
        let users = self
            .records
            .iter()
            .map(|(_, account)| account.user.as_str());
        Suggestion::new(user, users)
    }

    /// Returns the text with this hash for `user`: in the user's line, or in a new last line.
    ///
    /// # Panics
    /// If `user` or `hash` is invalid; callers check both.
    pub fn with(&self, user: &str, hash: &str) -> Zeroizing<Vec<u8>> {
        assert!(check_user_name(user).is_ok() && phc::check(hash).is_ok());
        let new = format!("{user}:{hash}");
        match self.line_of(user) {
            Some(number) => records::edit(&self.text, &[(number, Some(&new))], None),
            None => records::edit(&self.text, &[], Some(&new)),
        }
    }

    /// Returns the text without `user`; `None` if there is no such user.
    pub fn without(&self, user: &str) -> Option<Zeroizing<Vec<u8>>> {
        let number = self.line_of(user)?;
        Some(records::edit(&self.text, &[(number, None)], None))
    }

    /// Returns the text with every plain password replaced by the result of `hash`, and their
    /// number.
    pub fn hashed(&self, hash: impl Fn(&[u8]) -> String) -> (Zeroizing<Vec<u8>>, usize) {
        let new: Vec<(usize, String)> = self
            .records
            .iter()
            .filter_map(|(number, account)| match &account.secret {
                Secret::Plain(password) => {
                    let line = format!("{}:{}", account.user, hash(password.as_bytes()));
                    Some((*number, line))
                }
                Secret::Hash(_) | Secret::Anyone => None,
            })
            .collect();
        let changes: Vec<(usize, Option<&str>)> = new
            .iter()
            .map(|(number, line)| (*number, Some(line.as_str())))
            .collect();
        (records::edit(&self.text, &changes, None), new.len())
    }

    fn line_of(&self, user: &str) -> Option<usize> {
        let mut records = self.records.iter();
        let (number, _) = records.find(|(_, account)| account.user == user)?;
        Some(*number)
    }
}

/// Parses one line. Errors contain no text of the line but a user name that is followed by `:`,
/// since everything else may be a password.
fn parse_record(line: &str) -> Result<Account, RecordError> {
    const FORMS: &str = "USER:HASH, USER:plain:PASSWORD or USER:anyone";
    let Some((user, secret)) = line.split_once(':') else {
        return Err(RecordError::new("the line has no ':'", FORMS));
    };
    check_user_name(user)
        .map_err(|what| RecordError::new(what, "a user name before the first ':'"))?;
    let secret = match secret.strip_prefix("plain:") {
        Some(password) => parse_plain(password)?,
        None if secret == "anyone" => Secret::Anyone,
        None if secret.starts_with('$') => {
            phc::check(secret).map_err(|what| {
                RecordError::new(what, "a PHC string that begins with '$argon2id$v=19$'")
            })?;
            Secret::Hash(secret.to_owned())
        }
        None if secret.is_empty() => {
            return Err(RecordError::new("nothing follows the name", FORMS));
        }
        None if secret.starts_with([' ', '\t']) => {
            return Err(RecordError::new("a space follows the first ':'", FORMS));
        }
        None if is_in_capitals(secret) => {
            return Err(RecordError::new(
                "'plain:' or 'anyone' is not in lower case",
                FORMS,
            ));
        }
        None => {
            return Err(RecordError::new(
                "the name is followed by neither a hash, 'plain:' nor 'anyone'",
                FORMS,
            ));
        }
    };
    Ok(Account {
        user: user.to_owned(),
        secret,
    })
}

fn is_in_capitals(secret: &str) -> bool {
    let is_plain = secret
        .get(..6)
        .is_some_and(|word| word.eq_ignore_ascii_case("plain:"));
    is_plain || secret.eq_ignore_ascii_case("anyone")
}

fn parse_plain(password: &str) -> Result<Secret, RecordError> {
    if password.is_empty() {
        return Err(RecordError::new(
            "the password is empty",
            "a password after 'plain:'",
        ));
    }
    if password.len() >= LINE_BYTES_MAX {
        return Err(RecordError::new(
            format!("the password has {} bytes", password.len()),
            "at most 4,095 bytes, which fit in one line of a client",
        ));
    }
    Ok(Secret::Plain(Zeroizing::new(password.to_owned())))
}

const _: () = assert!(LINE_BYTES_MAX == 4096);

#[cfg(test)]
mod tests;

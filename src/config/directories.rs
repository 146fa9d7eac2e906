//! The file `Directories`: one grant per line, `USER:DIRECTORY:RIGHTS[:PATH]`, or the limits of a
//! user, `USER::LIMITS`.
//!
//! Parses text and returns edited text; reads and writes no files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::error::HomeError;
use crate::config::grants::GrantRecord;
use crate::config::records;
use crate::config::records::RecordError;
use crate::domain::access::{Grant, Rights};
use crate::domain::name::{ALL_USERS, check_directory_name, check_grant_path, check_user_name};
use crate::domain::user_limits::UserLimits;

/// The folder of a home that contains the directories granted without a path.
pub const FILES: &str = "files";

/// One line of the file that sets the limits of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsRecord {
    /// The number of the line, from 1.
    pub line: usize,
    /// A user's name, or [`ALL_USERS`] for each user without an own line.
    pub user: String,
    /// The limits.
    pub limits: UserLimits,
}

/// The parsed file: its text and its records.
pub struct Directories {
    text: Zeroizing<Vec<u8>>,
    records: Vec<GrantRecord>,
    limits: Vec<LimitsRecord>,
}

impl Directories {
    /// Parses the text of `file`, which belongs to `home`.
    ///
    /// # Errors
    /// All faults, each with its line.
    pub fn parse(
        file: &Path,
        text: Zeroizing<Vec<u8>>,
        home: &Path,
    ) -> Result<Directories, Vec<HomeError>> {
        let mut lines: HashMap<(String, String), usize> = HashMap::new();
        let (mut grants, mut limits) = (Vec::new(), Vec::new());
        records::parse(file, &text, |line, record| {
            let record = parse_record(record, home)?;
            let first = *lines.entry(record.key()).or_insert(line);
            if first != line {
                return Err(record.duplicate_of(first));
            }
            match record {
                Record::Grant(user, grant) => grants.push(GrantRecord {
                    line,
                    user,
                    grant: Arc::new(grant),
                }),
                Record::Limits(user, found) => limits.push(LimitsRecord {
                    line,
                    user,
                    limits: found,
                }),
            }
            Ok(())
        })?;
        Ok(Directories {
            text,
            records: grants,
            limits,
        })
    }

    /// The grants, in the order of the file.
    pub fn records(&self) -> &[GrantRecord] {
        &self.records
    }

    /// The limits of users, in the order of the file.
    pub fn limits(&self) -> &[LimitsRecord] {
        &self.limits
    }

    /// Returns the text that grants `user` these rights in `directory`: in the line of the earlier
    /// grant, or in a new last line.
    ///
    /// # Panics
    /// If a field is invalid; callers check all of them.
    pub fn with(
        &self,
        user: &str,
        directory: &str,
        rights: Rights,
        path: Option<&str>,
    ) -> Zeroizing<Vec<u8>> {
        let path = path.map_or(String::new(), |path| format!(":{path}"));
        let new = format!("{user}:{directory}:{rights}{path}");
        let parsed = parse_record(&new, Path::new(""));
        assert!(parsed.is_ok(), "a new line can be parsed");
        match self.removals(user, Some(directory))[..] {
            [] => records::edit(&self.text, &[], Some(&new)),
            [(number, _), ..] => records::edit(&self.text, &[(number, Some(&new))], None),
        }
    }

    /// Returns the text without the grants and limits of `user`, or without the grant of
    /// `directory` only; `None` if there is nothing to remove.
    pub fn without(&self, user: &str, directory: Option<&str>) -> Option<Zeroizing<Vec<u8>>> {
        let mut lines = self.removals(user, directory);
        if directory.is_none() {
            let limits = self.limits.iter().filter(|record| record.user == user);
            lines.extend(limits.map(|record| (record.line, None)));
            lines.sort_unstable();
        }
        (!lines.is_empty()).then(|| records::edit(&self.text, &lines, None))
    }

    /// The lines of these grants, ascending, as changes that remove them.
    fn removals(&self, user: &str, directory: Option<&str>) -> Vec<(usize, Option<&str>)> {
        let records = self.records.iter().filter(|record| {
            record.user == user && directory.is_none_or(|name| record.grant.name == name)
        });
        records.map(|record| (record.line, None)).collect()
    }
}

/// The content of one line, with its user.
enum Record {
    Grant(String, Grant),
    Limits(String, UserLimits),
}

impl Record {
    /// The unique key in the file: user and directory; no directory for limits.
    fn key(&self) -> (String, String) {
        match self {
            Record::Grant(user, grant) => (user.clone(), grant.name.clone()),
            Record::Limits(user, _) => (user.clone(), String::new()),
        }
    }

    fn duplicate_of(&self, first: usize) -> RecordError {
        match self {
            Record::Grant(user, grant) => RecordError::new(
                format!(
                    "the grant of '{}' to '{user}' is already defined in line {first}",
                    grant.name
                ),
                "one grant for each user and directory",
            ),
            Record::Limits(user, _) => RecordError::new(
                format!("the limits of '{user}' are in line {first} already"),
                "one line of limits for each user",
            ),
        }
    }
}

fn parse_record(line: &str, home: &Path) -> Result<Record, RecordError> {
    let mut fields = line.splitn(4, ':');
    let (Some(user), Some(name), Some(rights)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(RecordError::new(
            "the line has fewer than three fields",
            "USER:DIRECTORY:RIGHTS or USER:DIRECTORY:RIGHTS:PATH",
        ));
    };
    if user != ALL_USERS {
        check_user_name(user)
            .map_err(|what| RecordError::new(what, "a user name or '*' before the first ':'"))?;
    }
    let user = user.to_owned();
    match name {
        "" => parse_limits(rights, fields.next()).map(|limits| Record::Limits(user, limits)),
        _ => parse_grant(name, rights, fields.next(), home).map(|grant| Record::Grant(user, grant)),
    }
}

fn parse_limits(limits: &str, path: Option<&str>) -> Result<UserLimits, RecordError> {
    let limits = limits.parse().map_err(|what: String| {
        RecordError::new(
            what,
            "a comma-separated list of sessions=N, rate=BYTES and quota=SIZE or quota=SIZE/FILES",
        )
    })?;
    match path {
        None => Ok(limits),
        Some(_) => Err(RecordError::new(
            "a path follows the limits of a user",
            "USER::LIMITS",
        )),
    }
}

fn parse_grant(
    name: &str,
    rights: &str,
    path: Option<&str>,
    home: &Path,
) -> Result<Grant, RecordError> {
    check_directory_name(name).map_err(|what| {
        RecordError::new(
            what,
            "a directory name after the first ':', and its path after the third",
        )
    })?;
    let rights = rights
        .parse()
        .map_err(|what: String| RecordError::new(what, Rights::EXPECTED))?;
    let path = match path {
        None => home.join(FILES).join(name),
        Some(path) => {
            check_grant_path(path)
                .map_err(|what| RecordError::new(what, "a path after the third ':'"))?;
            home.join(path)
        }
    };
    // One spelling of each path: no repeated or trailing `/` and no `.`. A `..` stays, since it may
    // follow a symbolic link.
    let path = path.components().collect();
    let name = name.to_owned();
    Ok(Grant { name, rights, path })
}

#[cfg(test)]
mod tests;

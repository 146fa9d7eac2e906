//! The grants of a home and which of them a user sees.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::domain::access::Grant;
use crate::domain::name::ALL_USERS;

/// One line of the file `Directories` that grants a directory.
#[derive(Clone, Debug)]
pub struct GrantRecord {
    /// The number of the line, from 1.
    pub line: usize,
    /// A user's name or [`ALL_USERS`].
    pub user: String,
    /// The granted directory.
    pub grant: Arc<Grant>,
}

/// All grants of a home, in the order of the file.
#[derive(Debug, Default)]
pub struct Grants {
    grants: Vec<Arc<Grant>>,
    /// The number of each grant's line.
    lines: Vec<usize>,
    /// By user, ascending indices into `grants`.
    own: HashMap<String, Vec<usize>>,
    /// The same for [`ALL_USERS`].
    common: Vec<usize>,
}

impl Grants {
    /// Indexes the records by user.
    pub fn new(records: &[GrantRecord]) -> Grants {
        let mut all = Grants::default();
        for (at, record) in records.iter().enumerate() {
            all.grants.push(Arc::clone(&record.grant));
            all.lines.push(record.line);
            if record.user == ALL_USERS {
                all.common.push(at);
            } else {
                all.own.entry(record.user.clone()).or_default().push(at);
            }
        }
        all
    }

    /// Returns the grants but those in certain lines.
    pub(super) fn without(&self, lines: &HashSet<usize>) -> Grants {
        let owners = self
            .own
            .iter()
            .flat_map(|(user, all)| all.iter().map(move |at| (at, user)));
        let owners: HashMap<usize, &String> = owners.map(|(at, user)| (*at, user)).collect();
        let kept = (0..self.grants.len()).filter(|at| !lines.contains(&self.lines[*at]));
        let records: Vec<GrantRecord> = kept
            .map(|at| GrantRecord {
                line: self.lines[at],
                user: owners.get(&at).map_or(ALL_USERS, |user| user).to_owned(),
                grant: Arc::clone(&self.grants[at]),
            })
            .collect();
        Grants::new(&records)
    }

    /// All grants, of all users.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().map(|grant| &**grant)
    }

    /// All grants, each with the number of its line.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &Grant)> {
        self.lines.iter().copied().zip(self.all())
    }

    /// The grants that apply to `user`: the user's own, and those of all users for other
    /// directories.
    pub fn visible_to(&self, user: &str) -> Vec<Arc<Grant>> {
        let own = self.own.get(user).map_or(&[][..], Vec::as_slice);
        let own_names: HashSet<&str> = own.iter().map(|&at| &*self.grants[at].name).collect();
        let common = self.common.iter().copied();
        let mut visible: Vec<usize> = common
            .filter(|&at| !own_names.contains(&*self.grants[at].name))
            .chain(own.iter().copied())
            .collect();
        visible.sort_unstable();
        let visible = visible.into_iter();
        visible.map(|at| Arc::clone(&self.grants[at])).collect()
    }
}

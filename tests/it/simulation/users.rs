//! The users of the model, their grants, and the home's two files.

use std::time::Duration;

use fastrand::Rng;

use super::model::real;

/// The granted directories: one that never changes, one changed by the operator, one changed by
/// clients, and one changed by clients without the right to read.
pub(super) const DIRECTORIES: [&str; 4] = ["Movies", "News", "Mail", "Box"];

/// The hashed passwords of the first users, with minimal cost.
const HASHES: [&str; 2] = [
    "$argon2id$v=19$m=8,t=1,p=1$K+uIL4298aLp6ARwQwIbUQ$Pxi+DII5ZO+uW4B+caZcVafHuAmjqOGfN2Edqknloe0",
    "$argon2id$v=19$m=8,t=1,p=1$XH0abdngbQl4yllFdtFjFA$W8Z/QXK/RvZLKbcGqksmS3i/slPUh9hn2wvMo7LqC70",
];

/// A user of the home.
pub(super) struct User {
    pub(super) name: String,
    pub(super) password: String,
    /// All grants that the user has had, each with its first step.
    pub(super) rights: Vec<(usize, Vec<Grant>)>,
}

impl User {
    /// Returns the grants that can apply to a command that was sent in step `sent`, in order.
    pub(super) fn rights(&self, sent: usize) -> impl Iterator<Item = &[Grant]> {
        let first = self.rights.iter().rposition(|(since, _)| *since <= sent);
        let rights = &self.rights[first.expect("a user has initial grants")..];
        rights.iter().map(|(_, grants)| &**grants)
    }
}

/// The rights of a user in a directory.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) directory: &'static str,
    pub(super) read: bool,
    pub(super) upload: bool,
    pub(super) change: bool,
}

impl Grant {
    pub(super) fn may_add(&self) -> bool {
        self.upload || self.change
    }
}

/// Returns the grant of the directory at the start of a path.
pub(super) fn grant_of<'g>(grants: &'g [Grant], path: &str) -> Option<&'g Grant> {
    let (directory, _) = path.split_once('/').unwrap_or((path, ""));
    grants.iter().find(|grant| grant.directory == directory)
}

pub(super) fn may_add_somewhere(grants: &[Grant]) -> bool {
    grants.iter().any(Grant::may_add)
}

/// A removed user, with the step and the time of the removal.
#[derive(Clone, Copy)]
pub(super) struct Revoked {
    pub(super) user: usize,
    pub(super) step: usize,
    pub(super) at: Duration,
}

/// Returns `Credentials` and `Directories` of these users, except the removed one.
pub(super) fn home_files(users: &[User], revoked: Option<usize>) -> (String, String) {
    let mut credentials = String::new();
    let mut directories = String::new();
    for (number, user) in users.iter().enumerate() {
        if Some(number) == revoked {
            continue;
        }
        let secret = match HASHES.get(number) {
            Some(hash) => (*hash).to_owned(),
            None => format!("plain:{}", user.password),
        };
        credentials += &format!("{}:{secret}\n", user.name);
        let (_, grants) = user.rights.last().expect("a user has initial grants");
        for grant in grants {
            let rights = [
                ("read", grant.read),
                ("upload", grant.upload),
                ("change", grant.change),
            ];
            let rights = rights.iter().filter(|(_, has)| *has).map(|(name, _)| *name);
            let rights = rights.collect::<Vec<_>>().join(",");
            let (user, name) = (&user.name, grant.directory);
            directories += &format!("{user}:{name}:{rights}:{}\n", real(name));
        }
    }
    (credentials, directories)
}

/// Returns random grants of some directories.
pub(super) fn random_grants(rng: &mut Rng) -> Vec<Grant> {
    let grants = DIRECTORIES.iter();
    let grants = grants.filter_map(|name| match rng.u8(..4) {
        0 => None,
        _ => Some(random_grant(rng, name)),
    });
    grants.collect()
}

fn random_grant(rng: &mut Rng, directory: &'static str) -> Grant {
    let change = rng.bool();
    match directory {
        "Box" => Grant {
            directory,
            read: false,
            upload: true,
            change: false,
        },
        "Mail" => Grant {
            directory,
            read: true,
            upload: !change || rng.bool(),
            change,
        },
        _ => Grant {
            directory,
            read: true,
            upload: false,
            change: false,
        },
    }
}

//! Usernames of login attempts, as they appear in the log.

use crate::auth::keyed_hash::RandomKey;
use crate::config::Home;
use crate::server::log::escape::Escaped;

/// Decides what the log shows of the username of a login attempt.
///
/// A password is easily sent in place of the username, so only names of the home's users are
/// logged.
pub(super) struct LoggedNames {
    key: RandomKey,
}

impl LoggedNames {
    /// # Panics
    /// If the kernel returns no random bytes.
    pub(super) fn new() -> LoggedNames {
        LoggedNames {
            key: RandomKey::new(),
        }
    }

    /// Returns a known username, escaped, or `?` and 32 bits of a keyed hash of an unknown one. The
    /// hash shows which attempts had the same name while the server runs, and nothing else: its key
    /// never leaves the process.
    pub(super) fn name(&self, user: &str, home: &Home) -> String {
        if home.account(user).is_some() {
            return Escaped(user).to_string();
        }
        let [a, b, c, d, ..] = self.key.hash(&[user.as_bytes()]);
        format!("?{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_users_are_logged() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("Credentials"),
            "ann:anyone\na b:anyone\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("Directories"), "").unwrap();
        let (home, _) = Home::load(folder.path()).unwrap();
        let names = LoggedNames::new();
        assert_eq!(names.name("ann", &home), "ann");
        assert_eq!(names.name("a b", &home), "\"a b\"");
        for unknown in ["", "Ann", "ann ", "secret", "secret=\"\n"] {
            let name = names.name(unknown, &home);
            assert_eq!(name, names.name(unknown, &home));
            assert_ne!(name, names.name("other", &home));
            assert_ne!(name, LoggedNames::new().name(unknown, &home));
            let hash = name.strip_prefix('?').unwrap();
            assert!(hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}

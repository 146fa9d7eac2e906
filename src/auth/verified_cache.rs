//! Recently verified passwords, so that a client with many connections pays for one argon2 hash
//! only.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Instant;

use crate::auth::account::{Account, Secret};
use crate::auth::keyed_hash::RandomKey;
use crate::limits;

/// A cache of recently verified passwords, by a keyed hash of user, password and record.
///
/// Holds at most [`limits::VERIFIED_CACHE_MAX`] entries, each for
/// [`limits::VERIFIED_CACHE_AGE_MAX`]; the oldest is evicted first. A changed record has other
/// tags, so an entry never outlives its record.
pub struct VerifiedCache {
    key: RandomKey,
    since: HashMap<PasswordTag, Instant>,
    /// The same tags, the oldest first.
    order: VecDeque<PasswordTag>,
}

/// The keyed hash of a user, a password and a record. Reveals nothing without the cache's key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PasswordTag([u8; 32]);

impl fmt::Debug for PasswordTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordTag(…)")
    }
}

impl VerifiedCache {
    /// Creates an empty cache with a new random key.
    ///
    /// # Panics
    /// If the kernel returns no random bytes.
    pub fn new() -> VerifiedCache {
        VerifiedCache {
            key: RandomKey::new(),
            since: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Returns the tag of this password for this record.
    pub fn tag(&self, account: &Account, password: &[u8]) -> PasswordTag {
        let (kind, secret): (&[u8], &[u8]) = match &account.secret {
            Secret::Hash(hash) => (b"hash", hash.as_bytes()),
            Secret::Plain(password) => (b"plain", password.as_bytes()),
            Secret::Anyone => (b"anyone", b""),
        };
        let fields = [account.user.as_bytes(), password, kind, secret];
        PasswordTag(self.key.hash(&fields))
    }

    /// Whether the password was verified recently.
    pub fn contains(&self, tag: &PasswordTag, now: Instant) -> bool {
        self.since.get(tag).is_some_and(|&since| {
            now.saturating_duration_since(since) < limits::VERIFIED_CACHE_AGE_MAX
        })
    }

    /// Adds a password that was verified at `now`, which must not decrease between calls. An entry
    /// that is present keeps its age.
    pub fn insert(&mut self, tag: PasswordTag, now: Instant) {
        while let Some(oldest) = self.order.front().copied() {
            if self.order.len() < limits::VERIFIED_CACHE_MAX && self.contains(&oldest, now) {
                break;
            }
            self.order.pop_front();
            self.since.remove(&oldest);
        }
        if let Entry::Vacant(vacant) = self.since.entry(tag) {
            vacant.insert(now);
            self.order.push_back(tag);
        }
        assert!(self.order.len() == self.since.len());
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.since.clear();
        self.order.clear();
    }
}

impl Default for VerifiedCache {
    fn default() -> VerifiedCache {
        VerifiedCache::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use zeroize::Zeroizing;

    fn account(user: &str, secret: Secret) -> Account {
        Account {
            user: user.into(),
            secret,
        }
    }

    fn plain(password: &str) -> Secret {
        Secret::Plain(Zeroizing::new(password.into()))
    }

    #[test]
    fn tags_differ_by_user_password_and_record() {
        let cache = VerifiedCache::new();
        let tag = cache.tag(&account("ab", plain("c")), b"c");
        assert_eq!(tag, cache.tag(&account("ab", plain("c")), b"c"));
        for (user, secret, password) in [
            ("a", plain("c"), "bc"),
            ("ab", plain("d"), "c"),
            ("ab", plain("c"), "d"),
            ("ab", Secret::Hash("c".into()), "c"),
        ] {
            assert_ne!(tag, cache.tag(&account(user, secret), password.as_bytes()));
        }
        let other = VerifiedCache::new();
        assert_ne!(tag, other.tag(&account("ab", plain("c")), b"c"));
    }

    #[test]
    fn entries_expire_are_evicted_and_cleared() {
        let mut cache = VerifiedCache::new();
        let start = Instant::now();
        let tag = |n: usize| PasswordTag(std::array::from_fn(|at| n.to_le_bytes()[at % 8]));
        cache.insert(tag(0), start);
        let late = start + limits::VERIFIED_CACHE_AGE_MAX - Duration::from_secs(1);
        assert!(cache.contains(&tag(0), late) && !cache.contains(&tag(1), late));
        cache.insert(tag(0), late);
        assert!(
            !cache.contains(&tag(0), start + limits::VERIFIED_CACHE_AGE_MAX),
            "the age counts from the first insertion"
        );
        for n in 1..=limits::VERIFIED_CACHE_MAX {
            cache.insert(tag(n), late);
        }
        assert!(!cache.contains(&tag(0), late), "the oldest was evicted");
        let newest = tag(limits::VERIFIED_CACHE_MAX);
        assert!(cache.contains(&tag(1), late) && cache.contains(&newest, late));
        assert_eq!(cache.order.len(), limits::VERIFIED_CACHE_MAX);
        cache.insert(tag(0), late + limits::VERIFIED_CACHE_AGE_MAX);
        assert_eq!(cache.order.len(), 1, "expired entries are removed");
        cache.clear();
        assert!(!cache.contains(&tag(0), late + limits::VERIFIED_CACHE_AGE_MAX));
    }
}

//! Passwords: PHC hashes made and proved, and what was proved lately. The only file that handles them.
//!
//! Pure but for random bytes, and slow on purpose: proving is a worker's job. Must not know: files, sessions, threads.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::credentials::{Account, Secret};
use crate::limits;

/// What a hash costs to prove: argon2id's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Memory in KiB.
    m: u32,
    /// Passes over it.
    t: u32,
    /// Lanes.
    p: u32,
}

impl Cost {
    /// Of the hashes made here: OWASP's recommendation (Password Storage Cheat Sheet, 2025), 16 to 24 ms of CPU and 19 MiB.
    pub const OURS: Cost = Cost {
        m: 19_456,
        t: 2,
        p: 1,
    };

    /// What a record costs to prove; `None` where that is nothing: a plain password, or any.
    pub fn of(secret: &Secret) -> Option<Cost> {
        match secret {
            Secret::Hash(hash) => parse(hash).ok().map(|(params, _)| Cost {
                m: params.m_cost(),
                t: params.t_cost(),
                p: params.p_cost(),
            }),
            Secret::Plain(_) | Secret::Anyone => None,
        }
    }

    fn params(self) -> Params {
        Params::new(self.m, self.t, self.p, None).expect("the parameters of a cost were checked")
    }
}

/// A new hash of `password` with a new salt, as a PHC string of [`Cost::OURS`].
///
/// # Panics
/// If the kernel gives no random bytes.
pub fn hash(password: &[u8]) -> String {
    use argon2::PasswordHasher;
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Cost::OURS.params())
        .hash_password(password)
        .expect("parameters and lengths are ours, random bytes the kernel's")
        .to_string()
}

/// Whether `password` can be a new one: not empty, and short enough for a client's line. What is wrong otherwise.
pub fn check_new(password: &[u8]) -> Result<(), &'static str> {
    if password.is_empty() {
        return Err("an empty password");
    }
    if password.len() >= limits::LINE_BYTES_MAX {
        return Err("a password of more than 4,095 bytes");
    }
    Ok(())
}

/// Whether a [`Verifier`] can prove passwords against `hash`, at a bearable cost; what is wrong otherwise.
pub fn check(hash: &str) -> Result<(), &'static str> {
    parse(hash).map(drop)
}

/// Proves passwords. Owns the memory that argon2 fills, as much as the costliest hash has asked for
/// ([`limits::HASH_MEMORY_KIB_MAX`] at most), and uses it again and again: one for each worker.
pub struct Verifier {
    memory: Vec<Block>,
    key: Key,
}

impl Verifier {
    /// With no memory yet: the first proof takes it.
    ///
    /// # Panics
    /// If the kernel gives no random bytes.
    pub fn new() -> Verifier {
        Verifier {
            memory: Vec::new(),
            key: Key::random(),
        }
    }

    /// Whether `password` is the one that `secret` asks for. The time it takes depends on the record, not on how far a
    /// wrong password is right.
    pub fn verify(&mut self, secret: &Secret, password: &[u8]) -> bool {
        match secret {
            // Two tags under a random key are compared, which tells nothing of what was hashed, its length included.
            Secret::Plain(right) => self.key.tag(&[right.as_bytes()]) == self.key.tag(&[password]),
            Secret::Anyone => true,
            Secret::Hash(hash) => {
                let Ok((params, hash)) = parse(hash) else {
                    return false;
                };
                let (Some(salt), Some(right)) = (hash.salt, hash.hash) else {
                    return false;
                };
                let mut output = Zeroizing::new([0; 64]);
                let output = &mut output[..right.len()];
                self.fill(params, password, &salt, output)
                    && argon2::password_hash::phc::Output::new(output)
                        .is_ok_and(|output| output == right)
            }
        }
    }

    /// As [`Verifier::verify`], for a house that hides its usernames: also where there is no such user, and where his
    /// password stands in plain, it takes as long as a hash of cost `typical`.
    pub fn verify_hidden(
        &mut self,
        secret: Option<&Secret>,
        typical: Cost,
        password: &[u8],
    ) -> bool {
        match secret {
            Some(secret @ Secret::Hash(_)) => self.verify(secret, password),
            Some(Secret::Anyone) => true,
            Some(secret @ Secret::Plain(_)) => {
                self.waste(typical, password);
                self.verify(secret, password)
            }
            None => {
                self.waste(typical, password);
                false
            }
        }
    }

    /// Takes as long as a proof against a hash of this cost.
    pub fn waste(&mut self, cost: Cost, password: &[u8]) {
        let mut output = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
        self.fill(cost.params(), password, &[0; 16], &mut output[..]);
        std::hint::black_box(&output);
    }

    /// Hashes into `output`; `false` where argon2 does not take the lengths.
    fn fill(&mut self, params: Params, password: &[u8], salt: &[u8], output: &mut [u8]) -> bool {
        let blocks = params.block_count();
        if self.memory.len() < blocks {
            self.memory = Vec::new(); // the old one goes before the new one comes
            self.memory.resize(blocks, Block::default());
        }
        // The memory keeps what the last proof left of its password, hashed; it never leaves this process.
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password, salt, output, &mut self.memory)
            .is_ok()
    }
}

impl Default for Verifier {
    fn default() -> Verifier {
        Verifier::new()
    }
}

/// Whether a login that was proved against `old` still holds under `new`: the record is unchanged, or was plain and
/// became a hash of that same password (which takes a proof to know).
pub fn same_login(old: &Account, new: &Account, verifier: &mut Verifier) -> bool {
    old == new
        || old.user == new.user
            && match (&old.secret, &new.secret) {
                (Secret::Plain(password), hash @ Secret::Hash(_)) => {
                    verifier.verify(hash, password.as_bytes())
                }
                _ => false,
            }
}

/// Passwords that were proved lately, so that they need not be proved again: by a keyed hash of user, password and record.
///
/// At most [`limits::VERIFIED_CACHE_MAX`], each for [`limits::VERIFIED_CACHE_AGE_MAX`]; the oldest goes first. A changed record has other
/// tags, so that nothing has to be forgotten when it changes.
pub struct VerifiedCache {
    key: Key,
    since: HashMap<Tag, Instant>,
    /// The same tags, the oldest first.
    order: VecDeque<Tag>,
}

/// What one proof is known again by. Tells nothing to who has not the key, which never leaves its [`VerifiedCache`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 32]);

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tag(…)")
    }
}

impl VerifiedCache {
    /// Nothing yet, under a new random key.
    ///
    /// # Panics
    /// If the kernel gives no random bytes.
    pub fn new() -> VerifiedCache {
        VerifiedCache {
            key: Key::random(),
            since: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The tag of this password for this record.
    pub fn tag(&self, account: &Account, password: &[u8]) -> Tag {
        let (kind, secret): (&[u8], &[u8]) = match &account.secret {
            Secret::Hash(hash) => (b"hash", hash.as_bytes()),
            Secret::Plain(password) => (b"plain", password.as_bytes()),
            Secret::Anyone => (b"anyone", b""),
        };
        self.key
            .tag(&[account.user.as_bytes(), password, kind, secret])
    }

    /// Whether it was proved, and not too long ago.
    pub fn contains(&self, tag: &Tag, now: Instant) -> bool {
        self.since.get(tag).is_some_and(|&since| {
            now.saturating_duration_since(since) < limits::VERIFIED_CACHE_AGE_MAX
        })
    }

    /// Remembers that it was proved `now`, which is never before the `now` of an earlier call. One that is still
    /// remembered keeps its age.
    pub fn insert(&mut self, tag: Tag, now: Instant) {
        while let Some(oldest) = self.order.front().copied() {
            if self.order.len() < limits::VERIFIED_CACHE_MAX && self.contains(&oldest, now) {
                break;
            }
            self.order.pop_front();
            self.since.remove(&oldest);
        }
        if let std::collections::hash_map::Entry::Vacant(place) = self.since.entry(tag) {
            place.insert(now);
            self.order.push_back(tag);
        }
        assert!(self.order.len() == self.since.len());
    }

    /// Forgets all.
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

/// A random key of this process, for tags.
struct Key(Zeroizing<[u8; 32]>);

impl Key {
    fn random() -> Key {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut key[..]).expect("the kernel gives random bytes");
        Key(key)
    }

    /// HMAC-SHA-256 (RFC 2104) of the fields, each led by its length, so that no two lists of fields read alike.
    fn tag(&self, fields: &[&[u8]]) -> Tag {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0[..]).expect("any length is a key");
        for field in fields {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        Tag(mac.finalize().into_bytes().into())
    }
}

/// The parts of a hash that can be proved against, or what is wrong with it. Never tells of the hash itself.
fn parse(hash: &str) -> Result<(Params, PasswordHash), &'static str> {
    let parsed = PasswordHash::new(hash).map_err(|_| "a hash that is no PHC string")?;
    if parsed.algorithm != argon2::ARGON2ID_IDENT {
        return Err("a hash of another algorithm");
    }
    if parsed.version != Some(Version::V0x13.into()) {
        return Err("a hash of another version");
    }
    let mut names = parsed.params.iter().map(|(name, _)| name);
    let [Some(m), Some(t), Some(p), None] = std::array::from_fn(|_| names.next()) else {
        return Err("a hash without the parameters m, t and p, or with others");
    };
    if (m.as_str(), t.as_str(), p.as_str()) != ("m", "t", "p") {
        return Err("a hash without the parameters m, t and p, or with others");
    }
    if parsed.salt.is_none() || parsed.hash.is_none() {
        return Err("a hash that is cut short");
    }
    let params = Params::try_from(&parsed).map_err(|_| "a hash with impossible parameters")?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > limits::HASH_MEMORY_KIB_MAX || work > limits::HASH_WORK_KIB_MAX {
        return Err("a hash that costs too much to prove");
    }
    Ok((params, parsed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    /// Of the password `password` and the salt `somesalt`: a test vector of argon2's reference implementation.
    const REFERENCE: &str =
        "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";

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
    fn a_new_hash_proves_its_password_alone() {
        let hash = hash(b"1234");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(hash, super::hash(b"1234"), "each has its own salt");
        let secret = Secret::Hash(hash);
        assert_eq!(Cost::of(&secret), Some(Cost::OURS));
        let mut verifier = Verifier::new();
        assert!(verifier.verify(&secret, b"1234"));
        assert!(!verifier.verify(&secret, b"12345"));
        assert!(!verifier.verify(&secret, b""));
    }

    #[test]
    fn hashes_of_other_makers_and_costs_are_proved_in_any_order() {
        let small = Secret::Hash(REFERENCE.into());
        let mut verifier = Verifier::new();
        verifier.waste(Cost::OURS, b"password");
        assert!(verifier.verify(&small, b"password"));
        assert!(!verifier.verify(&small, b"passwort"));
        assert_eq!(verifier.memory.len(), 19_456, "the memory is kept");
    }

    #[test]
    fn plain_passwords_are_compared_whole() {
        let mut verifier = Verifier::new();
        assert!(verifier.verify(&plain("a:b "), b"a:b "));
        assert!(!verifier.verify(&plain("a:b "), b"a:b"));
        assert!(!verifier.verify(&plain("a"), b""));
    }

    #[test]
    fn a_hidden_user_is_never_let_in() {
        let small = Cost { m: 8, t: 1, p: 1 };
        let mut verifier = Verifier::new();
        assert!(!verifier.verify_hidden(None, small, b"x"));
        assert!(verifier.verify_hidden(Some(&plain("x")), small, b"x"));
        assert!(!verifier.verify_hidden(Some(&plain("x")), small, b"y"));
        assert_eq!(verifier.memory.len(), 8);
    }

    #[test]
    fn what_cannot_be_proved_is_told_and_proves_nothing() {
        let salt = "c29tZXNhbHQ";
        let output = "bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        for (hash, what) in [
            ("".into(), "a hash that is no PHC string"),
            ("$argon2id".into(), "a hash of another version"),
            (
                "$argon2id$v=19$m=8,t=1,p=1".into(),
                "a hash that is cut short",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1${salt}"),
                "a hash that is cut short",
            ),
            (
                format!("$argon2id$v=19${salt}${output}"),
                "a hash without the parameters m, t and p, or with others",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1,t=9${salt}${output}"),
                "a hash without the parameters m, t and p, or with others",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1${salt}$YQ"),
                "a hash that is no PHC string",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1$YQ${output}"),
                "a hash that is no PHC string",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1${salt}${output}$"),
                "a hash that is no PHC string",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1${salt}${output}:"),
                "a hash that is no PHC string",
            ),
            (
                format!("$argon2id$v=16$m=8,t=1,p=1${salt}${output}"),
                "a hash of another version",
            ),
            (
                format!("$argon2i$v=19$m=8,t=1,p=1${salt}${output}"),
                "a hash of another algorithm",
            ),
            (
                format!("$2b$12${salt}${output}"),
                "a hash that is no PHC string",
            ),
            (
                format!("$argon2id$v=19$m=7,t=1,p=1${salt}${output}"),
                "a hash with impossible parameters",
            ),
            (
                format!("$argon2id$v=19$m=8,t=0,p=1${salt}${output}"),
                "a hash with impossible parameters",
            ),
            (
                format!("$argon2id$v=19$m=8,t=1,p=16777216${salt}${output}"),
                "a hash with impossible parameters",
            ),
            (
                format!("$argon2id$v=19$m=4294967295,t=1,p=1${salt}${output}"),
                "a hash that costs too much to prove",
            ),
            (
                format!("$argon2id$v=19$m=8,t=4294967295,p=1${salt}${output}"),
                "a hash that costs too much to prove",
            ),
        ] {
            let hash: String = hash;
            assert_eq!(check(&hash), Err(what), "{hash}");
            assert!(!Verifier::new().verify(&Secret::Hash(hash), b"password"));
        }
    }

    #[test]
    fn a_login_survives_the_hashing_of_its_password() {
        let old = account("password", plain("password"));
        let hashed = account("password", Secret::Hash(REFERENCE.into()));
        let verifier = &mut Verifier::new();
        assert!(same_login(
            &old,
            &account("password", plain("password")),
            verifier
        ));
        assert!(same_login(&old, &hashed, verifier));
        assert!(!same_login(&hashed, &old, verifier));
        assert!(!same_login(
            &account("password", plain("x")),
            &hashed,
            verifier
        ));
        assert!(!same_login(
            &old,
            &account("password", plain("x")),
            verifier
        ));
        assert!(!same_login(
            &account("x", plain("password")),
            &hashed,
            verifier
        ));
    }

    #[test]
    fn tags_tell_user_password_and_record_apart() {
        let proved = VerifiedCache::new();
        let tag = proved.tag(&account("ab", plain("c")), b"c");
        assert_eq!(tag, proved.tag(&account("ab", plain("c")), b"c"));
        for (user, secret, password) in [
            ("a", plain("c"), "bc"),
            ("ab", plain("d"), "c"),
            ("ab", plain("c"), "d"),
            ("ab", Secret::Hash("c".into()), "c"),
        ] {
            assert_ne!(tag, proved.tag(&account(user, secret), password.as_bytes()));
        }
        assert_ne!(
            tag,
            VerifiedCache::new().tag(&account("ab", plain("c")), b"c")
        );
    }

    #[test]
    fn what_was_proved_is_forgotten_by_age_by_number_and_on_demand() {
        let mut proved = VerifiedCache::new();
        let start = Instant::now();
        let tag = |n: usize| Tag(std::array::from_fn(|at| n.to_le_bytes()[at % 8]));
        proved.insert(tag(0), start);
        let late = start + limits::VERIFIED_CACHE_AGE_MAX - Duration::from_secs(1);
        assert!(proved.contains(&tag(0), late) && !proved.contains(&tag(1), late));
        proved.insert(tag(0), late);
        assert!(
            !proved.contains(&tag(0), start + limits::VERIFIED_CACHE_AGE_MAX),
            "its age counts from the proof"
        );
        for n in 1..=limits::VERIFIED_CACHE_MAX {
            proved.insert(tag(n), late);
        }
        assert!(!proved.contains(&tag(0), late), "the oldest went");
        assert!(
            proved.contains(&tag(1), late)
                && proved.contains(&tag(limits::VERIFIED_CACHE_MAX), late)
        );
        assert_eq!(proved.order.len(), limits::VERIFIED_CACHE_MAX);
        proved.insert(tag(0), late + limits::VERIFIED_CACHE_AGE_MAX);
        assert_eq!(proved.order.len(), 1, "the aged are let go");
        proved.clear();
        assert!(!proved.contains(&tag(0), late + limits::VERIFIED_CACHE_AGE_MAX));
    }

    proptest! {
        #[test]
        fn no_hash_makes_it_panic(hash in "(\\$argon2id)?(\\$v=19)?(\\$m=[0-9]{1,3},t=[0-9],p=[0-9])?(\\$[a-zA-Z0-9+/=,]{0,30}){0,3}") {
            prop_assume!(check(&hash).is_ok() || !Verifier::new().verify(&Secret::Hash(hash), b"x"));
        }
    }
}

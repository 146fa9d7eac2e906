//! Authentication of a user by password.

use argon2::password_hash::phc::Output;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::auth::account::{Account, Secret};
use crate::auth::keyed_hash::RandomKey;
use crate::auth::phc;
use crate::auth::phc::{Cost, ParsedHash};

/// Verifies passwords.
///
/// Owns the memory that argon2 fills and reuses it: as much as the most expensive hash so far, at
/// most [`crate::limits::HASH_MEMORY_KIB_MAX`]. Each worker has one.
pub struct Verifier {
    memory: Vec<Block>,
    key: RandomKey,
    /// The KiB that argon2 has processed.
    #[cfg(test)]
    work: u64,
}

impl Verifier {
    /// Creates a verifier. The first verification of a hash allocates the memory.
    ///
    /// # Panics
    /// If the kernel returns no random bytes.
    pub fn new() -> Verifier {
        Verifier {
            memory: Vec::new(),
            key: RandomKey::new(),
            #[cfg(test)]
            work: 0,
        }
    }

    /// Whether `password` matches `secret`, in constant time: the duration depends on the record
    /// only, not on how much of a wrong password is right.
    pub fn verify(&mut self, secret: &Secret, password: &[u8]) -> bool {
        match secret {
            // Hashing both sides first hides the length of the stored password too.
            Secret::Plain(stored) => {
                let stored = self.key.hash(&[stored.as_bytes()]);
                stored == self.key.hash(&[password])
            }
            Secret::Anyone => true,
            Secret::Hash(hash) => match phc::parse(hash) {
                Ok(hash) => self.verify_hash(hash, password),
                Err(_) => false,
            },
        }
    }

    fn verify_hash(&mut self, hash: ParsedHash, password: &[u8]) -> bool {
        let mut output = Zeroizing::new([0; Output::MAX_LENGTH]);
        let output = &mut output[..hash.output.len()];
        // `Output` compares in constant time.
        self.fill(hash.params, password, &hash.salt, output)
            && Output::new(output).is_ok_and(|output| output == hash.output)
    }

    /// Verifies like [`Verifier::verify`] for a server that hides its usernames, so that the
    /// response time does not show which names exist: an unknown user (`None`), a plain password
    /// and a hash of less cost take as long as a hash of cost `costliest`. A correct password takes
    /// no less, since it can be refused for another reason.
    pub fn verify_hidden(
        &mut self,
        secret: Option<&Secret>,
        costliest: Cost,
        password: &[u8],
    ) -> bool {
        // Otherwise the first hashes of each cost would take longer.
        self.reserve(costliest.params().block_count());
        let is_correct = secret.is_some_and(|secret| self.verify(secret, password));
        let work = secret.and_then(Cost::of).map_or(0, Cost::work);
        if let Some(rest) = costliest.after(work) {
            self.hash_and_discard(rest, password);
        }
        is_correct
    }

    /// Takes as long as a verification against a hash of this cost.
    fn hash_and_discard(&mut self, cost: Cost, password: &[u8]) {
        let mut output = Zeroizing::new([0; Params::DEFAULT_OUTPUT_LEN]);
        self.fill(cost.params(), password, &[0; 16], &mut output[..]);
        std::hint::black_box(&output);
    }

    fn reserve(&mut self, blocks: usize) {
        if self.memory.len() < blocks {
            self.memory = Vec::new(); // frees the old memory before the new allocation
            self.memory.resize(blocks, Block::default());
        }
    }

    /// Hashes into `output`; `false` if argon2 refuses a length.
    fn fill(&mut self, params: Params, password: &[u8], salt: &[u8], output: &mut [u8]) -> bool {
        self.reserve(params.block_count());
        #[cfg(test)]
        {
            self.work += params.block_count() as u64 * u64::from(params.t_cost());
        }
        // The memory is not wiped: it holds hash state derived from the last password and never
        // leaves the process.
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

/// Whether a login that was verified against `old` is valid under `new`: the record is unchanged,
/// or its plain password was replaced by a hash of the same password, which one verification finds
/// out.
pub fn same_login(old: &Account, new: &Account, verifier: &mut Verifier) -> bool {
    if old == new {
        return true;
    }
    match (&old.secret, &new.secret) {
        (Secret::Plain(password), hash @ Secret::Hash(_)) if old.user == new.user => {
            verifier.verify(hash, password.as_bytes())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::phc::hash_password;
    use proptest::prelude::*;

    /// The hash of `password` with the salt `somesalt`: a test vector of argon2's reference
    /// implementation.
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
    fn a_new_hash_matches_its_password_only() {
        let hash = hash_password(b"1234");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(hash, hash_password(b"1234"), "each hash has its own salt");
        let secret = Secret::Hash(hash);
        assert_eq!(Cost::of(&secret), Some(Cost::OURS));
        let mut verifier = Verifier::new();
        assert!(verifier.verify(&secret, b"1234"));
        assert!(!verifier.verify(&secret, b"12345"));
        assert!(!verifier.verify(&secret, b""));
    }

    #[test]
    fn hashes_of_different_costs_share_the_memory() {
        let small = Secret::Hash(REFERENCE.into());
        let mut verifier = Verifier::new();
        verifier.hash_and_discard(Cost::OURS, b"password");
        assert!(verifier.verify(&small, b"password"));
        assert!(!verifier.verify(&small, b"passwort"));
        assert_eq!(verifier.memory.len(), 19_456);
    }

    #[test]
    fn plain_passwords_are_compared_whole() {
        let mut verifier = Verifier::new();
        assert!(verifier.verify(&plain("a:b "), b"a:b "));
        assert!(!verifier.verify(&plain("a:b "), b"a:b"));
        assert!(!verifier.verify(&plain("a"), b""));
    }

    #[test]
    fn a_hidden_unknown_user_costs_a_hash_and_is_refused() {
        let small = Cost::new(8, 1, 1);
        let mut verifier = Verifier::new();
        assert!(!verifier.verify_hidden(None, small, b"x"));
        assert!(verifier.verify_hidden(Some(&plain("x")), small, b"x"));
        assert!(!verifier.verify_hidden(Some(&plain("x")), small, b"y"));
        assert_eq!(verifier.memory.len(), 8);
    }

    /// A hash that matches no password.
    fn hash(m: u32, t: u32, p: u32) -> Secret {
        let output = "A".repeat(43);
        Secret::Hash(format!(
            "$argon2id$v=19$m={m},t={t},p={p}$c29tZXNhbHQ${output}"
        ))
    }

    #[test]
    fn hidden_users_cost_the_same_whatever_the_scheme() {
        for costliest in [(256, 2, 2), (64, 9, 1), (8, 70, 1), (100, 3, 3)] {
            let (m, t, p) = costliest;
            let costliest = Cost::new(m, t, p);
            let secrets = [
                None,
                Some(plain("x")),
                Some(plain("other")),
                Some(hash(m, t, p)),
                Some(hash(8, 1, 1)),
                Some(hash(16, 7, 2)),
                Some(hash(39, 3, 1)),
                Some(hash(64, 2, 1)),
                Some(Secret::Hash("invalid".into())),
            ];
            let mut verifier = Verifier::new();
            for secret in &secrets {
                verifier.work = 0;
                verifier.verify_hidden(secret.as_ref(), costliest, b"x");
                let least = costliest.work() - costliest.work() / 16;
                assert!(
                    (least..=costliest.work()).contains(&verifier.work),
                    "{costliest:?}: {} KiB of {}",
                    verifier.work,
                    costliest.work()
                );
            }
        }
    }

    #[test]
    fn hashing_a_plain_password_keeps_its_logins() {
        let old = account("password", plain("password"));
        let hashed = account("password", Secret::Hash(REFERENCE.into()));
        let mut verifier = Verifier::new();
        let mut same = |old: &Account, new: &Account| same_login(old, new, &mut verifier);
        assert!(same(&old, &account("password", plain("password"))));
        assert!(same(&old, &hashed));
        assert!(!same(&hashed, &old));
        assert!(!same(&account("password", plain("x")), &hashed));
        assert!(!same(&old, &account("password", plain("x"))));
        assert!(!same(&account("x", plain("password")), &hashed));
    }

    proptest! {
        #[test]
        fn no_hash_causes_a_panic(
            hash in "(\\$argon2id)?(\\$v=19)?(\\$m=[0-9]{1,3},t=[0-9],p=[0-9])?\
                     (\\$[a-zA-Z0-9+/=,]{0,30}){0,3}",
        ) {
            let valid = phc::check(&hash).is_ok();
            prop_assume!(valid || !Verifier::new().verify(&Secret::Hash(hash), b"x"));
        }
    }
}

//! A keyed hash under a random key of this process.

use getrandom::fill;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// A random key. It never leaves the process.
pub(crate) struct RandomKey(Zeroizing<[u8; 32]>);

impl RandomKey {
    /// # Panics
    /// If the kernel returns no random bytes.
    pub(crate) fn new() -> RandomKey {
        let mut key = Zeroizing::new([0; 32]);
        fill(&mut key[..]).expect("the kernel returns random bytes");
        RandomKey(key)
    }

    /// Returns HMAC-SHA-256 (RFC 2104) of the fields. Each field is preceded by its length, so that
    /// different lists of fields never hash the same bytes.
    pub(crate) fn hash(&self, fields: &[&[u8]]) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0[..])
            .expect("HMAC takes keys of any length");
        for field in fields {
            mac.update(&(field.len() as u64).to_le_bytes());
            mac.update(field);
        }
        mac.finalize().into_bytes().into()
    }
}

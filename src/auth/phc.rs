//! Password hashes as PHC strings: creating, parsing and bounding their cost.

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHasher, Version};

use crate::auth::account::Secret;
use crate::limits;

/// The cost of verifying a hash: argon2id's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Memory in KiB.
    m: u32,
    /// Passes over the memory.
    t: u32,
    /// Lanes.
    p: u32,
}

impl Cost {
    /// The cost of new hashes: OWASP's recommendation (Password Storage Cheat Sheet, 2025), 16 to
    /// 24 ms of CPU time and 19 MiB.
    pub const OURS: Cost = Cost {
        m: 19_456,
        t: 2,
        p: 1,
    };

    /// Returns the cost of verifying a password against `secret`; `None` if it is not a hash.
    pub fn of(secret: &Secret) -> Option<Cost> {
        match secret {
            Secret::Hash(hash) => parse(hash).ok().map(|parsed| Cost {
                m: parsed.params.m_cost(),
                t: parsed.params.t_cost(),
                p: parsed.params.p_cost(),
            }),
            Secret::Plain(_) | Secret::Anyone => None,
        }
    }

    /// Returns the memory in KiB that all passes process, to which the time of a verification is
    /// proportional. Lanes are filled one after the other, and do not matter.
    pub fn work(self) -> u64 {
        self.params().block_count() as u64 * u64::from(self.t)
    }

    /// Returns the cost that is left of this one after `work` KiB, in about as much memory, so that
    /// its time is proportional too; `None` if that is less than argon2 can hash.
    pub(super) fn after(self, work: u64) -> Option<Cost> {
        if work == 0 {
            return Some(self);
        }
        let rest = self.work().saturating_sub(work);
        let passes = rest.div_ceil(u64::from(self.m)).max(1);
        // Argon2 rounds the memory down to four blocks per lane.
        let memory = rest / passes / 4 * 4;
        let memory = memory.max(u64::from(Params::MIN_M_COST));
        let passes = rest / memory;
        Some(Cost {
            m: memory.try_into().ok()?,
            t: passes.try_into().ok()?,
            p: 1,
        })
        .filter(|rest| rest.t > 0)
    }

    /// Builds a cost for tests that must be quick.
    #[cfg(test)]
    pub(crate) const fn new(m: u32, t: u32, p: u32) -> Cost {
        Cost { m, t, p }
    }

    pub(super) fn params(self) -> Params {
        Params::new(self.m, self.t, self.p, None).expect("the parameters of a cost are valid")
    }
}

/// Hashes a new password with a new salt at [`Cost::OURS`]; returns a PHC string.
///
/// # Panics
/// If the kernel returns no random bytes.
pub fn hash_password(password: &[u8]) -> String {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Cost::OURS.params())
        .hash_password(password)
        .expect("parameters and lengths are valid and the kernel returns random bytes")
        .to_string()
}

/// Checks that `password` can be a new one: not empty, and short enough for one line of a client.
/// The error describes the fault.
pub fn check_new_password(password: &[u8]) -> Result<(), &'static str> {
    if password.is_empty() {
        return Err("the password is empty");
    }
    if password.len() >= limits::LINE_BYTES_MAX {
        return Err("the password is longer than 4,095 bytes");
    }
    Ok(())
}

/// Checks that passwords can be verified against `hash` at a bounded cost. The error contains
/// nothing of the hash.
pub fn check(hash: &str) -> Result<(), &'static str> {
    parse(hash).map(drop)
}

/// The parts of a valid PHC string.
pub(super) struct ParsedHash {
    pub(super) params: Params,
    pub(super) salt: Salt,
    pub(super) output: Output,
}

/// Parses a PHC string. The error contains nothing of the hash.
pub(super) fn parse(hash: &str) -> Result<ParsedHash, &'static str> {
    const PARAMETERS: &str = "the hash has other parameters than m, t and p";
    let parsed = PasswordHash::new(hash).map_err(|_| "the hash is not a PHC string")?;
    if parsed.algorithm != ARGON2ID_IDENT {
        return Err("the hash is not of argon2id");
    }
    if parsed.version != Some(Version::V0x13.into()) {
        return Err("the hash is not of version 19");
    }
    let mut names = parsed.params.iter().map(|(name, _)| name);
    let [Some(m), Some(t), Some(p), None] = std::array::from_fn(|_| names.next()) else {
        return Err(PARAMETERS);
    };
    if (m.as_str(), t.as_str(), p.as_str()) != ("m", "t", "p") {
        return Err(PARAMETERS);
    }
    let (Some(salt), Some(output)) = (parsed.salt, parsed.hash) else {
        return Err("the hash is truncated");
    };
    let params = Params::try_from(&parsed).map_err(|_| "the hash has invalid parameters")?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    if params.m_cost() > limits::HASH_MEMORY_KIB_MAX || work > limits::HASH_WORK_KIB_MAX {
        return Err("the hash is too expensive to verify");
    }
    Ok(ParsedHash {
        params,
        salt,
        output,
    })
}

const _: () = assert!(limits::LINE_BYTES_MAX == 4096);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::verifier::Verifier;

    #[test]
    fn invalid_hashes_are_refused_with_a_reason() {
        const SALT: &str = "c29tZXNhbHQ";
        const OUTPUT: &str = "bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        const NO_PHC: &str = "the hash is not a PHC string";
        const PARAMETERS: &str = "the hash has other parameters than m, t and p";
        const INVALID: &str = "the hash has invalid parameters";
        const EXPENSIVE: &str = "the hash is too expensive to verify";
        let full = |head: &str| format!("{head}${SALT}${OUTPUT}");
        for (hash, reason) in [
            (String::new(), NO_PHC),
            ("$argon2id".into(), "the hash is not of version 19"),
            ("$argon2id$v=19$m=8,t=1,p=1".into(), "the hash is truncated"),
            (
                format!("$argon2id$v=19$m=8,t=1,p=1${SALT}"),
                "the hash is truncated",
            ),
            (full("$argon2id$v=19"), PARAMETERS),
            (full("$argon2id$v=19$m=8,t=1,p=1,t=9"), PARAMETERS),
            (format!("$argon2id$v=19$m=8,t=1,p=1${SALT}$YQ"), NO_PHC),
            (format!("$argon2id$v=19$m=8,t=1,p=1$YQ${OUTPUT}"), NO_PHC),
            (full("$argon2id$v=19$m=8,t=1,p=1") + "$", NO_PHC),
            (full("$argon2id$v=19$m=8,t=1,p=1") + ":", NO_PHC),
            (
                full("$argon2id$v=16$m=8,t=1,p=1"),
                "the hash is not of version 19",
            ),
            (
                full("$argon2i$v=19$m=8,t=1,p=1"),
                "the hash is not of argon2id",
            ),
            (full("$2b$12"), NO_PHC),
            (full("$argon2id$v=19$m=7,t=1,p=1"), INVALID),
            (full("$argon2id$v=19$m=8,t=0,p=1"), INVALID),
            (full("$argon2id$v=19$m=8,t=1,p=16777216"), INVALID),
            (full("$argon2id$v=19$m=4294967295,t=1,p=1"), EXPENSIVE),
            (full("$argon2id$v=19$m=8,t=4294967295,p=1"), EXPENSIVE),
        ] {
            assert_eq!(check(&hash), Err(reason), "{hash}");
            assert!(!Verifier::new().verify(&Secret::Hash(hash), b"password"));
        }
    }

    #[test]
    fn new_passwords_have_a_bounded_length() {
        assert!(check_new_password(b"").is_err());
        assert!(check_new_password(&[b'x'; 4095]).is_ok());
        assert!(check_new_password(&[b'x'; 4096]).is_err());
    }
}

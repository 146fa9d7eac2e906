//! What an operator bounds for one user: his line in `Directories` that names no directory, `USER::LIMITS`; and how bytes are
//! written in a home's files and on the command line.
//!
//! Pure. Must not know: files, sessions.

use std::fmt;
use std::str::FromStr;

/// The limits of a user; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Sessions at once.
    pub sessions: Option<usize>,
    /// Bytes a second, of all his sessions and both directions together.
    pub rate: Option<u64>,
    /// Bytes in all the directories that he may add files to, whoever put them there.
    pub quota: Option<u64>,
}

/// As the file has them: `sessions=4,rate=10MiB`.
impl fmt::Display for UserLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            self.sessions.map(|sessions| format!("sessions={sessions}")),
            self.rate.map(|rate| format!("rate={}", Bytes(rate))),
            self.quota.map(|quota| format!("quota={}", Bytes(quota))),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        f.write_str(&limits.join(","))
    }
}

/// At least one of `sessions=N`, `rate=BYTES` and `quota=BYTES`, each once and from 1, parted by `,`; else what is wrong.
impl FromStr for UserLimits {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<UserLimits, &'static str> {
        let mut limits = UserLimits::default();
        for limit in text.split(',') {
            let earlier = match limit.split_once('=') {
                Some(("sessions", number)) => {
                    let number = count(number)?;
                    limits.sessions.replace(number).map(|_| ())
                }
                Some(("rate", rate)) => limits.rate.replace(bytes_from_one(rate)?).map(|_| ()),
                Some(("quota", quota)) => limits.quota.replace(bytes_from_one(quota)?).map(|_| ()),
                _ if limit.is_empty() => return Err("a missing limit"),
                _ => return Err("an unknown limit"),
            };
            if earlier.is_some() {
                return Err("a limit twice");
            }
        }
        Ok(limits)
    }
}

/// A number from 1, digits alone.
fn count(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(number @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err("a limit that is no number from 1"),
    }
}

/// Bytes as [`bytes`] reads them, at least one.
pub(crate) fn bytes_from_one(text: &str) -> Result<u64, &'static str> {
    match bytes(text) {
        Ok(bytes @ 1..) => Ok(bytes),
        _ => Err("a limit that is no number of bytes from 1"),
    }
}

/// Units of bytes; the first of a size is how it is written.
const UNITS: [(&str, u64); 16] = [
    ("", 1),
    ("B", 1),
    ("k", 1000),
    ("K", 1000),
    ("kB", 1000),
    ("KB", 1000),
    ("M", 1000 * 1000),
    ("MB", 1000 * 1000),
    ("G", 1000 * 1000 * 1000),
    ("GB", 1000 * 1000 * 1000),
    ("T", 1000 * 1000 * 1000 * 1000),
    ("TB", 1000 * 1000 * 1000 * 1000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Bytes: digits, and behind them nothing, `k`, `M`, `G` or `T` (powers of 1000, as are `kB`, `MB` …), or `KiB`, `MiB`, `GiB` or
/// `TiB` (powers of 1024). `10M` is 10,000,000 and `10MiB` 10,485,760. Else what is wrong.
pub fn bytes(value: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "expected bytes, such as 10000000, 10M or 10MiB";
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let (_, unit) = (UNITS.iter().find(|(name, _)| *name == unit)).ok_or(EXPECTED)?;
    if number.is_empty() {
        return Err(EXPECTED);
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*unit))
        .ok_or("that is more bytes than there can be")
}

/// A number of bytes as [`bytes`] reads it, by the unit that leaves the smallest number.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, size) = UNITS
            .iter()
            .filter(|(_, size)| self.0.is_multiple_of(*size))
            .min_by_key(|(name, size)| (self.0 / size, name.len()))
            .expect("every number is a multiple of one");
        write!(f, "{}{name}", self.0 / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_read_and_written() {
        let limits: UserLimits = "quota=5G,sessions=4,rate=10MiB".parse().unwrap();
        let expected = UserLimits {
            sessions: Some(4),
            rate: Some(10 << 20),
            quota: Some(5_000_000_000),
        };
        assert_eq!(limits, expected);
        assert_eq!(limits.to_string(), "sessions=4,rate=10MiB,quota=5G");
        for (text, wrong) in [
            ("", "a missing limit"),
            ("sessions=1,", "a missing limit"),
            ("read", "an unknown limit"),
            ("Sessions=1", "an unknown limit"),
            ("sessions =1", "an unknown limit"),
            ("sessions=0", "a limit that is no number from 1"),
            ("sessions=+1", "a limit that is no number from 1"),
            ("sessions=", "a limit that is no number from 1"),
            ("rate=0", "a limit that is no number of bytes from 1"),
            ("quota=1.5G", "a limit that is no number of bytes from 1"),
            ("rate=1,rate=1", "a limit twice"),
        ] {
            assert_eq!(text.parse::<UserLimits>(), Err(wrong), "{text}");
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, size) in [
            ("0", 0),
            ("10000000", 10_000_000),
            ("10M", 10_000_000),
            ("10MB", 10_000_000),
            ("10MiB", 10_485_760),
            ("1k", 1000),
            ("1KiB", 1024),
            ("2GiB", 2 << 30),
            ("3T", 3_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in [
            "",
            "M",
            "-1",
            "+1",
            "1 M",
            "1.5M",
            "1Mib",
            "1e9",
            "18446744073709551616",
            "16777216TiB",
        ] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_shortly() {
        for (size, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1k"),
            (1024, "1KiB"),
            (10_000_000_000, "10G"),
            (10 << 30, "10GiB"),
            (1 << 60, "1048576TiB"),
            (u64::MAX, "18446744073709551615"),
        ] {
            assert_eq!(Bytes(size).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(size in any::<u64>(), shift in 0u32..64, sessions in 1usize.., rate in 1u64..) {
            prop_assert_eq!(bytes(&Bytes(size >> shift).to_string()), Ok(size >> shift));
            let limits = UserLimits { sessions: Some(sessions), rate: Some(rate), quota: None };
            prop_assert_eq!(limits.to_string().parse(), Ok(limits));
        }
    }
}

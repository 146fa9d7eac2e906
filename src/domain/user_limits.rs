//! The limits of one user: a line `USER::LIMITS` of `Directories`.

use std::fmt;
use std::str::FromStr;

use crate::domain::byte_size::ByteSize;
use crate::domain::quota::{Quota, parse_count};
use crate::domain::suggestion::Suggestion;

/// The names of the limits.
const NAMES: [&str; 3] = ["sessions", "rate", "quota"];

/// The limits of a user; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Concurrent sessions.
    pub sessions: Option<usize>,
    /// Bytes per second of all sessions of the user, both directions together.
    pub rate: Option<u64>,
    /// Content of all directories to which the user may add files, including files of other users.
    pub quota: Option<Quota>,
}

/// Formats the limits as in `Directories`: `sessions=4,rate=10MiB`.
impl fmt::Display for UserLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            self.sessions.map(|sessions| format!("sessions={sessions}")),
            self.rate.map(|rate| format!("rate={}", ByteSize(rate))),
            self.quota.map(|quota| format!("quota={quota}")),
        ];
        let limits: Vec<String> = limits.into_iter().flatten().collect();
        f.write_str(&limits.join(","))
    }
}

/// Parses at least one of `sessions=N`, `rate=BYTES` and `quota=SIZE`, each at most once and at
/// least 1, separated by `,`. The error names the fault.
impl FromStr for UserLimits {
    type Err = String;

    fn from_str(text: &str) -> Result<UserLimits, String> {
        let mut limits = UserLimits::default();
        for limit in text.split(',') {
            let shown = limit.escape_debug();
            let invalid = |_| format!("invalid limit '{shown}'");
            let is_repeated = match limit.split_once('=') {
                Some(("sessions", count)) => {
                    let count = parse_count(count).map_err(invalid)?;
                    limits.sessions.replace(count).is_some()
                }
                Some(("rate", rate)) => {
                    let rate = ByteSize::parse_positive(rate).map_err(invalid)?;
                    limits.rate.replace(rate).is_some()
                }
                Some(("quota", quota)) => {
                    let quota = quota.parse().map_err(invalid)?;
                    limits.quota.replace(quota).is_some()
                }
                _ if limit.is_empty() => return Err("a limit is missing".into()),
                _ => {
                    let name = limit.split('=').next().unwrap_or_default();
                    let suggestion = Suggestion::new(name, NAMES);
                    return Err(format!("unknown limit '{shown}'{suggestion}"));
                }
            };
            if is_repeated {
                return Err(format!("repeated limit '{shown}'"));
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_parsed_and_displayed() {
        let limits: UserLimits = "quota=5G/100,sessions=4,rate=10MiB".parse().unwrap();
        let expected = UserLimits {
            sessions: Some(4),
            rate: Some(10 << 20),
            quota: Some(Quota {
                bytes: 5_000_000_000,
                files: Some(100),
            }),
        };
        assert_eq!(limits, expected);
        assert_eq!(limits.to_string(), "sessions=4,rate=10MiB,quota=5G/100");
        for (text, error) in [
            ("", "a limit is missing"),
            ("sessions=1,", "a limit is missing"),
            ("read", "unknown limit 'read'"),
            (
                "Sessions=1",
                "unknown limit 'Sessions=1' (did you mean 'sessions'?)",
            ),
            (
                "sessions =1",
                "unknown limit 'sessions =1' (did you mean 'sessions'?)",
            ),
            ("sessions=0", "invalid limit 'sessions=0'"),
            ("sessions=+1", "invalid limit 'sessions=+1'"),
            ("sessions=", "invalid limit 'sessions='"),
            ("rate=0", "invalid limit 'rate=0'"),
            ("quota=1.5G", "invalid limit 'quota=1.5G'"),
            ("quota=1G/0", "invalid limit 'quota=1G/0'"),
            ("rate=1,rate=1", "repeated limit 'rate=1'"),
        ] {
            assert_eq!(text.parse::<UserLimits>(), Err(error.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(sessions in 1usize.., rate in 1u64..) {
            let limits = UserLimits { sessions: Some(sessions), rate: Some(rate), quota: None };
            prop_assert_eq!(limits.to_string().parse(), Ok(limits));
        }
    }
}

//! Quotas, as in the files of a home and on the command line.

use std::fmt;
use std::str::FromStr;

use crate::domain::byte_size::ByteSize;

/// The maximum content of one directory, or of all directories of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes in files.
    pub bytes: u64,
    /// Files, directories and links; `None` is unlimited.
    pub files: Option<u64>,
}

/// Formats the quota as it is parsed: `1GiB/10000`.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.bytes).fmt(f)?;
        self.files.map_or(Ok(()), |files| write!(f, "/{files}"))
    }
}

/// Parses `SIZE` or `SIZE/FILES`, each at least 1. The error names the fault.
impl FromStr for Quota {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Quota, &'static str> {
        let (bytes, files) = match text.split_once('/') {
            Some((bytes, files)) => (bytes, Some(parse_count(files)?)),
            None => (text, None),
        };
        let bytes = ByteSize::parse_positive(bytes)?;
        Ok(Quota { bytes, files })
    }
}

/// Parses a number of at least 1, digits only.
pub(super) fn parse_count<T: FromStr + From<u8> + PartialOrd>(
    text: &str,
) -> Result<T, &'static str> {
    match text.parse() {
        Ok(count) if count >= T::from(1) && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(count)
        }
        _ => Err("not a number from 1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_parsed_and_displayed() {
        let quota = |bytes, files| Ok(Quota { bytes, files });
        for (text, parsed) in [
            ("5G", quota(5_000_000_000, None)),
            ("1GiB/10000", quota(1 << 30, Some(10_000))),
            ("1/1", quota(1, Some(1))),
        ] {
            assert_eq!(text.parse::<Quota>(), parsed);
            assert_eq!(parsed.unwrap().to_string(), text);
        }
        for text in [
            "", "/", "/1", "1G/", "1G/0", "1G/+1", "1G/10k", "1G/1/1", "0/1", "1G /1",
        ] {
            assert!(text.parse::<Quota>().is_err(), "{text}");
        }
    }
}

//! Sizes in bytes with a unit, as in the files of a home and on the command line.

use std::fmt;
use std::str::FromStr;

/// The units and their factors. For a factor with several units the shortest one, listed first, is
/// used for output.
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

/// A size in bytes. Displayed with the unit that gives the smallest number: 10,485,760 is `10MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Parses a size of at least one byte; the error names the fault.
    pub fn parse_positive(text: &str) -> Result<u64, &'static str> {
        match text.parse() {
            Ok(ByteSize(bytes @ 1..)) => Ok(bytes),
            _ => Err("expected at least one byte, such as 10000000, 10M or 10MiB"),
        }
    }
}

/// Parses digits and an optional unit: `k`, `M`, `G`, `T` and `kB` etc. are powers of 1000; `KiB`,
/// `MiB`, `GiB`, `TiB` are powers of 1024. The error names the fault.
impl FromStr for ByteSize {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<ByteSize, &'static str> {
        const EXPECTED: &str = "expected bytes, such as 10000000, 10M or 10MiB";
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = (UNITS.iter().find(|(name, _)| *name == unit)).ok_or(EXPECTED)?;
        if number.is_empty() {
            return Err(EXPECTED);
        }
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*factor))
            .map(ByteSize)
            .ok_or("the size does not fit in 64 bits")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .iter()
            .filter(|(_, factor)| self.0.is_multiple_of(*factor))
            .min_by_key(|(unit, factor)| (self.0 / factor, unit.len()))
            .expect("every number is a multiple of one");
        write!(f, "{}{unit}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_and_binary_units_are_parsed() {
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
            assert_eq!(text.parse(), Ok(ByteSize(size)), "{text}");
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
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn display_uses_the_shortest_form() {
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
            assert_eq!(ByteSize(size).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_round_trip(size in any::<u64>(), shift in 0u32..64) {
            let size = ByteSize(size >> shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}

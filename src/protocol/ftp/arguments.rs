//! Parses the arguments of FTP commands.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::domain::listing::MlstFacts;
use crate::domain::request::Algorithm;
use crate::protocol::ftp::command::split;
use crate::protocol::ftp::features;
use crate::protocol::ftp::reply;
use crate::protocol::ftp::reply::Reply;
use crate::protocol::step::Representation;
use crate::protocol::text;
use crate::protocol::text::trim;

/// Parses a decimal number that fits into 63 bits.
pub(super) fn number(argument: &[u8]) -> Option<u64> {
    text::number(trim(argument)).filter(|number| i64::try_from(*number).is_ok())
}

/// Strips the options that clients send to LIST and NLST as if to `ls`: words of a dash and
/// letters, up to `--`.
pub(super) fn without_options(argument: &[u8]) -> &[u8] {
    let mut rest = argument;
    loop {
        let (word, next) = split(rest);
        match word {
            b"--" => return next,
            [b'-', letters @ ..]
                if !letters.is_empty()
                    && letters
                        .iter()
                        .all(|letter| b"1AaCdFghilLnoRrSTtu".contains(letter)) =>
            {
                rest = next;
            }
            _ => return rest,
        }
    }
}

/// A path and a byte range, for XCRC and the like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PathRange {
    pub(super) path: Vec<u8>,
    pub(super) start: u64,
    /// One past the last byte; `None` is the end of the file.
    pub(super) end: Option<u64>,
}

/// Parses a path in quotes that two numbers may follow: the first byte and one past the last.
/// Without quotes the whole argument is the path.
pub(super) fn path_range(argument: &[u8]) -> Option<PathRange> {
    let Some(mut rest) = argument.strip_prefix(b"\"") else {
        return Some(PathRange {
            path: argument.to_vec(),
            start: 0,
            end: None,
        });
    };
    let mut path = Vec::new();
    loop {
        rest = match rest {
            [] => return None,
            [b'"', b'"', rest @ ..] => {
                path.push(b'"');
                rest
            }
            [b'"', numbers @ ..] => {
                let mut numbers = trim(numbers).split(|&byte| byte == b' ');
                let mut next = || match numbers.next() {
                    None | Some(b"") => Some(None),
                    Some(text) => number(text).map(Some),
                };
                let (start, end) = (next()?.unwrap_or(0), next()?);
                let is_range = end.is_none_or(|end| start <= end) && numbers.next().is_none();
                return is_range.then_some(PathRange { path, start, end });
            }
            [byte, rest @ ..] => {
                path.push(*byte);
                rest
            }
        };
    }
}

/// Parses a time, `YYYYMMDDHHMMSS` with an ignored fraction (RFC 3659, 2.3), into seconds since
/// 1970.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], Some(&text[dot + 1..])),
        None => (text, None),
    };
    let is_fraction = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if whole.len() != 14 || !fraction.is_none_or(is_fraction) {
        return None;
    }
    let field = |start: usize, length: usize| text::number(&whole[start..start + length]);
    let (year, month, day) = (field(0, 4)?, field(4, 2)?, field(6, 2)?);
    let (hour, minute, second) = (field(8, 2)?, field(10, 2)?, field(12, 2)?);
    // Timestamps have no leap seconds.
    let second = if second == 60 { 59 } else { second };
    let narrow = |field: u64| i8::try_from(field).ok();
    let time = DateTime::new(
        i16::try_from(year).ok()?,
        narrow(month)?,
        narrow(day)?,
        narrow(hour)?,
        narrow(minute)?,
        narrow(second)?,
        0,
    );
    let zoned = time.ok()?.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_second())
}

/// Parses a time and, after one blank, a path: the argument of MFMT, and of MDTM as some clients
/// use it.
pub(super) fn time_and_path(argument: &[u8]) -> Option<(i64, &[u8])> {
    let (first, path) = split(argument);
    let modified = time(first)?;
    (!path.is_empty()).then_some((modified, path))
}

/// Parses the argument of ALLO: bytes, and optionally a record size, which is ignored (RFC 959,
/// 4.1.3).
pub(super) fn allocation(argument: &[u8]) -> Option<u64> {
    let mut fields = argument.split(|&byte| byte == b' ');
    let bytes = number(fields.next().unwrap_or_default())?;
    match (fields.next(), fields.next(), fields.next()) {
        (None, None, None) => Some(bytes),
        (Some(b"R" | b"r"), Some(record), None) => number(record).map(|_| bytes),
        _ => None,
    }
}

/// Parses the address of PORT: six numbers of one byte, separated by commas (RFC 959, 4.1.2).
pub(super) fn port(argument: &[u8]) -> Option<SocketAddr> {
    let mut bytes = [0; 6];
    let mut fields = trim(argument).split(|&byte| byte == b',');
    for byte in &mut bytes {
        *byte = u8::try_from(text::number(fields.next()?)?).ok()?;
    }
    let [a, b, c, d, high, low] = bytes;
    let port = u16::from_be_bytes([high, low]);
    fields
        .next()
        .is_none()
        .then(|| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// The argument of EPRT (RFC 2428, 2).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExtendedPort {
    Address(SocketAddr),
    /// Neither 1 (IPv4) nor 2 (IPv6).
    UnknownFamily,
}

/// Parses the argument of EPRT: family, address and port between four delimiters.
pub(super) fn extended_port(argument: &[u8]) -> Option<ExtendedPort> {
    let argument = str::from_utf8(trim(argument)).ok()?;
    let delimiter = argument.chars().next().filter(char::is_ascii_graphic)?;
    let mut fields = argument.split(delimiter);
    let mut next = || fields.next();
    let (Some(""), Some(family), Some(address), Some(port), Some(""), None) =
        (next(), next(), next(), next(), next(), next())
    else {
        return None;
    };
    let family = text::number(family.as_bytes())?;
    let port = u16::try_from(text::number(port.as_bytes())?).ok()?;
    let address: IpAddr = match family {
        1 => IpAddr::V4(address.parse().ok()?),
        2 => IpAddr::V6(address.parse().ok()?),
        _ => return Some(ExtendedPort::UnknownFamily),
    };
    Some(ExtendedPort::Address(SocketAddr::new(address, port)))
}

/// Parses the argument of TYPE (RFC 959, 3.1.1).
pub(super) fn representation(argument: &[u8]) -> Option<Representation> {
    match &*trim(argument).to_ascii_uppercase() {
        b"A" | b"A N" => Some(Representation::Ascii),
        b"I" | b"L 8" | b"L8" => Some(Representation::Image),
        _ => None,
    }
}

/// The argument of OPTS (RFC 2389, 4).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FtpOption {
    /// UTF8 ON, which is the default (RFC 2640, 2).
    Utf8,
    /// MLST with the selected facts (RFC 3659, 7.9).
    Facts(MlstFacts),
    /// HASH with the selected algorithm; `None` keeps the current one (draft-bryan-ftpext-hash,
    /// 3.3).
    Hash(Option<Algorithm>),
}

/// Parses the argument of OPTS. The error is the reply.
pub(super) fn option(argument: &[u8]) -> Result<FtpOption, Reply> {
    let (command, value) = split(argument);
    let value = trim(value);
    match &*command.to_ascii_uppercase() {
        b"UTF8" | b"UTF-8" if value.eq_ignore_ascii_case(b"OFF") => Err(reply::UTF8_ALWAYS_ON),
        b"UTF8" | b"UTF-8" => Ok(FtpOption::Utf8),
        b"MLST" => facts(value).map(FtpOption::Facts).ok_or(reply::BAD_FACTS),
        b"HASH" if value.is_empty() => Ok(FtpOption::Hash(None)),
        b"HASH" => {
            let has_name = |algorithm: &Algorithm| {
                let name = features::algorithm_name(*algorithm).as_bytes();
                name.eq_ignore_ascii_case(value)
            };
            let algorithm = features::ALGORITHMS.into_iter().find(has_name);
            algorithm
                .map(|algorithm| FtpOption::Hash(Some(algorithm)))
                .ok_or(reply::BAD_OPTION)
        }
        _ => Err(reply::BAD_OPTION),
    }
}

/// Parses a list of facts, each followed by `;` (RFC 3659, 7.9). Unknown facts are ignored.
fn facts(list: &[u8]) -> Option<MlstFacts> {
    if !list.is_empty() && (!list.ends_with(b";") || list.contains(&b' ')) {
        return None;
    }
    let has = |name: &[u8]| {
        let mut names = list.split(|&byte| byte == b';');
        names.any(|listed| listed.eq_ignore_ascii_case(name))
    };
    Some(MlstFacts {
        kind: has(b"type"),
        size: has(b"size"),
        modify: has(b"modify"),
        perm: has(b"perm"),
        unique: has(b"unique"),
        of_top: false,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_options_of_ls_are_stripped() {
        for (argument, path) in [
            (&b"-la"[..], &b""[..]),
            (b"-a -l path", b"path"),
            (b"-la  two", b" two"),
            (b"-", b"-"),
            (b"-x", b"-x"),
            (b"-- -la", b"-la"),
            (b"path -la", b"path -la"),
        ] {
            assert_eq!(without_options(argument), path);
        }
    }

    #[test]
    fn numbers_fit_into_63_bits() {
        assert_eq!(number(b"9223372036854775807"), Some(i64::MAX as u64));
        for text in [
            &b"9223372036854775808"[..],
            b"18446744073709551615",
            b"-1",
            b"+1",
            b"1e9",
            b"0x10",
            b"1.0",
            b"",
            b"1 2",
            b"99999999999999999999999",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn byte_range_follows_a_quoted_path() {
        let parsed = |argument: &str| {
            path_range(argument.as_bytes()).map(|range| {
                (
                    String::from_utf8(range.path).unwrap(),
                    range.start,
                    range.end,
                )
            })
        };
        assert_eq!(parsed("a b 1 2"), Some(("a b 1 2".into(), 0, None)));
        assert_eq!(parsed("\"a \"\"b\""), Some(("a \"b".into(), 0, None)));
        assert_eq!(parsed("\"a\" 5"), Some(("a".into(), 5, None)));
        assert_eq!(parsed("\"a\" 5 7"), Some(("a".into(), 5, Some(7))));
        for invalid in ["\"a", "\"a\" 7 5", "\"a\" -1", "\"a\" 1 2 3"] {
            assert_eq!(parsed(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn times_are_complete_and_valid() {
        assert_eq!(time(b"20261122180000"), Some(1_795_370_400));
        assert_eq!(time(b"20261122180000.5"), Some(1_795_370_400));
        assert_eq!(time(b"20261231235960"), time(b"20261231235959"));
        for text in [
            &b"20261322180000"[..],
            b"20260230000000",
            b"2026112218000",
            b"202611221800000",
            b"20261122180000.",
            b"+0261122180000",
            b"",
        ] {
            assert_eq!(time(text), None, "{text:?}");
        }
    }

    #[test]
    fn port_has_six_bytes() {
        assert_eq!(
            port(b"127,0,0,1,4,1"),
            Some("127.0.0.1:1025".parse().unwrap())
        );
        for text in [
            &b"127,0,0,1,4"[..],
            b"127,0,0,1,4,1,",
            b"127,0,0,1,4,256",
            b"127,0,0,1,4,-1",
            b"127,0,0,1,,1",
            b"",
        ] {
            assert_eq!(port(text), None, "{text:?}");
        }
    }

    #[test]
    fn extended_port_has_three_fields() {
        let address = |text: &str| Some(ExtendedPort::Address(text.parse().unwrap()));
        assert_eq!(
            extended_port(b"|1|127.0.0.1|1025|"),
            address("127.0.0.1:1025")
        );
        assert_eq!(extended_port(b"|2|::1|1025|"), address("[::1]:1025"));
        assert_eq!(extended_port(b"!2!::1!1025!"), address("[::1]:1025"));
        assert_eq!(
            extended_port(b"|3|x|1025|"),
            Some(ExtendedPort::UnknownFamily)
        );
        for text in [
            &b"|1|::1|1025|"[..],
            b"|1|127.0.0.1|1025",
            b"|1|127.0.0.1|65536|",
            b"|1|127.0.0.1|1025||",
            b"",
            b"|",
        ] {
            assert_eq!(extended_port(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_argument_is_parsed(argument in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (number(&argument), time(&argument), port(&argument));
            let _ = (extended_port(&argument), path_range(&argument), option(&argument));
            let _ = (without_options(&argument), allocation(&argument));
        }
    }
}

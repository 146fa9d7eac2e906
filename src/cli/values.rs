//! Parsers for the values of options and arguments, for argh's `from_str_fn`.
//!
//! argh prints the error after the option and its value.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::access::Rights;
use crate::domain::byte_size::ByteSize;
use crate::domain::name::{ALL_USERS, check_directory_name, check_grant_path, check_user_name};
#[cfg(feature = "client")]
use crate::limits::JOBS_MAX;

/// Parses a size in bytes: `10M` is 10,000,000 and `10MiB` is 10,485,760.
pub(crate) fn bytes(value: &str) -> Result<u64, String> {
    Ok(value.parse::<ByteSize>()?.0)
}

/// Parses a size of at least one byte.
pub(crate) fn bytes_from_one(value: &str) -> Result<u64, String> {
    match bytes(value)? {
        0 => Err("expected at least one byte".into()),
        bytes => Ok(bytes),
    }
}

/// Parses whole seconds, at most 2^32 - 1.
pub(crate) fn seconds(value: &str) -> Result<Duration, String> {
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("expected whole seconds, such as 300".into());
    }
    match value.parse::<u32>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds.into())),
        Err(_) => Err("expected whole seconds, at most 4294967295".into()),
    }
}

/// Parses at least one second.
pub(crate) fn seconds_from_one(value: &str) -> Result<Duration, String> {
    match seconds(value)? {
        Duration::ZERO => Err("expected at least one second".into()),
        seconds => Ok(seconds),
    }
}

/// Parses a number of at least 1.
pub(crate) fn from_one(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err("expected a number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

/// Parses the address of a listener: `ADDR:PORT`, `[V6]:PORT`, `HOST:PORT` (the first IPv4 address
/// of the host, else its first IPv6 address), `:PORT` (all addresses) or `PORT` (loopback).
pub(crate) fn listen_address(value: &str) -> Result<SocketAddr, String> {
    const FORMS: &str =
        "expected ADDR:PORT, such as 127.0.0.1:2100, [::1]:2100, localhost:2100, :2100 or 2100";
    if let Ok(address) = value.parse() {
        return Ok(address);
    }
    if let Ok(address) = value.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        return Err(format!(
            "write an IPv6 address and its port as [{address}]:2100"
        ));
    }
    if value.parse::<Ipv4Addr>().is_ok() {
        return Err(format!("the port is missing, such as {value}:2100"));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (host, port) = match value.rsplit_once(':') {
        None if is_number(value) => (None, value),
        None => return Err(FORMS.into()),
        Some((host, port)) => (Some(host), port),
    };
    if !is_number(port) {
        return Err(FORMS.into());
    }
    let port = port
        .parse()
        .map_err(|_| "a port is at most 65535".to_owned())?;
    match host {
        None => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Some("" | "*") => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        Some(host) if host.contains([':', '/', '[', ']', ' ']) => Err(FORMS.into()),
        Some(host) => resolve(host, port),
    }
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    const ADVICE: &str = "correct the name, or give an address such as 127.0.0.1";
    let found = (host, port).to_socket_addrs();
    let found: Vec<SocketAddr> = found.map_or(Vec::new(), Iterator::collect);
    let v4 = found.iter().find(|address| address.is_ipv4());
    let address = v4.or(found.first()).copied();
    address.ok_or_else(|| format!("the host '{host}' is not known; {ADVICE}"))
}

/// Parses an IPv4 address.
pub(crate) fn ipv4_address(value: &str) -> Result<Ipv4Addr, String> {
    match value.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err("expected an IPv4 address; EPSV, for IPv6, announces none".into()),
        Err(_) => Err("expected an IPv4 address, such as 203.0.113.5".into()),
    }
}

/// Parses a number of at least 0.
pub(crate) fn number<T: FromStr>(value: &str) -> Result<T, String> {
    let expected = |_| "expected a number, 0 or more".to_owned();
    value.parse().map_err(expected)
}

/// Parses a range of ports, `LOW-HIGH`, or a single port. Port 0 is refused.
pub(crate) fn ports(value: &str) -> Result<(u16, u16), String> {
    let (low, high) = value.split_once('-').unwrap_or((value, value));
    match (low.parse(), high.parse()) {
        (Ok(low @ 1..), Ok(high)) if low <= high => Ok((low, high)),
        _ => Err("expected a range of ports, such as 50000-50009".into()),
    }
}

/// Parses a umask: an octal number up to 777.
pub(crate) fn umask(value: &str) -> Result<u32, String> {
    let is_octal = !value.is_empty() && value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(value, 8) {
        Ok(mask @ ..=0o777) if is_octal => Ok(mask),
        _ => Err("expected an octal number from 000 to 777, such as 027".into()),
    }
}

/// Parses the path of a home.
pub(crate) fn home(value: &str) -> Result<PathBuf, String> {
    if value.is_empty() {
        return Err("the path is empty".into());
    }
    Ok(value.into())
}

/// Parses the path of another directory of the operator.
pub(crate) fn directory_path(value: &str) -> Result<PathBuf, String> {
    home(value)
}

/// Parses a number of concurrent transfers.
#[cfg(feature = "client")]
pub(crate) fn jobs(value: &str) -> Result<usize, String> {
    match from_one(value) {
        Ok(jobs @ ..=JOBS_MAX) => Ok(jobs),
        _ => Err(format!("expected a number from 1 to {JOBS_MAX}")),
    }
}

/// Parses a user name.
pub(crate) fn user(value: &str) -> Result<String, String> {
    check_user_name(value)?;
    Ok(value.to_owned())
}

/// Parses a user name or `*`.
pub(crate) fn user_or_all(value: &str) -> Result<String, String> {
    if value == ALL_USERS {
        return Ok(value.to_owned());
    }
    user(value)
}

/// Parses the name of a granted directory.
pub(crate) fn directory(value: &str) -> Result<String, String> {
    if value.contains('/') {
        return Err("the name contains a '/'; name the directory, and give its path last".into());
    }
    check_directory_name(value)?;
    Ok(value.to_owned())
}

/// Parses the rights of a grant.
pub(crate) fn rights(value: &str) -> Result<Rights, String> {
    value
        .parse()
        .map_err(|fault: String| format!("{fault}; expected {}", Rights::EXPECTED))
}

/// Parses the path of a granted directory.
pub(crate) fn path(value: &str) -> Result<String, String> {
    check_grant_path(value)?;
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_ranges_are_ordered() {
        assert_eq!(ports("50000-50009"), Ok((50_000, 50_009)));
        assert_eq!(ports("50000"), Ok((50_000, 50_000)));
        for wrong in ["", "-", "0-9", "9-8", "1-65536", "50000:50009", "-5"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn listen_addresses_have_short_forms() {
        for (text, address) in [
            ("127.0.0.1:2100", "127.0.0.1:2100"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:2100", "127.0.0.1:2100"),
            ("2100", "127.0.0.1:2100"),
            (":2100", "[::]:2100"),
            ("*:2100", "[::]:2100"),
        ] {
            assert_eq!(listen_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        let forms =
            "expected ADDR:PORT, such as 127.0.0.1:2100, [::1]:2100, localhost:2100, :2100 or 2100";
        for (text, fault) in [
            ("::1", "write an IPv6 address and its port as [::1]:2100"),
            ("[::1]", "write an IPv6 address and its port as [::1]:2100"),
            ("10.0.0.1", "the port is missing, such as 10.0.0.1:2100"),
            ("localhost", forms),
            ("", forms),
            ("localhost:", forms),
            ("localhost:ftp", forms),
            ("a:b:1", forms),
            ("http://localhost:1", forms),
            ("65536", "a port is at most 65535"),
            (":-1", forms),
            (
                "no.such.invalid:1",
                "the host 'no.such.invalid' is not known; correct the name, or give an address \
                 such as 127.0.0.1",
            ),
        ] {
            assert_eq!(listen_address(text), Err(fault.to_owned()), "{text}");
        }
    }

    #[test]
    fn seconds_are_whole_numbers() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds_from_one("60"), Ok(Duration::from_secs(60)));
        for text in ["", "-1", "+1", "1.5", "1s", "4294967296"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert!(seconds_from_one("0").is_err());
    }

    #[test]
    fn a_umask_is_an_octal_number() {
        assert_eq!(umask("027"), Ok(0o27));
        assert_eq!(umask("0"), Ok(0));
        assert_eq!(umask("0777"), Ok(0o777));
        for text in ["", "1000", "+22", "0o22", "8", "u=rwx"] {
            assert!(umask(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_the_rules_of_a_home() {
        assert_eq!(user("a b").as_deref(), Ok("a b"));
        assert!(user("*").is_err() && user("a:b").is_err());
        assert_eq!(user_or_all("*").as_deref(), Ok("*"));
        assert!(directory("..").is_err() && path("a\nb").is_err());
    }
}

//! FTP's commands: how a line off a telnet connection becomes one, how an argument becomes a number, a time, an address.
//!
//! Must not know: states; what a command does; what is replied.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use crate::protocol::text::{number as digits, trim};

/// What a line can ask for. Older names that are the same command (XCWD) are no commands of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // docs/rfc959.md has a row for each
pub enum FtpCommand {
    Abor,
    Acct,
    Allo,
    Appe,
    Auth,
    Avbl,
    Cdup,
    Clnt,
    Cwd,
    Dele,
    Eprt,
    Epsv,
    Feat,
    Hash,
    Help,
    Host,
    Lang,
    List,
    Mdtm,
    Mfmt,
    Mkd,
    Mlsd,
    Mlst,
    Mode,
    Nlst,
    Noop,
    Opts,
    Pass,
    Pasv,
    Pbsz,
    Port,
    Prot,
    Pwd,
    Quit,
    Rein,
    Rest,
    Retr,
    Rmd,
    Rnfr,
    Rnto,
    Site,
    Size,
    Smnt,
    Stat,
    Stor,
    Stou,
    Stru,
    Syst,
    Type,
    User,
    Xcrc,
    Xmd5,
    Xsha,
    Xsha256,
    Xsha512,
}

/// What is known of a verb before anything is done.
#[derive(Debug)]
pub struct Verb {
    /// As it is written in capitals.
    pub word: &'static str,
    /// What it asks for.
    pub command: FtpCommand,
    /// What follows it, for people; in brackets where it may be missing, empty where nothing may follow.
    pub argument: &'static str,
    /// Whether it may be said before a login.
    pub is_open: bool,
}

/// Every verb, in the order of the alphabet.
pub const VERBS: &[Verb] = &[
    verb("ABOR", FtpCommand::Abor, "", false),
    verb("ACCT", FtpCommand::Acct, "account", true),
    verb("ALLO", FtpCommand::Allo, "bytes [R bytes]", false),
    verb("APPE", FtpCommand::Appe, "path", false),
    verb("AUTH", FtpCommand::Auth, "mechanism", true),
    verb("AVBL", FtpCommand::Avbl, "[path]", false),
    verb("CDUP", FtpCommand::Cdup, "", false),
    verb("CLNT", FtpCommand::Clnt, "name", true),
    verb("CWD", FtpCommand::Cwd, "[path]", false),
    verb("DELE", FtpCommand::Dele, "path", false),
    verb("EPRT", FtpCommand::Eprt, "|family|address|port|", false),
    verb("EPSV", FtpCommand::Epsv, "[family or ALL]", false),
    verb("FEAT", FtpCommand::Feat, "", true),
    verb("HASH", FtpCommand::Hash, "path", false),
    verb("HELP", FtpCommand::Help, "[command]", true),
    verb("HOST", FtpCommand::Host, "name", true),
    verb("LANG", FtpCommand::Lang, "[language]", true),
    verb("LIST", FtpCommand::List, "[path]", false),
    verb("MD5", FtpCommand::Xmd5, "path", false),
    verb("MDTM", FtpCommand::Mdtm, "[time] path", false),
    verb("MFMT", FtpCommand::Mfmt, "time path", false),
    verb("MKD", FtpCommand::Mkd, "path", false),
    verb("MLSD", FtpCommand::Mlsd, "[path]", false),
    verb("MLST", FtpCommand::Mlst, "[path]", false),
    verb("MODE", FtpCommand::Mode, "S", false),
    verb("NLST", FtpCommand::Nlst, "[path]", false),
    verb("NOOP", FtpCommand::Noop, "", true),
    verb("OPTS", FtpCommand::Opts, "command [options]", true),
    verb("P@SW", FtpCommand::Pasv, "", false),
    verb("PASS", FtpCommand::Pass, "[password]", true),
    verb("PASV", FtpCommand::Pasv, "", false),
    verb("PBSZ", FtpCommand::Pbsz, "size", true),
    verb("PORT", FtpCommand::Port, "h1,h2,h3,h4,p1,p2", false),
    verb("PROT", FtpCommand::Prot, "level", true),
    verb("PWD", FtpCommand::Pwd, "", false),
    verb("QUIT", FtpCommand::Quit, "", true),
    verb("REIN", FtpCommand::Rein, "", true),
    verb("REST", FtpCommand::Rest, "bytes", false),
    verb("RETR", FtpCommand::Retr, "path", false),
    verb("RMD", FtpCommand::Rmd, "path", false),
    verb("RNFR", FtpCommand::Rnfr, "path", false),
    verb("RNTO", FtpCommand::Rnto, "path", false),
    verb("SITE", FtpCommand::Site, "HELP", true),
    verb("SIZE", FtpCommand::Size, "path", false),
    verb("SMNT", FtpCommand::Smnt, "path", false),
    verb("STAT", FtpCommand::Stat, "[path]", true),
    verb("STOR", FtpCommand::Stor, "path", false),
    verb("STOU", FtpCommand::Stou, "[path]", false),
    verb("STRU", FtpCommand::Stru, "F", false),
    verb("SYST", FtpCommand::Syst, "", true),
    verb("TYPE", FtpCommand::Type, "A or I", false),
    verb("USER", FtpCommand::User, "name", true),
    verb("XCRC", FtpCommand::Xcrc, "path", false),
    verb("XCUP", FtpCommand::Cdup, "", false),
    verb("XCWD", FtpCommand::Cwd, "[path]", false),
    verb("XMD5", FtpCommand::Xmd5, "path", false),
    verb("XMKD", FtpCommand::Mkd, "path", false),
    verb("XPWD", FtpCommand::Pwd, "", false),
    verb("XRMD", FtpCommand::Rmd, "path", false),
    verb("XSHA", FtpCommand::Xsha, "path", false),
    verb("XSHA1", FtpCommand::Xsha, "path", false),
    verb("XSHA256", FtpCommand::Xsha256, "path", false),
    verb("XSHA512", FtpCommand::Xsha512, "path", false),
];

const fn verb(
    word: &'static str,
    command: FtpCommand,
    argument: &'static str,
    is_open: bool,
) -> Verb {
    Verb {
        word,
        command,
        argument,
        is_open,
    }
}

impl Verb {
    /// The verb that a word is, in any letter case.
    pub fn find(word: &[u8]) -> Option<&'static Verb> {
        VERBS
            .iter()
            .find(|verb| verb.word.as_bytes().eq_ignore_ascii_case(word))
    }

    /// Whether an argument that has, or has not, come is as the verb wants it.
    pub(crate) fn takes(&self, argument: &[u8]) -> bool {
        match self.argument {
            "" => argument.is_empty(),
            optional if optional.starts_with('[') && optional.ends_with(']') => true,
            _ => !argument.is_empty(),
        }
    }
}

/// A line without what telnet put into it (RFC 854; RFC 959, 4.1.3), and what telnet wants to hear for that.
///
/// Commands with and without an option are taken out, a doubled 255 is one, a CR NUL is a CR. What a 255 does not belong to
/// stays: of a Synch the mark may have overtaken its line. The text may be a password, asked for or not.
pub(crate) fn without_telnet(line: &[u8], answers: &mut Vec<u8>) -> Zeroizing<Vec<u8>> {
    const SE: u8 = 240;
    const SB: u8 = 250;
    const WILL: u8 = 251;
    const WONT: u8 = 252;
    const DO: u8 = 253;
    const DONT: u8 = 254;
    const IAC: u8 = 255;
    let mut text = Zeroizing::new(Vec::with_capacity(line.len()));
    let mut rest = line;
    loop {
        rest = match rest {
            [] => return text,
            [IAC, IAC, rest @ ..] => {
                text.push(IAC);
                rest
            }
            [IAC, SB, rest @ ..] => {
                let end = rest.windows(2).position(|pair| pair == [IAC, SE]);
                &rest[end.map_or(rest.len(), |end| end + 2)..]
            }
            [IAC, asked @ WILL..=DONT, option, rest @ ..] => {
                match *asked {
                    WILL => answers.extend_from_slice(&[IAC, DONT, *option]),
                    DO => answers.extend_from_slice(&[IAC, WONT, *option]),
                    _ => {}
                }
                rest
            }
            [IAC, SE..=DONT, rest @ ..] => rest,
            // Of a Synch sent as urgent data, what was not the last byte has lost the 255 before it.
            [SE..=DONT, rest @ ..] if text.is_empty() => rest,
            [IAC, rest @ ..] => rest,
            [b'\r', 0, rest @ ..] => {
                text.push(b'\r');
                rest
            }
            [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
        };
    }
}

/// Splits a line into its verb's word and the argument: what stands behind one blank, as it stands.
pub(crate) fn split(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b' ') {
        Some(end) => (&line[..end], &line[end + 1..]),
        None => (line, b""),
    }
}

/// Whether a word begins what is no FTP at all: HTTP, or a TLS that nobody has asked for.
pub(crate) fn is_foreign(word: &[u8]) -> bool {
    const HTTP: [&[u8]; 10] = [
        b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"PATCH", b"TRACE",
        b"PRI",
    ];
    HTTP.contains(&word) || word.starts_with(b"\x16\x03")
}

/// A number that fits in 63 bits: decimal digits, nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    digits(trim(text)).filter(|number| i64::try_from(*number).is_ok())
}

/// Skips what clients put before the path of LIST and NLST as if `ls` were there: words of a dash and letters, up to a
/// `--` at most.
pub(crate) fn without_options(argument: &[u8]) -> &[u8] {
    let mut rest = argument;
    loop {
        let (word, behind) = split(rest);
        match word {
            b"--" => return behind,
            [b'-', letters @ ..]
                if !letters.is_empty()
                    && letters
                        .iter()
                        .all(|letter| b"1AaCdFghilLnoRrSTtu".contains(letter)) =>
            {
                rest = behind;
            }
            _ => return rest,
        }
    }
}

/// A path that may stand in quotes with two numbers behind it, as XCRC and its like have it: the path, the first byte, the
/// byte behind the last. Without quotes all of it is the path.
pub(crate) fn path_and_range(argument: &[u8]) -> Option<(Vec<u8>, u64, Option<u64>)> {
    let Some(mut rest) = argument.strip_prefix(b"\"") else {
        return Some((argument.to_vec(), 0, None));
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
                let (from, end) = (next()?.unwrap_or(0), next()?);
                let is_range = end.is_none_or(|end| from <= end);
                return (is_range && numbers.next().is_none()).then_some((path, from, end));
            }
            [byte, rest @ ..] => {
                path.push(*byte);
                rest
            }
        };
    }
}

/// A time as RFC 3659, 2.3, has it, `YYYYMMDDHHMMSS` with a fraction that is not kept, in seconds since 1970.
pub(crate) fn time(text: &[u8]) -> Option<i64> {
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&text[..dot], Some(&text[dot + 1..])),
        None => (text, None),
    };
    let is_fraction = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if whole.len() != 14 || !fraction.is_none_or(is_fraction) {
        return None;
    }
    let field = |from: usize, length: usize| digits(&whole[from..from + length]);
    let (year, month, day) = (field(0, 4)?, field(4, 2)?, field(6, 2)?);
    let (hour, minute, second) = (field(8, 2)?, field(10, 2)?, field(12, 2)?);
    // A leap second, which nothing behind here knows.
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

/// The address in a PORT: six numbers of a byte each, parted by commas (RFC 959, 4.1.2).
pub(crate) fn port(argument: &[u8]) -> Option<SocketAddr> {
    let mut bytes = [0; 6];
    let mut fields = trim(argument).split(|&byte| byte == b',');
    for byte in &mut bytes {
        *byte = u8::try_from(digits(fields.next()?)?).ok()?;
    }
    let [a, b, c, d, high, low] = bytes;
    let port = u16::from_be_bytes([high, low]);
    fields
        .next()
        .is_none()
        .then(|| SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

/// What an EPRT says (RFC 2428, 2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Extended {
    Address(SocketAddr),
    /// Neither 1, which is IPv4, nor 2, which is IPv6.
    UnknownFamily,
}

/// The address in an EPRT: family, address and port between a character that stands four times.
pub(crate) fn extended_port(argument: &[u8]) -> Option<Extended> {
    let argument = str::from_utf8(trim(argument)).ok()?;
    let delimiter = argument.chars().next().filter(char::is_ascii_graphic)?;
    let mut fields = argument.split(delimiter);
    let (Some(""), Some(family), Some(address), Some(port), Some(""), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return None;
    };
    let family = digits(family.as_bytes())?;
    let port = u16::try_from(digits(port.as_bytes())?).ok()?;
    let address: IpAddr = match family {
        1 => IpAddr::V4(address.parse().ok()?),
        2 => IpAddr::V6(address.parse().ok()?),
        _ => return Some(Extended::UnknownFamily),
    };
    Some(Extended::Address(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut answers = Vec::new();
        let text = without_telnet(line, &mut answers).to_vec();
        (text, answers)
    }

    #[test]
    fn verbs_stand_in_order_and_are_found_in_any_case() {
        assert!(VERBS.is_sorted_by(|one, next| one.word < next.word));
        assert_eq!(Verb::find(b"xCwD").unwrap().command, FtpCommand::Cwd);
        assert!(Verb::find(b"").is_none() && Verb::find(b"RETRO").is_none());
    }

    #[test]
    fn telnet_is_taken_out_wherever_it_stands() {
        // Synch and ABOR, as clients send them: interrupt, mark; the mark may be missing since it overtook.
        for line in [
            &b"\xff\xf4\xff\xf2ABOR"[..],
            b"\xff\xf4\xffABOR",
            b"\xf2ABOR",
        ] {
            let (text, answers) = clean(line);
            assert!(text.ends_with(b"ABOR") && answers.is_empty(), "{line:?}");
        }
        for at in 0..=4 {
            for telnet in [&b"\xff\xf1"[..], b"\xff\xfb\x01", b"\xff\xfa\x18x\xff\xf0"] {
                let line = [&b"NOOP"[..at], telnet, &b"NOOP"[at..]].concat();
                assert_eq!(clean(&line).0, b"NOOP", "{line:?}");
            }
        }
        assert_eq!(clean(b"a\xff\xffb"), (b"a\xffb".to_vec(), vec![]));
        assert_eq!(clean(b"a\r\0b\0c").0, b"a\rb\0c");
        assert_eq!(clean(b"\xff\xfa\x18 never ends").0, b"");
        assert_eq!(
            clean(b"\xff\xfd\x03\xff\xfb\x06\xff\xfe\x01").1,
            b"\xff\xfc\x03\xff\xfe\x06",
            "no option is taken up, and a refusal needs no answer"
        );
    }

    #[test]
    fn only_the_letters_of_ls_are_options() {
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
    fn numbers_fit_in_63_bits() {
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
    fn a_range_stands_behind_a_quoted_path() {
        let path = |argument: &str| {
            path_and_range(argument.as_bytes())
                .map(|(path, from, end)| (String::from_utf8(path).unwrap(), from, end))
        };
        assert_eq!(path("a b 1 2"), Some(("a b 1 2".into(), 0, None)));
        assert_eq!(path("\"a \"\"b\""), Some(("a \"b".into(), 0, None)));
        assert_eq!(path("\"a\" 5"), Some(("a".into(), 5, None)));
        assert_eq!(path("\"a\" 5 7"), Some(("a".into(), 5, Some(7))));
        for wrong in ["\"a", "\"a\" 7 5", "\"a\" -1", "\"a\" 1 2 3"] {
            assert_eq!(path(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_are_whole_and_real() {
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
    fn addresses_are_six_bytes_or_three_fields() {
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
        let address = |text: &str| Some(Extended::Address(text.parse().unwrap()));
        assert_eq!(
            extended_port(b"|1|127.0.0.1|1025|"),
            address("127.0.0.1:1025")
        );
        assert_eq!(extended_port(b"|2|::1|1025|"), address("[::1]:1025"));
        assert_eq!(extended_port(b"!2!::1!1025!"), address("[::1]:1025"));
        assert_eq!(extended_port(b"|3|x|1025|"), Some(Extended::UnknownFamily));
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
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            let (text, _) = clean(&line);
            let (_, argument) = split(&text);
            let _ = (number(argument), time(argument), port(argument), extended_port(argument));
            let _ = (path_and_range(argument), without_options(argument));
            prop_assert!(text.len() <= line.len());
        }
    }
}

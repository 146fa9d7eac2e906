//! Telnet commands on the control connection (RFC 854; RFC 959, 4.1.3).
//!
//! Clients of every dialect may be Telnet clients. [`filter`] works on received bytes, before they
//! are split into lines, since a client may wait for an answer in the middle of a line; `strip`
//! on whole lines of FTP, whose clients send Telnet's escapes as well.

use zeroize::Zeroizing;

/// The first of the commands of two bytes (RFC 1184, 2.1).
const EOF: u8 = 236;
/// End of subnegotiation.
const SE: u8 = 240;
/// Begin of subnegotiation.
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;
/// Interpret as command.
const IAC: u8 = 255;

/// The next part of the input.
enum Token {
    /// A byte that is not part of a command.
    Byte,
    /// A doubled IAC: one byte of data.
    Escaped,
    /// An IAC that begins no complete command.
    LoneIac,
    /// A command or subnegotiation of this length.
    Command(usize),
    /// A request to change an option.
    Option { verb: u8, option: u8 },
    /// The start of a command.
    Incomplete,
}

/// Returns the first token of an input that is not empty.
///
/// A command ends within its line, which bounds its length: no known option has the number of a
/// line end (RFC 652's 10 is obsolete), and no subnegotiation follows the refusal of its option.
fn first_token(input: &[u8]) -> Token {
    match input {
        [IAC] | [IAC, WILL..=DONT] => Token::Incomplete,
        [IAC, IAC, ..] => Token::Escaped,
        [IAC, SB, parameters @ ..] => match subnegotiation_length(parameters) {
            Some(length) => Token::Command(2 + length),
            None => Token::Incomplete,
        },
        [IAC, WILL..=DONT, b'\n', ..] => Token::LoneIac,
        &[IAC, verb @ WILL..=DONT, option, ..] => Token::Option { verb, option },
        [IAC, EOF..=SB, ..] => Token::Command(2),
        [IAC, ..] => Token::LoneIac,
        _ => Token::Byte,
    }
}

/// Returns the length of a subnegotiation's parameters with IAC SE, or up to the end of the line.
fn subnegotiation_length(parameters: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += match parameters.get(at..)? {
            [] | [IAC] => return None,
            [IAC, SE, ..] => return Some(at + 2),
            [b'\n', ..] => return Some(at),
            [IAC, IAC, ..] => 2,
            _ => 1,
        };
    }
}

/// Appends the refusal of an option. WONT and DONT need no answer.
fn refuse(verb: u8, option: u8, replies: &mut Vec<u8>) {
    match verb {
        WILL => replies.extend_from_slice(&[IAC, DONT, option]),
        DO => replies.extend_from_slice(&[IAC, WONT, option]),
        _ => {}
    }
}

/// Removes the Telnet commands from the first line of a buffer, complete or not, appends the
/// refusals of options to `replies` and returns the number of bytes that are left. They are moved
/// to the front; the bytes after them are unspecified.
///
/// Nothing after the first line end is touched: it may be the content of a file. An incomplete
/// command at the end stays for the next call, as does a doubled or lone IAC, so that calls with a
/// growing buffer have the same result as a single one.
pub fn filter(buffer: &mut [u8], replies: &mut Vec<u8>) -> usize {
    let (mut from, mut to) = (0, 0);
    while from < buffer.len() {
        let kept = match first_token(&buffer[from..]) {
            Token::Byte if buffer[from] == b'\n' => buffer.len() - from,
            Token::Incomplete => buffer.len() - from,
            Token::Byte | Token::LoneIac => 1,
            Token::Escaped => 2,
            Token::Command(length) => {
                from += length;
                continue;
            }
            Token::Option { verb, option } => {
                refuse(verb, option, replies);
                from += 3;
                continue;
            }
        };
        buffer.copy_within(from..from + kept, to);
        (from, to) = (from + kept, to + kept);
    }
    to
}

/// Returns whether [`filter`] would find anything.
pub fn contains_commands(buffer: &[u8]) -> bool {
    buffer.contains(&IAC)
}

/// Removes Telnet commands from a line of FTP and appends the refusals of options to `replies`.
///
/// A doubled IAC is one byte, CR NUL is CR, and an IAC that begins no command is dropped: in a
/// Synch, the urgent mark may have overtaken its line. The line may be a password, so the copy is
/// wiped.
pub(crate) fn strip(line: &[u8], replies: &mut Vec<u8>) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(line.len()));
    let mut rest = line;
    while let [first, ..] = rest {
        let used = match first_token(rest) {
            // A Synch sent as urgent data: only its last byte arrives out of band, so a command may
            // have lost the IAC before it.
            Token::Byte if text.is_empty() && (SE..=DONT).contains(first) => 1,
            Token::Byte => {
                text.push(*first);
                if rest.starts_with(b"\r\0") { 2 } else { 1 }
            }
            Token::Escaped => {
                text.push(IAC);
                2
            }
            Token::LoneIac => 1,
            Token::Command(length) => length,
            Token::Option { verb, option } => {
                refuse(verb, option, replies);
                3
            }
            Token::Incomplete => rest.len(),
        };
        rest = &rest[used..];
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut replies = Vec::new();
        let text = strip(line, &mut replies).to_vec();
        (text, replies)
    }

    /// Filters input that arrives in these fragments. Returns what is left and the replies.
    fn filtered<'a>(fragments: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<u8>) {
        let (mut buffer, mut replies) = (Vec::new(), Vec::new());
        for fragment in fragments {
            buffer.extend_from_slice(fragment);
            let left = filter(&mut buffer, &mut replies);
            buffer.truncate(left);
        }
        (buffer, replies)
    }

    #[test]
    fn synch_before_abor_is_removed() {
        // Interrupt and data mark, as clients send them; the mark may be missing or alone.
        for line in [
            &b"\xff\xf4\xff\xf2ABOR"[..],
            b"\xff\xf4\xffABOR",
            b"\xf2ABOR",
        ] {
            let (text, replies) = stripped(line);
            assert!(text.ends_with(b"ABOR") && replies.is_empty(), "{line:?}");
        }
    }

    #[test]
    fn commands_are_removed_at_any_position() {
        for at in 0..=4 {
            for telnet in [
                &b"\xff\xf1"[..],
                b"\xff\xec",
                b"\xff\xfb\x01",
                b"\xff\xfa\x18x\xff\xf0",
                b"\xff\xfa\x18\xff\xff\xf0x\xff\xf0",
            ] {
                let line = [&b"NOOP"[..at], telnet, &b"NOOP"[at..]].concat();
                assert_eq!(stripped(&line).0, b"NOOP", "{line:?}");
                assert_eq!(filtered([&line[..]].into_iter()).0, b"NOOP", "{line:?}");
                let bytes = line.chunks(1);
                assert_eq!(filtered(bytes), filtered([&line[..]].into_iter()));
            }
        }
        assert_eq!(stripped(b"a\xff\xffb"), (b"a\xffb".to_vec(), vec![]));
        assert_eq!(stripped(b"a\r\0b\0c").0, b"a\rb\0c");
        assert_eq!(stripped(b"\xff\xfa\x18 never ends").0, b"");
        assert_eq!(stripped(b"NOOP\xff\xfd").0, b"NOOP");
    }

    #[test]
    fn options_are_refused() {
        let options = b"\xff\xfd\x03\xff\xfb\x06\xff\xfe\x01\xff\xfc\x01";
        let refusals = b"\xff\xfc\x03\xff\xfe\x06".to_vec();
        assert_eq!(stripped(options), (vec![], refusals.clone()));
        assert_eq!(filtered(options.chunks(1)), (vec![], refusals));
    }

    #[test]
    fn only_the_first_line_is_filtered() {
        for (input, left) in [
            (&b"a\xff\xf1b\nc\xff\xf1"[..], &b"ab\nc\xff\xf1"[..]),
            (b"\n\xff\xfd\x06", b"\n\xff\xfd\x06"),
            // A line end within a command ends it.
            (b"\xff\xfd\na", b"\xff\xfd\na"),
            (b"\xff\xfa\x1fab\nc", b"\nc"),
            (b"\xff\xffa\xffb\n", b"\xff\xffa\xffb\n"),
            (b"ab\xff\xfa\x1f", b"ab\xff\xfa\x1f"),
        ] {
            assert_eq!(filtered([input].into_iter()).0, left, "{input:?}");
        }
    }

    fn input() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(IAC), EOF..=IAC, Just(b'\n'), any::<u8>()];
        prop::collection::vec(byte, 0..60)
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(line in input()) {
            prop_assert!(stripped(&line).0.len() <= line.len());
        }

        #[test]
        fn fragmentation_does_not_change_the_first_line(line in input()) {
            let whole = filtered([&line[..]].into_iter());
            prop_assert_eq!(filtered(line.chunks(1)), whole.clone());
            prop_assert_eq!(filtered([&whole.0[..]].into_iter()), (whole.0, vec![]));
        }
    }
}

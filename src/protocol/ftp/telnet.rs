//! Telnet commands on the control connection (RFC 854; RFC 959, 4.1.3).

use zeroize::Zeroizing;

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

/// Removes Telnet commands from a line and appends the refusals of options to `replies`.
///
/// A doubled IAC is one byte, CR NUL is CR, and an IAC that begins no command is dropped: in a
/// Synch, the urgent mark may have overtaken its line. The line may be a password, so the copy is
/// wiped.
pub(super) fn strip(line: &[u8], replies: &mut Vec<u8>) -> Zeroizing<Vec<u8>> {
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
            [IAC, verb @ WILL..=DONT, option, rest @ ..] => {
                match *verb {
                    WILL => replies.extend_from_slice(&[IAC, DONT, *option]),
                    DO => replies.extend_from_slice(&[IAC, WONT, *option]),
                    _ => {}
                }
                rest
            }
            [IAC, SE..=DONT, rest @ ..] => rest,
            // A Synch sent as urgent data: only its last byte arrives out of band, so a command may
            // have lost the IAC before it.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stripped(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut replies = Vec::new();
        let text = strip(line, &mut replies).to_vec();
        (text, replies)
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
            for telnet in [&b"\xff\xf1"[..], b"\xff\xfb\x01", b"\xff\xfa\x18x\xff\xf0"] {
                let line = [&b"NOOP"[..at], telnet, &b"NOOP"[at..]].concat();
                assert_eq!(stripped(&line).0, b"NOOP", "{line:?}");
            }
        }
        assert_eq!(stripped(b"a\xff\xffb"), (b"a\xffb".to_vec(), vec![]));
        assert_eq!(stripped(b"a\r\0b\0c").0, b"a\rb\0c");
        assert_eq!(stripped(b"\xff\xfa\x18 never ends").0, b"");
    }

    #[test]
    fn options_are_refused() {
        assert_eq!(
            stripped(b"\xff\xfd\x03\xff\xfb\x06\xff\xfe\x01").1,
            b"\xff\xfc\x03\xff\xfe\x06",
            "DO and WILL are refused, DONT needs no reply"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(line in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(stripped(&line).0.len() <= line.len());
        }
    }
}

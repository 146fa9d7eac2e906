//! Conversion of line ends for FTP's ASCII type (RFC 959, 3.1.1.1): CR LF on the wire, LF in the
//! file. The result does not depend on how the bytes are cut.

/// Converts a file for the wire: an LF without a CR before it becomes CR LF.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsciiEncoder {
    /// The last byte that was sent is a CR.
    after_cr: bool,
}

impl AsciiEncoder {
    /// Appends the wire form of `bytes`, the next bytes of the file.
    pub(crate) fn convert(self, bytes: &[u8], wire: &mut Vec<u8>) {
        let mut after_cr = self.after_cr;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(text) => {
                    wire.extend_from_slice(text);
                    let has_cr = match text {
                        [] => after_cr,
                        [.., last] => *last == b'\r',
                    };
                    wire.extend_from_slice(if has_cr { b"\n" } else { b"\r\n" });
                    after_cr = false;
                }
                None => wire.extend_from_slice(line),
            }
        }
    }

    /// Notes that the first `sent` bytes of the wire form of `bytes` were sent, and returns how
    /// many of `bytes` these represent. A CR that was sent without its LF represents none of them:
    /// the LF is then treated as already preceded by CR.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut sent: usize) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            let takes = if *byte == b'\n' && !self.after_cr {
                2
            } else {
                1
            };
            if sent < takes {
                self.after_cr |= sent == 1;
                return at;
            }
            sent -= takes;
            self.after_cr = *byte == b'\r';
        }
        bytes.len()
    }
}

/// Converts received bytes for a file: CR LF becomes LF, any other CR stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsciiDecoder {
    /// The last byte was a CR, whose meaning depends on the next one.
    after_cr: bool,
}

impl AsciiDecoder {
    /// Appends the file's form of the next received bytes.
    pub(crate) fn convert(&mut self, wire: &[u8], file: &mut Vec<u8>) {
        for byte in wire {
            if self.after_cr && *byte != b'\n' {
                file.push(b'\r');
            }
            self.after_cr = *byte == b'\r';
            if !self.after_cr {
                file.push(*byte);
            }
        }
    }

    /// Appends a CR that was the last byte.
    pub(crate) fn end(self, file: &mut Vec<u8>) {
        if self.after_cr {
            file.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts in a file and on the wire.
    const OUT: &[(&str, &str)] = &[
        ("", ""),
        ("text", "text"),
        ("\n", "\r\n"),
        ("one\ntwo\n", "one\r\ntwo\r\n"),
        ("\n\n\n", "\r\n\r\n\r\n"),
        ("one\r\ntwo", "one\r\ntwo"),
        ("\r\r\n\r", "\r\r\n\r"),
        ("\r\n\n\r\n", "\r\n\r\n\r\n"),
        ("\rone\n\r", "\rone\r\n\r"),
    ];

    #[test]
    fn encoder_is_independent_of_partial_writes() {
        for (file, wire) in OUT {
            for part in 1..=file.len().max(1) {
                for cut in 1..=wire.len().max(1) {
                    assert_eq!(
                        sent(file.as_bytes(), part, cut),
                        wire.as_bytes(),
                        "{file:?}"
                    );
                }
            }
        }
    }

    /// Sends a file, read `part` bytes at a time, over a socket that takes `cut` bytes at a time.
    fn sent(file: &[u8], part: usize, cut: usize) -> Vec<u8> {
        let (mut encoder, mut offset, mut taken) = (AsciiEncoder::default(), 0, Vec::new());
        while offset < file.len() {
            let bytes = &file[offset..file.len().min(offset + part)];
            let mut wire = Vec::new();
            encoder.convert(bytes, &mut wire);
            let count = wire.len().min(cut);
            taken.extend_from_slice(&wire[..count]);
            offset += encoder.advance(bytes, count);
        }
        taken
    }

    #[test]
    fn decoder_is_independent_of_fragments() {
        let others = [
            ("\r\n", "\n"),
            ("one\r\ntwo\r\n", "one\ntwo\n"),
            ("one\ntwo", "one\ntwo"),
            ("\r", "\r"),
            ("\r\r\n", "\r\n"),
            ("\r\r", "\r\r"),
            ("a\rb\r", "a\rb\r"),
        ];
        for (wire, file) in others {
            for cut in 1..=wire.len() {
                let (mut decoder, mut got) = (AsciiDecoder::default(), Vec::new());
                for part in wire.as_bytes().chunks(cut) {
                    decoder.convert(part, &mut got);
                }
                decoder.end(&mut got);
                assert_eq!(got, file.as_bytes(), "{wire:?} by {cut}");
            }
        }
    }

    #[test]
    fn decoder_reverses_the_encoder() {
        for (file, wire) in OUT.iter().filter(|(file, _)| !file.contains('\r')) {
            let (mut decoder, mut got) = (AsciiDecoder::default(), Vec::new());
            decoder.convert(wire.as_bytes(), &mut got);
            decoder.end(&mut got);
            assert_eq!(got, file.as_bytes());
        }
    }
}

//! Line ends on their way (RFC 959, 3.1.1.1): CR LF on the wire, LF in the file.
//!
//! Pure, and indifferent to how the bytes are cut. Must not know: sockets, files.

/// A file's bytes on their way out: an LF that no CR stands before gets one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsciiEncoder {
    /// The last byte that has gone is a CR.
    after_return: bool,
}

impl AsciiEncoder {
    /// Appends `bytes`, the next of the file, as they go over the wire.
    pub(crate) fn convert(self, bytes: &[u8], wire: &mut Vec<u8>) {
        let mut after_return = self.after_return;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(text) => {
                    wire.extend_from_slice(text);
                    let has_return = match text {
                        [] => after_return,
                        [.., last] => *last == b'\r',
                    };
                    wire.extend_from_slice(if has_return { b"\n" } else { b"\r\n" });
                    after_return = false;
                }
                None => wire.extend_from_slice(line),
            }
        }
    }

    /// Takes note that the first `sent` bytes of what [`AsciiEncoder::convert`] made of `bytes` have gone, and says how many
    /// of `bytes` those are. A CR that has gone before its LF belongs to none: the LF is then one that has its CR.
    pub(crate) fn advance(&mut self, bytes: &[u8], mut sent: usize) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            let takes = if *byte == b'\n' && !self.after_return {
                2
            } else {
                1
            };
            if sent < takes {
                self.after_return |= sent == 1;
                return at;
            }
            sent -= takes;
            self.after_return = *byte == b'\r';
        }
        bytes.len()
    }
}

/// Bytes from the wire on their way into a file: a CR LF becomes an LF, any other CR stays.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsciiDecoder {
    /// A CR has come, and it is not known yet what follows.
    after_return: bool,
}

impl AsciiDecoder {
    /// Appends what the next bytes from the wire are in the file, as far as it is known.
    pub(crate) fn convert(&mut self, wire: &[u8], file: &mut Vec<u8>) {
        for byte in wire {
            if self.after_return && *byte != b'\n' {
                file.push(b'\r');
            }
            self.after_return = *byte == b'\r';
            if !self.after_return {
                file.push(*byte);
            }
        }
    }

    /// Appends what is owed at the end.
    pub(crate) fn end(self, file: &mut Vec<u8>) {
        if self.after_return {
            file.push(b'\r');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of a file, and the same on the wire.
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
    fn a_line_end_goes_out_as_two_bytes_however_the_socket_cuts_them() {
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

    /// Sends a file, read in parts of `part` bytes, over a socket that takes `cut` bytes at a time.
    fn sent(file: &[u8], part: usize, cut: usize) -> Vec<u8> {
        let (mut outwards, mut offset, mut taken) = (AsciiEncoder::default(), 0, Vec::new());
        while offset < file.len() {
            let bytes = &file[offset..file.len().min(offset + part)];
            let mut wire = Vec::new();
            outwards.convert(bytes, &mut wire);
            let count = wire.len().min(cut);
            taken.extend_from_slice(&wire[..count]);
            offset += outwards.advance(bytes, count);
        }
        taken
    }

    #[test]
    fn two_bytes_come_in_as_a_line_end_however_they_are_cut() {
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
                let (mut inwards, mut got) = (AsciiDecoder::default(), Vec::new());
                for part in wire.as_bytes().chunks(cut) {
                    inwards.convert(part, &mut got);
                }
                inwards.end(&mut got);
                assert_eq!(got, file.as_bytes(), "{wire:?} by {cut}");
            }
        }
    }

    #[test]
    fn a_text_comes_back_as_it_went() {
        for (file, wire) in OUT.iter().filter(|(file, _)| !file.contains('\r')) {
            let (mut inwards, mut got) = (AsciiDecoder::default(), Vec::new());
            inwards.convert(wire.as_bytes(), &mut got);
            inwards.end(&mut got);
            assert_eq!(got, file.as_bytes());
        }
    }
}

//! The line splitter. The lines do not depend on how the bytes are split into fragments, and no
//! byte is lost.
//!
//! The first byte of an input is the length of the fragments, the others are the bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tidegate::limits::LINE_BYTES_MAX;
use tidegate::protocol::line::{LineSplit, last, split};

fuzz_target!(|input: &[u8]| {
    let Some((&cut, bytes)) = input.split_first() else {
        return;
    };
    let whole = lines([bytes].into_iter());
    let size = 1 + usize::from(cut) * usize::from(cut) / 8;
    assert_eq!(lines(bytes.chunks(size)), whole);
});

/// Returns the lines of the fragments, and whether one was too long.
fn lines<'a>(fragments: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let (mut buffer, mut lines) = (Vec::new(), Vec::new());
    for fragment in fragments {
        buffer.extend_from_slice(fragment);
        loop {
            match split(&buffer) {
                LineSplit::Line { line, used } => {
                    assert!(used <= LINE_BYTES_MAX);
                    assert!(!line.contains(&b'\n'));
                    assert!(matches!(&buffer[line.len()..used], b"\n" | b"\r\n"));
                    lines.push(line.to_vec());
                    buffer.drain(..used);
                }
                LineSplit::Incomplete => break,
                LineSplit::TooLong => return (lines, true),
            }
        }
        assert!(buffer.len() <= LINE_BYTES_MAX);
    }
    lines.extend(last(&buffer).map(<[u8]>::to_vec));
    (lines, false)
}

//! The buffer for lines that a client sends.

use zeroize::{Zeroize, Zeroizing};

use crate::limits::{LINE_BYTES_MAX, LINE_READ_BYTES};
use crate::protocol::telnet;

/// Input at hand. One buffer serves all connections and any line may be a password, so used bytes
/// are wiped.
pub(crate) struct InputBuffer {
    /// An incomplete line of at most [`LINE_BYTES_MAX`] bytes, then room for one read.
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl InputBuffer {
    pub(crate) fn new() -> InputBuffer {
        InputBuffer {
            bytes: vec![0; LINE_BYTES_MAX + LINE_READ_BYTES].into(),
            start: 0,
            end: 0,
        }
    }

    /// Loads the rest of an earlier time slice.
    pub(crate) fn load(&mut self, rest: &[u8]) {
        self.bytes[..rest.len()].copy_from_slice(rest);
        (self.start, self.end) = (0, rest.len());
    }

    /// Returns the input at hand.
    pub(crate) fn at_hand(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Removes Telnet commands from the first line at hand and appends their replies. Returns the
    /// number of bytes removed.
    pub(crate) fn filter_telnet(&mut self, replies: &mut Vec<u8>) -> usize {
        let at_hand = &mut self.bytes[self.start..self.end];
        if !telnet::contains_commands(at_hand) {
            return 0;
        }
        let left = telnet::filter(at_hand, replies);
        let removed = self.start + left..self.end;
        self.end = removed.start;
        self.bytes[removed.clone()].zeroize();
        removed.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Wipes the first `n` bytes at hand.
    pub(crate) fn consume(&mut self, n: usize) {
        let used = self.start..self.start + n;
        self.start = used.end;
        self.bytes[used].zeroize();
    }

    /// Wipes the input at hand up to a line end. Returns true if there is one.
    pub(crate) fn skip_line(&mut self) -> bool {
        let end = self.at_hand().iter().position(|byte| *byte == b'\n');
        self.consume(end.map_or(self.end - self.start, |end| end + 1));
        end.is_some()
    }

    /// Wipes the input at hand.
    pub(crate) fn clear(&mut self) {
        self.bytes[self.start..self.end].zeroize();
        (self.start, self.end) = (0, 0);
    }

    /// Returns the input at hand for the next time slice and clears the buffer.
    pub(crate) fn take_rest(&mut self) -> Zeroizing<Box<[u8]>> {
        let rest = Zeroizing::new(self.at_hand().into());
        self.clear();
        rest
    }

    /// Moves the input at hand to the front and returns the room for one read after it.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let at_hand = self.end - self.start;
        self.bytes.copy_within(self.start..self.end, 0);
        self.bytes[at_hand.max(self.start)..self.end].zeroize();
        (self.start, self.end) = (0, at_hand);
        &mut self.bytes[at_hand..at_hand + LINE_READ_BYTES]
    }

    /// Adds `n` bytes that were read into the room.
    pub(crate) fn fill(&mut self, n: usize) {
        self.end += n;
    }
}

//! What one connection still has to write: bytes, and slices of mapped files between them, gathered into one call.
//!
//! The loop has one send_queue for all connections. What a connection could not write by the end of its turn it keeps as
//! plain bytes, so that no slice of a file outlives the turn in which the file was seen whole.
//!
//! Must not know: what the bytes mean, when to write.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::kernel::{Kernel, PIECES_MAX, Piece};
use crate::server::net::stream::{Stream, StreamError};
use crate::storage::OpenFile;

/// Gathered output, first in, first out.
pub(crate) struct SendQueue<K: Kernel> {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    sent: usize,
    slices: VecDeque<Slice<K>>,
    /// Bytes of all `slices`.
    sliced: usize,
}

/// `length` bytes of a mapped file from `from` on, written when `at` of the bytes are.
struct Slice<K: Kernel> {
    at: usize,
    file: Arc<OpenFile<K>>,
    from: usize,
    length: usize,
}

impl<K: Kernel> SendQueue<K> {
    pub(crate) fn new() -> SendQueue<K> {
        SendQueue {
            bytes: Vec::new(),
            sent: 0,
            slices: VecDeque::new(),
            sliced: 0,
        }
    }

    /// Bytes that are still to be written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.sliced
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where sentences are appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a slice of a file that has a map and was seen whole in this turn.
    pub(crate) fn push_mapped(&mut self, file: Arc<OpenFile<K>>, from: usize, length: usize) {
        self.sliced += length;
        self.slices.push_back(Slice {
            at: self.bytes.len(),
            file,
            from,
            length,
        });
    }

    /// Writes once, as much as one call takes, and says how much that was; `more` where a transfer follows at once.
    pub(crate) fn write(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        more: bool,
    ) -> Result<usize, StreamError> {
        let mut pieces = [const { Piece::Bytes(&[]) }; PIECES_MAX];
        let mut count = 0;
        let mut at = self.sent;
        let mut whole = true;
        for slice in &self.slices {
            if count + 2 > PIECES_MAX {
                whole = false;
                break;
            }
            if slice.at > at {
                pieces[count] = Piece::Bytes(&self.bytes[at..slice.at]);
                count += 1;
                at = slice.at;
            }
            let map = slice
                .file
                .map(kernel)
                .expect("only mapped files are pushed");
            pieces[count] = Piece::Mapped {
                map,
                from: slice.from,
                length: slice.length,
            };
            count += 1;
        }
        if whole && count < PIECES_MAX && at < self.bytes.len() {
            pieces[count] = Piece::Bytes(&self.bytes[at..]);
            count += 1;
        }
        let written = stream.send(kernel, &pieces[..count], more)?;
        self.advance(written);
        Ok(written)
    }

    /// Forgets what was written.
    fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.len());
        while let Some(slice) = self.slices.front_mut() {
            let before = written.min(slice.at - self.sent);
            self.sent += before;
            written -= before;
            if self.sent < slice.at {
                return;
            }
            let part = written.min(slice.length);
            slice.from += part;
            slice.length -= part;
            self.sliced -= part;
            written -= part;
            if slice.length > 0 {
                return;
            }
            self.slices.pop_front();
        }
        self.sent += written;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Takes what is left as plain bytes and leaves the send_queue empty. A file that has become too short for its slice is
    /// an error (`UnexpectedEof`), as is one that cannot be read.
    pub(crate) fn take_rest(&mut self, kernel: &K) -> io::Result<Box<[u8]>> {
        let mut rest = Vec::with_capacity(self.len());
        let mut at = self.sent;
        let slices = std::mem::take(&mut self.slices);
        for slice in slices {
            rest.extend_from_slice(&self.bytes[at..slice.at]);
            at = slice.at;
            let start = rest.len();
            rest.resize(start + slice.length, 0);
            read_whole(
                kernel,
                slice.file.file(),
                &mut rest[start..],
                slice.from as u64,
            )?;
        }
        rest.extend_from_slice(&self.bytes[at..]);
        self.clear();
        Ok(rest.into_boxed_slice())
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.slices.clear();
        self.sliced = 0;
    }
}

fn read_whole<K: Kernel>(
    kernel: &K,
    file: &K::File,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match kernel.read_at(file, buffer, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buffer = &mut buffer[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

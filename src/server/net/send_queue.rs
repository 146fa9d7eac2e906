//! The buffered output of a connection: bytes, and slices of mapped files between them, gathered
//! into one write.
//!
//! One queue serves all connections. A connection keeps the rest of its output as plain bytes, so
//! that no slice of a file outlives the check that the file is long enough.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::kernel::{Kernel, PIECES_MAX, Piece};
use crate::server::net::stream::{Stream, StreamError};
use crate::storage::OpenFile;

/// Output in the order in which it is written.
pub(crate) struct SendQueue<K: Kernel> {
    bytes: Vec<u8>,
    /// The number of `bytes` that are written.
    sent: usize,
    slices: VecDeque<Slice<K>>,
    /// The total length of `slices`.
    sliced: usize,
}

/// `length` bytes of a mapped file from `from` on. They follow the first `at` of the queue's bytes.
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

    /// Returns the number of bytes to write.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.sliced
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes, for output to be appended.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends a slice of a mapped file that was found to be long enough in this time slice.
    pub(crate) fn push_mapped(&mut self, file: Arc<OpenFile<K>>, from: usize, length: usize) {
        self.sliced += length;
        self.slices.push_back(Slice {
            at: self.bytes.len(),
            file,
            from,
            length,
        });
    }

    /// Writes as much as one call takes and returns how much that was. `more` announces that
    /// something follows at once.
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

    /// Removes the first `written` bytes.
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

    /// Empties the queue and returns the rest as plain bytes.
    ///
    /// # Errors
    /// A file cannot be read, or has become too short for its slice (`UnexpectedEof`).
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

    /// Empties the queue.
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

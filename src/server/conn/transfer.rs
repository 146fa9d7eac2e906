//! Transfers: one small struct for each direction.

use std::io;
use std::sync::Arc;

use crate::domain::error::ErrorCode;
use crate::kernel::{Kernel, Piece};
use crate::limits::ASCII_CHUNK_BYTES;
use crate::server::conn::ascii::AsciiEncoder;
use crate::server::log::transfer_log::TransferRecord;
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Stream, StreamError};
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::session_id::SessionId;
use crate::server::workers::job::UncachedRange;
use crate::server::workers::listing::Listing;
use crate::storage::{OpenFile, StagedUpload};

/// The bytes of a download.
pub(crate) enum Source<K: Kernel> {
    File(Arc<OpenFile<K>>),
    Text(Arc<Listing>),
}

impl<K: Kernel> Source<K> {
    /// Returns the file or listing that `handle` holds.
    pub(crate) fn of(handle: OpenHandle<K>) -> Option<Source<K>> {
        match handle {
            OpenHandle::File(file) => Some(Source::File(file)),
            OpenHandle::Listing(listing) => Some(Source::Text(listing)),
            OpenHandle::Nothing | OpenHandle::Upload(_) => None,
        }
    }
}

/// A file or listing that is being sent.
pub(crate) struct Download<K: Kernel> {
    source: Source<K>,
    offset: u64,
    end: u64,
    /// The file's bytes before this offset were found in the page cache or prefetched.
    cached_until: u64,
    /// A worker prefetches the bytes up to `cached_until`.
    prefetching: bool,
    record: Option<Box<TransferRecord>>,
}

/// The result of one step of a download.
pub(crate) enum Sent<K: Kernel> {
    /// This many bytes were written to the stream.
    Bytes(usize),
    /// The download waits until this range is prefetched.
    Uncached(UncachedRange<K>),
}

impl<K: Kernel> Download<K> {
    /// Describes `length` bytes of `source` from `offset` on; `record` logs the transfer of a file.
    pub(crate) fn new(
        source: Source<K>,
        offset: u64,
        length: u64,
        record: Option<Box<TransferRecord>>,
    ) -> Download<K> {
        Download {
            source,
            offset,
            end: offset + length,
            cached_until: offset,
            prefetching: false,
            record,
        }
    }

    /// Returns the number of bytes that are still to be sent.
    pub(crate) fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// Returns the offset of the next byte.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    pub(crate) fn is_prefetching(&self) -> bool {
        self.prefetching
    }

    /// Resumes a download whose next range was prefetched.
    pub(crate) fn end_prefetch(&mut self) {
        self.prefetching = false;
    }

    /// Sends up to `budget` bytes by one call. `UnexpectedEof` means that the file has become
    /// shorter than announced.
    pub(crate) fn send(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        budget: usize,
    ) -> Result<Sent<K>, StreamError> {
        if let Some(uncached) = self.before_send(kernel, stream, budget)? {
            return Ok(Sent::Uncached(uncached));
        }
        let sent = match &self.source {
            Source::File(file) => {
                let count = (self.cached_until - self.offset).min(budget as u64) as usize;
                stream.send_file(kernel, file.file(), self.offset, count)?
            }
            Source::Text(listing) => {
                let from = self.offset as usize;
                let count = self.left().min(budget as u64) as usize;
                let piece = Piece::Bytes(&listing.text[from..from + count]);
                stream.send(kernel, &[piece], false)?
            }
        };
        if sent == 0 {
            return Err(became_shorter());
        }
        self.advance(sent);
        Ok(Sent::Bytes(sent))
    }

    /// Sends like [`Download::send`] and converts the line ends of a file. Returns the bytes
    /// written to the stream. File bytes whose converted form was not sent whole are read again.
    pub(crate) fn send_ascii(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        budget: usize,
        encoder: &mut AsciiEncoder,
        scratch: &mut Scratch<K>,
    ) -> Result<Sent<K>, StreamError> {
        if let Some(uncached) = self.before_send(kernel, stream, budget)? {
            return Ok(Sent::Uncached(uncached));
        }
        let Source::File(file) = &self.source else {
            // A listing has CR LF line ends already.
            return self.send(kernel, stream, budget);
        };
        let most = (self.cached_until - self.offset).min(ASCII_CHUNK_BYTES as u64) as usize;
        let read = kernel
            .read_at(file.file(), &mut scratch.transfer[..most], self.offset)
            .map_err(StreamError::Failed)?;
        if read == 0 {
            return Err(became_shorter());
        }
        let bytes = &scratch.transfer[..read];
        scratch.text.clear();
        encoder.convert(bytes, &mut scratch.text);
        let sent = stream.send(kernel, &[Piece::Bytes(&scratch.text)], false)?;
        self.advance(encoder.advance(bytes, sent));
        Ok(Sent::Bytes(sent))
    }

    /// Checks that the stream is writable and returns the part of the next `budget` bytes that is
    /// not in the page cache, if any; the download is prefetching from then on.
    fn before_send(
        &mut self,
        kernel: &K,
        stream: &Stream<K>,
        budget: usize,
    ) -> Result<Option<UncachedRange<K>>, StreamError> {
        if !stream.is_writable() {
            return Err(StreamError::Blocked);
        }
        let Source::File(file) = &self.source else {
            return Ok(None);
        };
        let end = self.offset + self.left().min(budget as u64);
        let offset = self.cached_until;
        if end <= offset {
            return Ok(None);
        }
        self.cached_until = end;
        let count = end - offset;
        if file.is_cached(kernel, offset, count) {
            return Ok(None);
        }
        self.prefetching = true;
        Ok(Some(UncachedRange {
            file: file.clone(),
            offset,
            count: count as usize,
        }))
    }

    fn advance(&mut self, sent: usize) {
        self.offset += sent as u64;
        if let Some(record) = &mut self.record {
            record.add_bytes(sent);
            if self.offset == self.end {
                record.complete();
            }
        }
    }
}

fn became_shorter() -> StreamError {
    StreamError::Failed(io::ErrorKind::UnexpectedEof.into())
}

/// Announced bytes that are being received over a control connection.
pub(crate) struct Upload<K: Kernel> {
    /// The file, or `None` if the bytes are discarded.
    pub(crate) staged: Option<Box<StagedUpload<K>>>,
    pub(crate) left: u64,
    /// Why the file failed. The client cannot be stopped, so the rest is received and discarded.
    pub(crate) failed: Option<ErrorCode>,
    pub(crate) record: Option<Box<TransferRecord>>,
}

impl<K: Kernel> Upload<K> {
    /// Writes received bytes to the file. If that fails, the file is abandoned.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        services: &mut Services<K>,
        session_id: SessionId,
    ) {
        self.left -= bytes.len() as u64;
        let Some(mut staged) = self.staged.take() else {
            return;
        };
        if let Some(record) = &mut self.record {
            record.add_bytes(bytes.len());
        }
        match staged.write(bytes) {
            Ok(()) => self.staged = Some(staged),
            Err(refused) => {
                self.failed = Some(services.log_refusal(session_id, refused));
                services.discard(staged);
            }
        }
    }
}

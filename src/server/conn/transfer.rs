//! Transfers: one small struct for each direction.

use std::io;
use std::sync::Arc;

use crate::kernel::{Kernel, Piece};
use crate::limits::{ASCII_CHUNK_BYTES, TRANSFER_BUFFER_BYTES};
use crate::server::conn::ascii::AsciiEncoder;
use crate::server::conn::upload_writer::UploadWriter;
use crate::server::log::transfer_log::TransferRecord;
use crate::server::net::scratch::Scratch;
use crate::server::net::stream::{Stream, StreamError};
use crate::server::service::Services;
use crate::server::service::open_handle::OpenHandle;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::{Fetched, FileRange};
use crate::server::workers::listing::Listing;
use crate::storage::OpenFile;

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
    /// Bytes of the file before `buffer_end`, for a device that the event loop does not call.
    buffer: Vec<u8>,
    buffer_end: u64,
    /// A worker fetches the next range.
    is_fetching: bool,
    record: Option<Box<TransferRecord>>,
}

/// The result of one step of a download.
pub(crate) enum Sent<K: Kernel> {
    /// This many bytes were written to the stream.
    Bytes(usize),
    /// The download waits until this range is fetched.
    Awaits(FileRange<K>),
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
            buffer: Vec::new(),
            buffer_end: offset,
            is_fetching: false,
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

    pub(crate) fn is_fetching(&self) -> bool {
        self.is_fetching
    }

    /// Resumes a download whose next range was fetched.
    pub(crate) fn end_fetch(&mut self, fetched: Fetched) {
        self.is_fetching = false;
        if let Fetched::Bytes(bytes) = fetched {
            self.buffer_end = self.offset + bytes.len() as u64;
            self.buffer = bytes;
        }
    }

    /// Sends up to `budget` bytes by one call. `UnexpectedEof` means that the file has become
    /// shorter than announced.
    pub(crate) fn send(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        budget: usize,
    ) -> Result<Sent<K>, StreamError> {
        if let Some(range) = self.before_send(kernel, stream, budget)? {
            return Ok(Sent::Awaits(range));
        }
        let sent = match &self.source {
            Source::File(_) if !self.buffered().is_empty() => {
                let bytes = self.buffered();
                let piece = Piece::Bytes(&bytes[..bytes.len().min(budget)]);
                stream.send(kernel, &[piece], false)?
            }
            Source::File(file) => {
                let count = (self.cached_until - self.offset).min(budget as u64) as usize;
                let sent = stream.send_file(kernel, file.file(), self.offset, count);
                (file.device()).record(kernel.take_call_stats(), kernel.now());
                sent?
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
        if let Some(range) = self.before_send(kernel, stream, budget)? {
            return Ok(Sent::Awaits(range));
        }
        let Source::File(file) = &self.source else {
            // A listing has CR LF line ends already.
            return self.send(kernel, stream, budget);
        };
        let buffered = self.buffered();
        let bytes = if buffered.is_empty() {
            let most = (self.cached_until - self.offset).min(ASCII_CHUNK_BYTES as u64) as usize;
            let read = kernel.read_at(file.file(), &mut scratch.transfer[..most], self.offset);
            (file.device()).record(kernel.take_call_stats(), kernel.now());
            let read = read.map_err(StreamError::Failed)?;
            if read == 0 {
                return Err(became_shorter());
            }
            &scratch.transfer[..read]
        } else {
            &buffered[..buffered.len().min(ASCII_CHUNK_BYTES)]
        };
        scratch.text.clear();
        encoder.convert(bytes, &mut scratch.text);
        let sent = stream.send(kernel, &[Piece::Bytes(&scratch.text)], false)?;
        let advanced = encoder.advance(bytes, sent);
        self.advance(advanced);
        Ok(Sent::Bytes(sent))
    }

    /// Checks that the stream is writable and returns the part of the next `budget` bytes that a
    /// worker has to fetch, if any; the download is fetching from then on.
    fn before_send(
        &mut self,
        kernel: &K,
        stream: &Stream<K>,
        budget: usize,
    ) -> Result<Option<FileRange<K>>, StreamError> {
        if !stream.is_writable() {
            return Err(StreamError::Blocked);
        }
        let Source::File(file) = &self.source else {
            return Ok(None);
        };
        if !self.buffered().is_empty() {
            return Ok(None);
        }
        let (offset, end) = match file.is_inline() {
            true => {
                let end = self.offset + self.left().min(budget as u64);
                (self.cached_until.max(self.offset), end)
            }
            false => {
                let most = self.left().min(TRANSFER_BUFFER_BYTES as u64);
                (self.offset, self.offset + most)
            }
        };
        if end <= offset {
            return Ok(None);
        }
        self.cached_until = end;
        let count = end - offset;
        if file.is_inline() && file.is_cached(kernel, offset, count) {
            return Ok(None);
        }
        self.is_fetching = true;
        Ok(Some(FileRange {
            file: file.clone(),
            offset,
            count: count as usize,
        }))
    }

    /// The bytes at the offset that are in the buffer.
    fn buffered(&self) -> &[u8] {
        let left = self.buffer_end.saturating_sub(self.offset) as usize;
        &self.buffer[self.buffer.len() - left..]
    }

    fn advance(&mut self, sent: usize) {
        self.offset += sent as u64;
        if self.offset >= self.buffer_end {
            self.buffer = Vec::new();
        }
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
    /// The file, or `None` if the bytes are discarded. The client cannot be stopped, so the rest of
    /// a failed upload is received and discarded.
    pub(crate) writer: Option<UploadWriter<K>>,
    pub(crate) left: u64,
    pub(crate) record: Option<Box<TransferRecord>>,
}

impl<K: Kernel> Upload<K> {
    /// Whether a worker has to write before more bytes are received, or before the file is
    /// complete.
    pub(crate) fn awaits_writer(&self) -> bool {
        (self.writer.as_ref()).is_some_and(|writer| match self.left {
            0 => writer.is_writing(),
            _ => writer.is_full(),
        })
    }

    /// Whether a worker writes.
    pub(crate) fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(UploadWriter::is_writing)
    }

    /// Writes received bytes to the file. If that fails, the file is abandoned.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        services: &mut Services<K>,
        session_id: SessionId,
    ) {
        self.left -= bytes.len() as u64;
        let Some(writer) = &mut self.writer else {
            return;
        };
        if writer.failed().is_none()
            && let Some(record) = &mut self.record
        {
            record.add_bytes(bytes.len());
        }
        writer.write(bytes, services, session_id, session_id);
        writer.discard_failed(services);
    }
}

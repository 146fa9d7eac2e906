//! Files on their way: one small struct for each direction.
//!
//! Must not know: sessions, sentences, what comes before or after on the socket.

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
use crate::server::session_id::SessionId;
use crate::server::workers::job::UncachedRange;
use crate::server::workers::listing::Listing;
use crate::storage::{OpenFile, StagedUpload};

/// Where download bytes come from.
pub(crate) enum Source<K: Kernel> {
    File(Arc<OpenFile<K>>),
    Text(Arc<Listing>),
}

/// Bytes on their way to the client: `offset` is where we are, `end` where we stop.
pub(crate) struct Download<K: Kernel> {
    pub(crate) source: Source<K>,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    /// Up to where the bytes are known to be in memory.
    pub(crate) warm_until: u64,
    /// Of a file, where transfers are logged.
    pub(crate) record: Option<Box<TransferRecord>>,
}

impl<K: Kernel> Download<K> {
    /// `length` bytes from byte `offset` on.
    pub(crate) fn new(source: Source<K>, offset: u64, length: u64) -> Download<K> {
        Download {
            source,
            offset,
            end: offset + length,
            warm_until: offset,
            record: None,
        }
    }

    pub(crate) fn left(&self) -> u64 {
        self.end - self.offset
    }

    /// Notes bytes that have gone, where transfers are logged.
    fn note(&mut self, moved: usize) {
        if let Some(record) = &mut self.record {
            record.add_bytes(moved);
            if self.offset == self.end {
                record.complete();
            }
        }
    }

    /// What of the next `budget` bytes somebody would have to wait for a disk for who sends them, if anything.
    pub(crate) fn cold(&mut self, kernel: &K, budget: usize) -> Option<UncachedRange<K>> {
        let Source::File(file) = &self.source else {
            return None;
        };
        let end = self.offset + self.left().min(budget as u64);
        let offset = self.warm_until;
        if end <= offset {
            return None;
        }
        self.warm_until = end;
        let count = end - offset;
        (!file.is_cached(kernel, offset, count)).then(|| UncachedRange {
            file: file.clone(),
            offset,
            count: count as usize,
        })
    }

    /// Moves up to `budget` bytes by one call and says how many. `UnexpectedEof`: the file has shrunk, and what was
    /// announced cannot be had any more.
    pub(crate) fn advance(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        budget: usize,
    ) -> Result<usize, StreamError> {
        let most = match self.source {
            Source::File(_) => self.warm_until - self.offset,
            Source::Text(_) => self.left(),
        };
        let count = most.min(budget as u64) as usize;
        let moved = match &self.source {
            Source::File(file) => stream.send_file(kernel, file.file(), self.offset, count)?,
            Source::Text(listing) => {
                let from = self.offset as usize;
                let piece = Piece::Bytes(&listing.text[from..from + count]);
                stream.send(kernel, &[piece], false)?
            }
        };
        if moved == 0 {
            return Err(StreamError::Failed(io::ErrorKind::UnexpectedEof.into()));
        }
        self.offset += moved as u64;
        self.note(moved);
        Ok(moved)
    }

    /// [`Download::advance`] for a file whose line ends are converted: says how many bytes have gone over the wire. One
    /// that did not all go is read again.
    pub(crate) fn advance_text(
        &mut self,
        kernel: &K,
        stream: &mut Stream<K>,
        ascii: &mut AsciiEncoder,
        scratch: &mut Scratch<K>,
    ) -> Result<usize, StreamError> {
        let Source::File(file) = &self.source else {
            unreachable!("only a file is converted on its way");
        };
        let most = (self.warm_until - self.offset).min(ASCII_CHUNK_BYTES as u64) as usize;
        let read = kernel
            .read_at(file.file(), &mut scratch.transfer[..most], self.offset)
            .map_err(StreamError::Failed)?;
        if read == 0 {
            return Err(StreamError::Failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let bytes = &scratch.transfer[..read];
        scratch.text.clear();
        ascii.convert(bytes, &mut scratch.text);
        let sent = stream.send(kernel, &[Piece::Bytes(&scratch.text)], false)?;
        let moved = ascii.advance(bytes, sent);
        self.offset += moved as u64;
        self.note(moved);
        Ok(sent)
    }
}

/// Announced bytes on their way from the client, into a file or, where there is none or it failed, nowhere.
pub(crate) struct Receiving<K: Kernel> {
    pub(crate) upload: Option<Box<StagedUpload<K>>>,
    pub(crate) left: u64,
    /// Why the file failed half-way; the rest is discarded.
    pub(crate) failed: Option<ErrorCode>,
    /// Of a file, where transfers are logged.
    pub(crate) record: Option<Box<TransferRecord>>,
}

impl<K: Kernel> Receiving<K> {
    /// Takes bytes that have come; a file that fails is let go of, and the rest discarded.
    pub(crate) fn take(&mut self, bytes: &[u8], services: &mut Services<K>, session_id: SessionId) {
        self.left -= bytes.len() as u64;
        let Some(upload) = &mut self.upload else {
            return;
        };
        if let Some(record) = &mut self.record {
            record.add_bytes(bytes.len());
        }
        if let Err(refused) = upload.write(bytes) {
            self.failed = Some(services.log_refusal(session_id, refused));
            services.discard(self.upload.take().expect("it was just written to"));
        }
    }
}

//! An upload over a data connection: its bytes on the way to the file, and whether the end of the
//! connection is the end of the file.
//!
//! In stream mode the end of an upload is the end of its connection (RFC 959, 3.4.1), which looks
//! the same if the client was killed. Only the length of ALLO tells the two apart.

use std::path::PathBuf;
use std::time::Instant;

use log::warn;

use crate::domain::error::ErrorCode;
use crate::kernel::Kernel;
use crate::protocol::step::{Allocation, Representation};
use crate::server::conn::ascii::AsciiDecoder;
use crate::server::conn::upload_writer::UploadWriter;
use crate::server::log::escape::Escaped;
use crate::server::log::transfer_log::TransferRecord;
use crate::server::net::scratch::Scratch;
use crate::server::service::Services;
use crate::server::session_id::SessionId;
use crate::storage::{StagedUpload, StorageError};

/// An upload whose data has been written, and the record of its transfer.
type Received<K> = (Box<StagedUpload<K>>, Option<Box<TransferRecord>>);

/// An upload that a data connection receives.
pub(crate) struct DataUpload<K: Kernel> {
    pub(super) writer: UploadWriter<K>,
    record: Option<Box<TransferRecord>>,
    decoder: Option<AsciiDecoder>,
    /// The length that the client announced.
    allocation: Option<Allocation>,
    /// Bytes that the client has sent, before the conversion of line ends.
    received: u64,
    /// Bytes of the file among them.
    stored: u64,
    /// The client has closed its sending half.
    pub(crate) has_ended: bool,
    /// When the control connection has ended, if it has.
    pub(super) abandoned_at: Option<Instant>,
    /// For the log.
    path: PathBuf,
}

impl<K: Kernel> DataUpload<K> {
    pub(crate) fn new(
        staged: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
        representation: Representation,
        allocation: Option<Allocation>,
    ) -> DataUpload<K> {
        DataUpload {
            path: staged.path().to_owned(),
            writer: UploadWriter::new(staged),
            record,
            decoder: (representation == Representation::Ascii).then(AsciiDecoder::default),
            allocation,
            received: 0,
            stored: 0,
            has_ended: false,
            abandoned_at: None,
        }
    }

    /// Whether a worker has to write before the upload can go on.
    pub(super) fn awaits_writer(&self) -> bool {
        match self.has_ended {
            true => self.writer.is_writing(),
            false => self.writer.is_full(),
        }
    }

    /// Takes the first `n` bytes of the scratch's transfer buffer, or the end. Returns how many
    /// bytes of the file they are, or nothing after a failed write.
    pub(super) fn take(
        &mut self,
        n: usize,
        scratch: &mut Scratch<K>,
        services: &mut Services<K>,
        (id, owner): (SessionId, SessionId),
    ) -> Option<usize> {
        let bytes = match &mut self.decoder {
            None => &scratch.transfer[..n],
            Some(decoder) => {
                scratch.text.clear();
                match n {
                    0 => decoder.end(&mut scratch.text),
                    _ => decoder.convert(&scratch.transfer[..n], &mut scratch.text),
                }
                &scratch.text[..]
            }
        };
        self.writer.write(bytes, services, id, owner);
        if self.writer.failed().is_some() {
            return None;
        }
        self.has_ended = n == 0;
        self.received += n as u64;
        self.stored += bytes.len() as u64;
        if let Some(record) = &mut self.record {
            record.add_bytes(bytes.len());
        }
        Some(bytes.len())
    }

    /// Whether the end of the data shows if it is complete, even though the client has left.
    pub(crate) fn is_decided_by_end(&self) -> bool {
        self.allocation.is_some()
    }

    /// Whether exactly the announced bytes have come.
    pub(crate) fn is_confirmed(&self) -> bool {
        let exact = |allocation: Allocation| {
            allocation.is_exactly(self.received) || allocation.is_exactly(self.stored)
        };
        self.has_ended && self.allocation.is_some_and(exact)
    }

    /// Returns the upload, once everything is written, and the record of its transfer. One with
    /// fewer bytes than announced is rejected.
    pub(crate) fn into_parts(self) -> Option<Received<K>> {
        let is_short = |allocation: Allocation| allocation.is_more_than(self.received);
        let is_rejected = self.writer.failed().is_none() && self.allocation.is_some_and(is_short);
        let mut staged = self.writer.into_staged()?;
        if is_rejected {
            staged.reject(ErrorCode::UploadTooShort);
        }
        Some((staged, self.record))
    }

    /// Logs that the upload is discarded because its client has left before the reply to it.
    pub(crate) fn log_unconfirmed(&self, owner: SessionId) {
        let (generation, bytes) = (owner.generation, self.stored);
        let path = self.path.to_string_lossy();
        let path = Escaped(&path);
        warn!(
            "session={generation} event=upload-unconfirmed path={path} bytes={bytes} \
             option=--trust-close"
        );
    }

    /// Takes the result of the worker. Returns why the upload failed, if it did.
    pub(super) fn end_write(
        &mut self,
        result: Result<Box<StagedUpload<K>>, StorageError>,
        services: &mut Services<K>,
        (id, owner): (SessionId, SessionId),
    ) -> Option<ErrorCode> {
        self.writer.end_write(result, services, id, owner);
        self.writer.failed()
    }
}

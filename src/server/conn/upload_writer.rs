//! Writes the received bytes of an upload to its file.
//!
//! The event loop writes to a device that it may call. For any other device, and after a write that
//! took long, a worker writes, while the connection gathers the next bytes in a second buffer. When
//! that is full too, the client's bytes stay in the kernel's buffers (backpressure).

use crate::domain::error::ErrorCode;
use crate::kernel::Kernel;
use crate::limits::{SLOW_CALL, TRANSFER_BUFFER_BYTES};
use crate::server::service::Services;
use crate::server::session_id::SessionId;
use crate::storage::{StagedUpload, StorageError};

/// The writing side of an upload.
pub(crate) struct UploadWriter<K: Kernel> {
    state: WriterState<K>,
    /// Received bytes that wait for the worker.
    buffer: Vec<u8>,
    /// A write took long: the disk is busy, or its part of the page cache is full. The others are
    /// left to workers, even if the device does not count as slow yet.
    is_slow: bool,
}

enum WriterState<K: Kernel> {
    /// Everything but the buffer is written.
    Idle(Box<StagedUpload<K>>),
    /// A worker has the upload and writes.
    Writing,
    /// The upload is lost; further bytes are discarded. Whether its file is to be dropped yet.
    Failed(ErrorCode, Option<Box<StagedUpload<K>>>),
}

impl<K: Kernel> UploadWriter<K> {
    /// Takes an upload without bytes.
    pub(crate) fn new(staged: Box<StagedUpload<K>>) -> UploadWriter<K> {
        UploadWriter {
            state: WriterState::Idle(staged),
            buffer: Vec::new(),
            is_slow: false,
        }
    }

    /// Whether a worker writes. Its result is a completion for the connection.
    pub(crate) fn is_writing(&self) -> bool {
        matches!(self.state, WriterState::Writing)
    }

    /// Whether no byte can be taken until the worker has written.
    pub(crate) fn is_full(&self) -> bool {
        self.is_writing() && self.buffer.len() >= TRANSFER_BUFFER_BYTES
    }

    /// Returns why the upload failed, if it did.
    pub(crate) fn failed(&self) -> Option<ErrorCode> {
        match self.state {
            WriterState::Failed(code, _) => Some(code),
            _ => None,
        }
    }

    /// Writes bytes, now or later. `id` is the connection that a worker's result is for, `owner`
    /// the session in whose name errors are logged.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        services: &mut Services<K>,
        id: SessionId,
        owner: SessionId,
    ) {
        if let Some(written) = self.write_inline(bytes, services) {
            if let Err(error) = written {
                self.fail(error, services, owner);
            }
        } else if self.failed().is_none() {
            self.buffer.extend_from_slice(bytes);
            self.start(services, id);
        }
    }

    /// Writes on the event loop; `None` if a worker has to write.
    fn write_inline(
        &mut self,
        bytes: &[u8],
        services: &mut Services<K>,
    ) -> Option<Result<(), StorageError>> {
        let WriterState::Idle(staged) = &mut self.state else {
            return None;
        };
        if self.is_slow || !self.buffer.is_empty() {
            return None;
        }
        let began_at = services.kernel().now();
        let written = services.transfers().write_inline(staged, bytes);
        self.is_slow = services.kernel().now().duration_since(began_at) >= SLOW_CALL;
        written
    }

    /// Takes the result of the worker and gives it the next bytes.
    pub(crate) fn end_write(
        &mut self,
        result: Result<Box<StagedUpload<K>>, StorageError>,
        services: &mut Services<K>,
        id: SessionId,
        owner: SessionId,
    ) {
        match result {
            Ok(staged) => {
                self.state = WriterState::Idle(staged);
                self.start(services, id);
            }
            Err(error) => self.fail(error, services, owner),
        }
    }

    /// Returns the upload once everything is written. One that failed is rejected, so that its
    /// publication fails with the reason after its space was freed.
    pub(crate) fn into_staged(self) -> Option<Box<StagedUpload<K>>> {
        match self.state {
            WriterState::Idle(staged) => Some(staged),
            WriterState::Failed(_, staged) => staged,
            WriterState::Writing => None,
        }
    }

    /// Discards the file of a failed upload, whose client goes on sending.
    pub(crate) fn discard_failed(&mut self, services: &Services<K>) {
        if let WriterState::Failed(_, staged) = &mut self.state
            && let Some(staged) = staged.take()
        {
            services.transfers().discard(staged);
        }
    }

    /// Discards the upload. If a worker has it, the end of the connection makes the worker do so.
    pub(crate) fn discard(self, services: &mut Services<K>) {
        if let Some(staged) = self.into_staged() {
            services.transfers().discard(staged);
        }
    }

    /// Lets a worker write the buffer, unless one writes already.
    fn start(&mut self, services: &mut Services<K>, id: SessionId) {
        if self.buffer.is_empty() {
            return;
        }
        self.state = match std::mem::replace(&mut self.state, WriterState::Writing) {
            WriterState::Idle(staged) => {
                let bytes = std::mem::take(&mut self.buffer);
                services.transfers().write(id, staged, bytes);
                WriterState::Writing
            }
            state => state,
        };
    }

    fn fail(&mut self, error: StorageError, services: &mut Services<K>, owner: SessionId) {
        let code = services.log_refusal(owner, error);
        let failed = WriterState::Failed(code, None);
        if let WriterState::Idle(mut staged) = std::mem::replace(&mut self.state, failed) {
            staged.reject(code);
            self.state = WriterState::Failed(code, Some(staged));
        }
        self.buffer = Vec::new();
    }
}

//! Moving the bytes of files: on the event loop where the device allows that, else by workers.

use std::path::Path;
use std::sync::Arc;

use crate::kernel::Kernel;
use crate::server::log::transfer_log::{Direction, TransferLog, TransferRecord};
use crate::server::service::auth::Auth;
use crate::server::service::context::Context;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::FileRange;
use crate::server::workers::job::Job;
use crate::storage::{StagedUpload, StorageError};

/// The operations of transfers in progress. `id` is the connection that a result is for: a control
/// or a data connection.
pub(crate) struct Transfers<'a, K: Kernel> {
    pub(super) context: &'a Context<K>,
    pub(super) log: Option<&'a Arc<TransferLog>>,
    pub(super) auth: &'a Auth,
}

impl<K: Kernel> Transfers<'_, K> {
    /// Begins the record of a transfer, if there is a transfer log.
    pub(crate) fn begin_record(
        &self,
        session_id: SessionId,
        path: &Path,
        direction: Direction,
    ) -> Option<Box<TransferRecord>> {
        let log = self.log?.clone();
        let user = self.auth.user_name(session_id);
        let peer = session_id.peer.ip();
        Some(TransferRecord::begin(log, peer, user, path, direction))
    }

    /// Brings a range of a file into memory, on a worker: into the page cache if the event loop may
    /// call the device, else into a buffer. Completes with [`Completion::Fetched`].
    ///
    /// [`Completion::Fetched`]: crate::server::service::response::Completion::Fetched
    pub(crate) fn fetch(&self, id: SessionId, range: FileRange<K>) {
        let job = match range.file.is_inline() {
            true => Job::prefetch(id, range),
            false => Job::read(id, range),
        };
        self.context.workers.submit(job);
    }

    /// Writes to an upload on the event loop; `None` if a worker has to write.
    pub(crate) fn write_inline(
        &self,
        staged: &mut StagedUpload<K>,
        bytes: &[u8],
    ) -> Option<Result<(), StorageError>> {
        let device = staged.device().clone();
        self.context.call_inline(&device, || staged.write(bytes))
    }

    /// Writes to an upload, on a worker. Completes with [`Completion::Written`].
    ///
    /// [`Completion::Written`]: crate::server::service::response::Completion::Written
    pub(crate) fn write(&self, id: SessionId, staged: Box<StagedUpload<K>>, bytes: Vec<u8>) {
        self.context.workers.submit(Job::write(id, staged, bytes));
    }

    /// Cancels the job of a connection that closes.
    pub(crate) fn cancel(&self, id: SessionId) {
        self.context.workers.cancel(id);
    }

    /// Makes a complete upload durable and gives it its name, even if its session ends. Completes
    /// with [`Completion::TransferDone`].
    ///
    /// [`Completion::TransferDone`]: crate::server::service::response::Completion::TransferDone
    pub(crate) fn publish(
        &self,
        session_id: SessionId,
        staged: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
    ) {
        let job = Job::publish(session_id, staged, record);
        self.context.workers.submit(job);
    }

    /// Drops an unfinished upload, on a worker.
    pub(crate) fn discard(&self, staged: Box<StagedUpload<K>>) {
        self.context.workers.submit(Job::discard(staged));
    }
}

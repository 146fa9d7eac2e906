//! Requests about existing files and directories, and about new directories.

use crate::domain::path::GrantedPath;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::server::service::context::Context;
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Job, Task};
use crate::storage;
use crate::storage::{Modification, PendingModification, QuotaReservation, StorageError};

/// Returns the status of a file or directory.
pub(super) fn status<K: Kernel>(
    path: &GrantedPath,
    context: &Context<K>,
) -> Result<Handled<K>, StorageError> {
    let status = storage::file_status(&*context.kernel, path)?;
    Ok(Handled::now(Response::Status(status)))
}

/// Returns the bytes that can still be written, of which quotas permit `left`.
pub(super) fn space<K: Kernel>(
    path: &GrantedPath,
    left: u64,
    context: &Context<K>,
) -> Result<Handled<K>, StorageError> {
    let space = storage::free_space(&*context.kernel, path)?;
    Ok(Handled::now(Response::Space(space.min(left))))
}

/// Starts a job that creates a directory.
pub(super) fn make_directory<K: Kernel>(
    session_id: SessionId,
    path: GrantedPath,
    context: &Context<K>,
) -> Handled<K> {
    let lane = context.lane(&path.grant);
    let job = Job::owned(session_id, lane, Task::MakeDirectory(path));
    context.workers.submit(job);
    Handled::Later
}

/// Starts a job that renames, removes or touches a file or directory.
pub(super) fn modify<K: Kernel>(
    session_id: SessionId,
    modification: Modification,
    reservation: QuotaReservation,
    context: &Context<K>,
) -> Handled<K> {
    let lane = context.lane(&modification.path().grant);
    let pending = PendingModification::new(modification, reservation);
    let task = Task::Modify(Box::new(pending));
    context.workers.submit(Job::owned(session_id, lane, task));
    Handled::Later
}

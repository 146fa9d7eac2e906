//! Requests that change files and directories.

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::kernel::Kernel;
use crate::server::service::context::Context;
use crate::server::service::response::Handled;
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Job, Task};
use crate::storage::{Modification, PendingModification, QuotaReservation, StorageError};

/// Starts a job that creates a directory.
pub(super) fn make_directory<K: Kernel>(
    session_id: SessionId,
    path: GrantedPath,
    reservation: QuotaReservation,
    context: &Context<K>,
) -> Handled<K> {
    let lane = context.lane(&path.grant);
    let task = Task::MakeDirectory(path, reservation);
    let job = Job::owned(session_id, lane, task);
    context.workers.submit(job);
    Handled::Later
}

/// Starts a job that renames, removes or touches a file or directory.
pub(super) fn modify<K: Kernel>(
    session_id: SessionId,
    modification: Modification,
    reservation: QuotaReservation,
    context: &Context<K>,
) -> Result<Handled<K>, StorageError> {
    check(&modification, context)?;
    let lane = context.lane(&modification.path().grant);
    let pending = PendingModification::new(modification, reservation);
    let task = Task::Modify(Box::new(pending));
    context.workers.submit(Job::owned(session_id, lane, task));
    Ok(Handled::Later)
}

/// Checks that a rename in a directory does not give something the name of a directory that is
/// granted with more rights to see what it contains, or of one that contains such a directory.
/// Storage refuses moves into other directories.
fn check<K: Kernel>(modification: &Modification, context: &Context<K>) -> Result<(), StorageError> {
    match modification {
        Modification::Rename { from, to }
            if (context.home).leads_to_more(&to.full_path(), from.grant.rights) =>
        {
            Err(match from.grant.rights.read {
                false => ErrorCode::ReadDenied.into(),
                true => ErrorCode::HiddenDenied.into(),
            })
        }
        _ => Ok(()),
    }
}

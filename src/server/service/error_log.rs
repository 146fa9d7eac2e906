//! The log of the services' errors.

use std::fmt::Display;

use log::{error, warn};

use crate::domain::error::ErrorCode;
use crate::server::log::escape::Escaped;
use crate::server::session_id::SessionId;
use crate::storage::StorageError;

/// Logs the cause of a storage error, if the server is at fault, and returns its code.
pub(super) fn log_error(session_id: SessionId, error: &StorageError) -> ErrorCode {
    if let Some(fault) = &error.fault {
        log_fault(session_id, fault);
    }
    error.code
}

/// Logs a failed operation.
pub(super) fn log_fault(session_id: SessionId, fault: &dyn Display) {
    let (generation, fault) = (session_id.generation, fault.to_string());
    error!("session={generation} event=fault what={}", Escaped(&fault));
}

/// Logs that a quota refused an upload.
pub(super) fn log_over_quota(session_id: SessionId, user: &str) {
    let (generation, peer) = (session_id.generation, session_id.peer);
    let user = Escaped(user);
    warn!("session={generation} event=refused limit=quota user={user} from={peer}");
}

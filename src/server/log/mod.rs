//! The logs: one line per event, and optionally one line per transfer.

pub(crate) mod escape;
pub(crate) mod event;
pub(crate) mod format;
pub(crate) mod transfer_log;
mod writer;

pub(crate) use crate::server::log::escape::Escaped;
pub use crate::server::log::event::{EventLog, start};
pub use crate::server::log::format::Format;

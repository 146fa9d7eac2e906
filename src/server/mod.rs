//! The server: event loop, connections, services, worker threads, limits and logs.
//!
//! Imports point downwards: start, event_loop, conn, then service and net, workers, policy and log.
//! It knows neither the command line nor the text of any dialect.

pub(crate) mod conn;
pub(crate) mod event_loop;
pub mod log;
pub(crate) mod net;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod service;
pub(crate) mod session_id;
pub(crate) mod start;
pub(crate) mod workers;

pub use crate::server::event_loop::{EventLoop, Stopped, listener_token};
pub use crate::server::log::transfer_log::TransferLog;
pub use crate::server::options::Options;
#[cfg(feature = "sim")]
pub use crate::server::session_id::comparisons;
pub use crate::server::start::{fit_sessions, listen, start};

//! The FTP session (RFC 959, 2389, 2428, 3659).

pub mod active_mode;
mod arguments;
pub mod command;
mod features;
mod files;
mod information;
pub mod listing;
mod path;
mod reply;
pub mod session;
mod state;
mod transfer;

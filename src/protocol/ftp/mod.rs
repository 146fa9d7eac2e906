//! FTP's dialogue (RFC 959, 2389, 2428, 3659).

pub mod command;
pub mod files;
pub mod listing;
pub mod path;
pub mod reply;
pub mod session;
pub mod transfer;

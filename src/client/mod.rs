//! The person's end of the wire: get, put, ls and connect over blocking sockets; files that land here and leave from here.
//!
//! The server is not trusted: what it says passes `protocol::menu_client`, a name that it gives becomes a path only where it is
//! one part of one, what it makes us keep is bounded, and `Sanitized` stands between its words and the terminal.
//!
//! Must not know: how the command line is read, though its advice names the flag that helps; exit statuses; how anything is said
//! on the wire.

pub mod connect;
mod connection;
pub mod error;
pub mod get;
pub mod list;
pub mod login;
mod part_file;
mod pipe;
pub mod progress;
pub mod put;
pub mod remote;
pub mod sanitized;
mod transfer_queue;
mod tree;

//! The client: `get`, `put`, `ls` and `connect` over blocking connections.
//!
//! The server is not trusted. Its messages are parsed by
//! [`ClientSession`](crate::protocol::menu::client::ClientSession), a name becomes a local path
//! only if it is a single valid component, listings are bounded, and everything printed on a
//! terminal passes through [`sanitized::Sanitized`].

pub mod connect;
mod connect_failure;
mod connection;
mod download;
pub mod error;
pub mod get;
pub mod list;
pub mod login;
mod missing;
mod part_file;
mod pipe;
pub mod progress;
pub mod put;
mod quota;
mod refusal;
pub mod remote;
pub mod sanitized;
mod transfer_queue;
mod tree;
mod upload;

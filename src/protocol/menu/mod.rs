//! The menu protocol (docs/protocol.md): the server's session and the client's.

pub mod client;
pub mod command;
pub mod path;
pub mod reply_parser;
mod request;
pub mod session;
mod state;
pub mod text;

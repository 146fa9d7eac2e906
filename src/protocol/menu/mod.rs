//! The menu's dialogue and its client.

pub mod client;
pub mod command;
pub mod path;
pub mod reply_parser;
pub mod session;
pub mod text;

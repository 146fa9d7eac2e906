//! The dialogues as values, without I/O.
//!
//! [`Session::step`](session::Session::step) takes one [`Input`](step::Input), appends its messages
//! or replies to a buffer and returns exactly one [`Action`](step::Action). Every effect is a
//! [`Request`](crate::domain::request::Request) with a response; the session cannot tell whether
//! the response came at once or from a worker.
//!
//! No descriptors, clocks, threads or file system in here.

pub mod ftp;
pub mod line;
pub mod listing;
pub(crate) mod login;
pub mod menu;
pub mod session;
pub mod step;
pub mod telnet;
pub(crate) mod text;

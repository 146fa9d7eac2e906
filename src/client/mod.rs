//! The person's end of the wire: get, put, ls and connect over blocking sockets; files that land here and leave from here.
//!
//! The server is not trusted: what it says passes `protocol::menu_client`, a name that it gives becomes a path only where it is
//! one part of one, what it makes us keep is bounded, and [`shown::Sanitized`] stands between its words and the terminal.
//!
//! Must not know: how the command line is read, though its advice names the flag that helps; exit statuses; how anything is said
//! on the wire.

mod completion;
pub mod connect;
mod connection;
pub mod get;
mod jobs;
pub mod list;
mod part_file;
mod pipe;
pub mod progress;
pub mod put;
pub mod remote;
pub mod sanitized;
mod tree;

use std::fmt;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::client::remote::Remote;
use crate::protocol::menu::text;

/// Who logs in where.
pub struct Login {
    /// The user and the server.
    pub remote: Remote,
    /// The user's password.
    pub password: Zeroizing<Vec<u8>>,
    /// How long nothing may move.
    pub timeout: Duration,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Error {
    /// The server does not do this one thing; the connection stands.
    Refused(&'static str),
    /// Something here is in the way of this one thing; the connection stands.
    Here(String),
    /// Something came up for which the connection was given up; another one may do the rest.
    Abandoned(String),
    /// The server has closed a connection on which nothing moved; of what it was asked then it has begun nothing.
    Idle,
    /// The connection is lost, or the server is none that can be talked to.
    Broken(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(sentence) => f.write_str(sentence),
            Error::Idle => f.write_str(text::IDLE),
            Error::Here(what) | Error::Abandoned(what) | Error::Broken(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}

//! Errors of the client.

use std::fmt;

use crate::protocol::menu::text;

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

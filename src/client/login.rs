//! The account that the client logs in with.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::client::remote::Remote;

/// A server, the account to log in with and the timeout of its connections.
pub struct RemoteLogin {
    /// The user and the server.
    pub remote: Remote,
    /// The user's password.
    pub password: Zeroizing<Vec<u8>>,
    /// Where the password comes from, for the message that it is wrong: a file or a variable.
    pub password_source: Option<String>,
    /// Longest time without a byte in either direction.
    pub timeout: Duration,
}

//! The account to log in with.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::client::remote::Remote;

/// Who logs in where.
pub struct Login {
    /// The user and the server.
    pub remote: Remote,
    /// The user's password.
    pub password: Zeroizing<Vec<u8>>,
    /// How long nothing may move.
    pub timeout: Duration,
}

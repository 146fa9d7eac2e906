//! What people edit: a home's two files, `Credentials` and `Directories`, and what follows from them.
//!
//! A [`Home`] is a value: loaded whole or not at all, never changed afterwards. A reload makes a new one.
//!
//! Must not know: sockets, sessions, the wire's words.

pub mod credentials;
pub mod directories;
pub mod password;

use std::sync::Arc;

use credentials::Account;
use directories::Grant;

/// What one user may do: made at a login, shared by all of that user's sessions, made anew by a reload.
#[derive(Debug)]
pub struct Access {
    /// The record that the login was proved against.
    pub account: Arc<Account>,
    /// The directories, each name once, in the order in which the file grants them.
    pub grants: Vec<Arc<Grant>>,
}

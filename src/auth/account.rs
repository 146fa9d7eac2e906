//! The account of one user: a name and a secret.

use std::fmt;

use zeroize::Zeroizing;

/// One record of the file `Credentials`.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// The user's name, matched exactly.
    pub user: String,
    /// The secret to verify a password against.
    pub secret: Secret,
}

/// The secret of an account.
#[derive(PartialEq, Eq)]
pub enum Secret {
    /// A PHC string, `$argon2id$v=19$…`.
    Hash(String),
    /// The password itself, for a home that is set up with an editor alone.
    Plain(Zeroizing<String>),
    /// Any password is accepted, as for anonymous FTP.
    Anyone,
}

/// Shows the kind only: a hash or a password must not reach a log or a panic message.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Secret::Hash(_) => "Hash(…)",
            Secret::Plain(_) => "Plain(…)",
            Secret::Anyone => "Anyone",
        })
    }
}

//! The file `Credentials`: a record a line, `USER:HASH` or `USER:plain:PASSWORD`.

use zeroize::Zeroizing;

/// One record: a user and how he proves himself.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    /// His name, matched exactly.
    pub user: String,
    /// What his password is compared with.
    pub secret: Secret,
}

/// What a password is compared with.
#[derive(PartialEq, Eq)]
pub enum Secret {
    /// A PHC string, `$argon2id$v=19$…`.
    Hash(String),
    /// The password itself, for a person who begins with an editor alone.
    Plain(Zeroizing<String>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Secret::Hash(_) => "Hash(…)",
            Secret::Plain(_) => "Plain(…)",
        })
    }
}

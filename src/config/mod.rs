//! A home's two files, `Credentials` and `Directories`: reading, checking, editing and reloading
//! them.
//!
//! A [`home::Home`] is a value: loaded whole or not at all, and never changed afterwards. Nothing
//! here knows sockets, sessions or protocols.

pub mod credentials;
pub mod directories;
pub mod edit;
pub mod error;
mod files;
mod granted_directory;
pub mod grants;
pub mod home;
pub mod permissions;
pub mod records;
pub mod reload;
mod replace;
pub mod sandbox_scope;
mod warnings;

pub use error::HomeError;
pub use home::Home;

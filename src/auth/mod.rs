//! Authentication: accounts, password hashes and their verification.
//!
//! Verification is slow on purpose and runs on a worker. Nothing here reads files or knows
//! sessions.

pub mod account;
pub(crate) mod keyed_hash;
pub mod phc;
pub mod verified_cache;
pub mod verifier;

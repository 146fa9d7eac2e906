//! The vocabulary that all layers share; no I/O.

pub mod glob;
pub mod rights;
pub mod user_limits;

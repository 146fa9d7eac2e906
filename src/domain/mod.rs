//! The vocabulary that all layers share; no I/O.

pub mod access;
pub mod byte_size;
pub mod error;
pub mod glob;
pub mod listing;
pub mod path;
pub mod request;
pub mod step;
pub mod user_limits;

//! The interface to Linux, and its two implementations: [`linux`] and, with the feature `sim`, the
//! seeded simulation `sim`.
//!
//! Must not know: sessions, protocols, homes.

pub mod devices;
pub mod errors;
mod interface;
pub mod linux;
#[cfg(feature = "sim")]
pub mod sim;
mod types;

pub use crate::kernel::interface::Kernel;
pub use crate::kernel::types::{
    CallStats, FileKind, FileSystemKind, Milestone, OpenMode, PIECES_MAX, Piece, Readiness, Signal,
    Status,
};

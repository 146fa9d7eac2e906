//! `connect`: the menu for interactive use.

mod completion;
mod session;

pub use session::{Options, connect};

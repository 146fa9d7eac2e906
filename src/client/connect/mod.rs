//! `connect`: the menu with line editing, a history and Tab completion.

mod completion;
mod line_editor;
mod session;

pub use session::{ConnectOptions, connect};

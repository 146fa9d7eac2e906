//! The servers under load.

pub(crate) mod process;

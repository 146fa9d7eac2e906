//! Connections: control, data, and the transfers on them.

pub(crate) mod ascii;
pub(crate) mod control;
pub(crate) mod data;
pub(crate) mod transfer;

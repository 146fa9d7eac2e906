//! Connections: the time slices of control connections, data connections, and the transfers on
//! both.

mod actions;
mod ascii;
pub(crate) mod control;
pub(crate) mod data;
pub(crate) mod data_command;
pub(crate) mod data_upload;
pub(crate) mod outcome;
pub(crate) mod time_slice;
pub(crate) mod transfer;
mod upload_writer;
pub(crate) mod work;

//! The load generator: many clients in one thread, which speak the menu, HTTP or FTP.

pub(crate) mod data_transfer;
pub(crate) mod latency_probe;
pub(crate) mod load_client;
pub(crate) mod load_generator;
pub(crate) mod message;
pub(crate) mod socket;
pub(crate) mod traffic;
pub(crate) mod wire_protocol;

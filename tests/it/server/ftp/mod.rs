//! FTP over real sockets.

mod address_families;
pub(crate) mod data;
mod in_process;
mod input;
mod limits;
mod login;
mod transfers;
mod unconfirmed;
mod unknown_values;

//! FTP over real sockets.

pub(crate) mod data;
mod in_process;
mod input;
mod limits;
mod login;
mod transfers;
mod unconfirmed;

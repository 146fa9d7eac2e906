//! The server as a process: transfers, sockets, limits, logs, signals, sandbox, supervision, FTP.

mod crowd;
mod downloads;
pub(crate) mod ftp;
mod lifecycle;
mod limits;
mod logins;
mod logs;
mod mistakes;
mod netcat;
mod sandbox;
mod secrets_in_memory;
mod sessions;
mod sockets;
mod startup;
mod supervision;
mod uploads;

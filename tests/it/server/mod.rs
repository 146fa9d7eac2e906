//! The server as a process: files, sockets, netcat, limits, logs, signals, the sandbox, supervision, FTP.

mod downloads;
pub(crate) mod ftp;
mod lifecycle;
mod limits;
mod logs;
mod netcat;
mod sandbox;
mod sockets;
mod supervision;
mod uploads;

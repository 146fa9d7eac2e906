//! The server process: sandbox, user, pid file, handover, supervisor.

pub mod control_socket;
pub mod pid_file;
pub mod sandbox;
pub mod systemd;
mod user;

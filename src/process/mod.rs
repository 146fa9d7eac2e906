//! The server process: its user, sandbox and pid file, the handover to the next process, and the
//! service manager.

pub mod control_socket;
pub mod handover;
pub mod pid_file;
pub mod sandbox;
pub mod silent_directories;
pub mod systemd;
pub mod user;

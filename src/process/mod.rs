//! The server process: its user, sandbox, run directory and control socket, the handover to the
//! next process, and the service manager.

pub mod control;
pub mod handover;
pub mod held_files;
pub mod pid_file;
pub mod run_dir;
pub mod sandbox;
pub mod silent_directories;
pub mod systemd;
pub mod user;

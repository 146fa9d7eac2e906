//! The servers under load: tidegate, its peers and the baseline, each a child process over files in
//! a temporary folder.

pub(crate) mod ftp_peers;
pub(crate) mod home;
pub(crate) mod http_peers;
pub(crate) mod kind;
pub(crate) mod process;
pub(crate) mod slow_disk;
pub(crate) mod target;

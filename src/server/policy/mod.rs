//! Limits on logins, sessions and transfer rates. Pure: time and addresses are arguments.

pub(crate) mod client_prefix;
pub(crate) mod familiar_logins;
pub(crate) mod login_queue;
pub(crate) mod login_throttle;
pub(crate) mod memory_use;
pub(crate) mod rate_limit;
pub(crate) mod sessions;
pub(crate) mod stall_detector;

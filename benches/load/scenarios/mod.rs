//! The scenarios. Each starts a server over a temporary home, applies a bounded load, returns its
//! metrics and stops the server.

pub(crate) mod background_load;
pub(crate) mod churn;
pub(crate) mod cold;
pub(crate) mod download;
pub(crate) mod failed_logins;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod upload;

//! Worker threads for work that may block or take long.

pub(crate) mod checksum;
pub(crate) mod file_task;
pub(crate) mod job;
pub(crate) mod lanes;
pub(crate) mod listing;
pub(crate) mod query;
pub(crate) mod token;

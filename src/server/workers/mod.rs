//! Worker threads for work that may block or take long.

pub(crate) mod checksum;
mod device_lane;
mod device_lanes;
mod fair_queue;
pub(crate) mod file_task;
pub(crate) mod job;
pub(crate) mod lanes;
pub(crate) mod listing;
mod logins;
mod owned_jobs;
pub(crate) mod query;
mod refusal;
mod running_jobs;
pub(crate) mod token;

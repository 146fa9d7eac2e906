//! Interleaved rounds and their results.

pub(crate) mod plots;
pub(crate) mod report;
pub(crate) mod schedule;

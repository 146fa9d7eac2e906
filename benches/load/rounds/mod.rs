//! Interleaved rounds of a set of cases, and the folder of their results.

pub(crate) mod cases;
pub(crate) mod plots;
pub(crate) mod readme;
pub(crate) mod results;
pub(crate) mod run;
pub(crate) mod schedule;
pub(crate) mod summary;

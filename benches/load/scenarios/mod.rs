//! The scenarios of the load bench.

pub(crate) mod latency;

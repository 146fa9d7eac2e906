//! The clients of the load bench.

pub(crate) mod dialect;
pub(crate) mod latency_probe;
pub(crate) mod load_generator;

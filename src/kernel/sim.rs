//! A kernel from a seed.

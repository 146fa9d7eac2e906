//! Lines out of fragments, within a limit.

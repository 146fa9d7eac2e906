//! argv → command → exit status, and nothing else.

fn main() {}

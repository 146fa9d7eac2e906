//! The integration tests, in one binary, which is linked once.

mod accounts;
mod architecture;
mod attacks;
#[cfg(feature = "client")]
mod client;
mod dialogues;
mod server;
mod simulation;
mod support;

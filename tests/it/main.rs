//! The integration tests: one binary, so that it is linked once.

mod accounts;
mod dialogues;
mod menu_seeds;
mod model;
mod random;
mod simulation;
mod server;
mod world;
mod downloads;
mod life;
mod netcat;
mod sockets;
mod support;
mod tidy;
mod uploads;

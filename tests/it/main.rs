//! The integration tests: one binary, so that it is linked once.

mod downloads;
mod life;
mod netcat;
mod sockets;
mod support;
mod tidy;
mod uploads;

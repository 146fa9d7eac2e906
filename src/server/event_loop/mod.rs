//! The event loop: poll, accept, completions, run queue, sweep, removal of closed connections.
//!
//! [`tick`] holds the loop and the order of one tick, which is the scheduling policy. The parts own
//! their state and return results; `tick` and `scheduler` connect them.

mod accept;
mod connections;
mod data;
mod data_sessions;
mod invariants;
mod passive;
mod run_queue;
mod scheduler;
mod shutdown;
mod slot;
mod sweep;
pub(crate) mod tick;

pub use crate::server::event_loop::shutdown::Stopped;
pub use crate::server::event_loop::tick::EventLoop;
pub use crate::server::event_loop::tick::listener_token;

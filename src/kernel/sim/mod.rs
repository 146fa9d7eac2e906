//! A simulated kernel: sockets, files and a clock in memory, with the faults of the real ones.
//!
//! A seed determines the whole run, call for call, as long as one thread makes the calls, or the
//! threads are those of [`Sim::run_job`]. The server uses [`Sim`] as its
//! [`Kernel`](crate::kernel::Kernel). The methods of `Sim` itself are for the test harness: peers,
//! changes of files from outside, devices, power cuts.
//!
//! Must not know: sessions, protocols, the behaviour of clients.

mod connection;
mod devices;
pub mod fault_plan;
mod files;
mod handles;
mod inode;
mod job_threads;
mod jobs;
mod kernel_impl;
mod network;
mod simulator;
mod tree;

pub use crate::kernel::sim::devices::{DeviceBehaviour, SimDevice};
pub use crate::kernel::sim::handles::{SimFile, SimListener, SimMap, SimSocket};
pub use crate::kernel::sim::inode::SimEntry;
pub use crate::kernel::sim::simulator::{HeldHandles, Peer, Sim};

#[cfg(test)]
mod tests;

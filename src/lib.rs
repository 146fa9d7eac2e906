//! tidegate: a file server for many users at once.
//!
//! The rooms, and who may touch what:
//!
//! - [`protocol`] thinks: bytes and facts in, bytes and one wish out. No descriptor, no clock, no thread.
//! - [`home`] knows what people edit: who may come in, and what each may see.
//! - [`vault`] knows what people fetch: names become files beneath a root, and nothing else does.
//! - [`kernel`] acts: the one seam to Linux, and the only `unsafe`.
//! - [`server`] joins them: the loop, the connections, the workers.
//! - `client` is the other end of the wire: blocking sockets, and files that land (feature `client`).
//! - [`cli`] speaks with the person at the prompt.

pub mod auth;
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
pub mod domain;
pub mod kernel;
pub mod limits;
pub mod process;
pub mod protocol;
pub mod server;
pub mod storage;

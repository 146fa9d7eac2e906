//! tidegate: a file server for many users.
//!
//! The modules, from the top down. Each imports only from those below it; `docs/architecture.md`
//! has the whole picture.
//!
//! - [`cli`]: commands, options, messages and exit statuses.
//! - `client`: `get`, `put`, `ls` and `connect` over blocking sockets (feature `client`).
//! - [`server`]: the event loop, connections, services, workers and logs.
//! - [`process`]: user, sandbox, pid file, handover and the service manager.
//! - [`protocol`]: the dialogues as values, without I/O.
//! - [`storage`]: names of granted directories become files.
//! - [`config`]: the two files of a home.
//! - [`auth`]: password hashes and their verification.
//! - [`kernel`]: the only access to Linux, or a simulation of it.
//! - [`domain`]: the vocabulary of all layers.
//! - [`limits`]: every constant, with its reason.

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

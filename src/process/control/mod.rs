//! The control socket: requests to a running server from commands and from the next server.
//!
//! The client speaks first. Requests and answers are lines with one JSON object each; the last
//! answer to a request is `{"end":true}` or `{"error":"..."}`.

pub mod client;
pub mod message;
pub mod predecessor;
pub mod server;

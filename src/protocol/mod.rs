//! The protocol as a value: bytes and facts go in, bytes and one wish come out.
//!
//! [`Session::step`] takes one [`Input`], appends its sentences to the buffer it is given and returns exactly one
//! [`Action`]. Every effect is asked for ([`Action::Request`]) and answered ([`Input::Response`]); whether at once or later
//! the session cannot tell.
//!
//! Must not know: descriptors, clocks, the file system, threads.

pub mod ftp;
pub mod line;
pub mod listing;
pub mod menu;
pub mod session;
pub mod step;

//! Streams, the event loop's buffers, and port reservations.

pub(crate) mod input_buffer;
pub(crate) mod port_reservations;
pub(crate) mod scratch;
pub(crate) mod send_queue;
pub(crate) mod stream;

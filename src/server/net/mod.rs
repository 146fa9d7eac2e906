//! Output queues and port reservations.

pub(crate) mod port_reservations;
pub(crate) mod send_queue;

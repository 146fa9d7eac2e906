//! The event loop's buffers: one set for all connections, so that an idle one owns none.

use crate::kernel::Kernel;
use crate::limits::{LINE_BYTES_MAX, LINE_READ_BYTES, TRANSFER_BUFFER_BYTES};
use crate::server::net::send_queue::SendQueue;

/// Buffers that a connection borrows for one time slice.
pub(crate) struct Scratch<K: Kernel> {
    /// Lines: an incomplete one of at most [`LINE_BYTES_MAX`], then room for one read.
    pub(crate) input: Box<[u8]>,
    /// Bytes of a file, or input that is discarded.
    pub(crate) transfer: Box<[u8]>,
    /// The result of an ASCII conversion.
    pub(crate) text: Vec<u8>,
    pub(crate) send_queue: SendQueue<K>,
}

impl<K: Kernel> Scratch<K> {
    pub(crate) fn new() -> Scratch<K> {
        Scratch {
            input: vec![0; LINE_BYTES_MAX + LINE_READ_BYTES].into(),
            transfer: vec![0; TRANSFER_BUFFER_BYTES].into(),
            text: Vec::new(),
            send_queue: SendQueue::new(),
        }
    }
}

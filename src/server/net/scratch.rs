//! The event loop's buffers: one set for all connections, so that an idle one owns none.

use crate::kernel::Kernel;
use crate::limits::TRANSFER_BUFFER_BYTES;
use crate::server::net::input_buffer::InputBuffer;
use crate::server::net::send_queue::SendQueue;

/// Buffers that a connection borrows for one time slice.
pub(crate) struct Scratch<K: Kernel> {
    /// Lines.
    pub(crate) input: InputBuffer,
    /// Bytes of a file, or input that is discarded.
    pub(crate) transfer: Box<[u8]>,
    /// The result of an ASCII conversion.
    pub(crate) text: Vec<u8>,
    pub(crate) send_queue: SendQueue<K>,
}

impl<K: Kernel> Scratch<K> {
    pub(crate) fn new() -> Scratch<K> {
        Scratch {
            input: InputBuffer::new(),
            transfer: vec![0; TRANSFER_BUFFER_BYTES].into(),
            text: Vec::new(),
            send_queue: SendQueue::new(),
        }
    }
}

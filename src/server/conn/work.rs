//! The state of a control connection.

use crate::domain::error::CloseReason;
use crate::kernel::Kernel;
use crate::server::conn::transfer::{Download, Upload};

/// The state of a control connection. Transfers are boxed, since most connections wait for a line.
pub(crate) enum Work<K: Kernel> {
    /// Waits for a line.
    Lines,
    /// Waits for a line while a data connection is being made or in use.
    LinesDuringTransfer {
        /// Bytes of the file that the data connection has moved.
        transferred: u64,
        stage: DataStage,
    },
    /// Waits for the response to a request, or for the publication of an upload. The client is
    /// watched: its end cancels the request, and so does ABOR if it `is_cancellable`.
    Request { is_cancellable: bool },
    /// Waits for the event loop to answer a command that concerns the data connection.
    DataCommand,
    /// Sends a file or listing, or waits for a worker to fetch a part of it.
    Sending(Box<Download<K>>),
    /// Receives announced bytes.
    Receiving(Box<Upload<K>>),
    /// Writes the pending output, then shuts the sending half.
    Closing { reason: CloseReason },
    /// Lingering close: discards input until the client closes, at most `left` bytes.
    Lingering { reason: CloseReason, left: u64 },
}

/// The stage of a transfer over a data connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DataStage {
    /// The connection is being made, or bytes are moving.
    Moving,
    /// The transfer's result is due. Lines are read, but handled after it.
    Ended,
    /// The upload was received and a worker publishes it, whatever becomes of the session.
    Publishing,
}

impl<K: Kernel> Work<K> {
    /// Waits for the publication of an upload.
    pub(super) const PUBLISHING: Work<K> = Work::Request {
        is_cancellable: false,
    };

    /// Whether lines are read. Backpressure: in all other states the client's input stays in the
    /// kernel's buffers, and TCP slows the client down.
    pub(super) fn reads_lines(&self) -> bool {
        matches!(self, Work::Lines | Work::LinesDuringTransfer { .. })
    }

    /// Whether bytes of a file are moving, as opposed to waiting for a worker.
    pub(super) fn is_transferring(&self) -> bool {
        match self {
            Work::Sending(download) => !download.is_fetching(),
            Work::Receiving(upload) => !upload.awaits_writer(),
            _ => false,
        }
    }

    /// Whether the transfer cannot go on before a worker has read or written a part of the file.
    pub(super) fn awaits_worker(&self) -> bool {
        match self {
            Work::Sending(download) => download.is_fetching(),
            Work::Receiving(upload) => upload.awaits_writer(),
            _ => false,
        }
    }

    /// Whether the input is read only to notice the client's end and ABOR.
    pub(super) fn watches_client(&self) -> bool {
        match self {
            Work::Request { .. } => true,
            Work::LinesDuringTransfer { stage, .. } => *stage == DataStage::Publishing,
            Work::Sending(download) => download.is_fetching(),
            _ => false,
        }
    }

    /// Whether a worker reads or writes a part of the file.
    pub(super) fn has_worker(&self) -> bool {
        match self {
            Work::Sending(download) => download.is_fetching(),
            Work::Receiving(upload) => upload.is_writing(),
            _ => false,
        }
    }

    /// Returns the bytes of the file that the data connection has moved.
    pub(super) fn data_transferred(&self) -> u64 {
        match self {
            Work::LinesDuringTransfer { transferred, .. } => *transferred,
            _ => 0,
        }
    }

    /// Whether the result of a transfer over a data connection is due.
    pub(super) fn has_data_ended(&self) -> bool {
        matches!(self, Work::LinesDuringTransfer { stage, .. } if *stage >= DataStage::Ended)
    }

    /// Whether a worker publishes an upload that a data connection has received.
    pub(super) fn is_publishing_data(&self) -> bool {
        let publishing = DataStage::Publishing;
        matches!(self, Work::LinesDuringTransfer { stage, .. } if *stage == publishing)
    }

    /// Whether the connection is being closed.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self, Work::Closing { .. } | Work::Lingering { .. })
    }
}

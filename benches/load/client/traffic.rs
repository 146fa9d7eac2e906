//! Counts and hashes the file content of one client.

use sha2::{Digest, Sha256};

use crate::client::message::ReadMode;

/// The file content that one client has sent and received.
#[derive(Default)]
pub(crate) struct Traffic {
    sent: u64,
    received: u64,
    hash: Option<Sha256>,
}

impl Traffic {
    /// Starts a new file.
    pub(crate) fn begin_file(&mut self, mode: ReadMode) {
        self.hash = (mode == ReadMode::Verify).then(Sha256::new);
    }

    /// Records received content.
    pub(crate) fn receive(&mut self, content: &[u8]) {
        self.received += content.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(content);
        }
    }

    /// Records sent content.
    pub(crate) fn send(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// Returns the SHA-256 of the current file, if it was requested.
    pub(crate) fn finish_file(&mut self) -> Option<[u8; 32]> {
        self.hash.take().map(|hash| hash.finalize().into())
    }

    /// Bytes of files sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes of files received so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }
}

//! Checksums of files, in slices of a worker's time.
//!
//! Must not know: who asks, how a checksum is shown.

use std::path::PathBuf;
use std::sync::Arc;

use md5::Md5;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};

use crate::domain::error::ErrorCode;
use crate::domain::request::Algorithm;
use crate::kernel::Kernel;
use crate::limits::{CHECKSUM_SLICE_BYTES, TRANSFER_BUFFER_BYTES};
use crate::server::session_id::SessionId;
use crate::server::workers::Done;
use crate::storage::{FileFault, OpenFile, StorageError};

/// A checksum under way.
pub(crate) struct Checksum<K: Kernel> {
    pub(crate) session_id: SessionId,
    pub(crate) file: Arc<OpenFile<K>>,
    pub(crate) path: PathBuf,
    pub(crate) offset: u64,
    /// The byte behind the last one that counts; `None` is the file's end.
    pub(crate) end: Option<u64>,
    pub(crate) hasher: Hasher,
}

/// What has been made of the bytes so far.
pub(crate) enum Hasher {
    Digest(Box<dyn DynDigest + Send>),
    Crc32(crc32fast::Hasher),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Hasher {
        Hasher::Digest(match algorithm {
            Algorithm::Sha512 => Box::new(Sha512::default()),
            Algorithm::Sha256 => Box::new(Sha256::default()),
            Algorithm::Sha1 => Box::new(Sha1::default()),
            Algorithm::Md5 => Box::new(Md5::default()),
            Algorithm::Crc32 => return Hasher::Crc32(crc32fast::Hasher::new()),
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Digest(digest) => digest.update(bytes),
            Hasher::Crc32(crc) => crc.update(bytes),
        }
    }

    fn finish(self) -> Box<[u8]> {
        match self {
            Hasher::Digest(digest) => digest.finalize(),
            Hasher::Crc32(crc) => Box::new(crc.finalize().to_be_bytes()),
        }
    }
}

impl<K: Kernel> Checksum<K> {
    /// Hashes on for one slice.
    pub(crate) fn slice(mut self, kernel: &K) -> Done<K> {
        let mut buffer = vec![0; TRANSFER_BUFFER_BYTES];
        let end = self.end.unwrap_or(u64::MAX);
        let stop = end.min(self.offset + CHECKSUM_SLICE_BYTES as u64);
        while self.offset < stop {
            let most = buffer.len().min((stop - self.offset) as usize);
            match kernel.read_at(self.file.file(), &mut buffer[..most], self.offset) {
                Ok(0) if self.end.is_none() => return self.done(),
                Ok(0) => return self.refused(ErrorCode::OffsetBeyondEnd, None),
                Ok(n) => {
                    self.hasher.update(&buffer[..n]);
                    self.offset += n as u64;
                }
                Err(source) => {
                    let fault = FileFault {
                        operation: "reading for a checksum",
                        path: self.path.clone(),
                        source,
                    };
                    return self.refused(ErrorCode::FileUnreadable, Some(fault));
                }
            }
        }
        match self.offset < end {
            true => Done::Slice(self),
            false => self.done(),
        }
    }

    fn done(self) -> Done<K> {
        Done::Checksummed {
            session_id: self.session_id,
            result: Ok((self.hasher.finish(), self.offset)),
        }
    }

    fn refused(self, refusal: ErrorCode, fault: Option<FileFault>) -> Done<K> {
        Done::Checksummed {
            session_id: self.session_id,
            result: Err(StorageError {
                code: refusal,
                fault,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksums of "123456789", which the standards and their catalogues give.
    #[test]
    fn checksums_are_the_standards() {
        let hex = |bytes: Box<[u8]>| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        for (algorithm, begins) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Md5, "25f9e794323b4538"),
            (Algorithm::Sha1, "f7c3bc1d808e0473"),
            (Algorithm::Sha256, "15e2b0d3c33891eb"),
            (Algorithm::Sha512, "d9e6762dd1c8eaf6"),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"1234");
            hasher.update(b"56789");
            assert!(hex(hasher.finish()).starts_with(begins), "{algorithm:?}");
        }
    }
}

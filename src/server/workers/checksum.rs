//! Checksums of files, computed in slices.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use md5::Md5;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};

use crate::domain::error::ErrorCode;
use crate::domain::request::{Algorithm, Response};
use crate::domain::step::Step;
use crate::kernel::Kernel;
use crate::limits::{CHECKSUM_SLICE_BYTES, TRANSFER_BUFFER_BYTES};
use crate::server::workers::token::JobToken;
use crate::storage::{FileFault, OpenFile, StorageError};

/// A checksum in progress.
pub(crate) struct Checksum<K: Kernel> {
    file: Arc<OpenFile<K>>,
    /// For the log.
    path: PathBuf,
    offset: u64,
    /// One past the last byte of the range; `None` is the end of the file.
    end: Option<u64>,
    hasher: Hasher,
}

enum Hasher {
    Digest(Box<dyn DynDigest + Send>),
    Crc32(crc32fast::Hasher),
}

impl Hasher {
    fn new(algorithm: Algorithm) -> Hasher {
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

    /// Returns the digest and starts over.
    fn finish_reset(&mut self) -> Box<[u8]> {
        match self {
            Hasher::Digest(digest) => digest.finalize_reset(),
            Hasher::Crc32(crc) => Box::new(std::mem::take(crc).finalize().to_be_bytes()),
        }
    }
}

impl<K: Kernel> Checksum<K> {
    /// Begins the checksum of the bytes from `start` to `end`, or to the end of the file.
    pub(crate) fn new(
        file: Arc<OpenFile<K>>,
        path: PathBuf,
        algorithm: Algorithm,
        start: u64,
        end: Option<u64>,
    ) -> Checksum<K> {
        Checksum {
            file,
            path,
            offset: start,
            end,
            hasher: Hasher::new(algorithm),
        }
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Hashes the next [`CHECKSUM_SLICE_BYTES`].
    pub(super) fn step(
        &mut self,
        kernel: &K,
        token: &JobToken,
    ) -> Step<Result<Response, StorageError>> {
        let mut buffer = vec![0; TRANSFER_BUFFER_BYTES];
        let end = self.end.unwrap_or(u64::MAX);
        let slice_end = end.min(self.offset + CHECKSUM_SLICE_BYTES as u64);
        while self.offset < slice_end && !token.is_cancelled() {
            let count = buffer.len().min((slice_end - self.offset) as usize);
            match kernel.read_at(self.file.file(), &mut buffer[..count], self.offset) {
                Ok(0) if self.end.is_none() => return self.finish(),
                Ok(0) => return Step::Done(Err(ErrorCode::OffsetBeyondEnd.into())),
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
                    return Step::Done(Err(StorageError {
                        code: ErrorCode::FileUnreadable,
                        fault: Some(fault),
                    }));
                }
            }
        }
        match self.offset < end {
            true => Step::More,
            false => self.finish(),
        }
    }

    fn finish(&mut self) -> Step<Result<Response, StorageError>> {
        Step::Done(Ok(Response::Checksum {
            digest: self.hasher.finish_reset(),
            end: self.offset,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check values of "123456789" from the standards and the catalogue of CRC algorithms.
    #[test]
    fn digests_match_the_published_check_values() {
        let hex = |bytes: Box<[u8]>| -> String {
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        for (algorithm, prefix) in [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Md5, "25f9e794323b4538"),
            (Algorithm::Sha1, "f7c3bc1d808e0473"),
            (Algorithm::Sha256, "15e2b0d3c33891eb"),
            (Algorithm::Sha512, "d9e6762dd1c8eaf6"),
        ] {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"1234");
            hasher.update(b"56789");
            assert!(
                hex(hasher.finish_reset()).starts_with(prefix),
                "{algorithm:?}"
            );
        }
    }
}

//! The existing file that an upload continues (APPE, or REST with STOR) and its copy.

use std::io;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::UploadBase;
use crate::kernel::errors::is_absent;
use crate::kernel::{FileKind, Kernel, OpenMode, Status};
use crate::limits::TRANSFER_BUFFER_BYTES;
use crate::storage::error::StorageError;
use crate::storage::open_files::status_to_read;
use crate::storage::resolve::full_path;

/// An existing file whose first bytes an upload starts with.
pub(super) struct BaseFile<K: Kernel> {
    pub(super) file: K::File,
    /// The status of its name when it was opened. The upload may replace the name only as long as
    /// this is unchanged: otherwise another session's bytes would be lost.
    pub(super) named: Status,
    /// Bytes that are copied.
    pub(super) length: u64,
}

impl<K: Kernel> BaseFile<K> {
    /// Opens the file that a download of that name would send, unless `base` is empty.
    pub(super) fn open(
        kernel: &K,
        directory: &K::File,
        name: &str,
        place: &GrantedPath,
        base: UploadBase,
    ) -> Result<Option<BaseFile<K>>, StorageError> {
        if base == UploadBase::Empty {
            return Ok(None);
        }
        let open = || {
            let named = kernel.status_at(directory, name)?;
            let root = kernel.open_root(&place.grant.path)?;
            let file = kernel.open_beneath(&root, &place.relative, OpenMode::Read)?;
            let status = status_to_read(kernel, &file)?;
            io::Result::Ok((named, file, status))
        };
        let found = match open() {
            Ok((named, file, status)) if status.kind == FileKind::File => {
                Some((named, file, status.size))
            }
            Ok(_) => None,
            Err(error) if is_absent(&error) => None,
            Err(error) => {
                let path = full_path(place, &place.relative);
                let code = ErrorCode::FileUnreadable;
                return Err(StorageError::with_fault(code, "opening", path, error));
            }
        };
        let (named, file, size) = match (found, base) {
            (Some(found), _) => found,
            (None, UploadBase::Prefix(1..)) => return Err(ErrorCode::OffsetBeyondEnd.into()),
            (None, _) => return Ok(None),
        };
        let length = match base {
            UploadBase::Prefix(count) if count > size => {
                return Err(ErrorCode::OffsetBeyondEnd.into());
            }
            UploadBase::Prefix(count) => count,
            UploadBase::Empty | UploadBase::Whole => size,
        };
        Ok(Some(BaseFile {
            file,
            named,
            length,
        }))
    }

    /// Copies bytes `offset..stop` to the same place in `to`, and advances `offset`. Holes stay
    /// holes. Uses copy_file_range(2) where both file systems support it, else a buffer. Returns
    /// false if the base file ends before `stop`.
    pub(super) fn copy(
        &self,
        kernel: &K,
        to: &K::File,
        offset: &mut u64,
        stop: u64,
    ) -> io::Result<bool> {
        let mut buffer = Vec::new();
        while *offset < stop {
            let data = kernel.next_data(&self.file, *offset)?;
            if data.is_none() && kernel.status(&self.file)?.size < stop {
                return Ok(false);
            }
            let data = data.unwrap_or(stop..stop);
            if data.start > *offset {
                self.skip_hole(kernel, to, data.start.min(stop))?;
                *offset = data.start.min(stop);
                continue;
            }
            let count = (data.end.min(stop) - *offset) as usize;
            let copied = match buffer.is_empty() {
                true => kernel.copy_range(&self.file, to, *offset, count),
                false => self.copy_buffered(kernel, to, &mut buffer, *offset, count),
            };
            match copied {
                Ok(0) => return Ok(false),
                Ok(copied) => *offset += copied as u64,
                Err(error) if buffer.is_empty() && cannot_copy(&error) => {
                    buffer = vec![0; TRANSFER_BUFFER_BYTES];
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Leaves a hole before `end`. The next write makes the file longer; at the end of the copy, a
    /// byte does.
    fn skip_hole(&self, kernel: &K, to: &K::File, end: u64) -> io::Result<()> {
        if end == self.length && kernel.write_at(to, &[0], end - 1)? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    fn copy_buffered(
        &self,
        kernel: &K,
        to: &K::File,
        buffer: &mut [u8],
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let count = count.min(buffer.len());
        match kernel.read_at(&self.file, &mut buffer[..count], offset)? {
            0 => Ok(0),
            read => kernel.write_at(to, &buffer[..read], offset),
        }
    }
}

/// Whether copy_file_range(2) does not work between two files. Lack of space is reported by the
/// write that follows.
fn cannot_copy(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
}

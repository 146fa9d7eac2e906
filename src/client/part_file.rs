//! A download in progress: written to `NAME.part` and renamed once it is complete.
//!
//! The part file is locked while it is written, so that two downloads of one file cannot mix. Links
//! and special files are refused. After an interruption it remains and can be resumed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, RenameFlags, renameat2};
use nix::sys::statvfs::fstatvfs;
use sha2::{Digest, Sha256};

use crate::client::connection::FileChunk;
use crate::client::error::ClientError;
use crate::client::sanitized::Sanitized;
use crate::domain::io_reason::io_reason;
use crate::limits::NAME_BYTES_MAX;

/// Bytes per read of a checksum, and the largest file whose space is not checked in advance.
const CHUNK_BYTES: usize = 256 * 1024;

/// The part file of one download, locked.
pub(super) struct PartFile {
    target: PathBuf,
    part: PathBuf,
    file: File,
    length: u64,
    is_published: bool,
}

impl PartFile {
    /// Opens and locks the part file of `target`. Creates it and its folders if they do not exist.
    /// The content of an interrupted download is kept; [`PartFile::length`] returns its size.
    pub(super) fn open(target: &Path) -> Result<PartFile, ClientError> {
        let part = part_path(target);
        let failed = |error: io::Error| local_error(&part, folder_failure(&error));
        let file = match open_part(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = target.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(folder)
                    .map_err(|error| local_error(folder, folder_failure(&error)))?;
                open_part(&part)
            }
            opened => opened,
        };
        let file = file.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(local_error(
                &part,
                "not a regular file; remove it or choose another folder with --into",
            ));
        }
        match file.try_lock() {
            // Another download may have published the file between the open and the lock.
            Ok(()) if is_same_file(&metadata, &part.symlink_metadata()) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(local_error(
                    &part,
                    "another download is writing this file; wait until it ends",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(PartFile {
            target: target.to_owned(),
            length: metadata.len(),
            part,
            file,
            is_published: false,
        })
    }

    /// Returns the number of bytes written, including those of an interrupted download.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Discards the content.
    pub(super) fn restart(&mut self) -> Result<(), ClientError> {
        if self.length > 0 {
            let truncated = self.file.set_len(0);
            truncated.map_err(|error| local_error(&self.part, io_reason(&error)))?;
            self.length = 0;
        }
        Ok(())
    }

    /// Fails if the file system has no space for `length` more bytes. A length of one chunk is not
    /// checked, since writing it fails as early.
    pub(super) fn check_space(&mut self, length: u64) -> Result<(), ClientError> {
        if length <= CHUNK_BYTES as u64 {
            return Ok(());
        }
        let file_system = fstatvfs(&self.file).map_err(|error| local_error(&self.part, error))?;
        let blocks = file_system.blocks_available();
        let available = blocks.saturating_mul(file_system.fragment_size());
        if length > available {
            return Err(local_error(
                &self.target,
                format_args!(
                    "not enough space: {length} bytes are needed, {available} are available; choose another folder with --into"
                ),
            ));
        }
        Ok(())
    }

    /// Appends a chunk.
    pub(super) fn append(&mut self, chunk: FileChunk<'_>) -> Result<(), ClientError> {
        let count = chunk.len() as u64;
        let written = match chunk {
            FileChunk::Buffered(bytes) => self.file.write_all_at(bytes, self.length),
            FileChunk::Piped(pipe) => pipe.drain(&self.file, self.length),
        };
        written.map_err(|error| self.write_error(&error))?;
        self.length += count;
        Ok(())
    }

    /// Says which limit stopped a write and how much is left.
    fn write_error(&self, error: &io::Error) -> ClientError {
        let left = fstatvfs(&self.file).map_or(0, |file_system| {
            let blocks = file_system.blocks_available();
            blocks.saturating_mul(file_system.fragment_size())
        });
        local_error(&self.part, write_failure(error, left))
    }

    /// Returns the SHA-256 of the content.
    pub(super) fn checksum(&mut self) -> Result<[u8; 32], ClientError> {
        let failed = |error: io::Error| local_error(&self.part, io_reason(&error));
        self.file.rewind().map_err(failed)?;
        checksum(&mut self.file).map_err(failed)
    }

    /// Renames the part file to the target. An existing target is an error unless `replace`.
    pub(super) fn publish(mut self, replace: bool) -> Result<(), ClientError> {
        let renamed = match replace {
            true => fs::rename(&self.part, &self.target),
            false => rename_without_replacing(&self.part, &self.target),
        };
        self.is_published = renamed.is_ok();
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => already_exists(&self.target),
            _ => local_error(&self.target, folder_failure(&error)),
        })
    }
}

impl Drop for PartFile {
    /// Removes an empty part file: there is nothing to resume.
    fn drop(&mut self) {
        if !self.is_published && self.length == 0 {
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Describes why a part file cannot be written on a file system that has `left` bytes left.
fn write_failure(error: &io::Error, left: u64) -> String {
    const AGAIN: &str = "make room and run the command again with --continue, or choose another \
                         folder with --into";
    match error.kind() {
        io::ErrorKind::StorageFull => {
            format!("the local disk is full: {left} bytes are left; {AGAIN}")
        }
        io::ErrorKind::QuotaExceeded => format!(
            "your quota on the local disk is used up, though the disk has {left} bytes left \
             ('quota' shows it); {AGAIN}"
        ),
        io::ErrorKind::FileTooLarge => "the file is larger than the local file system or \
                                        'ulimit -f' allows; choose another folder with --into"
            .into(),
        _ => io_reason(error),
    }
}

/// Describes why a file or folder of the download folder cannot be created.
pub(super) fn folder_failure(error: &io::Error) -> String {
    let reason = io_reason(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::StorageFull
        | io::ErrorKind::QuotaExceeded => {
            format!("{reason}; choose another folder with --into")
        }
        _ => reason,
    }
}

/// Returns whether the path exists, without following a symbolic link.
pub(super) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The error for a target that exists and must not be replaced.
pub(super) fn already_exists(target: &Path) -> ClientError {
    local_error(target, "already exists; use --force to replace it")
}

/// Returns the SHA-256 of a regular file.
pub(super) fn checksum_of(path: &Path) -> Result<[u8; 32], ClientError> {
    let failed = |error: io::Error| local_error(path, io_reason(&error));
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(local_error(
            path,
            "not a regular file; remove it or choose another folder with --into",
        ));
    }
    checksum(&mut file).map_err(failed)
}

/// Returns the path of the part file: the target with `.part` appended. If the name would exceed
/// [`NAME_BYTES_MAX`], a hash replaces its end.
pub(super) fn part_path(target: &Path) -> PathBuf {
    const SUFFIX: &str = ".part";
    const HASH_BYTES: usize = 8;
    let name = target.file_name().unwrap_or(OsStr::new("")).as_bytes();
    let mut part = name.to_vec();
    if name.len() + SUFFIX.len() > NAME_BYTES_MAX {
        let mut end = NAME_BYTES_MAX - SUFFIX.len() - "~".len() - 2 * HASH_BYTES;
        // Do not cut inside a UTF-8 sequence.
        while name[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        part.truncate(end);
        part.push(b'~');
        for byte in &Sha256::digest(name)[..HASH_BYTES] {
            write!(part, "{byte:02x}").expect("writing to a Vec cannot fail");
        }
    }
    part.extend_from_slice(SUFFIX.as_bytes());
    target.with_file_name(OsString::from_vec(part))
}

fn is_same_file(opened: &Metadata, named: &io::Result<Metadata>) -> bool {
    let named = named.as_ref().map(|named| (named.dev(), named.ino()));
    named.is_ok_and(|named| named == (opened.dev(), opened.ino()))
}

fn open_part(part: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(part)
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system does not support RENAME_NOREPLACE. The check before is not atomic.
        Err(Errno::EINVAL | Errno::ENOSYS) if !exists(to) => fs::rename(from, to),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

fn checksum(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn local_error(path: &Path, reason: impl ToString) -> ClientError {
    let path = path.to_string_lossy();
    ClientError::Local(format!("{}: {}", Sanitized(&path), reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_fit_into_the_longest_name() {
        assert_eq!(part_path(Path::new("a/Joker")), Path::new("a/Joker.part"));
        let long = format!("{}ä{}", "x".repeat(232), "y".repeat(21));
        let other = format!("{}ä{}z", "x".repeat(232), "y".repeat(20));
        assert_eq!(long.len(), 255);
        let name = part_path(Path::new(&long));
        let name = name.to_str().expect("the name is cut between characters");
        assert!(name.len() <= 255 && name.ends_with(".part"), "{name}");
        assert_ne!(part_path(Path::new(&long)), part_path(Path::new(&other)));
    }

    #[test]
    fn publish_replaces_a_file_only_if_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("deep/Joker");
        let download = |replace: bool| {
            let mut part = PartFile::open(&target)?;
            part.restart()?;
            part.check_space(3)?;
            part.append(FileChunk::Buffered(b"ha"))?;
            assert!(!replace || fs::read(&target).unwrap() == b"old");
            part.append(FileChunk::Buffered(b"!"))?;
            part.publish(replace)
        };
        download(false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"ha!");
        fs::write(&target, "old").unwrap();
        assert!(matches!(download(false), Err(ClientError::Local(_))));
        assert_eq!(fs::read(&target).unwrap(), b"old");
        download(true).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"ha!");
        assert!(!exists(&part_path(&target)));
    }

    #[test]
    fn full_disks_and_quotas_are_told_apart() {
        let again = "make room and run the command again with --continue, or choose another \
                     folder with --into";
        for (kind, expected) in [
            (
                io::ErrorKind::StorageFull,
                format!("the local disk is full: 12 bytes are left; {again}"),
            ),
            (
                io::ErrorKind::QuotaExceeded,
                format!(
                    "your quota on the local disk is used up, though the disk has 12 bytes left \
                     ('quota' shows it); {again}"
                ),
            ),
        ] {
            assert_eq!(write_failure(&kind.into(), 12), expected);
        }
    }

    #[test]
    fn links_fifos_and_locked_parts_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("Joker");
        let part = part_path(&target);
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &part).unwrap();
        assert!(PartFile::open(&target).is_err());
        fs::remove_file(&part).unwrap();
        nix::unistd::mkfifo(&part, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(PartFile::open(&target).is_err());
        fs::remove_file(&part).unwrap();
        let first = PartFile::open(&target).unwrap();
        assert!(PartFile::open(&target).is_err(), "it is locked");
        drop(first);
        let mut second = PartFile::open(&target).unwrap();
        let too_much = second.check_space(u64::MAX / 2);
        assert!(too_much.is_err(), "no file system has that much space");
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }
}

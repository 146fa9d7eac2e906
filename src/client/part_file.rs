//! A file on its way to its place here: written as `NAME.part`, and under its own name once it is whole.
//!
//! The part is locked while it is written, so that two downloads of one file cannot mix. It is no link and nothing but a
//! regular file. It stays where the transfer breaks.
//!
//! Must not know: connections, but for the pieces that come over them.

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

use crate::client::connection::Piece;
use crate::client::error::Error;
use crate::client::sanitized::Sanitized;
use crate::limits::NAME_BYTES_MAX;

/// Bytes that are read at once to be hashed, and whose room is not asked for before they are written.
const PIECE_BYTES: usize = 256 * 1024;

pub(crate) struct PartFile {
    name: PathBuf,
    part: PathBuf,
    file: File,
    length: u64,
    is_named: bool,
}

impl PartFile {
    /// Opens the part of the file `name`, making it and the folders above it where they are missing. What an earlier transfer
    /// left in it is kept: [`PartFile::length`] tells how much that is.
    pub(crate) fn open(name: &Path) -> Result<PartFile, Error> {
        let part = part(name);
        let failed = |error: io::Error| here(&part, error);
        let file = match open_part(&part) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = name.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(folder).map_err(|error| here(folder, error))?;
                open_part(&part)
            }
            opened => opened,
        };
        let file = file.map_err(failed)?;
        let status = file.metadata().map_err(failed)?;
        if !status.is_file() {
            return Err(here(&part, "it is in the way, and no file"));
        }
        match file.try_lock() {
            // Before the lock was had, another download may have given the file its own name.
            Ok(()) if is_same(&status, &part.symlink_metadata()) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(here(&part, "another download is writing it"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(PartFile {
            name: name.to_owned(),
            length: status.len(),
            part,
            file,
            is_named: false,
        })
    }

    /// Bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Throws away what is there.
    pub(crate) fn restart(&mut self) -> Result<(), Error> {
        if self.length > 0 {
            let cut = self.file.set_len(0);
            cut.map_err(|error| here(&self.part, error))?;
            self.length = 0;
        }
        Ok(())
    }

    /// Makes ready for `length` more bytes, which have to fit. A few bytes that do not are told by writing them.
    pub(crate) fn expect(&mut self, length: u64) -> Result<(), Error> {
        if length <= PIECE_BYTES as u64 {
            return Ok(());
        }
        let room = fstatvfs(&self.file).map_err(|error| here(&self.part, error))?;
        let room = room.blocks_available().saturating_mul(room.fragment_size());
        if length > room {
            return Err(here(
                &self.name,
                format_args!("there is no room for {length} bytes, only for {room}"),
            ));
        }
        Ok(())
    }

    /// Appends a piece.
    pub(crate) fn write(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        let length = piece.len() as u64;
        let written = match piece {
            Piece::Bytes(bytes) => self.file.write_all_at(bytes, self.length),
            Piece::Piped(pipe) => pipe.drain(&self.file, self.length),
        };
        written.map_err(|error| here(&self.part, error))?;
        self.length += length;
        Ok(())
    }

    /// The SHA-256 of what is there.
    pub(crate) fn checksum(&mut self) -> Result<[u8; 32], Error> {
        let failed = |error| here(&self.part, error);
        self.file.rewind().map_err(failed)?;
        checksum(&mut self.file).map_err(failed)
    }

    /// Gives the whole file its name, over another one only with `replace`.
    pub(crate) fn finish(mut self, replace: bool) -> Result<(), Error> {
        let renamed = match replace {
            true => fs::rename(&self.part, &self.name),
            false => rename_new(&self.part, &self.name),
        };
        self.is_named = renamed.is_ok();
        renamed.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.name),
            _ => here(&self.name, error),
        })
    }
}

impl Drop for PartFile {
    /// A part with nothing in it is of no use to anybody.
    fn drop(&mut self) {
        if !self.is_named && self.length == 0 {
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Whether there is anything of this name.
pub(crate) fn is_taken(name: &Path) -> bool {
    name.symlink_metadata().is_ok()
}

/// What is said where a name is taken and nobody said that it may be replaced.
pub(crate) fn exists(name: &Path) -> Error {
    here(name, "it exists already; --force replaces it")
}

/// The SHA-256 of the file `name`.
pub(crate) fn checksum_of(name: &Path) -> Result<[u8; 32], Error> {
    let failed = |error| here(name, error);
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(name)
        .map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(here(name, "it is in the way, and no file"));
    }
    checksum(&mut file).map_err(failed)
}

/// Under which name a file is written: with `.part` behind its own one, of which the end is replaced by a hash where the two
/// together would be too long.
pub(crate) fn part(name: &Path) -> PathBuf {
    const END: &str = ".part";
    const HASH_BYTES: usize = 8;
    let own = name.file_name().unwrap_or(OsStr::new("")).as_bytes();
    let mut part = own.to_vec();
    if own.len() + END.len() > NAME_BYTES_MAX {
        let mut cut = NAME_BYTES_MAX - END.len() - "~".len() - 2 * HASH_BYTES;
        // Not within a character.
        while own[cut] & 0xc0 == 0x80 {
            cut -= 1;
        }
        part.truncate(cut);
        part.push(b'~');
        for byte in &Sha256::digest(own)[..HASH_BYTES] {
            write!(part, "{byte:02x}").expect("a Vec takes every byte");
        }
    }
    part.extend_from_slice(END.as_bytes());
    name.with_file_name(OsString::from_vec(part))
}

fn is_same(status: &Metadata, named: &io::Result<Metadata>) -> bool {
    let named = named.as_ref().map(|named| (named.dev(), named.ino()));
    named.is_ok_and(|named| named == (status.dev(), status.ino()))
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

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // The file system cannot do it in one.
        Err(Errno::EINVAL | Errno::ENOSYS) if !is_taken(to) => fs::rename(from, to),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        done => Ok(done?),
    }
}

fn checksum(file: &mut File) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn here(path: &Path, what: impl ToString) -> Error {
    let path = path.to_string_lossy();
    Error::Here(format!("{}: {}", Sanitized(&path), what.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_name_that_a_file_system_takes() {
        assert_eq!(part(Path::new("a/Joker")), Path::new("a/Joker.part"));
        let long = format!("{}ä{}", "x".repeat(232), "y".repeat(21));
        let other = format!("{}ä{}z", "x".repeat(232), "y".repeat(20));
        assert_eq!(long.len(), 255);
        let name = part(Path::new(&long));
        let name = name.to_str().expect("not cut within a character");
        assert!(name.len() <= 255 && name.ends_with(".part"), "{name}");
        assert_ne!(part(Path::new(&long)), part(Path::new(&other)));
    }

    #[test]
    fn a_file_lands_whole_and_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("deep/Joker");
        let land = |replace: bool| {
            let mut landing = PartFile::open(&name)?;
            landing.restart()?;
            landing.expect(3)?;
            landing.write(Piece::Bytes(b"ha"))?;
            assert!(!replace || fs::read(&name).unwrap() == b"old");
            landing.write(Piece::Bytes(b"!"))?;
            landing.finish(replace)
        };
        land(false).unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"ha!");
        fs::write(&name, "old").unwrap();
        assert!(matches!(land(false), Err(Error::Here(_))));
        assert_eq!(fs::read(&name).unwrap(), b"old");
        land(true).unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"ha!");
        assert!(!is_taken(&part(&name)));
    }

    #[test]
    fn what_is_in_the_way_of_a_part_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("Joker");
        let victim = folder.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, part(&name)).unwrap();
        assert!(PartFile::open(&name).is_err());
        fs::remove_file(part(&name)).unwrap();
        nix::unistd::mkfifo(&part(&name), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(PartFile::open(&name).is_err());
        fs::remove_file(part(&name)).unwrap();
        let first = PartFile::open(&name).unwrap();
        assert!(PartFile::open(&name).is_err(), "it is locked");
        drop(first);
        let mut landing = PartFile::open(&name).unwrap();
        assert!(
            landing.expect(u64::MAX / 2).is_err(),
            "there is no such room"
        );
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
    }
}

//! Files and directories by handle.

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, copy_file_range,
    fallocate, open, openat, openat2, renameat, renameat2,
};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fstat, fstatat, mkdirat, stat, utimensat};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, MSDOS_SUPER_MAGIC,
    OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, Whence, linkat, lseek, unlinkat};

use crate::kernel::linux::ffi;
use crate::kernel::linux::ffi::{Map, retry};
use crate::kernel::types::{FileKind, FileSystemKind, OpenMode, Status};

/// Attempts of an openat2(2) that fails with EAGAIN: a concurrent rename has left the kernel unsure
/// whether a `..` had left the root.
const OPEN_ATTEMPTS_MAX: usize = 32;

/// Flags to open a directory. `union` works in constants, `|` does not.
const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Mode of a new file before the umask.
const NEW_FILE: Mode = Mode::from_bits_truncate(0o666);

/// File systems on disks of this machine or in memory (statfs(2), `f_type`).
const LOCAL_TYPES: &[FsType] = &[
    EXT4_SUPER_MAGIC, // ext2 and ext3 too
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    F2FS_SUPER_MAGIC,
    TMPFS_MAGIC,
    OVERLAYFS_SUPER_MAGIC,
    MSDOS_SUPER_MAGIC,
    FsType(0x2fc1_2fc1), // ZFS
    FsType(0xca45_1a4e), // bcachefs
    FsType(0x2011_bab0), // exFAT
    FsType(0x8584_58f6), // ramfs
];

/// An open file or directory.
#[derive(Debug)]
pub struct File(pub(super) std::fs::File);

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File(fd.into())
    }
}

/// Whether the file system of an open file is of a type that is known to be local.
pub fn is_local(file: &std::fs::File) -> io::Result<bool> {
    let found = retry(|| fstatfs(file))?;
    Ok(LOCAL_TYPES.contains(&found.filesystem_type()))
}

impl File {
    pub(super) fn open_root(path: &Path) -> io::Result<File> {
        retry(|| open(path, DIRECTORY, Mode::empty())).map(File::from)
    }

    /// Opens a path beneath this directory. `crosses_mounts`: a mount point on the way is followed.
    pub(super) fn open_beneath(
        &self,
        path: &str,
        mode: OpenMode,
        crosses_mounts: bool,
    ) -> io::Result<File> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlag::O_CLOEXEC
            | match mode {
                OpenMode::Read => OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
                OpenMode::Directory => DIRECTORY,
                OpenMode::Path => OFlag::O_PATH,
            };
        let mut resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        resolve.set(ResolveFlag::RESOLVE_NO_XDEV, !crosses_mounts);
        let how = OpenHow::new().flags(flags).resolve(resolve);
        let mut attempt = 1;
        loop {
            match retry(|| openat2(&self.0, path, how)) {
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && attempt < OPEN_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                result => return result.map(File::from),
            }
        }
    }

    pub(super) fn status(&self) -> io::Result<Status> {
        retry(|| fstat(&self.0)).map(Status::from)
    }

    pub(super) fn status_at(&self, name: &str) -> io::Result<Status> {
        retry(|| fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)).map(Status::from)
    }

    pub(super) fn read_directory(
        &self,
        each: &mut dyn FnMut(&[u8], Option<FileKind>) -> bool,
    ) -> io::Result<()> {
        // A new handle, since a shared one has one position for all its users.
        let mut directory = retry(|| Dir::openat(&self.0, ".", DIRECTORY, Mode::empty()))?;
        for entry in directory.iter() {
            let entry = match entry {
                Err(Errno::EINTR) => continue,
                entry => entry?,
            };
            let name = CStr::to_bytes(entry.file_name());
            if name == b"." || name == b".." {
                continue;
            }
            if !each(name, entry.file_type().map(FileKind::from)) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| self.0.read_at(buffer, offset))
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        retry(|| self.0.write_at(bytes, offset))
    }

    pub(super) fn map(&self, length: usize) -> io::Result<Map> {
        Map::new(&self.0, length)
    }

    pub(super) fn is_cached(&self, offset: u64) -> io::Result<bool> {
        match ffi::read_nowait(&self.0, to_off_t(offset)?) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            // tmpfs does not support RWF_NOWAIT, and has no disk to wait for.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => match self.is_in_memory() {
                true => Ok(true),
                false => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn is_in_memory(&self) -> bool {
        fstatfs(&self.0).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC)
    }

    /// The kind of the file system, by its type. A type that is not known counts as remote.
    pub(super) fn file_system(&self) -> io::Result<FileSystemKind> {
        Ok(match is_local(&self.0)? {
            true => FileSystemKind::Local,
            false => FileSystemKind::Remote,
        })
    }

    pub(super) fn read_ahead(&self, offset: u64, count: usize) -> io::Result<()> {
        ffi::read_ahead(&self.0, to_off_t(offset)?, count)
    }

    pub(super) fn create_unnamed(&self) -> io::Result<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        retry(|| openat(&self.0, ".", flags, NEW_FILE)).map(File::from)
    }

    pub(super) fn create_named(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        retry(|| openat(&self.0, name, flags, NEW_FILE)).map(File::from)
    }

    pub(super) fn lock(&self) -> io::Result<()> {
        retry(|| self.0.try_lock().map_err(io::Error::from))
    }

    pub(super) fn preallocate(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(()); // fallocate(2) takes no length of 0
        }
        let start = libc::off_t::try_from(range.start).map_err(|_| Errno::EFBIG)?;
        let end = libc::off_t::try_from(range.end).map_err(|_| Errno::EFBIG)?;
        let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        retry(|| fallocate(&self.0, flags, start, end - start))
    }

    /// Moves the file's own position, which no other call uses.
    pub(super) fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let seek = |offset, whence| lseek(&self.0, offset, whence);
        let start = match seek(to_off_t(offset)?, Whence::SeekData) {
            Err(Errno::ENXIO) => return Ok(None),
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(offset..u64::MAX)),
            result => result?,
        };
        let end = seek(start, Whence::SeekHole)?;
        Ok(Some(start as u64..end as u64))
    }

    pub(super) fn free_space(&self) -> io::Result<u64> {
        let found = retry(|| fstatvfs(&self.0))?;
        Ok(match found.blocks() {
            0 => u64::MAX,
            _ => (found.blocks_available()).saturating_mul(found.fragment_size()),
        })
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        // fdatasync(2) may leave out a directory's new name. For a new file both cost the same.
        retry(|| self.0.sync_all())
    }

    /// Gives this file a name in `directory`. AT_EMPTY_PATH would need CAP_DAC_READ_SEARCH
    /// (linkat(2)), the link in /proc does not.
    pub(super) fn link(&self, directory: &File, name: &str) -> io::Result<()> {
        let file = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        retry(|| linkat(AT_FDCWD, file.as_str(), &directory.0, name, follow))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        retry(|| unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir))
    }

    pub(super) fn remove_directory(&self, name: &str) -> io::Result<()> {
        retry(|| unlinkat(&self.0, name, UnlinkatFlags::RemoveDir))
    }

    pub(super) fn set_modified(&self, name: &str, modified: i64) -> io::Result<()> {
        let modified = TimeSpec::new(modified, 0);
        let flags = UtimensatFlags::NoFollowSymlink;
        retry(|| utimensat(&self.0, name, &TimeSpec::UTIME_OMIT, &modified, flags))
    }

    pub(super) fn copy_range(&self, to: &File, offset: u64, count: usize) -> io::Result<usize> {
        let offset = to_off_t(offset)?;
        retry(|| {
            let (mut from_offset, mut to_offset) = (offset, offset); // the kernel advances them
            copy_file_range(
                &self.0,
                Some(&mut from_offset),
                &to.0,
                Some(&mut to_offset),
                count,
            )
        })
    }

    pub(super) fn make_directory(&self, name: &str) -> io::Result<()> {
        retry(|| mkdirat(&self.0, name, Mode::from_bits_truncate(0o777)))
    }
}

pub(super) fn status_by_path(path: &Path) -> io::Result<Status> {
    retry(|| stat(path)).map(Status::from)
}

pub(super) fn rename(from: (&File, &str), to: (&File, &str), replace: bool) -> io::Result<()> {
    let ((from, old), (to, new)) = ((&from.0.0, from.1), (&to.0.0, to.1));
    retry(|| match replace {
        true => renameat(from, old, to, new),
        false => renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE),
    })
}

/// An offset for a system call. One that does not fit is beyond the end of every file.
pub(super) fn to_off_t(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW.into())
}

impl From<Type> for FileKind {
    fn from(found: Type) -> FileKind {
        match found {
            Type::File => FileKind::File,
            Type::Directory => FileKind::Directory,
            Type::Symlink => FileKind::Link,
            Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice => {
                FileKind::Other
            }
        }
    }
}

impl From<FileStat> for Status {
    fn from(found: FileStat) -> Status {
        Status {
            kind: match found.st_mode & libc::S_IFMT {
                libc::S_IFREG => FileKind::File,
                libc::S_IFDIR => FileKind::Directory,
                libc::S_IFLNK => FileKind::Link,
                _ => FileKind::Other,
            },
            device: found.st_dev,
            inode: found.st_ino,
            size: found.st_size.unsigned_abs(),
            modified: (found.st_mtime, found.st_mtime_nsec as u32),
            changed: (found.st_ctime, found.st_ctime_nsec as u32),
        }
    }
}

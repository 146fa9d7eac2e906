"""The part of the FUSE kernel protocol (linux/fuse.h, version 7.31) that the test mount needs."""

import ctypes
import os
import struct

MAJOR, MINOR = 7, 31
WRITE_BYTES_MAX = 1 << 20
READ_BYTES = WRITE_BYTES_MAX + 4096  # one request

OPERATIONS = {
    1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK",
    9: "MKDIR", 10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ",
    16: "WRITE", 17: "STATFS", 18: "RELEASE", 20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR",
    23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH", 26: "INIT", 27: "OPENDIR", 28: "READDIR",
    29: "RELEASEDIR", 30: "FSYNCDIR", 35: "CREATE", 36: "INTERRUPT", 38: "DESTROY",
    42: "BATCH_FORGET", 43: "FALLOCATE", 45: "RENAME2", 46: "LSEEK", 51: "TMPFILE",
}
NO_REPLY = {"FORGET", "BATCH_FORGET", "INTERRUPT"}

IN_HEADER = struct.Struct("<IIQQIIIHH")  # length, operation, unique, node, uid, gid, pid, …
OUT_HEADER = struct.Struct("<IiQ")  # length, -errno, unique
INIT_IN = struct.Struct("<IIII")  # major, minor, max_readahead, flags
INIT_OUT = struct.Struct("<IIIIHHIIHH32x")
FORGET_IN = struct.Struct("<Q")  # look-ups
BATCH_FORGET_IN = struct.Struct("<II")  # count
FORGET_ONE = struct.Struct("<QQ")  # node, look-ups
SETATTR_IN = struct.Struct("<IIQQQQQQIIIIIIII")
MKDIR_IN = struct.Struct("<II")  # mode, umask
RENAME_IN = struct.Struct("<Q")  # new directory
RENAME2_IN = struct.Struct("<QII")  # new directory, flags
LINK_IN = struct.Struct("<Q")  # node
OPEN_IN = struct.Struct("<II")  # flags
CREATE_IN = struct.Struct("<IIII")  # flags, mode
READ_IN = struct.Struct("<QQIIQII")  # handle, offset, size
WRITE_IN = struct.Struct("<QQIIQII")  # handle, offset, size
RELEASE_IN = struct.Struct("<QIIQ")  # handle
FSYNC_IN = struct.Struct("<QII")  # handle, flags
GETXATTR_IN = struct.Struct("<II")  # size
SETXATTR_IN = struct.Struct("<II")  # size, flags
FALLOCATE_IN = struct.Struct("<QQQII")  # handle, offset, length, mode
LSEEK_IN = struct.Struct("<QQII")  # handle, offset, whence

ATTR = struct.Struct("<6Q10I")
# The seconds for which the name and the attributes are valid come first; then ATTR.
ENTRY_OUT = struct.Struct("<QQQQII")  # node, generation, seconds of the name and the attributes
ATTR_OUT = struct.Struct("<QII")  # seconds
OPEN_OUT = struct.Struct("<QII")  # handle, flags
WRITE_OUT = struct.Struct("<II")  # size
GETXATTR_OUT = struct.Struct("<II")  # size
LSEEK_OUT = struct.Struct("<Q")  # offset
STATFS_OUT = struct.Struct("<5Q4I24x")
DIRENT = struct.Struct("<QQII")  # inode, next offset, length of the name, type

# Flags of INIT: parallel reads, large writes, parallel directory operations, max_pages.
INIT_FLAGS = 1 << 0 | 1 << 5 | 1 << 18 | 1 << 22

# Bits of `valid` in SETATTR_IN.
SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME, SET_HANDLE = (1 << n for n in range(7))
SET_ATIME_NOW, SET_MTIME_NOW = 1 << 7, 1 << 8

MS_NOSUID, MS_NODEV, MNT_DETACH, CLONE_NEWNS = 2, 4, 2, 0x20000
MS_PRIVATE, MS_REC = 1 << 18, 1 << 14
RENAME_NOREPLACE = 1

libc = ctypes.CDLL(None, use_errno=True)


def check_call(result):
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def mount(target):
    """Mounts a FUSE file system for all users and returns the descriptor of its requests."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    flags = MS_NOSUID | MS_NODEV
    name = b"tidegate-test"
    check_call(libc.mount(name, os.fsencode(target), b"fuse.mirror", flags, options.encode()))
    return device


def unmount(target):
    """Detaches a mount at once, even if it does not answer."""
    check_call(libc.umount2(os.fsencode(target), MNT_DETACH))


def enter_private_mounts():
    """Gives this process mounts of its own, so that other processes never meet a hanging one."""
    check_call(libc.unshare(CLONE_NEWNS))
    check_call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))


def rename_no_replace(old_directory, old, new_directory, new):
    check_call(libc.renameat2(old_directory, old, new_directory, new, RENAME_NOREPLACE))


def attributes(status):
    """Encodes an `os.stat_result`."""
    times = [status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns]
    return ATTR.pack(
        status.st_ino, status.st_size, status.st_blocks,
        *(time // 10**9 for time in times),
        *(time % 10**9 for time in times),
        status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev,
        status.st_blksize, 0,
    )


def directory_entry(inode, offset, name, kind):
    entry = DIRENT.pack(inode, offset, len(name), kind) + name
    return entry + bytes(-len(entry) % 8)

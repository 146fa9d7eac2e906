//! The interface to Linux: everything that the server and its workers ask of the kernel.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::reload_report::ReloadReport;
use crate::kernel::types::{
    CallStats, FileKind, FileSystemKind, Milestone, OpenMode, Piece, Readiness, Signal, Status,
};

/// The system calls of the server.
///
/// Errors carry the kernel's errno; [`crate::kernel::errors`] classifies them. A call that a signal
/// interrupts (EINTR) is repeated below this interface. No call blocks on a socket but
/// [`Kernel::poll`]. A handle is closed by its drop. Methods take `&self`, since the workers share
/// the kernel with the event loop.
pub trait Kernel: Send + Sync + Sized + 'static {
    /// A listening socket.
    type Listener: Send + 'static;
    /// A connected socket.
    type Socket: Send + 'static;
    /// An open file or directory, shared by the event loop and the workers.
    type File: Send + Sync + 'static;
    /// The mapped first bytes of a file, for [`Kernel::send`] only.
    type Map: Send + Sync + 'static;

    // Time, readiness, signals.

    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// Waits until a registered handle may be ready, [`Kernel::wake`] is called, a signal arrives
    /// or `timeout` expires (`None`: never), and replaces `ready` by the result. Only the event
    /// loop calls it. An interrupted wait returns no readiness.
    fn poll(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends the current or the next [`Kernel::poll`]. Any thread may call it.
    fn wake(&self);
    /// The next pending signal.
    fn next_signal(&self) -> Option<Signal>;
    /// Notifies the service manager, if there is one. Never blocks.
    fn report(&self, _milestone: Milestone) {}
    /// Reports the result of a reload to those who asked for it from outside. Never blocks.
    fn report_reload(&self, _report: &ReloadReport) {}
    /// Makes the calling thread a worker: lowers its scheduling priority below that of the event
    /// loop, and lets its calls wait for any file system.
    fn enter_worker(&self);
    /// Counts the file calls of the calling thread that have returned in `calls` from now on.
    fn count_calls(&self, _calls: &Arc<AtomicU32>) {}
    /// Ends [`Kernel::enter_worker`], for jobs that run on the thread of the event loop.
    fn leave_worker(&self) {}
    /// The system's clock in seconds since 1970, as in the times of files.
    fn unix_time(&self) -> i64;
    /// An unpredictable number (getrandom(2)).
    fn random(&self) -> io::Result<u64>;

    // Sockets. All are non-blocking and registered once, edge-triggered, for both directions.

    /// Opens a listener and registers it with `token`.
    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<Self::Listener>;
    /// The address of a listener, with the port that the kernel has chosen.
    fn listener_address(&self, listener: &Self::Listener) -> io::Result<SocketAddr>;
    /// Accepts the next connection, without registering it.
    fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Socket, SocketAddr)>;
    /// Begins a connection to `to` from a local address and any port, without registering it.
    /// [`Kernel::connect_result`] returns its outcome.
    fn connect(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Self::Socket>;
    /// The outcome of [`Kernel::connect`]; `WouldBlock` until an event reports it.
    fn connect_result(&self, socket: &Self::Socket) -> io::Result<()>;
    /// The server's own address of a connection.
    fn local_address(&self, socket: &Self::Socket) -> io::Result<SocketAddr>;
    /// Registers a socket with `token`, once. Its drop deregisters it.
    fn register(&self, socket: &mut Self::Socket, token: usize) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes, urgent data in line (SO_OOBINLINE); 0 means that the peer
    /// has closed its sending half.
    fn receive(&self, socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes up to [`PIECES_MAX`](crate::kernel::PIECES_MAX) pieces in one call, possibly in part.
    /// `more` announces that another write follows at once (MSG_MORE). A mapped slice beyond the
    /// end of its file is an error (EFAULT), not a signal.
    fn send(
        &self,
        socket: &Self::Socket,
        pieces: &[Piece<'_, Self::Map>],
        more: bool,
    ) -> io::Result<usize>;
    /// Sends up to `count` bytes of `file` from `offset` on without a copy through user space
    /// (sendfile(2)); 0 is the end of the file.
    fn send_file(
        &self,
        socket: &Self::Socket,
        file: &Self::File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize>;
    /// Bytes sent that the peer's kernel has not acknowledged, a FIN counted as one (SIOCOUTQ,
    /// tcp(7)).
    fn unacknowledged(&self, socket: &Self::Socket) -> io::Result<usize>;
    /// Closes the sending half (shutdown(2), SHUT_WR): bytes already written still arrive, then the
    /// peer reads the end.
    fn shutdown_write(&self, socket: &Self::Socket) -> io::Result<()>;

    // Files. Paths are relative and UTF-8; storage has checked every component.

    /// Takes a lock that another worker may hold during calls on a device.
    fn lock_changes<'a>(&self, changes: &'a Mutex<()>) -> MutexGuard<'a, ()> {
        // A panic of the other worker leaves nothing half-way.
        changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The measurements of the calling thread's file calls since the last call of this method.
    fn take_call_stats(&self) -> CallStats;
    /// The kind of the file system of an open handle (fstatfs(2)).
    fn file_system(&self, file: &Self::File) -> io::Result<FileSystemKind>;
    /// A number that paths below the same mount point share, judged by the path alone: no call on
    /// a file system is made.
    fn mount_of(&self, path: &Path) -> u64;
    /// The kind of the file system at a path, judged like [`Kernel::mount_of`].
    fn kind_of_mount(&self, path: &Path) -> FileSystemKind;
    /// Whether a mount point is directly in the directory at a path, judged like
    /// [`Kernel::mount_of`].
    fn holds_mount(&self, path: &Path) -> bool;
    /// Whether a mount point is on the way to a path beneath `root`, or the path is one. No call is
    /// made on the file system that is mounted there.
    fn crosses_mount(&self, root: &Self::File, path: &str) -> bool;
    /// Opens the directory at an operator's path, links followed, as the root of
    /// [`Kernel::open_beneath`].
    fn open_root(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens `path` beneath `root`; an empty `path` is the root itself. A component that leaves the
    /// root, an absolute link or a magic link fails (openat2(2), RESOLVE_BENEATH and
    /// RESOLVE_NO_MAGICLINKS). A mount point on the way fails in the same way (RESOLVE_NO_XDEV)
    /// unless the calling thread is a worker.
    fn open_beneath(&self, root: &Self::File, path: &str, mode: OpenMode)
    -> io::Result<Self::File>;
    /// The status of an open handle (fstat(2)).
    fn status(&self, file: &Self::File) -> io::Result<Status>;
    /// The status at an operator's path, links followed (stat(2)). For comparison with a handle's,
    /// never to decide about an open.
    fn status_by_path(&self, path: &Path) -> io::Result<Status>;
    /// The status of one name in `directory`, a link not followed.
    fn status_at(&self, directory: &Self::File, name: &str) -> io::Result<Status>;
    /// Calls `each` with every name in `directory` but `.` and `..`, unordered, and with its type
    /// where the file system reports it (getdents64(2)). `false` ends the enumeration.
    fn read_directory(
        &self,
        directory: &Self::File,
        each: &mut dyn FnMut(&[u8], Option<FileKind>) -> bool,
    ) -> io::Result<()>;
    /// Reads at `offset`; 0 is the end of the file.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, possibly in part.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Maps the first `length` bytes, at least one (mmap(2)).
    fn map(&self, file: &Self::File, length: usize) -> io::Result<Self::Map>;
    /// Whether the page at `offset` is in the page cache (preadv2(2) with RWF_NOWAIT). Always true
    /// on a file system in memory; `Unsupported` where the file system does not support it.
    fn is_cached(&self, file: &Self::File, offset: u64) -> io::Result<bool>;
    /// Begins to read `count` bytes from `offset` on into the page cache (readahead(2)). May wait
    /// for the disk.
    fn read_ahead(&self, file: &Self::File, offset: u64, count: usize) -> io::Result<()>;
    /// Creates a file without a name in `directory`'s file system (O_TMPFILE). It disappears with
    /// its handle unless it is linked. Fails with [`io::ErrorKind::Unsupported`] where that is not
    /// possible, which may be tried once per file system with the new name `probe`.
    fn create_unnamed(&self, directory: &Self::File, probe: &str) -> io::Result<Self::File>;
    /// Creates a file under a new name (O_EXCL).
    fn create_named(&self, directory: &Self::File, name: &str) -> io::Result<Self::File>;
    /// Locks a file exclusively for the life of this handle, without waiting (flock(2), LOCK_NB).
    fn lock(&self, file: &Self::File) -> io::Result<()>;
    /// Allocates space for a range without changing the size (fallocate(2),
    /// FALLOC_FL_KEEP_SIZE).
    fn preallocate(&self, file: &Self::File, range: Range<u64>) -> io::Result<()>;
    /// Returns the first range with data that ends after `offset`, from there on (lseek(2),
    /// SEEK_DATA and SEEK_HOLE); `None` if the rest of the file is a hole. Where a file system has
    /// no holes, everything is data.
    fn next_data(&self, file: &Self::File, offset: u64) -> io::Result<Option<Range<u64>>>;
    /// Bytes that an unprivileged process can still write in `directory`'s file system
    /// (statvfs(3), `f_bavail`); `u64::MAX` if the file system does not know: some FUSE file
    /// systems and those in memory without a limit report no blocks at all.
    fn free_space(&self, directory: &Self::File) -> io::Result<u64>;
    /// Waits until the content of a file, or the names of a directory, are on the disk (fsync(2)).
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives an unnamed file a new name (linkat(2)).
    fn link(&self, file: &Self::File, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Renames within one file system: with `replace` over an existing name, else to a new one
    /// (renameat2(2), RENAME_NOREPLACE).
    fn rename(
        &self,
        from: (&Self::File, &str),
        to: (&Self::File, &str),
        replace: bool,
    ) -> io::Result<()>;
    /// Removes a name that is not a directory (unlinkat(2)).
    fn remove(&self, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Removes an empty directory (unlinkat(2), AT_REMOVEDIR).
    fn remove_directory(&self, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Sets a name's modification time in seconds since 1970, a link not followed (utimensat(2)).
    fn set_modified(&self, directory: &Self::File, name: &str, modified: i64) -> io::Result<()>;
    /// Copies up to `count` bytes at `offset` to the same offset of another file
    /// (copy_file_range(2)); 0 is the end of `from`.
    fn copy_range(
        &self,
        from: &Self::File,
        to: &Self::File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize>;
    /// Gives `to` the permissions of `from`, a regular file: its mode without set-user-ID and
    /// set-group-ID, and as far as the process may set them and the file system has them, its
    /// group, owner, access control list and user extended attributes (xattr(7)). Rights never
    /// become wider: where the group or the list cannot be kept, the group gets no right that
    /// others do not have. `from` needs only [`OpenMode::Path`], which leaves out extended
    /// attributes.
    fn copy_attributes(&self, from: &Self::File, to: &Self::File) -> io::Result<()>;

    /// Creates a directory under a new name (mkdirat(2)).
    fn make_directory(&self, directory: &Self::File, name: &str) -> io::Result<()>;
}

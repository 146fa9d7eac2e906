//! The one seam: everything that the server, its workers included, asks of Linux.
//!
//! Below it stand [`linux`] (mio, nix, memmap2) and, behind the feature `sim`, `sim`: a kernel from a seed. Nothing
//! above it knows which. A handle is owned and closed by its drop; calls take `&self`, since workers share the kernel
//! with the loop. No call but [`Kernel::poll`] blocks on a socket.
//!
//! Must not know: sessions, protocols, homes, limits of a turn.

pub mod errors;
pub mod linux;
#[cfg(feature = "sim")]
pub mod sim;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// What one poll reports of one registered handle. A hint: only a call that blocks is a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The token that the handle was registered with.
    pub token: usize,
    /// A read may have something to tell, an error or the end included.
    pub readable: bool,
    /// A write may have something to tell, an error included.
    pub writable: bool,
    /// The peer may have closed its sending half or marked a byte as urgent, so that a short read is not yet the last word.
    pub ended: bool,
}

/// What an operator asks of the process by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and stop; the second one stops at once.
    Stop,
    /// SIGHUP: take up the home's two files again.
    Reload,
    /// Another process serves the listeners from now on ([`control`]).
    Relieved,
}

/// What a supervisor is told of ([`supervisor`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// It serves, and what a reload brought is in force.
    Ready,
    /// A reload has begun.
    Reloading,
    /// It drains, and will end.
    Stopping,
    /// The loop turns.
    Alive,
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, where it was looked at and not followed.
    Link,
    /// A FIFO, a socket, a device: nothing that is ever served.
    Other,
}

/// What `fstat` says, as far as anybody here asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Device of the file system.
    pub device: u64,
    /// Inode within it.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// Last change of content or inode, so that a change which puts the times back is seen too.
    pub changed: (i64, u32),
}

/// How [`Kernel::open_beneath`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To read a file's bytes; never waits for a FIFO's other end.
    Read,
    /// A directory, to list it, to make names in it, to sync it.
    Directory,
    /// Only to ask for its status (O_PATH): no right to read it is needed, nothing is touched.
    Look,
}

/// A piece of a gathered write.
pub enum Piece<'a, M> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// `length` bytes of a mapped file from `from` on, which nobody in user space touches.
    Mapped {
        /// The standing map.
        map: &'a M,
        /// First byte of the slice.
        from: usize,
        /// Bytes of the slice; `from + length` is within the map.
        length: usize,
    },
}

/// Pieces that one [`Kernel::send`] takes at most. They are made ready for each call, so that room for many costs the few.
pub const PIECES_MAX: usize = 16;

/// The system calls of the server. Errors are the kernel's own (`io::Error` with its errno); `WouldBlock` is a fact, and a
/// call that was interrupted is made again below.
pub trait Kernel: Send + Sync + Sized + 'static {
    /// A listening socket.
    type Listener: Send + 'static;
    /// A connected socket.
    type Socket: Send + 'static;
    /// An open file or directory, shared by reference between the loop and the workers.
    type File: Send + Sync + 'static;
    /// A file's first bytes mapped, for [`Kernel::send`] alone.
    type Map: Send + Sync + 'static;

    // Time, readiness, signals.

    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// Waits until a registered handle may be ready, [`Kernel::wake`] is called, a signal comes or `timeout` is over
    /// (`None`: without end), and replaces `ready` by what there is. Only the loop calls it. An interrupted wait is an empty one.
    fn poll(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends the current or the next [`Kernel::poll`]; may be called from any thread.
    fn wake(&self);
    /// The next signal that has come, if any.
    fn signal(&self) -> Option<Signal>;
    /// Tells a supervisor, where there is one.
    fn report(&self, _milestone: Milestone) {}
    /// Puts the calling thread behind the loop when both want a processor.
    fn lower_priority(&self);
    /// What the system's clock shows: seconds since 1970, as the times of files are counted.
    fn seconds(&self) -> i64;
    /// A number that nobody can guess.
    fn random(&self) -> io::Result<u64>;

    // Sockets. All are non-blocking, edge-triggered, and registered once for both directions.

    /// Opens a listener and registers it with `token`.
    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<Self::Listener>;
    /// The address that a listener was given, its port chosen.
    fn listening_on(&self, listener: &Self::Listener) -> io::Result<SocketAddr>;
    /// Takes the next connection; it is not registered yet.
    fn accept(&self, listener: &Self::Listener) -> io::Result<(Self::Socket, SocketAddr)>;
    /// Begins a connection to `to` from an own address and any port; what comes of it is asked of [`Kernel::dialled`]. It
    /// is not registered yet.
    fn dial(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Self::Socket>;
    /// What has come of [`Kernel::dial`]: it stands, it failed, or, `WouldBlock`, an event will tell.
    fn dialled(&self, socket: &Self::Socket) -> io::Result<()>;
    /// The server's own end of a connection.
    fn local_address(&self, socket: &Self::Socket) -> io::Result<SocketAddr>;
    /// Registers a socket, once, with `token`; dropping it ends that.
    fn register(&self, socket: &mut Self::Socket, token: usize) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes, urgent ones where they stand among the others; 0 is the end of the peer's sending
    /// half.
    fn receive(&self, socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes what it can of up to [`PIECES_MAX`] pieces in one call; `more` says that something follows at once.
    /// A mapped slice beyond its file's end is an error (EFAULT), never a signal.
    fn send(
        &self,
        socket: &Self::Socket,
        pieces: &[Piece<'_, Self::Map>],
        more: bool,
    ) -> io::Result<usize>;
    /// Writes up to `count` bytes of `file` from `offset` on without a copy; 0 is the file's end (sendfile(2)).
    fn send_file(
        &self,
        socket: &Self::Socket,
        file: &Self::File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize>;
    /// Bytes that were written and that the peer's kernel has not confirmed yet, the end among them (SIOCOUTQ).
    fn unconfirmed(&self, socket: &Self::Socket) -> io::Result<usize>;
    /// Closes the sending half: what was written still arrives, then the peer sees the end.
    fn shut_sending(&self, socket: &Self::Socket) -> io::Result<()>;

    // Files. Paths are relative, UTF-8, and were checked part by part by the vault.

    /// Opens the directory at an operator's own path, links followed, for [`Kernel::open_beneath`] to resolve from.
    fn open_root(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens `path` beneath `root`: a step that leads out, a magic link or an absolute link fails (openat2(2), RESOLVE_BENEATH).
    /// An empty `path` is the root itself.
    fn open_beneath(&self, root: &Self::File, path: &str, how: Open) -> io::Result<Self::File>;
    /// The status of an open handle.
    fn status(&self, file: &Self::File) -> io::Result<Status>;
    /// The status at an operator's path, links followed: to compare with a handle's, never to open by.
    fn status_by_path(&self, path: &Path) -> io::Result<Status>;
    /// The status of one name in `directory`, a link not followed.
    fn status_at(&self, directory: &Self::File, name: &str) -> io::Result<Status>;
    /// Calls `each` with every name in `directory` but `.` and `..`, in no order, with its kind where the directory
    /// tells it; `false` from it ends the walk.
    fn entries(
        &self,
        directory: &Self::File,
        each: &mut dyn FnMut(&[u8], Option<Kind>) -> bool,
    ) -> io::Result<()>;
    /// Reads at `offset`; 0 is the file's end.
    fn read_at(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, possibly less than asked.
    fn write_at(&self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Maps the first `length` bytes, at least one.
    fn map(&self, file: &Self::File, length: usize) -> io::Result<Self::Map>;
    /// Whether the page at `offset` can be had without waiting for a disk (preadv2(2), RWF_NOWAIT). A file system that lives in
    /// memory always says so; one that cannot tell fails with `Unsupported`.
    fn is_cached(&self, file: &Self::File, offset: u64) -> io::Result<bool>;
    /// Asks for the pages of a stretch ahead of their use; may wait for the disk.
    fn read_ahead(&self, file: &Self::File, offset: u64, count: usize) -> io::Result<()>;
    /// A new file without a name in `directory`'s file system (O_TMPFILE), gone with its handle.
    fn create_unnamed(&self, directory: &Self::File) -> io::Result<Self::File>;
    /// A new file with a name that must be new (O_EXCL).
    fn create_named(&self, directory: &Self::File, name: &str) -> io::Result<Self::File>;
    /// Takes the lock of a file for this handle's life, without waiting (flock(2)).
    fn lock(&self, file: &Self::File) -> io::Result<()>;
    /// Reserves room for `length` bytes without changing the size (fallocate(2)).
    fn reserve(&self, file: &Self::File, length: u64) -> io::Result<()>;
    /// Bytes that an unprivileged writer may still use of the file system that `directory` lies in.
    fn room(&self, directory: &Self::File) -> io::Result<u64>;
    /// Waits until a file's content (for a directory: its names) has reached the disk.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Gives an unnamed file a name that must be new (linkat(2)).
    fn link(&self, file: &Self::File, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Renames, within one file system: over what is there with `replace`, else to a name that must be new (renameat2(2)).
    fn rename(
        &self,
        from: (&Self::File, &str),
        to: (&Self::File, &str),
        replace: bool,
    ) -> io::Result<()>;
    /// Removes a name that is no directory.
    fn remove(&self, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Removes a directory that is empty.
    fn remove_directory(&self, directory: &Self::File, name: &str) -> io::Result<()>;
    /// Sets when a name's content was last changed, in seconds since 1970, a link not followed (utimensat(2)).
    fn set_modified(&self, directory: &Self::File, name: &str, modified: i64) -> io::Result<()>;
    /// Copies up to `count` bytes at `offset` to the same place of another file, where both file systems can
    /// (copy_file_range(2)); 0 is the end of `from`.
    fn copy(
        &self,
        from: &Self::File,
        to: &Self::File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize>;
    /// Makes a directory whose name must be new.
    fn make_directory(&self, directory: &Self::File, name: &str) -> io::Result<()>;
}

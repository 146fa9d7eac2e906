//! Values that cross the kernel interface.

/// The readiness of one registered handle. A hint: only a call that blocks is a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The token that the handle was registered with.
    pub token: usize,
    /// A read may return bytes, an error or the end.
    pub readable: bool,
    /// A write may succeed or return an error.
    pub writable: bool,
    /// The peer may have closed its sending half or sent urgent data, so that a short read does not
    /// mean that the next one blocks.
    pub ended: bool,
}

/// A request of the operator to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: drain and stop; the second one stops at once.
    Stop,
    /// SIGHUP: reload the home's two files.
    Reload,
    /// Another process has taken over the listeners (handover).
    Relieved,
}

/// A state change that a service manager is notified of (sd_notify(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The server accepts connections, or a reload is complete.
    Ready,
    /// A reload begins to read the home's files.
    Reloading,
    /// The server drains and will exit.
    Stopping,
    /// The event loop is alive (WATCHDOG=1).
    Alive,
}

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link that was not followed.
    Link,
    /// A FIFO, a socket or a device; never served.
    Other,
}

/// The fields of stat(2) that the server uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The type.
    pub kind: FileKind,
    /// Device of the file system.
    pub device: u64,
    /// Inode within the file system.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
    /// Last modification of the content: seconds since 1970 and nanoseconds.
    pub modified: (i64, u32),
    /// Last change of content or inode, which a reset of `modified` does not hide.
    pub changed: (i64, u32),
}

/// Where the calls on a file system may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystemKind {
    /// On a disk of this machine, or in memory.
    Local,
    /// Answered by a network or by another process, or unknown.
    Remote,
}

/// Measurements of file calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Calls made.
    pub calls: u32,
    /// Those that took longer than [`SLOW_CALL`](crate::limits::SLOW_CALL), the time in which the
    /// thread was ready to run and had no processor not counted.
    pub slow: u32,
}

/// How [`Kernel::open_beneath`](crate::kernel::Kernel::open_beneath) opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To read a file's bytes (O_RDONLY); never waits for the other end of a FIFO (O_NONBLOCK).
    Read,
    /// A directory, to list it, to create names in it and to sync it.
    Directory,
    /// Only for its status (O_PATH), which needs no right to read it.
    Path,
}

/// A piece of a gathered write.
pub enum Piece<'a, M> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A slice of a mapped file, which user space never reads.
    Mapped {
        /// The map.
        map: &'a M,
        /// First byte of the slice.
        from: usize,
        /// Bytes of the slice; `from + length` is within the map.
        length: usize,
    },
}

/// Pieces that one [`Kernel::send`](crate::kernel::Kernel::send) takes at most.
pub const PIECES_MAX: usize = 16;

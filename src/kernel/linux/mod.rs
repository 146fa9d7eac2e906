//! The kernel as it is: mio, nix, memmap2, and the only `unsafe` of the house.
//!
//! Every call is passed on as it is asked for. What is added: a call that a signal interrupted is made again, and
//! handles close when they are dropped.

#![allow(unsafe_code)]

mod handed_over;

use std::ffi::CStr;
use std::io;
use std::io::{IoSliceMut, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, copy_file_range,
    fallocate, open, openat, openat2, renameat, renameat2,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::sendfile::sendfile64;
use nix::sys::signal::{SigHandler, SigSet, Signal as Number, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage,
    bind, connect, listen, recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fstat, fstatat, mkdirat, stat, utimensat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use crate::kernel::{
    FileKind, Kernel, Milestone, OpenMode, PIECES_MAX, Piece, Readiness, Signal, Status,
};
use crate::limits;
use crate::process::control_socket::Control;
use crate::process::systemd::Supervisor;

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const CONTROL: Token = Token(usize::MAX - 2);
const SUCCESSOR: Token = Token(usize::MAX - 3);

/// How often an `openat2` that lost a race against a rename is made again (its EAGAIN) before the caller is told.
const OPEN_ATTEMPTS_MAX: usize = 32;

/// What a worker asks for of a processor at a time, and so is interrupted by the loop, which asks for the usual 3 ms.
const WORKER_SLICE: Duration = Duration::from_millis(20);

/// Linux itself: one per process, shared by the loop and the workers.
pub struct Linux {
    poller: Mutex<Poller>,
    registry: Registry,
    waker: Waker,
    signals: SignalFd,
    /// Whether `signals` may have something to read, so that a turn without a signal costs no call.
    signalled: AtomicBool,
    supervisor: Supervisor,
    /// Where the next server asks for the listeners.
    control: Mutex<Option<Control>>,
    relieved: AtomicBool,
}

struct Poller {
    poll: Poll,
    events: Events,
}

/// An open file or directory.
#[derive(Debug)]
pub struct File(std::fs::File);

/// A file's first bytes mapped. There is no way to its bytes from user space, where a file that was cut short would be a
/// SIGBUS: only the kernel reads them, and answers EFAULT.
#[derive(Debug)]
pub struct Map(memmap2::Mmap);

impl Linux {
    /// Makes ready to poll and takes over SIGTERM, SIGINT and SIGHUP, which from now on [`Kernel::signal`] tells of;
    /// SIGPIPE and SIGXFSZ are ignored, since the calls' own EPIPE and EFBIG say the same. Call it before any thread is
    /// started, since each inherits what its maker blocks.
    pub fn new() -> io::Result<Linux> {
        let mut watched = SigSet::empty();
        for number in [Number::SIGTERM, Number::SIGINT, Number::SIGHUP] {
            watched.add(number);
        }
        watched.thread_block()?;
        for number in [Number::SIGPIPE, Number::SIGXFSZ] {
            // SAFETY: to ignore a signal installs no handler that could run.
            unsafe { signal(number, SigHandler::SigIgn) }?;
        }
        let signals =
            SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(&registry, WAKER)?;
        registry.register(
            &mut SourceFd(&signals.as_raw_fd()),
            SIGNALS,
            Interest::READABLE,
        )?;
        let events = Events::with_capacity(limits::EVENTS_PER_TICK_MAX);
        Ok(Linux {
            poller: Mutex::new(Poller { poll, events }),
            registry,
            waker,
            signals,
            signalled: AtomicBool::new(false),
            supervisor: Supervisor::default(),
            control: Mutex::new(None),
            relieved: AtomicBool::new(false),
        })
    }
}

/// The sockets that a supervisor has opened for this process, with their names (sd_listen_fds(3)).
///
/// # Errors
/// Where the environment promises some that are not there.
pub fn passed_sockets() -> io::Result<Vec<(OwnedFd, String)>> {
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: the supervisor has opened them for this very process, which its number in the environment proves; they
    // are open, since their flags were just set, and nobody else here knows of them: this is called once, at the start.
    Ok(passed
        .map(|(fd, name)| (unsafe { OwnedFd::from_raw_fd(fd) }, name))
        .collect())
}

/// The descriptors that come with the next bytes of a stream, a byte for each.
pub(crate) fn receive_descriptors(stream: &UnixStream) -> io::Result<Vec<(OwnedFd, u8)>> {
    let mut tags = [0; limits::HANDOVER_DESCRIPTORS_MAX];
    let mut space = nix::cmsg_space!([RawFd; limits::HANDOVER_DESCRIPTORS_MAX]);
    let mut received = Vec::new();
    {
        let mut vectors = [IoSliceMut::new(&mut tags)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut vectors, Some(&mut space), flags)?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = part {
                // SAFETY: the kernel has just opened them for this process, and nobody else here knows of them.
                received.extend(
                    descriptors
                        .into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
    }
    Ok(received.into_iter().zip(tags).collect())
}

/// Raises the soft limit of open descriptors to the hard one, and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// A socket of the family of `address`.
fn new_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    set_options(&fd)?;
    Ok(fd)
}

/// An IPv4 address as such, where a socket for both families tells it as one of IPv6; of any other, its scope is kept.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Sets what is a socket's own, and whoever is accepted from it inherits.
fn set_options(socket: &OwnedFd) -> io::Result<()> {
    // What is written goes out at once, unless `send` says that more follows.
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    // The bytes of a telnet Synch are read where they stand.
    setsockopt(socket, sockopt::OobInline, &true)?;
    limit_unsent(socket)
}

/// Lets a socket, and whoever is accepted from it, take no more than [`limits::UNSENT_BYTES_MAX`] beyond what is sent.
fn limit_unsent(socket: &OwnedFd) -> io::Result<()> {
    let bytes = limits::UNSENT_BYTES_MAX as libc::c_int;
    // SAFETY: the kernel reads one number, of the size that it is told, that outlives the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    Errno::result(set)?;
    Ok(())
}

impl Kernel for Linux {
    type Listener = Arc<TcpListener>;
    type Socket = TcpStream;
    type File = File;
    type Map = Map;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let mut poller = self.poller.lock().expect("a poll does not panic");
        let Poller { poll, events } = &mut *poller;
        match poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in events.iter() {
            match event.token() {
                WAKER => {}
                SIGNALS => self.signalled.store(true, Ordering::Relaxed),
                CONTROL => self.answer(),
                SUCCESSOR => self.hear(),
                Token(token) => ready.push(Readiness {
                    token,
                    readable: event.is_readable() || event.is_read_closed() || event.is_error(),
                    writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                    ended: event.is_read_closed() || event.is_error() || event.is_priority(),
                }),
            }
        }
        Ok(())
    }

    fn wake(&self) {
        self.waker
            .wake()
            .expect("the waker's own descriptor takes a write");
    }

    fn next_signal(&self) -> Option<Signal> {
        if self.relieved.swap(false, Ordering::Relaxed) {
            return Some(Signal::Relieved);
        }
        if !self.signalled.load(Ordering::Relaxed) {
            return None;
        }
        match retry(|| self.signals.read_signal()) {
            Ok(Some(info)) if info.ssi_signo == Number::SIGHUP as u32 => Some(Signal::Reload),
            Ok(Some(_)) => Some(Signal::Stop),
            Ok(None) | Err(_) => {
                self.signalled.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    fn report(&self, milestone: Milestone) {
        self.supervisor.tell(milestone);
    }

    fn lower_priority(&self) {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: 5,
            sched_priority: 0,
            // How long it would go on at a time; who asks for less may interrupt it. Linux before 6.12 does not look at it.
            sched_runtime: WORKER_SLICE.as_nanos() as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: the kernel reads as many bytes of a live value as it says itself; process 0 is the calling thread
        // alone. To be refused harms nobody.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    }

    fn unix_time(&self) -> i64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> io::Result<u64> {
        Ok(getrandom::u64()?)
    }

    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<Arc<TcpListener>> {
        // mio would make the socket too, but with a backlog of 128, and no IPv6 socket beside IPv4's at one port.
        let fd = new_socket(address)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        if address.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        listen(&fd, Backlog::MAXCONN)?;
        self.watch(TcpListener::from_std(fd.into()), token)
    }

    fn listener_address(&self, listener: &Arc<TcpListener>) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    fn accept(&self, listener: &Arc<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = retry(|| listener.accept())?;
        Ok((socket, canonical(peer)))
    }

    fn connect(&self, mut from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let fd = new_socket(to)?;
        from.set_port(0);
        bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(TcpStream::from_std(fd.into())),
            Err(errno) => Err(errno.into()),
        }
    }

    fn connect_result(&self, socket: &TcpStream) -> io::Result<()> {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            result => result.map(drop),
        }
    }

    fn local_address(&self, socket: &TcpStream) -> io::Result<SocketAddr> {
        socket.local_addr().map(canonical)
    }

    fn register(&self, socket: &mut TcpStream, token: usize) -> io::Result<()> {
        assert!(token < SUCCESSOR.0, "the last four tokens are ours");
        let all = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        self.registry.register(socket, Token(token), all)
    }

    fn receive(&self, mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| socket.read(buffer))
    }

    fn send(&self, socket: &TcpStream, pieces: &[Piece<'_, Map>], more: bool) -> io::Result<usize> {
        assert!(pieces.len() <= PIECES_MAX, "{} pieces", pieces.len());
        let nothing = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut vectors = [nothing; PIECES_MAX];
        for (vector, piece) in vectors.iter_mut().zip(pieces) {
            let (base, length) = match *piece {
                Piece::Bytes(bytes) => (bytes.as_ptr(), bytes.len()),
                Piece::Mapped { map, from, length } => {
                    assert!(
                        from <= map.0.len() && length <= map.0.len() - from,
                        "the slice lies within the map"
                    );
                    (map.0.as_ptr().wrapping_add(from), length)
                }
            };
            vector.iov_base = base.cast_mut().cast();
            vector.iov_len = length;
        }
        let message = libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: vectors.as_mut_ptr(),
            msg_iovlen: pieces.len(),
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        let flags = libc::MSG_NOSIGNAL | if more { libc::MSG_MORE } else { 0 };
        retry(|| {
            // SAFETY: each vector is a live slice's, or lies within a live map; the kernel only reads them.
            Errno::result(unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) })
        })
        .map(|sent| sent as usize)
    }

    fn send_file(
        &self,
        socket: &TcpStream,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let offset = as_offset(offset)?;
        retry(|| {
            let mut from = offset; // the kernel moves it
            sendfile64(socket, &file.0, Some(&mut from), count)
        })
    }

    fn unacknowledged(&self, socket: &TcpStream) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one number that outlives the call. SIOCOUTQ is TIOCOUTQ.
        Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    fn shutdown_write(&self, socket: &TcpStream) -> io::Result<()> {
        socket.shutdown(Shutdown::Write)
    }

    fn open_root(&self, path: &Path) -> io::Result<File> {
        retry(|| open(path, DIRECTORY, Mode::empty())).map(File::from)
    }

    fn open_beneath(&self, root: &File, path: &str, how: OpenMode) -> io::Result<File> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlag::O_CLOEXEC
            | match how {
                OpenMode::Read => OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
                OpenMode::Directory => DIRECTORY,
                OpenMode::Path => OFlag::O_PATH,
            };
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let mut attempt = 1;
        loop {
            match retry(|| openat2(&root.0, path, how)) {
                // A rename elsewhere left the kernel unsure whether a `..` had led out.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock && attempt < OPEN_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                result => return result.map(File::from),
            }
        }
    }

    fn status(&self, file: &File) -> io::Result<Status> {
        retry(|| fstat(&file.0)).map(Status::from)
    }

    fn status_by_path(&self, path: &Path) -> io::Result<Status> {
        retry(|| stat(path)).map(Status::from)
    }

    fn status_at(&self, directory: &File, name: &str) -> io::Result<Status> {
        retry(|| fstatat(&directory.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)).map(Status::from)
    }

    fn read_directory(
        &self,
        directory: &File,
        each: &mut dyn FnMut(&[u8], Option<FileKind>) -> bool,
    ) -> io::Result<()> {
        // Opened anew, since a handle that others share has one position for all of them.
        let mut directory = retry(|| Dir::openat(&directory.0, ".", DIRECTORY, Mode::empty()))?;
        for entry in directory.iter() {
            let entry = match entry {
                Err(Errno::EINTR) => continue,
                entry => entry?,
            };
            let name = CStr::to_bytes(entry.file_name());
            if name == b"." || name == b".." {
                continue;
            }
            let kind = entry.file_type().map(|found| match found {
                Type::File => FileKind::File,
                Type::Directory => FileKind::Directory,
                Type::Symlink => FileKind::Link,
                Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice => {
                    FileKind::Other
                }
            });
            if !each(name, kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| file.0.read_at(buffer, offset))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        retry(|| file.0.write_at(bytes, offset))
    }

    fn map(&self, file: &File, length: usize) -> io::Result<Map> {
        assert!(length > 0, "nothing cannot be mapped");
        // SAFETY: the bytes may change or vanish at any time, so nobody looks at them: `Map` shows them to `send` alone,
        // which passes their address to the kernel.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(&file.0) }?;
        Ok(Map(map))
    }

    fn is_cached(&self, file: &File, offset: u64) -> io::Result<bool> {
        let offset = as_offset(offset)?;
        let mut byte = 0_u8;
        let vector = libc::iovec {
            iov_base: (&raw mut byte).cast(),
            iov_len: 1,
        };
        let read = retry(|| {
            // SAFETY: one vector of one byte that is ours until the call returns.
            Errno::result(unsafe {
                libc::preadv2(file.0.as_raw_fd(), &vector, 1, offset, libc::RWF_NOWAIT)
            })
        });
        match read {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => match is_in_memory(&file.0)
            {
                true => Ok(true),
                false => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn read_ahead(&self, file: &File, offset: u64, count: usize) -> io::Result<()> {
        let offset = as_offset(offset)?;
        // SAFETY: takes a descriptor and two numbers.
        retry(|| Errno::result(unsafe { libc::readahead(file.0.as_raw_fd(), offset, count) }))
            .map(drop)
    }

    fn create_unnamed(&self, directory: &File) -> io::Result<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        retry(|| openat(&directory.0, ".", flags, NEW_FILE)).map(File::from)
    }

    fn create_named(&self, directory: &File, name: &str) -> io::Result<File> {
        let flags =
            OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        retry(|| openat(&directory.0, name, flags, NEW_FILE)).map(File::from)
    }

    fn lock(&self, file: &File) -> io::Result<()> {
        retry(|| file.0.try_lock().map_err(io::Error::from))
    }

    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(()); // for fallocate nothing is an error
        }
        let length = libc::off_t::try_from(length).map_err(|_| Errno::EFBIG)?;
        retry(|| fallocate(&file.0, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length))
    }

    fn free_space(&self, directory: &File) -> io::Result<u64> {
        let found = retry(|| fstatvfs(&directory.0))?;
        Ok(found
            .blocks_available()
            .saturating_mul(found.fragment_size()))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        // fsync and not fdatasync, which may leave a new name in a directory behind; for a new file they cost the same.
        retry(|| file.0.sync_all())
    }

    fn link(&self, file: &File, directory: &File, name: &str) -> io::Result<()> {
        let file = format!("/proc/self/fd/{}", file.0.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        retry(|| linkat(AT_FDCWD, file.as_str(), &directory.0, name, follow))
    }

    fn rename(&self, from: (&File, &str), to: (&File, &str), replace: bool) -> io::Result<()> {
        let ((from, old), (to, new)) = ((&from.0.0, from.1), (&to.0.0, to.1));
        retry(|| match replace {
            true => renameat(from, old, to, new),
            false => renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE),
        })
    }

    fn remove(&self, directory: &File, name: &str) -> io::Result<()> {
        retry(|| unlinkat(&directory.0, name, UnlinkatFlags::NoRemoveDir))
    }

    fn remove_directory(&self, directory: &File, name: &str) -> io::Result<()> {
        retry(|| unlinkat(&directory.0, name, UnlinkatFlags::RemoveDir))
    }

    fn set_modified(&self, directory: &File, name: &str, modified: i64) -> io::Result<()> {
        let modified = TimeSpec::new(modified, 0);
        let link_itself = UtimensatFlags::NoFollowSymlink;
        let accessed = TimeSpec::UTIME_OMIT;
        retry(|| utimensat(&directory.0, name, &accessed, &modified, link_itself))
    }

    fn copy_range(&self, from: &File, to: &File, offset: u64, count: usize) -> io::Result<usize> {
        let offset = as_offset(offset)?;
        retry(|| {
            let (mut read, mut written) = (offset, offset); // the kernel moves them
            copy_file_range(&from.0, Some(&mut read), &to.0, Some(&mut written), count)
        })
    }

    fn make_directory(&self, directory: &File, name: &str) -> io::Result<()> {
        retry(|| mkdirat(&directory.0, name, Mode::from_bits_truncate(0o777)))
    }
}

/// Flags of a directory that is opened to be read. `union` and not `|`, which no constant can be made of.
const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// Mode of a new file, from which the umask takes.
const NEW_FILE: Mode = Mode::from_bits_truncate(0o666);

/// Makes a call again as long as a signal interrupts it.
fn retry<T, E: Into<io::Error>>(mut call: impl FnMut() -> Result<T, E>) -> io::Result<T> {
    loop {
        match call().map_err(Into::into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Whether a file lies in a file system without a disk behind it, which has no use for RWF_NOWAIT.
fn is_in_memory(file: &std::fs::File) -> bool {
    fstatfs(file).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC)
}

/// An offset as the kernel counts it; one that it cannot have is beyond every file's end.
fn as_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| Errno::EOVERFLOW.into())
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File(fd.into())
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

#[cfg(test)]
mod tests;

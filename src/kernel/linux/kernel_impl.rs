//! [`Kernel`] for Linux. Calls are passed on unchanged, except that one which a signal interrupts
//! is repeated.

use std::io;
use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant, SystemTime};

use mio::net::{TcpListener, TcpStream};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::domain::reload_report::ReloadReport;
use crate::kernel::errors;
use crate::kernel::interface::Kernel;
use crate::kernel::linux::call_timer::{self, timed};
use crate::kernel::linux::external::{ControlHandler, External, MilestoneHandler};
use crate::kernel::linux::ffi::{Map, retry};
use crate::kernel::linux::file::File;
use crate::kernel::linux::mounts::Mounts;
use crate::kernel::linux::poll::Poller;
use crate::kernel::linux::unnamed_files::UnnamedFiles;
use crate::kernel::linux::{attributes, ffi, file, socket};
use crate::kernel::types::{
    CallStats, FileKind, FileSystemKind, Milestone, OpenMode, Piece, Readiness, Signal, Status,
};

/// Nice value of the workers.
const WORKER_NICE: i32 = 5;

/// Time slice of the workers. A thread with a shorter slice, as the event loop with the default of
/// 3 ms, preempts one with a longer slice when it wakes up.
const WORKER_SLICE: Duration = Duration::from_millis(20);

/// The kernel of this process, shared by the event loop and the workers.
pub struct Linux {
    poller: Poller,
    external: External,
    mounts: Mounts,
    unnamed_files: UnnamedFiles,
}

impl Linux {
    /// Opens the poll and takes over the signals. Call it before any thread starts.
    pub fn new() -> io::Result<Linux> {
        Ok(Linux {
            poller: Poller::new()?,
            external: External::default(),
            mounts: Mounts::read(),
            unnamed_files: UnnamedFiles::default(),
        })
    }

    /// Calls `handler` for every milestone from now on.
    pub fn on_milestone(&mut self, handler: MilestoneHandler) {
        self.external.set_on_milestone(handler);
    }

    /// Polls `descriptor` with the event loop and calls `handler` when it is readable. Replaces the
    /// earlier handler.
    pub fn set_control(
        &self,
        descriptor: &impl AsRawFd,
        handler: Box<dyn ControlHandler>,
    ) -> io::Result<()> {
        self.poller.watch_external(descriptor.as_raw_fd())?;
        self.external.set_control(handler);
        Ok(())
    }

    /// Registers a socket that listens already, like [`Kernel::listen`] a new one.
    ///
    /// # Errors
    /// If the socket does not listen.
    pub fn adopt(&self, listener: OwnedFd, token: usize) -> io::Result<Arc<TcpListener>> {
        self.register_listener(socket::adopt_listener(listener)?, token)
    }

    /// Opens a listener at a port of all addresses, IPv6 and IPv4.
    pub fn listen_on_all_addresses(&self, port: u16, token: usize) -> io::Result<Arc<TcpListener>> {
        self.register_listener(socket::listen_on_all_addresses(port)?, token)
    }

    fn register_listener(
        &self,
        mut listener: TcpListener,
        token: usize,
    ) -> io::Result<Arc<TcpListener>> {
        self.poller.watch_listener(&mut listener, token)?;
        Ok(Arc::new(listener))
    }
}

/// Raises the soft limit of open descriptors (RLIMIT_NOFILE) to the hard one, and returns it.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
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
        self.poller.poll(ready, timeout, || {
            self.external.handle_readable(&self.poller)
        })
    }

    fn wake(&self) {
        self.poller.wake();
    }

    fn next_signal(&self) -> Option<Signal> {
        self.poller.next_signal()
    }

    fn report(&self, milestone: Milestone) {
        self.external.handle_milestone(milestone, &self.poller);
    }

    fn report_reload(&self, report: &ReloadReport) {
        self.external.handle_reload_end(report);
    }

    fn enter_worker(&self) {
        ffi::lower_priority(WORKER_NICE, WORKER_SLICE);
        call_timer::set_worker(true);
    }

    fn count_calls(&self, calls: &Arc<AtomicU32>) {
        call_timer::count_calls(calls);
    }

    fn unix_time(&self) -> i64 {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> io::Result<u64> {
        Ok(getrandom::u64()?)
    }

    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<Arc<TcpListener>> {
        self.register_listener(socket::listen_at(address)?, token)
    }

    fn listener_address(&self, listener: &Arc<TcpListener>) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    fn accept(&self, listener: &Arc<TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
        socket::accept(listener)
    }

    fn connect(&self, from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        socket::connect(from, to)
    }

    fn connect_result(&self, socket: &TcpStream) -> io::Result<()> {
        socket::connect_result(socket)
    }

    fn local_address(&self, socket: &TcpStream) -> io::Result<SocketAddr> {
        socket::local_address(socket)
    }

    fn register(&self, socket: &mut TcpStream, token: usize) -> io::Result<()> {
        self.poller.watch_socket(socket, token)
    }

    fn receive(&self, mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| socket.read(buffer))
    }

    fn send(&self, socket: &TcpStream, pieces: &[Piece<'_, Map>], more: bool) -> io::Result<usize> {
        ffi::send_pieces(socket, pieces, more)
    }

    fn send_file(
        &self,
        socket: &TcpStream,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        timed(|| socket::send_file(socket, file, offset, count))
    }

    fn unacknowledged(&self, socket: &TcpStream) -> io::Result<usize> {
        ffi::unacknowledged(socket)
    }

    fn shutdown_write(&self, socket: &TcpStream) -> io::Result<()> {
        socket.shutdown(Shutdown::Write)
    }

    fn take_call_stats(&self) -> CallStats {
        call_timer::take_stats()
    }

    fn file_system(&self, file: &File) -> io::Result<FileSystemKind> {
        timed(|| file.file_system())
    }

    fn mount_of(&self, path: &Path) -> u64 {
        self.mounts.of(path)
    }

    fn kind_of_mount(&self, path: &Path) -> FileSystemKind {
        self.mounts.kind_of(path)
    }

    fn holds_mount(&self, path: &Path) -> bool {
        self.mounts.has_point_in(path)
    }

    fn crosses_mount(&self, root: &File, path: &str) -> bool {
        let opened = timed(|| root.open_beneath(path, OpenMode::Path, false));
        opened.is_err_and(|error| errors::crosses_devices(&error))
    }

    fn open_root(&self, path: &Path) -> io::Result<File> {
        timed(|| File::open_root(path))
    }

    fn open_beneath(&self, root: &File, path: &str, mode: OpenMode) -> io::Result<File> {
        timed(|| root.open_beneath(path, mode, call_timer::is_worker()))
    }

    fn status(&self, file: &File) -> io::Result<Status> {
        timed(|| file.status())
    }

    fn status_by_path(&self, path: &Path) -> io::Result<Status> {
        timed(|| file::status_by_path(path))
    }

    fn status_at(&self, directory: &File, name: &str) -> io::Result<Status> {
        timed(|| directory.status_at(name))
    }

    fn read_directory(
        &self,
        directory: &File,
        each: &mut dyn FnMut(&[u8], Option<FileKind>) -> bool,
    ) -> io::Result<()> {
        timed(|| directory.read_directory(each))
    }

    fn read_at(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        timed(|| file.read_at(buffer, offset))
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        timed(|| file.write_at(bytes, offset))
    }

    fn map(&self, file: &File, length: usize) -> io::Result<Map> {
        timed(|| file.map(length))
    }

    fn is_cached(&self, file: &File, offset: u64) -> io::Result<bool> {
        timed(|| file.is_cached(offset))
    }

    fn read_ahead(&self, file: &File, offset: u64, count: usize) -> io::Result<()> {
        timed(|| file.read_ahead(offset, count))
    }

    fn create_unnamed(&self, directory: &File, probe: &str) -> io::Result<File> {
        timed(|| self.unnamed_files.create(directory, probe))
    }

    fn create_named(&self, directory: &File, name: &str) -> io::Result<File> {
        timed(|| directory.create_named(name))
    }

    fn lock(&self, file: &File) -> io::Result<()> {
        timed(|| file.lock())
    }

    fn preallocate(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        timed(|| file.preallocate(range))
    }

    fn next_data(&self, file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
        timed(|| file.next_data(offset))
    }

    fn free_space(&self, directory: &File) -> io::Result<u64> {
        timed(|| directory.free_space())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        timed(|| file.sync())
    }

    fn link(&self, file: &File, directory: &File, name: &str) -> io::Result<()> {
        timed(|| file.link(directory, name))
    }

    fn rename(&self, from: (&File, &str), to: (&File, &str), replace: bool) -> io::Result<()> {
        timed(|| file::rename(from, to, replace))
    }

    fn remove(&self, directory: &File, name: &str) -> io::Result<()> {
        timed(|| directory.remove(name))
    }

    fn remove_directory(&self, directory: &File, name: &str) -> io::Result<()> {
        timed(|| directory.remove_directory(name))
    }

    fn set_modified(&self, directory: &File, name: &str, modified: i64) -> io::Result<()> {
        timed(|| directory.set_modified(name, modified))
    }

    fn copy_range(&self, from: &File, to: &File, offset: u64, count: usize) -> io::Result<usize> {
        timed(|| from.copy_range(to, offset, count))
    }

    fn copy_attributes(&self, from: &File, to: &File) -> io::Result<()> {
        timed(|| attributes::copy(&from.0, &to.0))
    }

    fn make_directory(&self, directory: &File, name: &str) -> io::Result<()> {
        timed(|| directory.make_directory(name))
    }
}

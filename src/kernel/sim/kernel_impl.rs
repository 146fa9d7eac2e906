//! [`Kernel`] for a [`Sim`]: each call finds its part of the state, fails if the plan says so, and
//! is carried out.
//!
//! Must not know: how the parts work.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::kernel::interface::Kernel;
use crate::kernel::sim::devices::SimDevice;
use crate::kernel::sim::fault_plan::{InjectedFault, SystemCall};
use crate::kernel::sim::files::SimFiles;
use crate::kernel::sim::handles::{SimFile, SimListener, SimMap, SimSocket};
use crate::kernel::sim::simulator::{Sim, SimState};
use crate::kernel::sim::tree::ROOT;
use crate::kernel::types::{
    CallStats, FileKind, FileSystemKind, OpenMode, PIECES_MAX, Piece, Readiness, Signal, Status,
};

/// Simulated time after which a job looks again whether a lock is free.
const LOCK_RETRY: Duration = Duration::from_millis(1);

impl Kernel for Sim {
    type Listener = SimListener;
    type Socket = SimSocket;
    type File = SimFile;
    type Map = SimMap;

    fn now(&self) -> Instant {
        let mut state = self.state();
        state.tick();
        state.started + state.elapsed
    }

    fn poll(&self, ready: &mut Vec<Readiness>, timeout: Option<Duration>) -> io::Result<()> {
        ready.clear();
        let state = &mut *self.state();
        state.tick();
        let SimState { rng, network, .. } = state;
        network.deliver(rng, false);
        network.ready(rng, false, ready);
        let woken = std::mem::take(&mut state.woken);
        if !ready.is_empty() || woken || timeout == Some(Duration::ZERO) {
            return Ok(());
        }
        if !network.deliver(rng, true) {
            // No bytes are in flight: the timeout expires, or something interrupts it.
            let longest = timeout.map_or(state.max_wait, |timeout| timeout.min(state.max_wait));
            state.elapsed += match rng.bool() {
                true => longest,
                false => longest.mul_f64(rng.f64()),
            };
        }
        network.ready(rng, true, ready);
        Ok(())
    }

    fn wake(&self) {
        self.state().woken = true;
    }

    fn next_signal(&self) -> Option<Signal> {
        self.state().signals.pop_front()
    }

    fn enter_worker(&self) {
        self.state().caller.is_worker = true;
    }

    fn leave_worker(&self) {
        let mut state = self.state();
        (state.caller.is_worker, state.caller.calls) = (false, None);
    }

    fn count_calls(&self, calls: &Arc<AtomicU32>) {
        self.state().caller.calls = Some(calls.clone());
    }

    fn unix_time(&self) -> i64 {
        self.state().time().0
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.state().rng.u64(..))
    }

    fn listen(&self, address: SocketAddr, token: usize) -> io::Result<SimListener> {
        let mut state = self.call(SystemCall::Listen)?;
        state.check_descriptors()?;
        Ok(SimListener {
            id: state.network.listen(address, token)?,
            sim: self.clone(),
        })
    }

    fn listener_address(&self, listener: &SimListener) -> io::Result<SocketAddr> {
        Ok(self.state().network.listener_address(listener.id))
    }

    fn accept(&self, listener: &SimListener) -> io::Result<(SimSocket, SocketAddr)> {
        let (mut state, fault) = self.call_or_fault(SystemCall::Accept);
        state.check_descriptors()?;
        let id = state.network.accept(listener.id, fault)?;
        let address = state.network.peer_address(id);
        let sim = self.clone();
        Ok((SimSocket { sim, id }, address))
    }

    fn connect(&self, from: SocketAddr, to: SocketAddr) -> io::Result<SimSocket> {
        let mut state = self.call(SystemCall::Connect)?;
        state.check_descriptors()?;
        let SimState { rng, network, .. } = &mut *state;
        let id = network.connect(rng, from.ip(), to);
        let sim = self.clone();
        Ok(SimSocket { sim, id })
    }

    fn connect_result(&self, socket: &SimSocket) -> io::Result<()> {
        Ok(self.state().network.connect_result(socket.id)?)
    }

    fn local_address(&self, socket: &SimSocket) -> io::Result<SocketAddr> {
        Ok(self.state().network.local_address(socket.id))
    }

    fn register(&self, socket: &mut SimSocket, token: usize) -> io::Result<()> {
        let mut state = self.call(SystemCall::Register)?;
        state.network.register(socket.id, token);
        Ok(())
    }

    fn receive(&self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut state, fault) = self.call_or_fault(SystemCall::Receive);
        Ok(state.network.receive(socket.id, buffer, fault)?)
    }

    fn send(
        &self,
        socket: &SimSocket,
        pieces: &[Piece<'_, SimMap>],
        _more: bool,
    ) -> io::Result<usize> {
        assert!(pieces.len() <= PIECES_MAX, "more than PIECES_MAX pieces");
        let (mut state, fault) = self.call_or_fault(SystemCall::Send);
        let SimState {
            rng,
            network,
            files,
            devices,
            ..
        } = &mut *state;
        let mut bytes = Vec::new();
        let mut bad_address = false;
        for piece in pieces {
            match piece {
                Piece::Bytes(slice) => bytes.extend(*slice),
                Piece::Mapped { map, from, length } => {
                    assert!(from + length <= map.length, "the slice is outside its map");
                    devices.check_loop(files.tree.inode(map.inode).device, "a mapped page");
                    let slice = files.mapped(map.inode, *from, *length);
                    bad_address = slice.len() < *length;
                    bytes.extend(slice);
                }
            }
            if bad_address {
                break;
            }
        }
        if bytes.is_empty() && bad_address {
            return Err(Errno::EFAULT.into());
        }
        let count = network.writable_bytes(rng, socket.id, bytes.len(), fault)?;
        network.write(socket.id, &bytes[..count]);
        Ok(count)
    }

    fn send_file(
        &self,
        socket: &SimSocket,
        file: &SimFile,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let (mut state, fault) = self.file_call_or_fault(SystemCall::SendFile, file.device())?;
        let SimState {
            rng,
            network,
            files,
            caller,
            ..
        } = &mut *state;
        let bytes = files.read(file.handle, offset, count, caller.is_worker)?;
        let count = match bytes {
            [] => 0,
            _ => network.writable_bytes(rng, socket.id, bytes.len(), fault)?,
        };
        network.write(socket.id, &bytes[..count]);
        Ok(count)
    }

    fn unacknowledged(&self, socket: &SimSocket) -> io::Result<usize> {
        Ok(self.state().network.unacknowledged(socket.id)?)
    }

    fn shutdown_write(&self, socket: &SimSocket) -> io::Result<()> {
        let mut state = self.call(SystemCall::ShutdownWrite)?;
        Ok(state.network.shutdown_write(socket.id)?)
    }

    fn lock_changes<'a>(&self, changes: &'a Mutex<()>) -> MutexGuard<'a, ()> {
        loop {
            match changes.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(error)) => return error.into_inner(),
                // The job that holds it waits for a device.
                Err(TryLockError::WouldBlock) => {
                    drop(self.wait_in_call(self.state(), SimDevice::ROOT, Some(LOCK_RETRY)));
                }
            }
        }
    }

    fn take_call_stats(&self) -> CallStats {
        std::mem::take(&mut self.state().caller.stats)
    }

    fn file_system(&self, file: &SimFile) -> io::Result<FileSystemKind> {
        let state = self.file_call(SystemCall::FileSystem, file.device())?;
        Ok(state.devices.kind(state.files.device(file.handle)))
    }

    fn mount_of(&self, path: &Path) -> u64 {
        self.state().devices.of_path(path).0 as u64
    }

    fn kind_of_mount(&self, path: &Path) -> FileSystemKind {
        let state = self.state();
        state.devices.kind(state.devices.of_path(path))
    }

    fn holds_mount(&self, path: &Path) -> bool {
        self.state().devices.has_mount_in(path)
    }

    fn crosses_mount(&self, root: &SimFile, path: &str) -> bool {
        let files = &self.state().files;
        files.devices_beneath(root.handle, path.as_bytes()).len() > 1
    }

    fn open_root(&self, path: &Path) -> io::Result<SimFile> {
        let path = path.as_os_str().as_bytes();
        let devices = |files: &SimFiles| files.tree.devices(ROOT, path, false);
        let mut state = self.file_call(SystemCall::OpenRoot, devices)?;
        state.check_descriptors()?;
        let handle = state.files.open_root(path)?;
        Ok(SimFile::new(self, handle))
    }

    fn open_beneath(&self, root: &SimFile, path: &str, mode: OpenMode) -> io::Result<SimFile> {
        let path = path.as_bytes();
        let is_worker = self.state().caller.is_worker;
        let mut crosses_mount = false;
        let devices = |files: &SimFiles| {
            let mut devices = files.devices_beneath(root.handle, path);
            if !is_worker && devices.len() > 1 {
                crosses_mount = true;
                devices.truncate(1);
            }
            devices
        };
        let mut state = self.file_call(SystemCall::OpenBeneath, devices)?;
        if crosses_mount {
            return Err(Errno::EXDEV.into());
        }
        state.check_descriptors()?;
        let handle = state.files.open_beneath(root.handle, path, mode)?;
        Ok(SimFile::new(self, handle))
    }

    fn status(&self, file: &SimFile) -> io::Result<Status> {
        let state = self.file_call(SystemCall::Status, file.device())?;
        Ok(state.files.status(file.handle))
    }

    fn status_by_path(&self, path: &Path) -> io::Result<Status> {
        let path = path.as_os_str().as_bytes();
        let devices = |files: &SimFiles| files.tree.devices(ROOT, path, false);
        let state = self.file_call(SystemCall::StatusByPath, devices)?;
        let tree = &state.files.tree;
        let inode = tree.resolve(ROOT, path, false)?;
        Ok(tree.status(inode))
    }

    fn status_at(&self, directory: &SimFile, name: &str) -> io::Result<Status> {
        let devices = |files: &SimFiles| {
            let own = files.device(directory.handle);
            let mounted = files.device_at(directory.handle, name);
            std::iter::once(own).chain(mounted).collect()
        };
        let state = self.file_call(SystemCall::StatusAt, devices)?;
        Ok(state.files.status_at(directory.handle, name)?)
    }

    fn read_directory(
        &self,
        directory: &SimFile,
        each: &mut dyn FnMut(&[u8], Option<FileKind>) -> bool,
    ) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::ReadDirectory, directory.device())?;
        let SimState { rng, files, .. } = &mut *state;
        let entries = files.read_directory(rng, directory.handle)?;
        drop(state); // `each` may call the kernel
        for (name, kind) in entries {
            if !each(&name, kind) {
                break;
            }
        }
        Ok(())
    }

    fn read_at(&self, file: &SimFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.file_call_or_fault(SystemCall::ReadAt, file.device())?;
        let may_wait = state.caller.is_worker;
        let count = transferred(fault, buffer.len())?;
        let bytes = state.files.read(file.handle, offset, count, may_wait)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, file: &SimFile, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.file_call_or_fault(SystemCall::WriteAt, file.device())?;
        let now = state.time();
        let count = transferred(fault, bytes.len())?;
        Ok(state
            .files
            .write(file.handle, &bytes[..count], offset, now)?)
    }

    fn map(&self, file: &SimFile, length: usize) -> io::Result<SimMap> {
        assert!(length > 0, "mmap(2) maps no empty range");
        let mut state = self.file_call(SystemCall::Map, file.device())?;
        Ok(SimMap {
            inode: state.files.map(file.handle)?,
            sim: self.clone(),
            length,
        })
    }

    fn is_cached(&self, file: &SimFile, offset: u64) -> io::Result<bool> {
        let mut state = self.file_call(SystemCall::IsCached, file.device())?;
        Ok(state.files.is_cached(file.handle, offset)?)
    }

    fn read_ahead(&self, file: &SimFile, offset: u64, count: usize) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::ReadAhead, file.device())?;
        let SimState {
            rng, files, caller, ..
        } = &mut *state;
        files.read_ahead(rng, file.handle, offset, count, caller.is_worker);
        Ok(())
    }

    fn create_unnamed(&self, directory: &SimFile, _: &str) -> io::Result<SimFile> {
        let mut state = self.file_call(SystemCall::CreateUnnamed, directory.device())?;
        state.check_descriptors()?;
        let now = state.time();
        let handle = state.files.create(directory.handle, None, now)?;
        Ok(SimFile::new(self, handle))
    }

    fn create_named(&self, directory: &SimFile, name: &str) -> io::Result<SimFile> {
        let mut state = self.file_call(SystemCall::CreateNamed, directory.device())?;
        state.check_descriptors()?;
        let now = state.time();
        let handle = state.files.create(directory.handle, Some(name), now)?;
        Ok(SimFile::new(self, handle))
    }

    fn lock(&self, file: &SimFile) -> io::Result<()> {
        Ok(self
            .file_call(SystemCall::Lock, file.device())?
            .files
            .lock(file.handle)?)
    }

    fn preallocate(&self, file: &SimFile, range: Range<u64>) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::Preallocate, file.device())?;
        Ok(state.files.preallocate(file.handle, range.end)?)
    }

    fn next_data(&self, file: &SimFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        let state = self.file_call(SystemCall::Status, file.device())?;
        Ok(state.files.next_data(file.handle, offset))
    }

    fn free_space(&self, directory: &SimFile) -> io::Result<u64> {
        Ok(self
            .file_call(SystemCall::FreeSpace, directory.device())?
            .files
            .free_space())
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let (mut state, fault) = self.file_call_or_fault(SystemCall::Sync, file.device())?;
        let may_wait = state.caller.is_worker;
        state.files.sync(file.handle, fault.is_some(), may_wait)?;
        transferred(fault, 0)?;
        Ok(())
    }

    fn link(&self, file: &SimFile, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::Link, directory.device())?;
        let now = state.time();
        Ok(state.files.link(file.handle, directory.handle, name, now)?)
    }

    fn rename(
        &self,
        from: (&SimFile, &str),
        to: (&SimFile, &str),
        replace: bool,
    ) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::Rename, from.0.device())?;
        let now = state.time();
        let (from, to) = ((from.0.handle, from.1), (to.0.handle, to.1));
        Ok(state.files.rename(from, to, replace, now)?)
    }

    fn remove(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::Remove, directory.device())?;
        let now = state.time();
        Ok(state.files.remove(directory.handle, name, now)?)
    }

    fn remove_directory(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::RemoveDirectory, directory.device())?;
        let now = state.time();
        Ok(state.files.remove_directory(directory.handle, name, now)?)
    }

    fn set_modified(&self, directory: &SimFile, name: &str, modified: i64) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::SetModified, directory.device())?;
        let now = state.time();
        let directory = directory.handle;
        Ok(state.files.set_modified(directory, name, modified, now)?)
    }

    fn copy_range(
        &self,
        from: &SimFile,
        to: &SimFile,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        let (mut state, fault) = self.file_call_or_fault(SystemCall::CopyRange, from.device())?;
        let (now, may_wait) = (state.time(), state.caller.is_worker);
        let count = transferred(fault, count)?;
        let files = &mut state.files;
        files.stalls += u64::from(!may_wait);
        let bytes = files.read(from.handle, offset, count, true)?.to_vec();
        Ok(files.write(to.handle, &bytes, offset, now)?)
    }

    fn copy_attributes(&self, from: &SimFile, to: &SimFile) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::CopyAttributes, to.device())?;
        let now = state.time();
        state.files.copy_attributes(from.handle, to.handle, now);
        Ok(())
    }

    fn make_directory(&self, directory: &SimFile, name: &str) -> io::Result<()> {
        let mut state = self.file_call(SystemCall::MakeDirectory, directory.device())?;
        let now = state.time();
        Ok(state.files.make_directory(directory.handle, name, now)?)
    }
}

/// How many of `count` bytes a call on a file transfers.
fn transferred(fault: Option<InjectedFault>, count: usize) -> Result<usize, Errno> {
    match fault {
        Some(InjectedFault::Error(errno)) => Err(errno),
        Some(InjectedFault::Short) => Ok(count.min(1)),
        None => Ok(count),
    }
}

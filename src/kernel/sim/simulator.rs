//! The state of a simulated kernel, and the operations of the test harness.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::devices::{Delay, DeviceBehaviour, SimDevice, SimDevices};
use crate::kernel::sim::fault_plan::{FaultInjector, FaultPlan, InjectedFault, SystemCall};
use crate::kernel::sim::files::SimFiles;
use crate::kernel::sim::inode::{SimEntry, Time};
use crate::kernel::sim::jobs::{Caller, Jobs};
use crate::kernel::sim::network::Network;
use crate::kernel::sim::tree::InodeTree;
use crate::kernel::types::{FileSystemKind, Signal, Status};

/// The system's clock when a simulation starts, in seconds since 1970.
const EPOCH: i64 = 1_795_000_000;

/// A kernel from a seed. Clones share its state.
#[derive(Clone)]
pub struct Sim {
    shared: Arc<(Mutex<SimState>, Condvar)>,
}

pub(super) struct SimState {
    pub(super) rng: Rng,
    pub(super) started: Instant,
    pub(super) elapsed: Duration,
    /// The longest duration of a call.
    call_nanoseconds_max: u64,
    /// The longest duration of a poll without events.
    pub(super) max_wait: Duration,
    pub(super) woken: bool,
    pub(super) signals: VecDeque<Signal>,
    /// The thread that makes the calls now.
    pub(super) caller: Caller,
    pub(super) jobs: Jobs,
    pub(super) devices: SimDevices,
    /// Descriptors that the server may hold at once.
    descriptors_max: usize,
    faults: FaultInjector,
    pub(super) network: Network,
    pub(super) files: SimFiles,
}

/// The handles that the server holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldHandles {
    /// Listeners.
    pub listeners: usize,
    /// Accepted sockets.
    pub sockets: usize,
    /// Open files and directories.
    pub files: usize,
    /// Files without a name that are still open or mapped.
    pub nameless: usize,
}

/// A peer of the server: the other end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(usize);

/// The harness. None of these methods fails by the fault plan or counts as a call.
impl Sim {
    /// A kernel that behaves the same for the same seed and the same calls. No call fails before
    /// [`Sim::set_fault_plan`].
    pub fn new(seed: u64) -> Sim {
        Sim::with_tree(Rng::with_seed(seed), InodeTree::new(), Duration::ZERO)
    }

    fn with_tree(mut rng: Rng, tree: InodeTree, elapsed: Duration) -> Sim {
        let state = SimState {
            started: Instant::now(),
            elapsed,
            call_nanoseconds_max: 5_000,
            max_wait: Duration::from_secs(1),
            woken: false,
            signals: VecDeque::new(),
            caller: Caller::default(),
            jobs: Jobs::default(),
            devices: SimDevices::new(),
            descriptors_max: usize::MAX,
            faults: FaultInjector::default(),
            network: Network::new(&mut rng),
            files: SimFiles::new(&mut rng, tree),
            rng,
        };
        Sim {
            shared: Arc::new((Mutex::new(state), Condvar::new())),
        }
    }

    /// Sets which calls fail from now on, and restarts the count of calls.
    pub fn set_fault_plan(&self, plan: FaultPlan) {
        self.state().faults.set(plan);
    }

    /// All injected faults so far, in order.
    pub fn injected_faults(&self) -> Vec<(SystemCall, InjectedFault)> {
        self.state().faults.injected.clone()
    }

    /// Calls since the fault plan was set.
    pub fn call_count(&self) -> u64 {
        self.state().faults.calls()
    }

    /// Listeners that were ever opened.
    pub fn opened_listeners(&self) -> u64 {
        self.state().network.opened_listeners()
    }

    /// Advances the clock at once.
    pub fn advance(&self, time: Duration) {
        self.state().elapsed += time;
    }

    /// Time since the start of the simulation.
    pub fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    /// Sets the longest duration of a poll without events, whatever its timeout. Initially 1 s.
    pub fn set_max_wait(&self, time: Duration) {
        self.state().max_wait = time;
    }

    /// Sends the server a signal.
    pub fn send_signal(&self, signal: Signal) {
        let mut state = self.state();
        state.signals.push_back(signal);
        state.woken = true;
    }

    /// Calls of the event loop that waited for the disk: syncs, reads ahead, and reads of pages
    /// after the kernel has reported that they are not cached.
    pub fn stalls(&self) -> u64 {
        self.state().files.stalls
    }

    /// The handles that the server holds now.
    pub fn held_handles(&self) -> HeldHandles {
        self.state().held_handles()
    }

    /// Makes calls slow, as on a busy machine: a tick ends before the run queue is empty.
    pub fn set_slow(&self) {
        self.state().call_nanoseconds_max = 300_000;
    }

    /// Limits the descriptors that the server may hold at once.
    pub fn set_descriptors(&self, count: usize) {
        self.state().descriptors_max = count;
    }

    // Peers. Errors are those of the system calls; after `WouldBlock`, try again later.

    /// Connects a peer to a listener of the server.
    pub fn peer_connect(&self, to: SocketAddr, from: IpAddr) -> io::Result<Peer> {
        let state = &mut *self.state();
        let id = state.network.peer_connect(&mut state.rng, to, from)?;
        Ok(Peer(id))
    }

    /// Opens a listener of a peer, to which the server can connect.
    pub fn peer_listen(&self, at: SocketAddr) {
        self.state().network.peer_listen(at);
    }

    /// Accepts the next connection of the server.
    pub fn peer_accept(&self, at: SocketAddr) -> io::Result<Peer> {
        Ok(Peer(self.state().network.peer_accept(at)?))
    }

    /// Closes a peer's listener, and resets connections that it has not accepted.
    pub fn peer_close_listener(&self, at: SocketAddr) {
        let state = &mut *self.state();
        state.network.peer_close_listener(&mut state.rng, at);
    }

    /// Sends as many bytes as fit.
    pub fn peer_send(&self, peer: Peer, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.state().network.peer_send(peer.0, bytes)?)
    }

    /// Reads up to `count` bytes that have arrived; no bytes are the end.
    pub fn peer_receive(&self, peer: Peer, count: usize) -> io::Result<Vec<u8>> {
        Ok(self.state().network.peer_receive(peer.0, count)?)
    }

    /// Closes the peer's sending half.
    pub fn peer_shutdown(&self, peer: Peer) {
        self.state().network.peer_shutdown(peer.0);
    }

    /// Closes the peer's socket. With unread bytes this resets the connection, as on Linux. The
    /// peer must not be used again.
    pub fn peer_close(&self, peer: Peer) {
        self.state().network.peer_close(peer.0);
    }

    /// Resets the connection. The peer must not be used again.
    pub fn peer_reset(&self, peer: Peer) {
        let state = &mut *self.state();
        state.network.peer_reset(&mut state.rng, peer.0);
    }

    // Files. Paths are absolute; changes are durable at once.

    /// Creates an entry as a new inode, with its parent directories, and replaces an existing one.
    pub fn put(&self, path: &str, entry: SimEntry) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.put(path, entry, now);
    }

    /// Removes a name.
    pub fn remove_name(&self, path: &str) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.remove_name(path, now);
    }

    /// Modifies a file in place.
    pub fn modify_file(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.modify_file(path, change, now);
    }

    /// Sets whether the server may read a file, or pass through a directory.
    pub fn set_permitted(&self, path: &str, permitted: bool) {
        let tree = &mut self.state().files.tree;
        let inode = tree.find(path).expect("the path exists");
        tree.inode_mut(inode).permitted = permitted;
    }

    /// Sets the permission bits of a path.
    pub fn set_mode(&self, path: &str, mode: u32) {
        let tree = &mut self.state().files.tree;
        let inode = tree.find(path).expect("the path exists");
        tree.inode_mut(inode).mode = mode;
    }

    /// The permission bits of a path, links followed.
    pub fn mode_of(&self, path: &str) -> Option<u32> {
        let tree = &self.state().files.tree;
        Some(tree.inode(tree.find(path)?).mode)
    }

    /// All paths, with the content of regular files.
    pub fn tree(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        self.state().files.tree.paths()
    }

    /// The status of a path, links followed.
    pub fn status_of(&self, path: &str) -> Option<Status> {
        let tree = &self.state().files.tree;
        Some(tree.status(tree.find(path)?))
    }

    /// Limits the bytes that all files may have together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().files.capacity = bytes;
    }

    /// Sets whether the file system supports O_TMPFILE.
    pub fn set_unnamed_files(&self, is_supported: bool) {
        self.state().files.has_unnamed_files = is_supported;
    }

    /// Sets whether the file system supports hard links and renames that replace nothing.
    pub fn set_links(&self, are_supported: bool) {
        self.state().files.has_links = are_supported;
    }

    /// The kernel after a power cut at this moment: files as they are on the disk, no handles, and
    /// all devices normal. This kernel is not affected.
    pub fn crash(&self) -> Sim {
        let state = &mut *self.state();
        let mut rng = state.rng.fork();
        let tree = state.files.tree.crash(&mut rng);
        let after = Sim::with_tree(rng, tree, state.elapsed);
        after.state().devices = state.devices.restarted();
        after.set_unnamed_files(state.files.has_unnamed_files);
        after.set_links(state.files.has_links);
        after
    }

    // Devices.

    /// Makes a directory, which is created if necessary, and everything below it a file system of
    /// its own.
    pub fn mount(&self, path: &str, kind: FileSystemKind) -> SimDevice {
        let mut state = self.state();
        let now = state.time();
        let device = state.devices.add(Path::new(path), kind);
        state.files.tree.mount(path, device, now);
        device
    }

    /// Changes how a device behaves. Calls that wait for it return when
    /// [`Sim::resume_job`] lets them.
    pub fn set_behaviour(&self, device: SimDevice, behaviour: DeviceBehaviour) {
        self.state().devices.set_behaviour(device, behaviour);
    }

    /// How a device behaves.
    pub fn behaviour(&self, device: SimDevice) -> DeviceBehaviour {
        self.state().devices.behaviour(device)
    }

    /// Makes each call of the event loop panic that is on a remote device, or on a local one that
    /// it must have found slow.
    pub fn forbid_waiting(&self) {
        self.state().devices.is_strict = true;
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SimState> {
        // A panic that poisoned the lock is being reported already.
        let (state, _) = &*self.shared;
        state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until another thread calls [`Sim::notify`]. Returns whether `timeout` has expired.
    pub(super) fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, SimState>,
        timeout: Duration,
    ) -> (MutexGuard<'a, SimState>, bool) {
        let (_, changed) = &*self.shared;
        let waited = changed.wait_timeout(state, timeout);
        let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, result.timed_out())
    }

    pub(super) fn notify(&self) {
        let (_, changed) = &*self.shared;
        changed.notify_all();
    }

    /// Begins a call: time passes, and the call may fail.
    pub(super) fn call(&self, call: SystemCall) -> io::Result<MutexGuard<'_, SimState>> {
        let (state, fault) = self.call_or_fault(call);
        match fault {
            Some(InjectedFault::Error(errno)) => Err(errno.into()),
            _ => Ok(state),
        }
    }

    /// Begins a call that handles its faults itself.
    pub(super) fn call_or_fault(
        &self,
        call: SystemCall,
    ) -> (MutexGuard<'_, SimState>, Option<InjectedFault>) {
        let mut state = self.state();
        let fault = state.begin_call(call);
        (state, fault)
    }

    /// Begins a call on devices, which may take long, and may fail.
    pub(super) fn file_call(
        &self,
        call: SystemCall,
        devices: impl FnOnce(&SimFiles) -> Vec<SimDevice>,
    ) -> io::Result<MutexGuard<'_, SimState>> {
        match self.file_call_or_fault(call, devices)? {
            (_, Some(InjectedFault::Error(errno))) => Err(errno.into()),
            (state, _) => Ok(state),
        }
    }

    /// Begins a call on devices that handles the injected faults itself.
    pub(super) fn file_call_or_fault(
        &self,
        call: SystemCall,
        devices: impl FnOnce(&SimFiles) -> Vec<SimDevice>,
    ) -> Result<(MutexGuard<'_, SimState>, Option<InjectedFault>), Errno> {
        let mut state = self.state();
        state.caller.stats.calls += 1;
        if let Some(calls) = &state.caller.calls {
            calls.fetch_add(1, Ordering::Relaxed);
        }
        if !state.devices.is_plain() {
            for device in devices(&state.files) {
                let result;
                let what = format!("{call:?}");
                (state, result) = self.call_device(state, device, &what, call.writes());
                result?;
            }
        }
        let fault = state.begin_call(call);
        Ok((state, fault))
    }

    /// Lets a call on a device wait, if it must.
    pub(super) fn call_device<'a>(
        &'a self,
        mut state: MutexGuard<'a, SimState>,
        device: SimDevice,
        what: &str,
        writes: bool,
    ) -> (MutexGuard<'a, SimState>, Result<(), Errno>) {
        let is_worker = state.caller.is_worker;
        loop {
            let delay = state.devices.delay(device, writes);
            let is_slow = state.devices.count(device, delay, is_worker);
            state.caller.stats.slow += u32::from(is_slow);
            if !is_worker {
                state.devices.check_loop(device, what);
            }
            match delay {
                Delay::None => return (state, Ok(())),
                Delay::Fails(errno) => return (state, Err(errno)),
                Delay::Takes(time) if is_worker => {
                    return (self.wait_in_call(state, device, Some(time)), Ok(()));
                }
                Delay::Takes(time) => {
                    state.elapsed += time;
                    return (state, Ok(()));
                }
                Delay::Hangs => state = self.wait_in_call(state, device, None),
            }
        }
    }
}

// Handles that are dropped. A close reports no errors; on a remote device it may wait.
impl Sim {
    pub(super) fn close(&self, handle: u64) {
        let device = self.state().files.device(handle);
        self.release(device, "close").files.close(handle);
    }

    pub(super) fn unmap(&self, inode: u64) {
        let device = self.state().files.tree.inode(inode).device;
        self.release(device, "munmap").files.unmap(inode);
    }

    fn release(&self, device: SimDevice, what: &str) -> MutexGuard<'_, SimState> {
        let state = self.state();
        let is_remote = state.devices.kind(device) == FileSystemKind::Remote;
        match is_remote && !std::thread::panicking() {
            true => self.call_device(state, device, what, false).0,
            false => state,
        }
    }
}

impl SimState {
    /// Lets the time of one call pass, and returns its fault.
    fn begin_call(&mut self, call: SystemCall) -> Option<InjectedFault> {
        self.tick();
        self.faults.next_fault(&mut self.rng, call)
    }

    /// Lets the time of one call pass.
    pub(super) fn tick(&mut self) {
        self.elapsed += Duration::from_nanos(self.rng.u64(200..self.call_nanoseconds_max));
    }

    pub(super) fn time(&self) -> Time {
        let seconds = EPOCH + self.elapsed.as_secs() as i64;
        (seconds, self.elapsed.subsec_nanos())
    }

    fn held_handles(&self) -> HeldHandles {
        HeldHandles {
            listeners: self.network.listeners(),
            sockets: self.network.held_sockets(),
            files: self.files.handles(),
            nameless: self.files.tree.nameless(),
        }
    }

    /// Whether a call that creates a descriptor may do so.
    pub(super) fn check_descriptors(&self) -> Result<(), Errno> {
        let (network, files) = (&self.network, &self.files);
        let held = network.listeners() + network.held_sockets() + files.handles();
        match held < self.descriptors_max {
            true => Ok(()),
            false => Err(Errno::EMFILE),
        }
    }
}

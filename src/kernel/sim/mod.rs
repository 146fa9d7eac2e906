//! A kernel from a seed: sockets, files and a clock in memory, with the faults that the real ones have.
//!
//! One seed gives one run, call for call, as long as one thread makes the calls. [`Sim`] is what the server is run
//! on, as [`Kernel`](crate::kernel::Kernel); its own methods are the world's other side: peers, people who change files, power cuts.
//!
//! Must not know: sessions, protocols, who the clients are.

pub mod fault_plan;
mod files;
mod kernel_impl;
mod network;
mod tree;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::{Signal, Status};

use crate::kernel::sim::fault_plan::{Call, Fault, Faults, Plan};
use crate::kernel::sim::files::Files;
use crate::kernel::sim::network::Network;
use crate::kernel::sim::tree::{Time, Tree};

pub use crate::kernel::sim::kernel_impl::{SimFile, SimListener, SimMap, SimSocket};
pub use crate::kernel::sim::tree::Entry;

/// What the system's clock shows when the simulation starts: seconds since 1970.
const EPOCH: i64 = 1_795_000_000;

/// A kernel from a seed; clones share it.
#[derive(Clone)]
pub struct Sim {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    started: Instant,
    elapsed: Duration,
    /// How long a call takes at most.
    call_nanoseconds_max: u64,
    /// The longest that a poll with nothing to tell lets pass.
    patience: Duration,
    woken: bool,
    signals: VecDeque<Signal>,
    /// The calls are those of a worker, who may wait.
    may_wait: bool,
    /// Descriptors that the server may hold at once.
    descriptors: usize,
    faults: Faults,
    network: Network,
    files: Files,
}

/// What the server holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Listeners.
    pub listeners: usize,
    /// Accepted sockets.
    pub sockets: usize,
    /// Open files and directories.
    pub files: usize,
    /// Files that have no name and are still open or mapped.
    pub nameless: usize,
}

/// A peer of the server: the other end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(usize);

/// The world around the server. None of this fails by a plan or is seen as a call.
impl Sim {
    /// A kernel that does the same for the same seed and the same calls. Nothing fails before [`Sim::plan`].
    pub fn new(seed: u64) -> Sim {
        Sim::with_tree(Rng::with_seed(seed), Tree::new(), Duration::ZERO)
    }

    fn with_tree(mut rng: Rng, tree: Tree, elapsed: Duration) -> Sim {
        let state = State {
            started: Instant::now(),
            elapsed,
            call_nanoseconds_max: 5_000,
            patience: Duration::from_secs(1),
            woken: false,
            signals: VecDeque::new(),
            may_wait: false,
            descriptors: usize::MAX,
            faults: Faults::default(),
            network: Network::new(&mut rng),
            files: Files::new(&mut rng, tree),
            rng,
        };
        let state = Arc::new(Mutex::new(state));
        Sim { state }
    }

    /// Sets what fails from now on, and counts calls anew.
    pub fn plan(&self, plan: Plan) {
        self.state().faults.set(plan);
    }

    /// What has failed by a plan so far, in order.
    pub fn fired(&self) -> Vec<(Call, Fault)> {
        self.state().faults.fired.clone()
    }

    /// Calls that could have failed since the plan was set.
    pub fn calls(&self) -> u64 {
        self.state().faults.calls()
    }

    /// Lets time pass: what is not awaited in a poll is a jump.
    pub fn advance(&self, time: Duration) {
        self.state().elapsed += time;
    }

    /// How long it has gone on.
    pub fn elapsed(&self) -> Duration {
        self.state().elapsed
    }

    /// The longest that a poll with nothing to tell lets pass, whatever its timeout; at first a second.
    pub fn set_patience(&self, time: Duration) {
        self.state().patience = time;
    }

    /// Sends the server a signal.
    pub fn raise(&self, signal: Signal) {
        let mut state = self.state();
        state.signals.push_back(signal);
        state.woken = true;
    }

    /// Runs `job` as a worker: only then may a call wait for the disk. Elsewhere it counts as a stall.
    pub fn as_worker<T>(&self, job: impl FnOnce() -> T) -> T {
        self.state().may_wait = true;
        let result = job();
        self.state().may_wait = false;
        result
    }

    /// Calls of the loop that had to wait for the disk: syncs, reads ahead, reads of a page that it was told is not there.
    pub fn stalls(&self) -> u64 {
        self.state().files.stalls
    }

    /// What the server holds now.
    pub fn held(&self) -> Held {
        self.state().held()
    }

    /// Calls take a while from now on, as on a machine that others keep busy: a turn of the loop is over before everybody in the
    /// run queue has had his.
    pub fn set_slow(&self) {
        self.state().call_nanoseconds_max = 300_000;
    }

    /// Bounds the descriptors that the server may hold at once.
    pub fn set_descriptors(&self, count: usize) {
        self.state().descriptors = count;
    }

    // Peers. Errors are those of the system calls of the same names; `WouldBlock` says to try again later.

    /// Connects to a listener.
    pub fn connect(&self, to: SocketAddr, from: IpAddr) -> io::Result<Peer> {
        let state = &mut *self.state();
        Ok(Peer(state.network.connect(&mut state.rng, to, from)?))
    }

    /// Lets a peer listen where the server may dial.
    pub fn peer_listen(&self, at: SocketAddr) {
        self.state().network.peer_listen(at);
    }

    /// Takes the next connection that the server has dialled.
    pub fn peer_accept(&self, at: SocketAddr) -> io::Result<Peer> {
        Ok(Peer(self.state().network.peer_accept(at)?))
    }

    /// Closes a peer's listener, with whoever waits at it.
    pub fn peer_close_listener(&self, at: SocketAddr) {
        let state = &mut *self.state();
        state.network.peer_close_listener(&mut state.rng, at);
    }

    /// Sends what there is room for.
    pub fn peer_send(&self, peer: Peer, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.state().network.peer_send(peer.0, bytes)?)
    }

    /// Takes up to `count` of the bytes that have arrived; none is the end.
    pub fn peer_receive(&self, peer: Peer, count: usize) -> io::Result<Vec<u8>> {
        Ok(self.state().network.peer_receive(peer.0, count)?)
    }

    /// Shuts the peer's sending half.
    pub fn peer_shut(&self, peer: Peer) {
        self.state().network.peer_shut(peer.0);
    }

    /// Closes the peer's socket; with unread bytes that is a reset, as on Linux. The peer must not be used again.
    pub fn peer_close(&self, peer: Peer) {
        self.state().network.peer_close(peer.0);
    }

    /// Resets the connection. The peer must not be used again.
    pub fn peer_reset(&self, peer: Peer) {
        let state = &mut *self.state();
        state.network.peer_reset(&mut state.rng, peer.0);
    }

    // Files. Paths are absolute; what is done is durable at once.

    /// Puts something at a path, with the directories above it, over what is there and as a new inode.
    pub fn put(&self, path: &str, entry: Entry) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.put(path, entry, now);
    }

    /// Takes a name away.
    pub fn take(&self, path: &str) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.take(path, now);
    }

    /// Changes a file in place.
    pub fn alter(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let now = state.time();
        state.files.tree.alter(path, change, now);
    }

    /// Whether the server may open what lies at a path to read it, or pass through it.
    pub fn permit(&self, path: &str, permitted: bool) {
        let tree = &mut self.state().files.tree;
        let inode = tree.find(path).expect("it is there");
        tree.at(inode).permitted = permitted;
    }

    /// Everything by its path; with its content where it is a regular file.
    pub fn tree(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        self.state().files.tree.paths()
    }

    /// The status of what lies at a path, links followed.
    pub fn status_of(&self, path: &str) -> Option<Status> {
        let tree = &self.state().files.tree;
        Some(tree.status(tree.find(path)?))
    }

    /// Bounds the room for files, in bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().files.capacity = bytes;
    }

    /// Whether the file system has O_TMPFILE.
    pub fn set_unnamed_files(&self, has: bool) {
        self.state().files.unnamed = has;
    }

    /// The kernel after a power cut at this moment: files as the disk has them, nothing open. This one goes on.
    pub fn crash(&self) -> Sim {
        let state = &mut *self.state();
        let mut rng = state.rng.fork();
        let tree = state.files.tree.crash(&mut rng);
        let after = Sim::with_tree(rng, tree, state.elapsed);
        after.set_unnamed_files(state.files.unnamed);
        after
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic that left it locked is being told already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call: a moment passes, and it may fail.
    fn call(&self, call: Call) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.call_or_fault(call);
        match fault {
            Some(Fault::Error(errno)) => Err(errno.into()),
            _ => Ok(state),
        }
    }

    fn call_or_fault(&self, call: Call) -> (MutexGuard<'_, State>, Option<Fault>) {
        let mut state = self.state();
        state.tick();
        let State { rng, faults, .. } = &mut *state;
        let fault = faults.strike(rng, call);
        (state, fault)
    }
}

impl State {
    fn tick(&mut self) {
        self.elapsed += Duration::from_nanos(self.rng.u64(200..self.call_nanoseconds_max));
    }

    fn time(&self) -> Time {
        let seconds = EPOCH + self.elapsed.as_secs() as i64;
        (seconds, self.elapsed.subsec_nanos())
    }

    fn held(&self) -> Held {
        let connections = self.network.connections.values();
        Held {
            listeners: self.network.listeners(),
            sockets: connections.filter(|connection| connection.held).count(),
            files: self.files.handles(),
            nameless: self.files.tree.nameless(),
        }
    }

    /// Whether a call that makes a descriptor has one.
    fn descriptor(&self) -> Result<(), Errno> {
        let held = self.held();
        match held.listeners + held.sockets + held.files < self.descriptors {
            true => Ok(()),
            false => Err(Errno::EMFILE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::kernel::{Kernel, Open, Piece, Readiness};

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// An accepted and registered connection with token 5, its first edge taken.
    fn connection(sim: &Sim) -> (SimListener, SimSocket, Peer) {
        let listener = sim.listen("127.0.0.1:0".parse().unwrap(), 0).unwrap();
        let to = sim.listening_on(&listener).unwrap();
        let peer = sim.connect(to, PEER).unwrap();
        let (mut socket, from) = sim.accept(&listener).unwrap();
        assert_eq!(from.ip(), PEER);
        sim.register(&mut socket, 5).unwrap();
        assert!(events(sim).iter().any(|event| event.writable));
        (listener, socket, peer)
    }

    /// What is told until nothing more is, in a world where nothing is told twice.
    fn events(sim: &Sim) -> Vec<Readiness> {
        let (mut all, mut some) = (Vec::new(), Vec::new());
        loop {
            sim.poll(&mut some, None).unwrap();
            if some.is_empty() {
                return all
                    .into_iter()
                    .filter(|event: &Readiness| event.token == 5)
                    .collect();
            }
            all.append(&mut some);
        }
    }

    /// A simulation in which no event is spurious.
    fn calm() -> Sim {
        let calm = |seed: &u64| Sim::new(*seed).state().network.is_calm();
        Sim::new((0..).find(calm).unwrap())
    }

    fn would_block<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.unwrap_err().kind() == io::ErrorKind::WouldBlock
    }

    #[test]
    fn one_seed_gives_one_run() {
        let run = |seed| {
            let sim = Sim::new(seed);
            let (_listener, socket, peer) = connection(&sim);
            let mut told = Vec::new();
            let mut buffer = [0; 100];
            for byte in 0..50 {
                sim.peer_send(peer, &[byte; 40]).unwrap_or(0);
                sim.poll(&mut told, Some(Duration::ZERO)).unwrap();
                _ = sim.receive(&socket, &mut buffer);
            }
            let elapsed = sim.state().elapsed;
            (buffer, elapsed)
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn every_arrival_is_an_edge_and_what_is_there_already_is_not() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.peer_send(peer, b"one").unwrap();
        assert!(
            events(&sim)
                .iter()
                .any(|event| event.readable && !event.ended)
        );
        assert_eq!(events(&sim), []);
        sim.peer_shut(peer);
        assert!(events(&sim).iter().any(|event| event.ended));
        let mut buffer = [0; 8];
        assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 3);
        assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn room_is_an_edge_only_after_a_write_has_blocked() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        let bytes = [7; 1024];
        let mut sent = sim.send(&socket, &[Piece::Bytes(&bytes)], false).unwrap();
        assert_eq!(events(&sim), []);
        let mut received = sim.peer_receive(peer, usize::MAX).unwrap().len();
        assert_eq!(events(&sim), [], "nothing has blocked");
        loop {
            match sim.send(&socket, &[Piece::Bytes(&bytes)], false) {
                Ok(count) => sent += count,
                error => break assert!(would_block(error)),
            }
        }
        assert_eq!(events(&sim), []);
        while received < sent {
            received += sim.peer_receive(peer, usize::MAX).unwrap().len();
        }
        assert!(events(&sim).iter().any(|event| event.writable));
        assert_eq!(received, sent);
        assert!(would_block(sim.peer_receive(peer, 1)));
    }

    #[test]
    fn an_injected_would_block_is_followed_by_an_edge() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.peer_send(peer, b"one").unwrap();
        events(&sim);
        let again = Call::Receive
            .faults()
            .iter()
            .position(|fault| *fault == Fault::Error(Errno::EAGAIN));
        sim.plan(Plan::Nth(1, again.unwrap()));
        assert!(would_block(sim.receive(&socket, &mut [0; 8])));
        assert!(events(&sim).iter().any(|event| event.readable));
    }

    #[test]
    fn a_short_read_leaves_nothing_unannounced() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.peer_send(peer, b"one").unwrap();
        events(&sim);
        sim.plan(Plan::Nth(1, 0));
        let mut buffer = [0; 8];
        assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 1);
        assert!(would_block(sim.receive(&socket, &mut buffer)));
        assert!(events(&sim).iter().any(|event| event.readable));
        assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 2);
    }

    #[test]
    fn a_reset_is_told_once_and_then_the_pipe_is_broken() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.peer_reset(peer);
        assert!(
            events(&sim)
                .iter()
                .any(|event| event.readable && event.writable)
        );
        let told = sim.receive(&socket, &mut [0; 8]).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(sim.receive(&socket, &mut [0; 8]).unwrap(), 0);
        let told = sim.send(&socket, &[Piece::Bytes(b"x")], false).unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn closing_with_unread_bytes_is_a_reset_and_without_is_an_end() {
        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.peer_send(peer, b"unread").unwrap();
        drop(socket);
        events(&sim);
        let told = loop {
            match sim.peer_receive(peer, 100) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);

        let sim = calm();
        let (_listener, socket, peer) = connection(&sim);
        sim.send(&socket, &[Piece::Bytes(b"x")], false).unwrap();
        drop(socket);
        events(&sim);
        assert_eq!(sim.peer_receive(peer, 100).unwrap(), b"x");
        assert_eq!(sim.peer_receive(peer, 100).unwrap(), b"");
        assert_eq!(sim.held().sockets, 0);
    }

    #[test]
    fn out_of_descriptors_leaves_the_peer_waiting() {
        let sim = calm();
        let (listener, socket, _peer) = connection(&sim);
        sim.set_descriptors(2);
        let to = sim.listening_on(&listener).unwrap();
        sim.connect(to, PEER).unwrap();
        let refused = sim.accept(&listener).map(|_| ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::EMFILE as i32));
        drop(socket);
        assert!(sim.accept(&listener).is_ok());
    }

    #[test]
    fn a_shrunken_file_ends_sendfile_and_faults_a_map() {
        let sim = calm();
        let (_listener, socket, _peer) = connection(&sim);
        sim.put("/d/file", Entry::File(vec![1; 9000]));
        let root = sim.open_root("/d".as_ref()).unwrap();
        let file = sim.open_beneath(&root, "file", Open::Read).unwrap();
        let map = sim.map(&file, 9000).unwrap();
        sim.alter("/d/file", |content| content.truncate(100));
        assert_eq!(sim.send_file(&socket, &file, 100, 50).unwrap(), 0);
        let slice = |from, length| {
            [Piece::Mapped {
                map: &map,
                from,
                length,
            }]
        };
        let beyond = sim.send(&socket, &slice(4096, 10), false).unwrap_err();
        assert_eq!(beyond.raw_os_error(), Some(Errno::EFAULT as i32));
        assert!(
            sim.send(&socket, &slice(99, 2), false).unwrap() > 0,
            "zeros behind the end"
        );
        drop((file, root));
        assert_eq!(sim.held().files, 0);
    }

    #[test]
    fn who_is_dialled_answers_later_or_says_no() {
        let sim = calm();
        let (from, to) = (SocketAddr::new(PEER, 0), SocketAddr::new(PEER, 5000));
        let mut refused = sim.dial(from, to).unwrap();
        Kernel::register(&sim, &mut refused, 5).unwrap();
        assert!(would_block(sim.dialled(&refused)));
        assert!(would_block(sim.receive(&refused, &mut [0])));
        assert!(events(&sim).iter().any(|event| event.writable));
        let error = sim.dialled(&refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        drop(refused);

        sim.peer_listen(to);
        let mut socket = sim.dial(from, to).unwrap();
        Kernel::register(&sim, &mut socket, 5).unwrap();
        assert!(would_block(sim.peer_accept(to)));
        assert!(events(&sim).iter().any(|event| event.writable));
        sim.dialled(&socket).unwrap();
        let peer = sim.peer_accept(to).unwrap();
        sim.peer_send(peer, b"hello").unwrap();
        events(&sim);
        assert_eq!(sim.receive(&socket, &mut [0; 8]).unwrap(), 5);
        assert_eq!(sim.local_address(&socket).unwrap().ip(), from.ip());
        drop(socket);
        assert_eq!(sim.held().sockets, 0);
    }

    #[test]
    fn a_name_that_went_to_another_directory_is_in_one_of_them_after_a_power_cut() {
        for seed in 0..32 {
            let sim = Sim::new(seed);
            sim.put("/a/file", Entry::File(vec![1]));
            sim.put("/b", Entry::Directory);
            let open = |path: &str| sim.open_root(path.as_ref()).unwrap();
            let (a, b) = (open("/a"), open("/b"));
            sim.rename((&a, "file"), (&b, "other"), false).unwrap();
            let found =
                |tree: BTreeMap<_, _>| ["/a/file", "/b/other"].map(|at| tree.contains_key(at));
            assert_eq!(found(sim.tree()), [false, true]);
            let after = found(sim.crash().tree());
            assert_ne!(after[0], after[1]);
            sim.as_worker(|| sim.sync(&a)).unwrap();
            assert_eq!(found(sim.crash().tree()), [false, true]);
            let error = sim.remove_directory(&open("/"), "b").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::DirectoryNotEmpty);
        }
    }

    #[test]
    fn room_comes_back_with_a_nameless_file() {
        let sim = calm();
        sim.put("/d", Entry::Directory);
        sim.set_capacity(10);
        let root = sim.open_root("/d".as_ref()).unwrap();
        let file = sim.create_unnamed(&root).unwrap();
        sim.reserve(&file, 8).unwrap();
        assert_eq!(sim.room(&root).unwrap(), 2);
        assert_eq!(sim.write_at(&file, &[1; 20], 0).unwrap(), 10);
        assert!(sim.write_at(&file, &[1], 10).is_err());
        assert_eq!(sim.held().nameless, 1);
        drop(file);
        assert_eq!((sim.room(&root).unwrap(), sim.held().nameless), (10, 0));
        sim.set_unnamed_files(false);
        let refused = sim.create_unnamed(&root).map(|_| ()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::EOPNOTSUPP as i32));
    }

    #[test]
    fn what_was_synced_and_named_outlives_a_power_cut() {
        for seed in 0..32 {
            let sim = Sim::new(seed);
            sim.put("/d", Entry::Directory);
            let root = sim.open_root("/d".as_ref()).unwrap();
            let file = sim.create_unnamed(&root).unwrap();
            sim.write_at(&file, b"whole", 0).unwrap();
            sim.as_worker(|| sim.sync(&file)).unwrap();
            sim.link(&file, &root, "name").unwrap();
            if let Some(Some(content)) = sim.crash().tree().get("/d/name") {
                assert_eq!(**content, b"whole");
            }
            sim.sync(&root).unwrap();
            assert_eq!(sim.crash().tree(), sim.tree());
            assert_eq!(sim.stalls(), 1, "the second sync was on the loop");
        }
    }

    #[test]
    fn a_lock_is_one_handles_until_it_is_closed() {
        let sim = calm();
        sim.put("/d/file", Entry::File(Vec::new()));
        let root = sim.open_root("/d".as_ref()).unwrap();
        let open = || sim.open_beneath(&root, "file", Open::Read).unwrap();
        let (first, second) = (open(), open());
        sim.lock(&first).unwrap();
        sim.lock(&first).unwrap();
        assert!(would_block(sim.lock(&second)));
        drop(first);
        sim.lock(&second).unwrap();
    }

    #[test]
    fn a_page_that_was_read_ahead_is_there() {
        for seed in 0..32 {
            let sim = Sim::new(seed);
            sim.put("/d/file", Entry::File(vec![0; 10_000]));
            let root = sim.open_root("/d".as_ref()).unwrap();
            let file = sim.open_beneath(&root, "file", Open::Read).unwrap();
            match sim.is_cached(&file, 5000) {
                Ok(true) => {}
                Ok(false) => {
                    assert!(!sim.is_cached(&file, 5000).unwrap());
                    sim.as_worker(|| sim.read_ahead(&file, 5000, 1)).unwrap();
                    assert!(sim.is_cached(&file, 5000).unwrap());
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
            }
            sim.read_at(&file, &mut [0; 10], 5000).unwrap();
            assert_eq!(sim.stalls(), 0);
        }
    }
}

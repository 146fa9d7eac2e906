//! The simulated kernel behaves like Linux as far as a server can observe it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;

use crate::kernel::sim::fault_plan::{FaultPlan, InjectedFault, SystemCall};
use crate::kernel::sim::simulator::{Peer, Sim};
use crate::kernel::sim::{SimEntry, SimListener, SimSocket};
use crate::kernel::{Kernel, OpenMode, Piece, Readiness};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An accepted and registered connection with token 5, its first edge taken.
fn connection(sim: &Sim) -> (SimListener, SimSocket, Peer) {
    let listener = sim.listen("127.0.0.1:0".parse().unwrap(), 0).unwrap();
    let to = sim.listener_address(&listener).unwrap();
    let peer = sim.peer_connect(to, PEER).unwrap();
    let (mut socket, from) = sim.accept(&listener).unwrap();
    assert_eq!(from.ip(), PEER);
    sim.register(&mut socket, 5).unwrap();
    assert!(events(sim).iter().any(|event| event.writable));
    (listener, socket, peer)
}

/// All events until none is left, in a simulation without spurious events.
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
        let mut result = Vec::new();
        let mut buffer = [0; 100];
        for byte in 0..50 {
            sim.peer_send(peer, &[byte; 40]).unwrap_or(0);
            sim.poll(&mut result, Some(Duration::ZERO)).unwrap();
            _ = sim.receive(&socket, &mut buffer);
        }
        let elapsed = sim.elapsed();
        (buffer, elapsed)
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn every_arrival_is_one_edge() {
    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    sim.peer_send(peer, b"one").unwrap();
    assert!(
        events(&sim)
            .iter()
            .any(|event| event.readable && !event.ended)
    );
    assert_eq!(events(&sim), []);
    sim.peer_shutdown(peer);
    assert!(events(&sim).iter().any(|event| event.ended));
    let mut buffer = [0; 8];
    assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 3);
    assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 0);
}

#[test]
fn free_space_is_an_edge_only_after_a_blocked_write() {
    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    let bytes = [7; 1024];
    let mut sent = sim.send(&socket, &[Piece::Bytes(&bytes)], false).unwrap();
    assert_eq!(events(&sim), []);
    let mut received = sim.peer_receive(peer, usize::MAX).unwrap().len();
    assert_eq!(events(&sim), [], "no write has blocked");
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
    let again = SystemCall::Receive
        .faults()
        .iter()
        .position(|fault| *fault == InjectedFault::Error(Errno::EAGAIN));
    sim.set_fault_plan(FaultPlan::NthCall(1, again.unwrap()));
    assert!(would_block(sim.receive(&socket, &mut [0; 8])));
    assert!(events(&sim).iter().any(|event| event.readable));
}

#[test]
fn a_short_read_is_followed_by_an_edge() {
    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    sim.peer_send(peer, b"one").unwrap();
    events(&sim);
    sim.set_fault_plan(FaultPlan::NthCall(1, 0));
    let mut buffer = [0; 8];
    assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 1);
    assert!(would_block(sim.receive(&socket, &mut buffer)));
    assert!(events(&sim).iter().any(|event| event.readable));
    assert_eq!(sim.receive(&socket, &mut buffer).unwrap(), 2);
}

#[test]
fn a_reset_is_reported_once_before_broken_pipe() {
    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    sim.peer_reset(peer);
    assert!(
        events(&sim)
            .iter()
            .any(|event| event.readable && event.writable)
    );
    let result = sim.receive(&socket, &mut [0; 8]).unwrap_err();
    assert_eq!(result.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(sim.receive(&socket, &mut [0; 8]).unwrap(), 0);
    let result = sim.send(&socket, &[Piece::Bytes(b"x")], false).unwrap_err();
    assert_eq!(result.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn closing_resets_only_with_unread_bytes() {
    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    sim.peer_send(peer, b"unread").unwrap();
    drop(socket);
    events(&sim);
    let result = loop {
        match sim.peer_receive(peer, 100) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(result.kind(), io::ErrorKind::ConnectionReset);

    let sim = calm();
    let (_listener, socket, peer) = connection(&sim);
    sim.send(&socket, &[Piece::Bytes(b"x")], false).unwrap();
    drop(socket);
    events(&sim);
    assert_eq!(sim.peer_receive(peer, 100).unwrap(), b"x");
    assert_eq!(sim.peer_receive(peer, 100).unwrap(), b"");
    assert_eq!(sim.held_handles().sockets, 0);
}

#[test]
fn a_peer_waits_while_descriptors_are_exhausted() {
    let sim = calm();
    let (listener, socket, _peer) = connection(&sim);
    sim.set_descriptors(2);
    let to = sim.listener_address(&listener).unwrap();
    sim.peer_connect(to, PEER).unwrap();
    let refused = sim.accept(&listener).map(|_| ()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EMFILE as i32));
    drop(socket);
    assert!(sim.accept(&listener).is_ok());
}

#[test]
fn a_truncated_file_ends_sendfile_and_faults_a_map() {
    let sim = calm();
    let (_listener, socket, _peer) = connection(&sim);
    sim.put("/d/file", SimEntry::File(vec![1; 9000]));
    let root = sim.open_root("/d".as_ref()).unwrap();
    let file = sim.open_beneath(&root, "file", OpenMode::Read).unwrap();
    let map = sim.map(&file, 9000).unwrap();
    sim.modify_file("/d/file", |content| content.truncate(100));
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
        "zeros follow the end"
    );
    drop((file, root));
    assert_eq!(sim.held_handles().files, 0);
}

#[test]
fn an_outgoing_connection_succeeds_or_is_refused() {
    let sim = calm();
    let (from, to) = (SocketAddr::new(PEER, 0), SocketAddr::new(PEER, 5000));
    let mut refused = sim.connect(from, to).unwrap();
    Kernel::register(&sim, &mut refused, 5).unwrap();
    assert!(would_block(sim.connect_result(&refused)));
    assert!(would_block(sim.receive(&refused, &mut [0])));
    assert!(events(&sim).iter().any(|event| event.writable));
    let error = sim.connect_result(&refused).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    drop(refused);

    sim.peer_listen(to);
    let mut socket = sim.connect(from, to).unwrap();
    Kernel::register(&sim, &mut socket, 5).unwrap();
    assert!(would_block(sim.peer_accept(to)));
    assert!(events(&sim).iter().any(|event| event.writable));
    sim.connect_result(&socket).unwrap();
    let peer = sim.peer_accept(to).unwrap();
    sim.peer_send(peer, b"hello").unwrap();
    events(&sim);
    assert_eq!(sim.receive(&socket, &mut [0; 8]).unwrap(), 5);
    assert_eq!(sim.local_address(&socket).unwrap().ip(), from.ip());
    drop(socket);
    assert_eq!(sim.held_handles().sockets, 0);
}

#[test]
fn a_cross_rename_survives_a_power_cut_as_a_whole() {
    for seed in 0..32 {
        let sim = Sim::new(seed);
        sim.put("/a/file", SimEntry::File(vec![1]));
        sim.put("/b", SimEntry::Directory);
        let open = |path: &str| sim.open_root(path.as_ref()).unwrap();
        let (a, b) = (open("/a"), open("/b"));
        sim.rename((&a, "file"), (&b, "other"), false).unwrap();
        let found = |tree: BTreeMap<_, _>| ["/a/file", "/b/other"].map(|at| tree.contains_key(at));
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
fn an_unnamed_file_frees_its_space_on_close() {
    let sim = calm();
    sim.put("/d", SimEntry::Directory);
    sim.set_capacity(10);
    let root = sim.open_root("/d".as_ref()).unwrap();
    let file = sim.create_unnamed(&root, "probe").unwrap();
    sim.preallocate(&file, 0..8).unwrap();
    assert_eq!(sim.free_space(&root).unwrap(), 2);
    assert_eq!(sim.write_at(&file, &[1; 20], 0).unwrap(), 10);
    assert!(sim.write_at(&file, &[1], 10).is_err());
    assert_eq!(sim.held_handles().nameless, 1);
    drop(file);
    assert_eq!(
        (sim.free_space(&root).unwrap(), sim.held_handles().nameless),
        (10, 0)
    );
    sim.set_unnamed_files(false);
    let refused = sim.create_unnamed(&root, "probe").map(|_| ()).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::EOPNOTSUPP as i32));
}

#[test]
fn a_synced_and_linked_file_survives_a_power_cut() {
    for seed in 0..32 {
        let sim = Sim::new(seed);
        sim.put("/d", SimEntry::Directory);
        let root = sim.open_root("/d".as_ref()).unwrap();
        let file = sim.create_unnamed(&root, "probe").unwrap();
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
fn a_lock_belongs_to_one_handle_until_it_closes() {
    let sim = calm();
    sim.put("/d/file", SimEntry::File(Vec::new()));
    let root = sim.open_root("/d".as_ref()).unwrap();
    let open = || sim.open_beneath(&root, "file", OpenMode::Read).unwrap();
    let (first, second) = (open(), open());
    sim.lock(&first).unwrap();
    sim.lock(&first).unwrap();
    assert!(would_block(sim.lock(&second)));
    drop(first);
    sim.lock(&second).unwrap();
}

#[test]
fn a_page_is_cached_after_readahead() {
    for seed in 0..32 {
        let sim = Sim::new(seed);
        sim.put("/d/file", SimEntry::File(vec![0; 10_000]));
        let root = sim.open_root("/d".as_ref()).unwrap();
        let file = sim.open_beneath(&root, "file", OpenMode::Read).unwrap();
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

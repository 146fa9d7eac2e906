//! Passive ports that are in use or connected to by other addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tidegate::kernel::sim::SimEntry;
use tidegate::limits::{ACCEPTS_PER_TICK_MAX, SHARED_PASSIVE_PORTS};
use tidegate::protocol::session::Dialect;
use tidegate::server::Options;

use super::stage::{CLIENT, Stage, port_of};

#[test]
fn waiting_for_a_passive_port_costs_constant_work() {
    let mut stage = Stage::with(1, with_passive_ports(1500, 1519));
    for port in 1500..1520 {
        let taken = SocketAddr::new(CLIENT, port);
        stage
            .event_loop
            .listen(taken, Dialect::Menu)
            .expect("the port is free");
    }
    let sessions = [(); 30].map(|()| {
        stage.connect_ftp();
        stage.peer
    });
    for session in sessions {
        stage.peer = session;
        stage.send("EPSV\r\n");
    }
    stage.tick(20);
    for _ in 0..5 {
        let calls = stage.sim.call_count();
        stage.sim.advance(Duration::from_secs(1));
        stage.tick(1);
        stage.event_loop.assert_invariants();
        let calls = stage.sim.call_count() - calls;
        assert!(calls < 2 * 20, "{calls} calls per second");
    }
    stage.sim.advance(Duration::from_secs(5));
    for session in sessions {
        stage.peer = session;
        assert!(stage.receive().starts_with("425 "));
    }
}

#[test]
fn connections_to_all_passive_ports_delay_no_client() {
    for seed in 0..8 {
        let mut stage = Stage::with(seed, with_passive_ports(1500, 1503));
        let joker = SimEntry::File(b"film".to_vec());
        stage.sim.put("/srv/Movies/Joker", joker);
        let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
        // The sessions use every port for their address, so that all ports are open.
        let sessions = [(); 4].map(|()| {
            stage.connect_ftp();
            stage.send("EPSV\r\n");
            let reply = stage.receive();
            let port = reply.split('|').nth(3).expect("the reply has a port");
            let port = port.parse().expect("a number");
            (stage.peer, SocketAddr::new(CLIENT, port))
        });
        for (_, at) in sessions {
            for _ in 0..40 {
                stage
                    .sim
                    .peer_connect(at, other)
                    .expect("the server listens");
            }
        }
        let expected = sessions.map(|(control, at)| {
            let data = stage.sim.peer_connect(at, CLIENT);
            (control, data.expect("the server listens"))
        });
        for _ in 0..20 {
            let calls = stage.sim.call_count();
            stage.tick(1);
            stage.event_loop.assert_invariants();
            let calls = stage.sim.call_count() - calls;
            assert!(
                calls <= ACCEPTS_PER_TICK_MAX as u64 + 20,
                "seed {seed}: {calls} calls in a tick"
            );
        }
        for (control, data) in expected {
            stage.peer = control;
            stage.send("RETR Joker\r\n");
            assert!(stage.receive().starts_with("150 "));
            let got = stage.sim.peer_receive(data, usize::MAX);
            assert_eq!(got.expect("the content arrives"), b"film", "seed {seed}");
        }
    }
}

/// As with a range of ports, transfers one after another need no new listeners.
#[test]
fn transfers_share_a_few_listeners_without_a_range() {
    let mut stage = Stage::new(7);
    let joker = SimEntry::File(b"film".to_vec());
    stage.sim.put("/srv/Movies/Joker", joker);
    let addresses = [1, 2, 3].map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let sessions = addresses.map(|address| {
        stage.connect_ftp_from(address);
        (stage.peer, address)
    });
    let opened = stage.sim.opened_listeners();
    let mut ports = BTreeSet::new();
    for _ in 0..60 {
        // Sessions of different addresses can have the same port at the same time.
        let reserved = sessions.map(|(control, address)| {
            stage.peer = control;
            stage.send("EPSV\r\n");
            (control, address, port_of(&stage.receive()))
        });
        for (control, address, at) in reserved {
            ports.insert(at);
            let data = stage.sim.peer_connect(at, address);
            stage.peer = control;
            stage.send("RETR Joker\r\n");
            let mut reply = stage.receive();
            let data = data.expect("the server listens");
            let got = stage.sim.peer_receive(data, usize::MAX);
            assert_eq!(got.expect("the content arrives"), b"film");
            stage.sim.peer_close(data);
            reply.push_str(&stage.receive());
            assert!(reply.contains("226 "), "{reply}");
        }
    }
    let opened = stage.sim.opened_listeners() - opened;
    assert_eq!(opened, SHARED_PASSIVE_PORTS as u64, "listeners were opened");
    assert_eq!(ports.len(), SHARED_PASSIVE_PORTS, "all of them are used");
}

/// More sessions of one address than shared listeners get listeners of their own, which are closed
/// after use.
#[test]
fn further_listeners_are_closed_after_use() {
    let mut stage = Stage::new(8);
    let count = SHARED_PASSIVE_PORTS + 10;
    let sessions: Vec<_> = (0..count)
        .map(|_| {
            stage.connect_ftp();
            stage.send("EPSV\r\n");
            (stage.peer, port_of(&stage.receive()))
        })
        .collect();
    let ports: BTreeSet<_> = sessions.iter().map(|(_, at)| at).collect();
    assert_eq!(ports.len(), count, "one each");
    let held = stage.sim.held_handles().listeners;
    for (control, at) in &sessions {
        stage.peer = *control;
        let data = stage.sim.peer_connect(*at, CLIENT);
        stage.settle();
        stage.sim.peer_close(data.expect("the server listens"));
    }
    stage.settle();
    assert_eq!(stage.sim.held_handles().listeners, held - 10);
}

fn with_passive_ports(first: u16, last: u16) -> Options {
    Options {
        passive_ports: Some((first, last)),
        ..Options::default()
    }
}

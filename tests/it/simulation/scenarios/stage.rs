//! A server on the simulated kernel with one client.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::protocol::ftp::active_mode::ActiveMode;
use tidegate::protocol::ftp::session::FtpSettings;
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

use super::super::{serve, write_home};

/// The address of the clients.
pub(super) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server with one client that has not logged in.
pub(super) struct Stage {
    pub(super) sim: Sim,
    pub(super) event_loop: EventLoop<Sim>,
    pub(super) address: SocketAddr,
    /// The FTP listener, once [`Stage::connect_ftp`] was called.
    pub(super) ftp: SocketAddr,
    pub(super) peer: Peer,
    _home: TempDir,
}

impl Stage {
    pub(super) fn new(seed: u64) -> Stage {
        Stage::with(seed, Options::default())
    }

    pub(super) fn with(seed: u64, options: Options) -> Stage {
        Stage::granting(seed, options, "user1:Movies:read,change:/srv/Movies\n")
    }

    pub(super) fn granting(seed: u64, options: Options, directories: &str) -> Stage {
        let sim = Sim::new(seed);
        sim.put("/srv/Movies", SimEntry::Directory);
        Stage::on(sim, options, directories)
    }

    /// A server on a kernel that may have further devices.
    pub(super) fn on(sim: Sim, options: Options, directories: &str) -> Stage {
        sim.set_max_wait(Duration::from_millis(1));
        let home = TempDir::new().expect("a temporary folder is created");
        write_home(
            home.path(),
            ("user1:plain:1234\n".into(), directories.into()),
        );
        let (event_loop, address) = serve(&sim, home.path(), options);
        let peer = sim.peer_connect(address, CLIENT);
        let peer = peer.expect("the server listens");
        // The granted directories are found to be on local disks.
        while event_loop.jobs() > 0 {
            sim.as_worker(|| event_loop.run_job(0));
        }
        Stage {
            sim,
            event_loop,
            address,
            ftp: address,
            peer,
            _home: home,
        }
    }

    /// Runs ticks and jobs until nothing is left to do before the next deadline.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            self.settle_once();
        }
    }

    pub(super) fn settle_once(&mut self) {
        self.event_loop.tick().expect("polling does not fail");
        self.event_loop.assert_invariants();
        self.run_jobs();
    }

    /// Runs jobs until all are done or wait for a device.
    pub(super) fn run_jobs(&mut self) {
        while self.sim.resume_job(0) {}
        while self.event_loop.jobs() > 0 {
            self.sim.run_job(self.event_loop.start_job(0));
        }
    }

    /// Runs ticks without jobs.
    pub(super) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.event_loop.tick().expect("polling does not fail");
        }
    }

    pub(super) fn send(&self, text: &str) {
        let sent = self.sim.peer_send(self.peer, text.as_bytes());
        assert_eq!(sent.expect("the connection is open"), text.len());
    }

    /// Replaces the client by a new one that uses FTP and logs in.
    pub(super) fn connect_ftp(&mut self) {
        self.connect_ftp_from(CLIENT);
    }

    pub(super) fn connect_ftp_from(&mut self, client: IpAddr) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let dialect = Dialect::Ftp(FtpSettings {
            active: ActiveMode::Disabled,
        });
        self.ftp = self
            .event_loop
            .listen(any, dialect)
            .expect("no fault is injected");
        self.peer = self
            .sim
            .peer_connect(self.ftp, client)
            .expect("the server listens");
        self.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nCWD Movies\r\n");
        assert!(self.receive().contains("\r\n250 "), "the login failed");
    }

    /// Opens a passive data connection.
    pub(super) fn connect_data(&mut self) -> Peer {
        self.send("EPSV\r\n");
        let reply = self.receive();
        self.sim
            .peer_connect(port_of(&reply), CLIENT)
            .expect("the server listens")
    }

    /// Creates a server that never empties its run queue, with four clients that download.
    pub(super) fn with_run_queue(seed: u64) -> (Stage, Vec<(Peer, Peer)>) {
        let mut stage = Stage::new(seed);
        stage.sim.set_slow();
        let long = SimEntry::File(vec![0; 16_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        let clients = (0..4).map(|_| {
            stage.connect_ftp();
            let data = stage.connect_data();
            stage.send("RETR long\r\n");
            (stage.peer, data)
        });
        let clients = clients.collect();
        (stage, clients)
    }

    /// Receives until the server closes the connection or has nothing to send.
    pub(super) fn receive(&mut self) -> String {
        let mut received = Vec::new();
        loop {
            self.settle();
            match self.sim.peer_receive(self.peer, usize::MAX) {
                Ok(bytes) if !bytes.is_empty() => received.extend(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                end => {
                    end.expect("the connection was not reset");
                    break;
                }
            }
        }
        String::from_utf8(received).expect("messages are UTF-8")
    }
}

/// Returns the address in the reply to EPSV.
pub(super) fn port_of(reply: &str) -> SocketAddr {
    let port = reply.split('|').nth(3).expect("the reply has a port");
    SocketAddr::new(CLIENT, port.parse().expect("a number"))
}

//! An event loop over the simulated kernel with one logged-in menu client, to measure its cost
//! without Linux.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tempfile::TempDir;
use tidegate::config::Home;
use tidegate::kernel::sim::{Peer, Sim, SimEntry};
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

const LOGIN: &[u8] = b"LOGIN\nanna\n1234\n";
const DOWNLOAD: &[u8] = b"DOWNLOAD FILE Movies/Joker\n";
const MENU_PREFIX: &[u8] = b"Please choose: ";

/// Ticks after which a reply is overdue. The simulation delays and splits sent bytes.
const TICKS_MAX: usize = 10_000;

pub(crate) struct SimulatedServer {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    peer: Peer,
    _home: TempDir,
}

impl SimulatedServer {
    /// Starts the event loop, connects a client and logs it in.
    pub(crate) fn new() -> SimulatedServer {
        let home = TempDir::new().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(home.path().join(name), text).expect("a temporary file");
        };
        write("Credentials", "anna:plain:1234\n");
        write("Directories", "anna:Movies:read:/srv/Movies\n");
        let sim = Sim::new(1);
        // The file ends with a line feed, so that the menu after it starts a line.
        let file = [&[b'x'; 1023][..], b"\n"].concat();
        sim.put("/srv/Movies/Joker", SimEntry::File(file));
        let (loaded, _) = Home::load(home.path()).expect("a valid home");
        let mut event_loop =
            EventLoop::without_threads(Arc::new(sim.clone()), loaded, Options::default());
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = event_loop
            .listen(SocketAddr::new(localhost, 0), Dialect::Menu)
            .expect("the simulated listener opens");
        let peer = sim
            .peer_connect(address, localhost)
            .expect("the listener exists");
        let mut server = SimulatedServer {
            sim,
            event_loop,
            peer,
            _home: home,
        };
        server.request(LOGIN);
        server
    }

    /// Downloads 1 KiB, from the command to the menu after the file.
    pub(crate) fn download(&mut self) {
        self.request(DOWNLOAD);
    }

    /// Sends a request and runs the event loop until the menu has arrived.
    fn request(&mut self, mut request: &[u8]) {
        let mut received = Vec::new();
        for _ in 0..TICKS_MAX {
            if !request.is_empty()
                && let Ok(sent) = self.sim.peer_send(self.peer, request)
            {
                request = &request[sent..];
            }
            self.event_loop.tick().expect("the poll succeeds");
            while self.event_loop.jobs() > 0 {
                self.event_loop.run_job(0);
            }
            if let Ok(bytes) = self.sim.peer_receive(self.peer, 64 * 1024) {
                received.extend(bytes);
            }
            let text = received.strip_suffix(b"\n").unwrap_or_default();
            if request.is_empty()
                && text
                    .rsplit(|&byte| byte == b'\n')
                    .next()
                    .is_some_and(|line| line.starts_with(MENU_PREFIX))
            {
                return;
            }
        }
        panic!("the menu does not arrive");
    }
}

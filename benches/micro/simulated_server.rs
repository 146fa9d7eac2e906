//! A server over the simulated kernel with one client at its menu: for the benches that ask what a turn of the event_loop costs
//! without Linux below it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tempfile::TempDir;
use tidegate::config::Home;
use tidegate::kernel::sim::{Entry, Peer, Sim};
use tidegate::protocol::session::Dialect;
use tidegate::server::{EventLoop, Options};

const LOGIN: &[u8] = b"LOGIN\nanna\n1234\n";
const DOWNLOAD: &[u8] = b"DOWNLOAD FILE Movies/Joker\n";
const MENU_BEGINS: &[u8] = b"Please choose: ";

pub(crate) struct World {
    sim: Sim,
    event_loop: EventLoop<Sim>,
    peer: Peer,
    _home: TempDir,
}

impl World {
    /// A client has logged in.
    pub(crate) fn new() -> World {
        let home = TempDir::new().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(home.path().join(name), text).expect("a temporary file");
        };
        write("Credentials", "anna:plain:1234\n");
        write("Directories", "anna:Movies:read:/srv/Movies\n");
        let sim = Sim::new(1);
        // It ends with a line, so that the menu behind it begins one.
        let file = [&[b'x'; 1023][..], b"\n"].concat();
        sim.put("/srv/Movies/Joker", Entry::File(file));
        let (loaded, _) = Home::load(home.path()).expect("a home without faults");
        let mut event_loop =
            EventLoop::without_threads(Arc::new(sim.clone()), loaded, Options::default());
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = event_loop
            .listen(SocketAddr::new(localhost, 0), Dialect::Menu)
            .expect("nothing fails");
        let peer = sim.connect(address, localhost).expect("somebody listens");
        let mut world = World {
            sim,
            event_loop,
            peer,
            _home: home,
        };
        world.say(LOGIN);
        world
    }

    /// One download of 1 KiB, from the command to the menu behind the file.
    pub(crate) fn download(&mut self) {
        self.say(DOWNLOAD);
    }

    /// Says something and lets the event_loop turn until the menu has come.
    fn say(&mut self, mut words: &[u8]) {
        let mut heard = Vec::new();
        // The simulation cuts what is sent, and holds it up, as it likes.
        for _ in 0..10_000 {
            if !words.is_empty()
                && let Ok(sent) = self.sim.peer_send(self.peer, words)
            {
                words = &words[sent..];
            }
            self.event_loop.turn().expect("a poll does not fail");
            while self.event_loop.jobs() > 0 {
                self.event_loop.run_job(0);
            }
            if let Ok(bytes) = self.sim.peer_receive(self.peer, 64 * 1024) {
                heard.extend(bytes);
            }
            let last = heard.strip_suffix(b"\n").unwrap_or_default();
            if words.is_empty()
                && last
                    .rsplit(|&byte| byte == b'\n')
                    .next()
                    .is_some_and(|line| line.starts_with(MENU_BEGINS))
            {
                return;
            }
        }
        panic!("the menu does not come");
    }
}

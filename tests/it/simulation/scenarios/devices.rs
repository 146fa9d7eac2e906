//! Devices that hang or fail, next to one that does not.

use std::time::Duration;

use nix::errno::Errno;
use tidegate::kernel::sim::{DeviceBehaviour, Peer, Sim, SimDevice, SimEntry};
use tidegate::kernel::{FileSystemKind, Signal};
use tidegate::limits::{DISK_PROBE_INTERVAL, DISK_PROBE_TIMEOUT, SWEEP_INTERVAL};
use tidegate::server::Options;

use super::stage::{CLIENT, Stage, port_of};

const DISK_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that call the device. `D` is a directory on it.
const REQUESTS: [&str; 11] = [
    "SIZE D/film\r\n",
    "CWD D/sub\r\n",
    "STAT D\r\n",
    "XCRC D/film\r\n",
    "MKD D/new\r\n",
    "RMD D/none\r\n",
    "DELE D/none\r\n",
    "MFMT 20260101000000 D/film\r\n",
    "LIST D\r\n",
    "RETR D/film\r\n",
    "STOR D/upload\r\n",
];

/// A server with the directory `Far`, also `Movies/deep/far`, on a device of its own.
fn stage(seed: u64, kind: FileSystemKind) -> (Stage, SimDevice) {
    let sim = Sim::new(seed);
    for directory in ["/srv/Movies", "/srv/Movies/deep/far"] {
        let film = SimEntry::File(vec![b'f'; 10_000]);
        sim.put(&format!("{directory}/film"), film);
        sim.put(&format!("{directory}/sub"), SimEntry::Directory);
    }
    let device = sim.mount("/srv/Movies/deep/far", kind);
    let options = Options {
        disk_timeout: DISK_TIMEOUT,
        drain_timeout: DRAIN_TIMEOUT,
        ..Options::default()
    };
    let directories = "user1:Movies:read,change:/srv/Movies\n\
                       user1:Far:read,change:/srv/Movies/deep/far\n";
    let stage = Stage::on(sim, options, directories);
    stage.sim.forbid_waiting();
    (stage, device)
}

/// One client with its data connection.
struct Client {
    control: Peer,
    data: Peer,
}

impl Stage {
    /// Connects a client and lets it request something.
    fn request(&mut self, request: &str) -> Client {
        self.peer = self.sim.peer_connect(self.ftp, CLIENT).expect("a listener");
        self.send("USER user1\r\nPASS 1234\r\nTYPE I\r\nEPSV\r\n");
        let reply = self.receive();
        let reply = reply.lines().last().expect("a reply");
        let data = self.sim.peer_connect(port_of(reply), CLIENT);
        let data = data.expect("a listener");
        self.settle();
        self.send(request);
        self.sim.peer_shutdown(data);
        self.settle();
        let control = self.peer;
        Client { control, data }
    }

    /// Returns the last reply to a client, once it is final.
    fn reply(&mut self, client: &Client) -> String {
        self.peer = client.control;
        let mut replies = String::new();
        for _ in 0..2000 {
            let received = self.sim.peer_receive(client.data, usize::MAX);
            replies += &self.receive();
            let last = replies.lines().last();
            let is_final = last.is_some_and(|line| !line.starts_with('1'));
            if is_final && !received.is_ok_and(|bytes| !bytes.is_empty()) {
                break;
            }
            self.sim.advance(Duration::from_millis(2));
        }
        let last = replies.lines().last().unwrap_or_default();
        last.to_owned()
    }

    /// Lets time pass in steps of a second.
    fn pass(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.sim.advance(SWEEP_INTERVAL);
            self.settle();
        }
    }
}

fn in_directory(request: &str, directory: &str) -> String {
    request
        .replace('D', "\u{1}")
        .replace(" \u{1}", &format!(" {directory}"))
        .replace('\u{1}', "D")
}

#[test]
fn sessions_make_progress_while_another_device_hangs() {
    for kind in [FileSystemKind::Remote, FileSystemKind::Local] {
        for far in ["Far", "Movies/deep/far"] {
            let (mut stage, device) = stage(1, kind);
            stage.connect_ftp();
            if kind == FileSystemKind::Local {
                // The event loop has found it slow.
                find_slow(&mut stage, device);
            }
            stage.sim.set_behaviour(device, DeviceBehaviour::Hanging);
            let hanging = REQUESTS.map(|line| stage.request(&in_directory(line, far)));
            for line in REQUESTS {
                let client = stage.request(&in_directory(line, "Movies"));
                let reply = stage.reply(&client);
                let is_answered = ["2", "550"].iter().any(|code| reply.starts_with(code));
                assert!(is_answered, "{kind:?} {far} {line:?}: {reply:?}");
            }
            let elapsed = stage.sim.elapsed();
            assert!(elapsed < DISK_TIMEOUT, "{elapsed:?}: it did not wait");

            // The device times out, and refuses at once from then on.
            stage.pass(DISK_TIMEOUT + DISK_PROBE_TIMEOUT + 2 * SWEEP_INTERVAL);
            for (client, line) in hanging.iter().zip(REQUESTS) {
                let reply = stage.reply(client);
                assert!(
                    reply.starts_with("451 "),
                    "{kind:?} {far} {line:?}: {reply:?}"
                );
            }
            let before = stage.sim.elapsed();
            let client = stage.request(&in_directory("SIZE D/film\r\n", far));
            let reply = stage.reply(&client);
            assert!(reply.starts_with("451 "), "{kind:?} {far}: {reply:?}");
            assert!(stage.sim.elapsed() - before < DISK_PROBE_INTERVAL);

            // It comes back, and everything is served without a restart.
            stage.sim.set_behaviour(device, DeviceBehaviour::Normal);
            stage.pass(DISK_PROBE_INTERVAL + 2 * SWEEP_INTERVAL);
            for line in REQUESTS {
                let client = stage.request(&in_directory(line, far));
                let reply = stage.reply(&client);
                let is_answered = ["2", "550"].iter().any(|code| reply.starts_with(code));
                assert!(is_answered, "{kind:?} {far} {line:?} afterwards: {reply:?}");
            }
        }
    }
}

#[test]
fn listings_of_a_hanging_mount_point_leave_their_disk_usable() {
    let (mut stage, device) = stage(1, FileSystemKind::Remote);
    stage.connect_ftp();
    stage.sim.set_behaviour(device, DeviceBehaviour::Hanging);
    let listings = ["LIST Movies/deep\r\n", "LIST Movies/deep/f*\r\n"].map(|line| {
        let client = stage.request(line);
        stage.pass(DISK_TIMEOUT + DISK_PROBE_TIMEOUT + 2 * SWEEP_INTERVAL);
        client
    });
    for client in &listings {
        let reply = stage.reply(client);
        assert!(reply.starts_with("451 "), "{reply:?}");
    }
    assert_eq!(
        stage.sim.jobs_waiting_for(device),
        4,
        "each once, a probe and a check"
    );
    for line in REQUESTS {
        let client = stage.request(&in_directory(line, "Movies"));
        let reply = stage.reply(&client);
        let is_answered = ["2", "550"].iter().any(|code| reply.starts_with(code));
        assert!(is_answered, "{line:?}: {reply:?}");
    }
}

/// Makes the calls on a device so slow that the event loop no longer makes them.
fn find_slow(stage: &mut Stage, device: SimDevice) {
    let slow = DeviceBehaviour::Slow(Duration::from_millis(30));
    stage.sim.set_behaviour(device, slow);
    for _ in 0..4 {
        stage.send("SIZE /Far/film\r\n");
        for _ in 0..20 {
            stage.sim.advance(Duration::from_millis(50));
            stage.settle_once();
        }
    }
    stage.receive();
}

#[test]
fn a_failing_device_is_an_error_of_its_own_requests_only() {
    let (mut stage, device) = stage(1, FileSystemKind::Remote);
    stage.connect_ftp();
    for errno in [Errno::EIO, Errno::ESTALE, Errno::ENOTCONN, Errno::ETIMEDOUT] {
        (stage.sim).set_behaviour(device, DeviceBehaviour::Failing(errno));
        for line in [
            "SIZE D/film\r\n",
            "LIST D\r\n",
            "RETR D/film\r\n",
            "STOR D/new\r\n",
        ] {
            let client = stage.request(&in_directory(line, "Far"));
            let reply = stage.reply(&client);
            let is_refused = reply.starts_with('4') || reply.starts_with("550");
            assert!(is_refused, "{errno} {line:?}: {reply:?}");
            let client = stage.request(&in_directory(line, "Movies"));
            let reply = stage.reply(&client);
            assert!(reply.starts_with('2'), "{errno} {line:?}: {reply:?}");
        }
        stage.sim.set_behaviour(device, DeviceBehaviour::Normal);
        let client = stage.request("RETR Far/film\r\n");
        let reply = stage.reply(&client);
        assert!(reply.starts_with("226 "), "{errno}: {reply:?}");
    }
}

#[test]
fn a_stop_releases_every_handle_whatever_hangs() {
    for seed in 0..4 {
        let (mut stage, device) = stage(seed, FileSystemKind::Remote);
        stage.connect_ftp();
        let started = ["RETR Far/film\r\n", "STOR Far/upload\r\n"];
        let mut clients: Vec<_> = started.map(|line| stage.request(line)).into();
        stage.sim.set_behaviour(device, DeviceBehaviour::Hanging);
        clients.extend(REQUESTS.map(|line| stage.request(&in_directory(line, "Far"))));
        stage.sim.send_signal(Signal::Stop);
        stage.tick(1);
        stage.pass(DRAIN_TIMEOUT + SWEEP_INTERVAL);
        assert!(
            stage.event_loop.stopped().is_some(),
            "seed {seed}: it goes on"
        );
        let Stage {
            sim, event_loop, ..
        } = stage;
        drop(event_loop);
        let held = sim.held_handles();
        assert_eq!((held.listeners, held.sockets), (0, 0), "seed {seed}");
        drop(clients);
    }
}

//! The run queue under more work than a tick can do.

use std::time::Duration;

use tidegate::kernel::sim::SimEntry;
use tidegate::server::Options;

use super::stage::Stage;

#[test]
fn a_session_ending_in_the_run_queue_affects_no_other() {
    for seed in 0..8 {
        let options = Options {
            max_rate: Some(100_000),
            ..Options::default()
        };
        let mut stage = Stage::with(seed, options);
        let long = SimEntry::File(vec![0; 1_000_000]);
        stage.sim.put("/srv/Movies/long", long);
        stage.connect_ftp();
        let data = stage.connect_data();
        stage.send("RETR long\r\n");
        stage.settle();
        // The client reads everything, so that the transfer waits for the rate limit.
        while (stage.sim.peer_receive(data, usize::MAX)).is_ok_and(|bytes| !bytes.is_empty()) {
            stage.settle();
        }
        stage.sim.peer_close(stage.peer);
        stage.settle();
        stage.sim.peer_close(data);
        stage.sim.advance(Duration::from_secs(10));
        stage.connect_ftp();
    }
}

#[test]
fn a_fast_reader_leaves_run_queue_turns_to_others() {
    for seed in 0..16 {
        let (mut stage, clients) = Stage::with_run_queue(seed);
        let mut got = [0; 4];
        for round in 0..24 {
            for (client, (_, data)) in clients.iter().enumerate() {
                let bytes = stage.sim.peer_receive(*data, usize::MAX);
                // The first rounds empty the socket buffers.
                if round >= 12 {
                    got[client] += bytes.map_or(0, |bytes| bytes.len());
                }
            }
            stage.settle_once();
        }
        assert!(got.iter().all(|&got| got > 0), "seed {seed}: {got:?}");
    }
}

#[test]
fn an_aborted_data_connection_leaves_the_run_queue() {
    for seed in 0..16 {
        let (mut stage, clients) = Stage::with_run_queue(seed);
        for round in 0..40 {
            // All of them read everything, so that the run queue is never empty.
            for (control, data) in &clients {
                let _ = stage.sim.peer_receive(*data, usize::MAX);
                if round % 10 == 5 && *control == clients[round / 10].0 {
                    let sent = stage.sim.peer_send(*control, b"ABOR\r\n");
                    assert_eq!(sent.expect("the connection is open"), 6);
                }
            }
            stage.settle_once();
        }
    }
}

#[test]
fn streamed_commands_do_not_fill_a_tick() {
    for (seed, line) in (0..24).flat_map(|seed| ["EPSV\r\n", "PASV\r\n"].map(|line| (seed, line))) {
        let mut stage = Stage::new(seed);
        stage.sim.set_slow();
        stage.connect_ftp();
        let greedy = stage.peer;
        stage.connect_ftp();
        let sent = stage.sim.peer_send(greedy, line.repeat(150).as_bytes());
        let lines = sent.expect("the connection is open") / line.len();
        stage.send("NOOP\r\n");
        let mut reply = Vec::new();
        let mut ticks = 0;
        while ticks < 30 {
            ticks += 1;
            stage.tick(1);
            stage.event_loop.assert_invariants();
            reply.extend(
                stage
                    .sim
                    .peer_receive(stage.peer, usize::MAX)
                    .unwrap_or_default(),
            );
            if reply.ends_with(b"\n") {
                break;
            }
        }
        assert!(
            reply.starts_with(b"200 "),
            "seed {seed}: the other session is not served"
        );
        let got = stage
            .sim
            .peer_receive(greedy, usize::MAX)
            .unwrap_or_default();
        let replies = got.split(|byte| *byte == b'\n').count();
        assert!(
            replies <= 5 * ticks,
            "seed {seed}: {replies} of {lines} {line} in {ticks} ticks"
        );
    }
}

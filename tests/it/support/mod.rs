//! Helpers that several groups of tests share.

pub(crate) mod changes;
pub(crate) mod client;
pub(crate) mod ftp;
pub(crate) mod home;
pub(crate) mod needs;
pub(crate) mod seeds;
pub(crate) mod server;

use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::{Client, FIRST_CHOICE, FULL, connect_from};
pub(crate) use home::{Home, NOBODY};
pub(crate) use server::{Log, Server, TIDEGATE, refused_start, sandbox_option};

/// The bound of every wait in the tests.
///
/// It is much longer than any wait should be, because the server's low-priority threads may be
/// delayed by builds on the same machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns random bytes that depend on the seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Returns the path by which `--exact` selects a test of a module of this binary.
pub(crate) fn test_path(module: &str, test: &str) -> String {
    let (_crate, module) = module.split_once("::").expect("a module of this binary");
    format!("{module}::{test}")
}

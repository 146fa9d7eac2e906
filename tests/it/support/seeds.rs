//! Tests that depend on a seed.

use std::collections::VecDeque;
use std::sync::Mutex;

use fastrand::Rng;

/// Runs a test once per seed, on all processors, and prints the seed that failed.
///
/// The seeds are `failed_once` and then those below `count`. `TIDEGATE_SEED` selects a single seed;
/// `TIDEGATE_SEEDS` replaces `count` by another number, or all seeds by a range `FROM..TO`.
pub(crate) fn for_seeds(failed_once: &[u64], count: u64, run: impl Fn(u64) + Sync) {
    let set = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let seeds: Vec<u64> = match (set("TIDEGATE_SEED"), set("TIDEGATE_SEEDS")) {
        (Some(seed), _) => vec![number(&seed)],
        (None, Some(range)) if range.contains("..") => {
            let (from, to) = range.split_once("..").expect("it contains them");
            (number(from)..number(to)).collect()
        }
        (None, seeds) => {
            let count = seeds.map_or(count, |seeds| number(&seeds));
            failed_once.iter().copied().chain(0..count).collect()
        }
    };
    let seeds = Mutex::new(VecDeque::from(seeds));
    let next = || seeds.lock().expect("no test holds the lock").pop_front();
    let run_all = || {
        while let Some(seed) = next() {
            let guard = FailureGuard {
                seed,
                remaining: &seeds,
            };
            run(seed);
            drop(guard);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run_all);
        }
    });
}

/// Prints the seed if the test panics, and removes the remaining seeds.
struct FailureGuard<'a> {
    seed: u64,
    remaining: &'a Mutex<VecDeque<u64>>,
}

impl Drop for FailureGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with TIDEGATE_SEED={}", self.seed);
            let remaining = self.remaining.lock();
            remaining.expect("no test holds the lock").clear();
        }
    }
}

/// Returns a random element.
pub(crate) fn one_of<T: Copy>(rng: &mut Rng, elements: &[T]) -> T {
    *rng.choice(elements).expect("at least one element")
}

/// Returns true with the probability `1 / times`.
pub(crate) fn once_in(rng: &mut Rng, times: usize) -> bool {
    rng.usize(..times) == 0
}

/// Cuts bytes into random fragments, most of them short.
pub(crate) fn cut<'a>(rng: &mut Rng, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
    let mut fragments = Vec::new();
    while !bytes.is_empty() {
        let longest = one_of(rng, &[1, 3, 20, 500, 5000]);
        let (fragment, rest) = bytes.split_at(rng.usize(1..=longest).min(bytes.len()));
        fragments.push(fragment);
        bytes = rest;
    }
    fragments
}

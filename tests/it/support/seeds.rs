//! What the tests that go by a seed share.

use std::collections::VecDeque;
use std::sync::Mutex;

use fastrand::Rng;

/// Runs a test for each seed below `count`, those that ever failed first; for one seed where the variable TIDEGATE_SEED
/// names it, for as many as TIDEGATE_SEEDS says where that is set, or for those of its range `FROM..TO`. Says which seed
/// failed.
pub(crate) fn for_seeds(failed_once: &[u64], count: u64, run: impl Fn(u64) + Sync) {
    let set = |name| std::env::var(name).ok();
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let seeds: Vec<u64> = match (set("TIDEGATE_SEED"), set("TIDEGATE_SEEDS")) {
        (Some(seed), _) => vec![number(&seed)],
        (None, Some(range)) if range.contains("..") => {
            let (from, to) = range.split_once("..").expect("it contains them");
            (number(from)..number(to)).collect()
        }
        (None, many) => {
            let count = many.map_or(count, |many| number(&many));
            failed_once.iter().copied().chain(0..count).collect()
        }
    };
    let seeds = Mutex::new(VecDeque::from(seeds));
    let next = || seeds.lock().expect("no run holds it").pop_front();
    let run_all = || {
        while let Some(seed) = next() {
            let told = Told(seed, &seeds);
            run(seed);
            drop(told);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run_all);
        }
    });
}

/// Says which seed failed, and that no other is to be begun.
struct Told<'a>(u64, &'a Mutex<VecDeque<u64>>);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Told(seed, seeds) = self;
            eprintln!("failed with TIDEGATE_SEED={seed}");
            seeds.lock().expect("no run holds it").clear();
        }
    }
}

/// One of several, which are not none.
pub(crate) fn one_of<T: Copy>(rng: &mut Rng, several: &[T]) -> T {
    *rng.choice(several).expect("several")
}

/// True once in so many times.
pub(crate) fn once_in(rng: &mut Rng, times: usize) -> bool {
    rng.usize(..times) == 0
}

/// Cuts bytes into fragments, most of them short.
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

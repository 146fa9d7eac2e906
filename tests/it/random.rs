//! What the tests that go by a seed share.

use fastrand::Rng;

/// Runs a test for each seed below `count`, those that ever failed first; for one seed where the variable TIDEGATE_SEED
/// names it, for as many as TIDEGATE_SEEDS says where that is set. Says which seed failed.
pub(crate) fn for_seeds(failed_once: &[u64], count: u64, run: impl Fn(u64)) {
    let number = |name| Some(std::env::var(name).ok()?.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("TIDEGATE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let count = number("TIDEGATE_SEEDS").unwrap_or(count);
            failed_once.iter().copied().chain(0..count).collect()
        }
    };
    for seed in seeds {
        let told = Told(seed);
        run(seed);
        drop(told);
    }
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with TIDEGATE_SEED={}", self.0);
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

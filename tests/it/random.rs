//! Numbers from a seed, the same on every machine.

/// Runs a test for each seed below `count`, those that ever failed first; or for the one seed in the variable
/// TIDEGATE_SEED. Says which seed failed.
pub(crate) fn for_seeds(failed_once: &[u64], count: u64, run: impl Fn(u64)) {
    let one = std::env::var("TIDEGATE_SEED").ok();
    let one = one.map(|seed| seed.parse().expect("TIDEGATE_SEED is a number"));
    let several = failed_once.iter().copied().chain(0..count);
    let seeds: Vec<u64> = one.map_or_else(|| several.collect(), |seed| vec![seed]);
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

/// SplitMix64: a few operations, and no seed is a bad one.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of several.
    pub(crate) fn one_of<T: Copy>(&mut self, several: &[T]) -> T {
        several[self.below(several.len())]
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Cuts bytes into fragments, most of them short.
    pub(crate) fn cut<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut fragments = Vec::new();
        while !bytes.is_empty() {
            let longest = self.one_of(&[1, 3, 20, 500, 5000]);
            let (fragment, rest) = bytes.split_at((1 + self.below(longest)).min(bytes.len()));
            fragments.push(fragment);
            bytes = rest;
        }
        fragments
    }
}

//! The numbers of one run.

use std::fmt;
use std::time::Duration;

/// The numbers of one run, each under a name with its unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(pub(crate) Vec<(String, f64)>);

impl Metrics {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(of, _)| of == name)
            .map(|(_, value)| *value)
    }

    /// Adds `NAME_p50_milliseconds`, `_p90_`, `_p99_` and `_max_`. Nothing is added for an empty
    /// slice.
    pub(crate) fn add_times(&mut self, name: &str, times: &mut [Duration]) {
        times.sort_unstable();
        for (percentile, hundredths) in [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)] {
            // The nearest rank, so that each percentile is a measured time.
            let rank = (times.len() * hundredths).div_ceil(100);
            if let Some(time) = times.get(rank.saturating_sub(1)) {
                self.add(
                    &format!("{name}_{percentile}_milliseconds"),
                    time.as_secs_f64() * 1e3,
                );
            }
        }
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value.fract() == 0.0 {
                true => write!(f, " {name}={value}")?,
                false => write!(f, " {name}={value:.3}")?,
            }
        }
        Ok(())
    }
}

/// Sorts the values and returns their median.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let value = |at: usize| values.get(at).copied().unwrap_or(f64::NAN);
    (value(values.len() / 2) + value(values.len().saturating_sub(1) / 2)) / 2.0
}

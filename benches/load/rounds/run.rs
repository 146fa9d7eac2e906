//! The results of runs, and their medians.

use std::collections::BTreeMap;

use crate::machine::Pinning;
use crate::metrics::{Metrics, median};
use crate::server::kind::ServerKind;

/// Share of one processor above which other processes count as a disturbance.
const DISTURBED_SHARE: f64 = 0.15;

/// The conditions of all runs of a call.
pub(crate) struct Conditions {
    pub(crate) pinning: Pinning,
    pub(crate) nice: i32,
    /// Duration of each load.
    pub(crate) seconds: f64,
}

/// Skipped cases by server, with the reason.
pub(crate) type Skipped = BTreeMap<(&'static str, ServerKind), String>;

/// One run of a case.
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) case: &'static str,
    pub(crate) server: ServerKind,
    pub(crate) metrics: Metrics,
    pub(crate) disturbed: bool,
}

/// The share of one processor that other processes used during a run.
pub(crate) fn other_cpu_share(metrics: &Metrics) -> f64 {
    metrics.get("other_cpu_share").unwrap_or(0.0)
}

pub(crate) fn is_disturbed(metrics: &Metrics) -> bool {
    other_cpu_share(metrics) > DISTURBED_SHARE
}

/// Median and extremes of a number over the rounds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// The spread of every number, by case, server and name.
pub(crate) type Spreads = BTreeMap<(&'static str, ServerKind, String), Spread>;

/// Returns the spread of every number. Disturbed runs count only if a case has no others with the
/// same server.
pub(crate) fn spreads(runs: &[Run]) -> Spreads {
    let is_same = |one: &Run, other: &Run| one.case == other.case && one.server == other.server;
    let counts = |run: &&Run| {
        !run.disturbed
            || !runs
                .iter()
                .any(|other| is_same(run, other) && !other.disturbed)
    };
    let mut values: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(counts) {
        for (name, value) in &run.metrics.0 {
            values
                .entry((run.case, run.server, name.clone()))
                .or_default()
                .push(*value);
        }
    }
    values
        .into_iter()
        .map(|(key, mut values)| {
            let median = median(&mut values); // sorts them
            let spread = Spread {
                median,
                min: values[0],
                max: values[values.len() - 1],
            };
            (key, spread)
        })
        .collect()
}

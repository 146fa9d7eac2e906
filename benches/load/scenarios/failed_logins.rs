//! The effect of failed logins on the latency of others.

use std::io;

use argh::FromArgs;

use crate::metrics::{Metrics, median};
use crate::scenarios::latency::Latency;
use crate::server::target::Target;

/// Compare the p99 of a small download with and without failing logins, by the medians of
/// interleaved runs.
#[derive(FromArgs)]
#[argh(subcommand, name = "failed-logins")]
pub(crate) struct FailedLogins {
    /// clients that fail logins continuously (default: 50)
    #[argh(option, default = "50")]
    clients: usize,
    /// clients that download 10 MiB in a loop in all runs (default: 100)
    #[argh(option, default = "100")]
    greedy: usize,
    /// rounds of two runs (default: 5)
    #[argh(option, default = "5")]
    rounds: usize,
}

impl FailedLogins {
    pub(crate) fn measure(&self, target: &Target) -> io::Result<Metrics> {
        let (mut without, mut with, mut last) = (Vec::new(), Vec::new(), Metrics::default());
        for round in 0..self.rounds {
            // A B, B A, A B, …, so that slow changes of the machine affect both alike.
            for second in [false, true] {
                let is_failing = second ^ (round % 2 == 1);
                let failing = if is_failing { self.clients } else { 0 };
                let metrics = self.measure_once(target, failing)?;
                let p99 = metrics.get("small_p99_milliseconds").unwrap_or(f64::NAN);
                if !is_failing {
                    without.push(p99);
                    continue;
                }
                if metrics.get("failed_logins_per_second").is_none() {
                    return Err(io::Error::other("no login failed during the run"));
                }
                with.push(p99);
                last = metrics;
            }
        }
        let (without, with) = (median(&mut without), median(&mut with));
        last.add("p99_without_milliseconds", without);
        last.add("p99_with_milliseconds", with);
        last.add("ratio", with / without);
        Ok(last)
    }

    fn measure_once(&self, target: &Target, failing: usize) -> io::Result<Metrics> {
        let (greedy, failing) = (self.greedy.to_string(), failing.to_string());
        let arguments = ["--greedy", &greedy, "--failing", &failing];
        let metrics = Latency::from_args(&["latency"], &arguments)
            .map_err(|exit| io::Error::other(exit.output))?
            .measure(target)?;
        println!("latency {}{metrics}", arguments.join(" "));
        Ok(metrics)
    }
}

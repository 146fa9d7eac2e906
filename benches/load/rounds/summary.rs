//! `summary.md`: the medians in a table for each case.

use std::fmt::Write;

use crate::rounds::run::{Run, Skipped, Spreads};
use crate::server::kind::ServerKind;

const INTRODUCTION: &str = "# Medians

Medians of the undisturbed runs, or of all runs where each was disturbed. Minimum and maximum are in
brackets.
";

/// The numbers shown here. `raw.tsv` has all of them.
const SHOWN: [&str; 18] = [
    "downloads_per_second",
    "mebibytes_per_second",
    "server_cpu_microseconds_per_download",
    "server_cpu_seconds_per_gibibyte",
    "interrupt_seconds",
    "min_max_ratio",
    "download_p99_milliseconds",
    "sessions_per_second",
    "server_cpu_microseconds_per_session",
    "session_p99_milliseconds",
    "bytes_per_session",
    "descriptors_after",
    "tcp_mebibytes_per_stalled_client",
    "small_p50_milliseconds",
    "small_p99_milliseconds",
    "large_downloads_per_second",
    "listings_per_second",
    "valid_login_max_milliseconds",
];

/// Returns the content of `summary.md`.
pub(crate) fn text(runs: &[Run], spreads: &Spreads, skipped: &Skipped) -> String {
    let mut text = String::from(INTRODUCTION);
    let mut cases: Vec<&'static str> = Vec::new();
    for run in runs {
        if !cases.contains(&run.case) {
            cases.push(run.case);
        }
    }
    for case in cases {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.case == case).collect();
        add_table(&mut text, case, &runs, spreads);
        let disturbed = runs.iter().filter(|run| run.disturbed).count();
        if disturbed > 0 {
            let all = runs.len();
            let verb = if disturbed == 1 { "was" } else { "were" };
            let _ = writeln!(
                text,
                "\n{disturbed} of {all} runs {verb} disturbed by other processes."
            );
        }
    }
    if !skipped.is_empty() {
        text += "\n## Skipped\n\n";
        for ((case, server), reason) in skipped {
            let _ = writeln!(text, "- {case}, {}: {reason}", server.name());
        }
    }
    text
}

/// Adds the table of one case, whose `runs` these are.
fn add_table(text: &mut String, case: &'static str, runs: &[&Run], spreads: &Spreads) {
    let mut servers: Vec<ServerKind> = runs.iter().map(|run| run.server).collect();
    servers.sort_unstable();
    servers.dedup();
    let _ = write!(text, "\n## {case}\n\n| |");
    for server in &servers {
        let _ = write!(text, " {} |", server.name());
    }
    let _ = write!(text, "\n| --- |{}\n", " --- |".repeat(servers.len()));
    for name in SHOWN {
        let spread = |server: &ServerKind| spreads.get(&(case, *server, name.to_owned()));
        if !servers.iter().any(|server| spread(server).is_some()) {
            continue;
        }
        let _ = write!(text, "| {} |", name.replace('_', " "));
        for server in &servers {
            let _ = match spread(server) {
                Some(spread) => write!(
                    text,
                    " {} ({} … {}) |",
                    short(spread.median),
                    short(spread.min),
                    short(spread.max)
                ),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
}

/// Formats a number with three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

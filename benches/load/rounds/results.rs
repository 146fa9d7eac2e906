//! The folder of results: `raw.tsv` with every number of every run, and the files generated from
//! it.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::metrics::Metrics;
use crate::rounds::run::{Conditions, Run, Skipped, spreads};
use crate::rounds::{cases, plots, readme, summary};
use crate::server::kind::ServerKind;

const HEADER: &str = "round\tserver\tcase\tnumber\tvalue\tdisturbed\n";

/// The number's name in the row of a skipped case, whose value is the reason.
const SKIPPED: &str = "skipped";

/// Reads the runs and skipped cases of earlier calls. Cases that no set has any more are ignored.
pub(crate) fn read(folder: &Path) -> io::Result<(Vec<Run>, Skipped)> {
    let (mut runs, mut skipped) = (Vec::<Run>::new(), Skipped::new());
    let text = match fs::read_to_string(folder.join("raw.tsv")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((runs, skipped)),
        text => text?,
    };
    let invalid = |line: &str| io::Error::other(format!("raw.tsv has an invalid line: {line}"));
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [round, server, case, name, value, disturbed] = fields[..] else {
            return Err(invalid(line));
        };
        let server: ServerKind = server.parse().map_err(io::Error::other)?;
        let Some(case) = cases::find(case) else {
            continue;
        };
        if name == SKIPPED {
            skipped.insert((case, server), value.to_owned());
            continue;
        }
        let round = round.parse().map_err(|_| invalid(line))?;
        let value = value.parse().map_err(|_| invalid(line))?;
        match runs.last_mut() {
            Some(run) if (run.round, run.server, run.case) == (round, server, case) => {
                run.metrics.add(name, value);
            }
            _ => runs.push(Run {
                round,
                case,
                server,
                metrics: Metrics(vec![(name.to_owned(), value)]),
                disturbed: disturbed == "1",
            }),
        }
    }
    Ok((runs, skipped))
}

/// Writes README.md, raw.tsv, summary.md and the plots.
pub(crate) fn write(
    folder: &Path,
    conditions: &Conditions,
    runs: &[Run],
    skipped: &Skipped,
) -> io::Result<()> {
    let spreads = spreads(runs);
    let title = folder.file_name().unwrap_or_default().to_string_lossy();
    fs::create_dir_all(folder)?;
    fs::write(folder.join("raw.tsv"), raw(runs, skipped))?;
    fs::write(
        folder.join("summary.md"),
        summary::text(runs, &spreads, skipped),
    )?;
    fs::write(
        folder.join("README.md"),
        readme::text(&title, conditions, runs),
    )?;
    plots::write(folder, &spreads).map_err(io::Error::other)
}

fn raw(runs: &[Run], skipped: &Skipped) -> String {
    let mut text = String::from(HEADER);
    for run in runs {
        for (name, value) in &run.metrics.0 {
            let _ = writeln!(
                text,
                "{}\t{}\t{}\t{name}\t{value}\t{}",
                run.round,
                run.server.name(),
                run.case,
                u8::from(run.disturbed)
            );
        }
    }
    for ((case, server), reason) in skipped {
        let reason = reason.replace(['\t', '\n'], " ");
        let _ = writeln!(text, "0\t{}\t{case}\t{SKIPPED}\t{reason}\t0", server.name());
    }
    text
}

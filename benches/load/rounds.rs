//! Interleaved rounds of a named set: every case with every server in each round, the servers in another order each time, so
//! that what changes slowly on the machine meets all of them alike. A run that other work disturbed is told and repeated.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use argh::FromArgs;

use crate::machine::Pinning;
use crate::measure::{Row, median};
use crate::server::Kind;
use crate::{Scenario, report};

/// Share of one processor beyond which other work counts as a disturbance.
const DISTURBED_SHARE: f64 = 0.15;

/// Runs of one case in one round, while they are disturbed.
const ATTEMPTS: usize = 3;

/// Run a named set of scenarios in interleaved rounds beside the peers, and write a folder of results.
#[derive(FromArgs)]
#[argh(subcommand, name = "rounds")]
pub(crate) struct Rounds {
    /// rounds
    #[argh(option, default = "3")]
    rounds: usize,
    /// only the cases whose words contain this
    #[argh(option, default = "String::new()")]
    only: String,
    /// only these servers, parted by commas
    #[argh(option)]
    servers: Option<String>,
    /// also the cases that take long or much memory
    #[argh(switch)]
    full: bool,
    /// the folder that the results go to
    #[argh(option)]
    out: PathBuf,
}

/// What held for all runs.
pub(crate) struct Conditions {
    pub(crate) pinning: Pinning,
    pub(crate) nice: i32,
    pub(crate) rounds: usize,
}

/// One run: which round, what was asked, whom, and what came of it.
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) case: &'static str,
    pub(crate) server: Kind,
    pub(crate) row: Row,
    pub(crate) disturbed: bool,
}

use Kind::{Floor, Lighttpd, Nginx, NginxChunks, Tidegate, Vsftpd};

/// The usual servers for small files, where a chunk's size does not matter.
const SMALL: &[Kind] = &[Tidegate, Floor, Nginx, Lighttpd];
/// And for large ones.
const LARGE: &[Kind] = &[Tidegate, Floor, Nginx, NginxChunks, Lighttpd];
/// Those that can more than send.
const WHOLE: &[Kind] = &[Tidegate, Nginx, Lighttpd];
/// Those whose loop is asked about.
const LOOPS: &[Kind] = &[Tidegate, Nginx, NginxChunks, Lighttpd];

/// The set, each case as it would be given on the command line.
const CASES: &[(&str, &[Kind])] = &[
    ("download --sessions 64 --size 1024", SMALL),
    ("download --sessions 1000 --size 1024", SMALL),
    ("download --sessions 64 --size 16384", SMALL),
    ("download --sessions 64 --size 65536", SMALL),
    ("download --sessions 1 --size 10485760", LARGE),
    ("download --sessions 10 --size 10485760", LARGE),
    ("download --sessions 100 --size 10485760", LARGE),
    ("download --sessions 1000 --size 10485760", LARGE),
    ("download --sessions 1 --size 10485760 --discard", LARGE),
    ("download --sessions 100 --size 10485760 --discard", LARGE),
    ("upload --sessions 1 --folder /dev/shm", WHOLE),
    ("upload --sessions 100 --folder /dev/shm", WHOLE),
    ("login --at-once 64", &[Tidegate, Nginx, Lighttpd, Vsftpd]),
    ("login --at-once 64 --cold", &[Tidegate]),
    ("idle --sessions 9000", WHOLE),
    ("idle --sessions 200", &[Vsftpd]),
    ("churn", LOOPS),
    ("beside", LOOPS),
    ("beside --greedy 100", LOOPS),
    ("beside --slow 1000", LOOPS),
    ("beside --stalled 1000 --greedy 10", LOOPS),
    ("beside --listing 2", &[Tidegate]),
    ("cold --folder /var/tmp", LOOPS),
];

/// More of it, for who has the time.
const FULL: &[(&str, &[Kind])] = &[
    ("download --sessions 1000 --size 65536", SMALL),
    ("download --sessions 1 --size 1073741824", LARGE),
    (
        "download --sessions 9000 --size 65536 --receive-buffer 32768",
        WHOLE,
    ),
    ("download --sessions 19000 --size 1024", &[Tidegate]),
    ("upload --sessions 1 --folder /var/tmp", WHOLE),
    ("beside --failing 50", &[Tidegate]),
    ("beside --greedy 100 --failing 50", &[Tidegate]),
];

impl Rounds {
    pub(crate) fn run(&self, pinning: Pinning, nice: i32) -> io::Result<()> {
        let wanted: Option<Vec<Kind>> = match &self.servers {
            None => None,
            Some(names) => Some(
                names
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .map_err(io::Error::other)?,
            ),
        };
        let mut runs = Vec::new();
        let mut skipped = BTreeMap::new();
        for round in 0..self.rounds {
            for &(case, servers) in CASES.iter().chain(FULL.iter().filter(|_| self.full)) {
                if !case.contains(&self.only) {
                    continue;
                }
                let servers: Vec<Kind> = servers
                    .iter()
                    .copied()
                    .filter(|kind| wanted.as_ref().is_none_or(|wanted| wanted.contains(kind)))
                    .collect();
                for at in 0..servers.len() {
                    // A B C, B C A, …
                    let server = servers[(at + round) % servers.len()];
                    if skipped.contains_key(&(case, server)) {
                        continue;
                    }
                    match measure(round, case, server, pinning) {
                        Ok(measured) => runs.extend(measured),
                        Err(error) => {
                            println!("skipped {case}: {}: {error}", server.name());
                            skipped.insert((case, server), error.to_string());
                        }
                    }
                }
            }
        }
        let conditions = Conditions {
            pinning,
            nice,
            rounds: self.rounds,
        };
        report::write(&self.out, &conditions, &runs, &skipped)
    }
}

/// Runs one case, again while it is disturbed; the last attempt counts, disturbed or not.
fn measure(
    round: usize,
    case: &'static str,
    server: Kind,
    pinning: Pinning,
) -> io::Result<Option<Run>> {
    if server
        .program()
        .is_some_and(|program| !std::path::Path::new(program).exists())
    {
        return Err(io::Error::other(
            "not installed ('scripts/bench --install-peers')",
        ));
    }
    let scenario = Scenario::parse(case).map_err(io::Error::other)?;
    let mut best: Option<Row> = None;
    for attempt in 1..=ATTEMPTS {
        let row = scenario.measure(server, pinning)?;
        let share = |row: &Row| row.get("others_share").unwrap_or(0.0);
        let disturbed = share(&row) > DISTURBED_SHARE;
        let note = if disturbed { " DISTURBED" } else { "" };
        println!("{round} {} {case}{row}{note}", server.name());
        // The least disturbed of the attempts is kept.
        if best.as_ref().is_none_or(|best| share(&row) < share(best)) {
            best = Some(row);
        }
        if !disturbed || attempt == ATTEMPTS {
            break;
        }
    }
    Ok(best.map(|row| Run {
        round,
        case,
        server,
        disturbed: row.get("others_share").unwrap_or(0.0) > DISTURBED_SHARE,
        row,
    }))
}

/// Median, least and most of every number of the set, by case, server and name.
pub(crate) fn summary(runs: &[Run]) -> BTreeMap<(&'static str, Kind, String), (f64, f64, f64)> {
    let mut values: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for run in runs {
        for (name, value) in &run.row.0 {
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
            (key, (median, values[0], values[values.len() - 1]))
        })
        .collect()
}

/// Today, as a folder's name.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    jiff::Timestamp::from_second(seconds as i64).map_or_else(
        |_| "undated".into(),
        |now| now.to_string().chars().take(10).collect(),
    )
}

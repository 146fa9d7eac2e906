//! Interleaved rounds of a named set: every case with every server in each round, the servers in another order each time, so
//! that what changes slowly on the machine meets all of them alike. A run that other work disturbed is told and repeated.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use argh::FromArgs;

use crate::Scenario;
use crate::machine::Pinning;
use crate::measurement::{Row, median};
use crate::rounds::report;
use crate::server::process::Kind;

/// Share of one processor beyond which other work counts as a disturbance.
const DISTURBED_SHARE: f64 = 0.15;

/// Run a named set of scenarios in interleaved rounds beside the peers, and write a folder of results.
#[derive(FromArgs)]
#[argh(subcommand, name = "rounds")]
pub(crate) struct Rounds {
    /// rounds of each case, those included that the folder holds already
    #[argh(option, default = "3")]
    rounds: usize,
    /// seconds of each load
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// runs of one case with one server and round, while other work disturbs them
    #[argh(option, default = "3")]
    attempts: usize,
    /// seconds after which no further case is begun
    #[argh(option)]
    within: Option<u64>,
    /// only the cases whose words contain this
    #[argh(option, default = "String::new()")]
    only: String,
    /// only these servers, parted by commas
    #[argh(option)]
    servers: Option<String>,
    /// also the cases that take long or much memory
    #[argh(switch)]
    full: bool,
    /// the set of FTP instead
    #[argh(switch)]
    ftp: bool,
    /// the folder that the results go to
    #[argh(option)]
    out: PathBuf,
}

/// What held for all runs.
pub(crate) struct Conditions {
    pub(crate) pinning: Pinning,
    pub(crate) nice: i32,
    pub(crate) seconds: f64,
}

/// What was skipped, and why.
pub(crate) type Skipped = BTreeMap<(&'static str, Kind), String>;

/// One run: which round, what was asked, whom, and what came of it.
pub(crate) struct Run {
    pub(crate) round: usize,
    pub(crate) case: &'static str,
    pub(crate) server: Kind,
    pub(crate) row: Row,
    pub(crate) disturbed: bool,
}

use Kind::{Before, BeforeFtp, Floor, Lighttpd, Nginx, NginxChunks, Tidegate, TidegateFtp};
use Kind::{PureFtpd, Pyftpdlib, Vsftpd};

/// The usual servers for small files, where a chunk's size does not matter.
const SMALL: &[Kind] = &[Tidegate, Floor, Nginx, Lighttpd];
/// And for large ones.
const LARGE: &[Kind] = &[Tidegate, Floor, Nginx, NginxChunks, Lighttpd];
/// Those that can more than send.
const WHOLE: &[Kind] = &[Tidegate, Nginx, Lighttpd];
/// Those that speak FTP.
const OVER_FTP: &[Kind] = &[TidegateFtp, Vsftpd, PureFtpd, Pyftpdlib];
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
    ("login --at-once 64", WHOLE),
    ("login --at-once 64 --cold", &[Tidegate]),
    ("idle --sessions 9000", WHOLE),
    ("churn", LOOPS),
    ("beside", LOOPS),
    ("beside --greedy 100", LOOPS),
    ("beside --slow 1000", LOOPS),
    ("beside --stalled 1000 --greedy 10", LOOPS),
    ("beside --listing 2", &[Tidegate]),
    ("cold --folder /var/tmp", LOOPS),
];

/// The set of FTP: a download is EPSV, a data connection, RETR and its 226; a login is USER, PASS, TYPE and QUIT.
const FTP: &[(&str, &[Kind])] = &[
    ("download --sessions 64 --size 1024", OVER_FTP),
    ("download --sessions 1 --size 10485760", OVER_FTP),
    ("download --sessions 100 --size 10485760", OVER_FTP),
    ("download --sessions 1000 --size 10485760", OVER_FTP),
    ("upload --sessions 1 --folder /dev/shm", OVER_FTP),
    ("upload --sessions 100 --folder /dev/shm", OVER_FTP),
    ("login --at-once 64", OVER_FTP),
    ("idle --sessions 9000", &[TidegateFtp, Pyftpdlib]),
    ("idle --sessions 200", &[Vsftpd, PureFtpd]),
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
        let conditions = Conditions {
            pinning,
            nice,
            seconds: self.seconds,
        };
        let (mut runs, mut skipped) = report::read(&self.out)?;
        let set = if self.ftp { FTP } else { CASES };
        let mut cases: Vec<Case> = set
            .iter()
            .chain(FULL.iter().filter(|_| self.full && !self.ftp))
            .filter(|(words, _)| words.contains(&self.only))
            .map(|&(words, servers)| Case {
                words,
                servers: chosen(servers, wanted.as_deref()),
                rounds: runs
                    .iter()
                    .filter(|run| run.case == words)
                    .map(|run| run.round + 1)
                    .max()
                    .unwrap_or(0),
            })
            .collect();
        let begun = Instant::now();
        let is_over = || {
            self.within
                .is_some_and(|seconds| begun.elapsed().as_secs() >= seconds)
        };
        // Always the first of those with the fewest rounds: round after round, wherever an earlier call was cut.
        while let Some(case) = cases.iter_mut().min_by_key(|case| case.rounds)
            && case.rounds < self.rounds
            && !is_over()
        {
            for at in 0..case.servers.len() {
                // A B C, B C A, …
                let server = case.servers[(at + case.rounds) % case.servers.len()];
                if skipped.contains_key(&(case.words, server)) {
                    continue;
                }
                match self.measure(case, server, pinning) {
                    Ok(run) => runs.push(run),
                    Err(error) => {
                        println!("skipped {}: {}: {error}", case.words, server.name());
                        skipped.insert((case.words, server), error.to_string());
                    }
                }
            }
            case.rounds += 1;
            report::write(&self.out, &conditions, &runs, &skipped)?;
        }
        report::write(&self.out, &conditions, &runs, &skipped)?;
        let missing = cases.iter().filter(|case| case.rounds < self.rounds);
        println!("cases with rounds to go: {}", missing.count());
        Ok(())
    }

    /// Runs one case with one server, again while other work disturbs it; the least disturbed attempt counts.
    fn measure(&self, case: &Case, server: Kind, pinning: Pinning) -> io::Result<Run> {
        if server
            .program()
            .is_some_and(|program| !std::path::Path::new(program).exists())
        {
            return Err(io::Error::other(
                "not installed ('scripts/bench --install-peers')",
            ));
        }
        let words = match case.words.starts_with("idle") {
            true => case.words.to_owned(),
            false => format!("{} --seconds {}", case.words, self.seconds),
        };
        let scenario = Scenario::parse(&words).map_err(io::Error::other)?;
        let mut best: Option<Run> = None;
        for _ in 0..self.attempts.max(1) {
            let row = scenario.measure(server, pinning)?;
            let run = Run {
                round: case.rounds,
                case: case.words,
                server,
                disturbed: share(&row) > DISTURBED_SHARE,
                row,
            };
            let note = if run.disturbed { " DISTURBED" } else { "" };
            println!("{} {} {words}{}{note}", run.round, server.name(), run.row);
            let disturbed = run.disturbed;
            if best
                .as_ref()
                .is_none_or(|best| share(&run.row) < share(&best.row))
            {
                best = Some(run);
            }
            if !disturbed {
                break;
            }
        }
        best.ok_or_else(|| io::Error::other("nothing was measured"))
    }
}

/// A case under way.
struct Case {
    words: &'static str,
    servers: Vec<Kind>,
    /// Rounds that are done.
    rounds: usize,
}

/// Of a case's servers those that are wanted; beside tidegate an earlier build of it, where one is.
fn chosen(servers: &[Kind], wanted: Option<&[Kind]>) -> Vec<Kind> {
    let before = [(Tidegate, Before), (TidegateFtp, BeforeFtp)]
        .iter()
        .find(|(now, _)| servers.contains(now))
        .map(|(_, before)| *before);
    let is_wanted = |kind: &Kind| match wanted {
        Some(wanted) => wanted.contains(kind),
        None => !matches!(kind, Before | BeforeFtp),
    };
    servers
        .iter()
        .copied()
        .chain(before)
        .filter(is_wanted)
        .collect()
}

/// The share of one processor that other work took.
fn share(row: &Row) -> f64 {
    row.get("others_share").unwrap_or(0.0)
}

/// A case of the set by its words.
pub(crate) fn case(words: &str) -> Option<&'static str> {
    CASES
        .iter()
        .chain(FULL)
        .chain(FTP)
        .map(|(case, _)| *case)
        .find(|case| *case == words)
}

/// Median, least and most of every number of the set, by case, server and name: of the runs that nothing disturbed, where
/// there are such.
pub(crate) fn summary(runs: &[Run]) -> BTreeMap<(&'static str, Kind, String), (f64, f64, f64)> {
    let same = |one: &Run, other: &Run| one.case == other.case && one.server == other.server;
    let counts = |run: &&Run| {
        !run.disturbed
            || !runs
                .iter()
                .any(|other| same(run, other) && !other.disturbed)
    };
    let mut values: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for run in runs.iter().filter(counts) {
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

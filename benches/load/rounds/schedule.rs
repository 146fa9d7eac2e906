//! Runs each case with every server in each round, the servers in a rotating order, so that slow
//! changes of the machine affect all of them alike. Runs disturbed by other processes are repeated.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use argh::FromArgs;
use jiff::Timestamp;

use crate::metrics::Metrics;
use crate::rounds::cases::{CASES, CaseDefinition, FTP_CASES, FULL_CASES};
use crate::rounds::results;
use crate::rounds::run::{Conditions, Run, Skipped, is_disturbed, other_cpu_share};
use crate::server::kind::ServerKind;
use crate::server::target::Target;

/// Run a set of scenarios in interleaved rounds with tidegate and its peers, and write the results
/// to a folder.
#[derive(FromArgs)]
#[argh(subcommand, name = "rounds")]
pub(crate) struct Rounds {
    /// rounds of each case, including those already in the folder (default: 3)
    #[argh(option, default = "3")]
    rounds: usize,
    /// duration of each load in seconds (default: 3)
    #[argh(option, default = "3.0")]
    seconds: f64,
    /// maximum runs of a case, server and round while other processes disturb them (default: 3)
    #[argh(option, default = "3")]
    attempts: usize,
    /// start no further case after this many seconds
    #[argh(option)]
    within: Option<u64>,
    /// only cases that contain this text
    #[argh(option, default = "String::new()")]
    only: String,
    /// only these servers, separated by commas (default: all, and 'before' if '--before' is given)
    #[argh(option)]
    servers: Option<String>,
    /// also run cases that need much time or memory
    #[argh(switch)]
    full: bool,
    /// run the FTP cases instead
    #[argh(switch)]
    ftp: bool,
    /// folder for the results (default: benches/results/DATE, with --ftp DATE-ftp)
    #[argh(option)]
    out: Option<PathBuf>,
}

/// Runs a case, given as on the command line, against a target.
type Measure<'a> = &'a dyn Fn(&str, &Target) -> io::Result<Metrics>;

/// A case with its progress.
struct ScheduledCase {
    name: &'static str,
    servers: Vec<ServerKind>,
    completed_rounds: usize,
}

impl Rounds {
    /// Runs the rounds that are missing and writes the results after each case.
    pub(crate) fn run(&self, target: &Target, nice: i32, measure: Measure) -> io::Result<()> {
        let conditions = Conditions {
            pinning: target.pinning,
            nice,
            seconds: self.seconds,
        };
        let out = self.folder();
        let (mut runs, mut skipped) = results::read(&out)?;
        let mut cases = self.cases(&runs, target)?;
        let started = Instant::now();
        // The case with the fewest rounds comes first, so that an interrupted call continues where
        // it stopped.
        while let Some(case) = cases.iter_mut().min_by_key(|case| case.completed_rounds)
            && case.completed_rounds < self.rounds
            && self
                .within
                .is_none_or(|seconds| started.elapsed().as_secs() < seconds)
        {
            self.run_round(case, target, measure, &mut runs, &mut skipped);
            case.completed_rounds += 1;
            results::write(&out, &conditions, &runs, &skipped)?;
        }
        results::write(&out, &conditions, &runs, &skipped)?;
        let incomplete = cases
            .iter()
            .filter(|case| case.completed_rounds < self.rounds);
        println!("incomplete cases: {}", incomplete.count());
        Ok(())
    }

    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| {
            let date = Timestamp::now().strftime("%F");
            let suffix = if self.ftp { "-ftp" } else { "" };
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("benches/results/{date}{suffix}"))
        })
    }

    /// The cases of the set with their servers. `runs` are the runs of earlier calls.
    fn cases(&self, runs: &[Run], target: &Target) -> io::Result<Vec<ScheduledCase>> {
        let selected: Option<Vec<ServerKind>> = self
            .servers
            .as_ref()
            .map(|names| names.split(',').map(str::parse).collect())
            .transpose()
            .map_err(io::Error::other)?;
        if target.before.is_none() && selected.iter().flatten().any(|server| server.is_before()) {
            return Err(io::Error::other(
                "no earlier build given; use '--before PROGRAM'",
            ));
        }
        let set: Vec<&CaseDefinition> = match (self.ftp, self.full) {
            (true, _) => FTP_CASES.iter().collect(),
            (false, true) => CASES.iter().chain(FULL_CASES).collect(),
            (false, false) => CASES.iter().collect(),
        };
        let cases: Vec<ScheduledCase> = set
            .into_iter()
            .filter(|(name, _)| name.contains(&self.only))
            .map(|(name, servers)| ScheduledCase {
                name,
                servers: select_servers(servers, selected.as_deref(), target.before.is_some()),
                completed_rounds: runs
                    .iter()
                    .filter(|run| run.case == *name)
                    .map(|run| run.round + 1)
                    .max()
                    .unwrap_or(0),
            })
            .collect();
        match cases.is_empty() {
            true => Err(io::Error::other(format!(
                "no case contains '{}'; see benches/load/rounds/cases.rs",
                self.only
            ))),
            false => Ok(cases),
        }
    }

    /// Runs a case once with each server. A server that fails is skipped from then on.
    fn run_round(
        &self,
        case: &ScheduledCase,
        target: &Target,
        measure: Measure,
        runs: &mut Vec<Run>,
        skipped: &mut Skipped,
    ) {
        for at in 0..case.servers.len() {
            // A B C, B C A, …
            let server = case.servers[(at + case.completed_rounds) % case.servers.len()];
            if skipped.contains_key(&(case.name, server)) {
                continue;
            }
            match self.run_undisturbed(case, &target.with_kind(server), measure) {
                Ok(run) => runs.push(run),
                Err(error) => {
                    println!("skipped {}: {}: {error}", case.name, server.name());
                    skipped.insert((case.name, server), error.to_string());
                }
            }
        }
    }

    /// Runs a case, and repeats it while other processes disturb it. Returns the least disturbed
    /// run.
    fn run_undisturbed(
        &self,
        case: &ScheduledCase,
        target: &Target,
        measure: Measure,
    ) -> io::Result<Run> {
        let server = target.kind;
        if server
            .peer_program()
            .is_some_and(|program| !Path::new(program).exists())
        {
            return Err(io::Error::other(
                "not installed; run 'scripts/bench --install-peers'",
            ));
        }
        let words = match case.name.starts_with("idle") {
            true => case.name.to_owned(),
            false => format!("{} --seconds {}", case.name, self.seconds),
        };
        let mut best: Option<Run> = None;
        for _ in 0..self.attempts.max(1) {
            let metrics = measure(&words, target)?;
            let run = Run {
                round: case.completed_rounds,
                case: case.name,
                server,
                disturbed: is_disturbed(&metrics),
                metrics,
            };
            let note = if run.disturbed { " DISTURBED" } else { "" };
            let name = server.name();
            println!("{} {name} {words}{}{note}", run.round, run.metrics);
            let disturbed = run.disturbed;
            if best
                .as_ref()
                .is_none_or(|best| other_cpu_share(&run.metrics) < other_cpu_share(&best.metrics))
            {
                best = Some(run);
            }
            if !disturbed {
                break;
            }
        }
        best.ok_or_else(|| io::Error::other("no run was made"))
    }
}

/// The servers of a case: those in `selected`, by default all. With `has_before`, the earlier build
/// of tidegate is measured wherever tidegate is.
fn select_servers(
    servers: &[ServerKind],
    selected: Option<&[ServerKind]>,
    has_before: bool,
) -> Vec<ServerKind> {
    let mut all = Vec::new();
    for &server in servers {
        all.push(server);
        match server {
            ServerKind::Tidegate if has_before => all.push(ServerKind::Before),
            ServerKind::TidegateFtp if has_before => all.push(ServerKind::BeforeFtp),
            _ => {}
        }
    }
    all.retain(|server| selected.is_none_or(|selected| selected.contains(server)));
    all
}

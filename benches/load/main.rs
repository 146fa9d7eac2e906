//! The load bench: tidegate or a peer in a child process, and thousands of clients in one thread of
//! this process.
//!
//! Run it with `cargo bench --bench load -- SCENARIO`, with `scripts/measure-*`, or in interleaved
//! rounds with `scripts/bench`. A scenario prints its metrics as `name=value`. Exit status: 1 if a
//! limit given on the command line is exceeded or a run fails, 2 for a usage error.

mod baseline;
mod client;
mod fixture;
mod machine;
mod measurement_window;
mod metrics;
mod rounds;
mod scenarios;
mod server;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use baseline::Baseline;
use machine::{Pinning, PriorityGuard};
use metrics::Metrics;
use rounds::schedule::Rounds;
use scenarios::{churn, cold, download, failed_logins, idle, latency, login, upload};
use server::kind::ServerKind;
use server::target::Target;

/// Put a server under load and measure it.
#[derive(FromArgs)]
struct Arguments {
    /// the server: tidegate, before, baseline, nginx, nginx-256k or lighttpd; by FTP tidegate-ftp,
    /// before-ftp, vsftpd, pure-ftpd or pyftpdlib (default: tidegate)
    #[argh(option, default = "ServerKind::Tidegate")]
    server: ServerKind,
    /// program of an earlier build of tidegate, the servers 'before' and 'before-ftp'
    #[argh(option)]
    before: Option<PathBuf>,
    /// let the kernel choose the processors, instead of one for the server and one for the clients
    #[argh(switch)]
    unpinned: bool,
    /// fail if a metric exceeds a limit, given as NAME=NUMBER, such as bytes_per_session=512
    #[argh(option)]
    limit: Option<String>,
    /// priority of server and clients from -20 to 19, for a machine with other work (default: 0)
    #[argh(option, default = "0")]
    nice: i32,
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Download(download::Download),
    Upload(upload::Upload),
    Login(login::Login),
    Idle(idle::Idle),
    Churn(churn::Churn),
    Latency(latency::Latency),
    Cold(cold::Cold),
    FailedLogins(failed_logins::FailedLogins),
    Rounds(Rounds),
    Baseline(Baseline),
}

impl Command {
    /// Parses a scenario with its options.
    fn parse(words: &str) -> io::Result<Command> {
        let words: Vec<&str> = words.split(' ').collect();
        Arguments::from_args(&["load"], &words)
            .map(|arguments| arguments.command)
            .map_err(|exit| io::Error::other(exit.output))
    }

    /// Runs a scenario once.
    fn measure(&self, target: &Target) -> io::Result<Metrics> {
        if target.kind.is_ftp()
            && matches!(
                self,
                Command::Churn(_)
                    | Command::Latency(_)
                    | Command::Cold(_)
                    | Command::FailedLogins(_)
            )
        {
            return Err(io::Error::other("this scenario does not support FTP"));
        }
        match self {
            Command::Download(scenario) => scenario.measure(target),
            Command::Upload(scenario) => scenario.measure(target),
            Command::Login(scenario) => scenario.measure(target),
            Command::Idle(scenario) => scenario.measure(target),
            Command::Churn(scenario) => scenario.measure(target),
            Command::Latency(scenario) => scenario.measure(target),
            Command::Cold(scenario) => scenario.measure(target),
            Command::FailedLogins(scenario) => scenario.measure(target),
            Command::Rounds(_) | Command::Baseline(_) => Err(io::Error::other("not a scenario")),
        }
    }
}

fn main() -> ExitCode {
    // `cargo bench` adds the argument `--bench`.
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let arguments: Vec<&str> = match arguments.is_empty() {
        true => vec!["--help"],
        false => arguments.iter().map(String::as_str).collect(),
    };
    let arguments = match Arguments::from_args(&["load"], &arguments) {
        Ok(arguments) => arguments,
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprintln!("{}", exit.output);
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    if let Command::Baseline(baseline) = &arguments.command {
        return baseline.run();
    }
    // Each client needs a descriptor. The server, a child, raises its own limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let _priority = match arguments.nice {
        0 => None,
        nice => Some(PriorityGuard::set(nice)?),
    };
    let target = Target {
        kind: arguments.server,
        pinning: match arguments.unpinned {
            true => Pinning::None,
            false => Pinning::detect()?,
        },
        before: arguments.before,
    };
    if let Command::Rounds(rounds) = &arguments.command {
        return rounds.run(&target, arguments.nice, &|words, target| {
            Command::parse(words)?.measure(target)
        });
    }
    let metrics = arguments.command.measure(&target)?;
    println!("{}{metrics}", target.kind.name());
    match &arguments.limit {
        Some(limit) => check_limit(&metrics, limit),
        None => Ok(()),
    }
}

/// Fails if a metric exceeds its limit, `NAME=NUMBER`.
fn check_limit(metrics: &Metrics, limit: &str) -> io::Result<()> {
    let invalid = || io::Error::other(format!("'{limit}' is not NAME=NUMBER of a metric"));
    let (name, max) = limit.split_once('=').ok_or_else(invalid)?;
    let value = metrics.get(name).ok_or_else(invalid)?;
    match value <= max.parse().map_err(|_| invalid())? {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{name} is {value:.2}, limit {max}"
        ))),
    }
}

//! The load bench: a real server in a process of its own, and thousands of clients in one thread of this one.
//!
//! Run by `cargo bench --bench load -- SCENARIO`, by the scripts `scripts/measure-*`, and in interleaved rounds beside other
//! servers by `scripts/bench`. Each scenario makes its files in a temporary folder, starts a server, bounds its load in count
//! and time, prints what it measured as `name=value` on standard output, and stops what it started. The exit status is 1
//! where a limit given on the command line is missed or anything failed, 2 for a wrong command line.
//!
//! Must not know: the inside of the server. It meets it as a client and as a process.

mod baseline;
mod client;
mod machine;
mod measurement;
mod rounds;
mod scenarios;
mod server;
mod slow_disk;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use argh::FromArgs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use machine::Pinning;
use measurement::{Row, median};
use server::process::Kind;

/// Put a load on a server and measure what it does.
#[derive(FromArgs)]
struct Arguments {
    /// the server: tidegate, before, floor, nginx, nginx-256k or lighttpd; with FTP tidegate-ftp, before-ftp, vsftpd, pure-ftpd
    /// or pyftpdlib; tidegate if not given
    #[argh(option, default = "Kind::Tidegate")]
    server: Kind,
    /// another build of tidegate, to be measured under the name 'before'
    #[argh(option)]
    before: Option<PathBuf>,
    /// let the kernel choose the processors, instead of one for the server and one for the clients
    #[argh(switch)]
    unpinned: bool,
    /// fail where this number of the result, such as bytes_a_session, is over the limit
    #[argh(option)]
    limit: Option<String>,
    /// priority of server and clients, where other work on the machine cannot be stopped: -20 to 19
    #[argh(option, default = "0")]
    nice: i32,
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Download(scenarios::latency::Download),
    Upload(scenarios::latency::Upload),
    Login(scenarios::latency::Login),
    Idle(scenarios::latency::Idle),
    Churn(scenarios::latency::Churn),
    Beside(scenarios::latency::Beside),
    Cold(scenarios::latency::Cold),
    Failing(Failing),
    Rounds(rounds::schedule::Rounds),
    Floor(Floor),
}

/// What failing logins make of a small download's p99: the ratio of medians of interleaved runs with and without them.
#[derive(FromArgs)]
#[argh(subcommand, name = "failing")]
struct Failing {
    /// clients that fail logins without pause
    #[argh(option, default = "50")]
    clients: usize,
    /// clients that download 10 MiB in a loop all the while
    #[argh(option, default = "100")]
    greedy: usize,
    /// rounds of two runs
    #[argh(option, default = "5")]
    rounds: usize,
}

/// The least that sending files costs, as a server; the scenarios start it.
#[derive(FromArgs)]
#[argh(subcommand, name = "floor")]
struct Floor {
    /// the files' directory
    #[argh(positional)]
    directory: PathBuf,
}

/// What can be measured in one run.
struct Scenario(Command);

impl Scenario {
    /// A scenario out of its words on the command line.
    fn parse(words: &str) -> Result<Scenario, String> {
        let words: Vec<&str> = words.split(' ').collect();
        Arguments::from_args(&["load"], &words)
            .map(|arguments| Scenario(arguments.command))
            .map_err(|exit| exit.output)
    }

    fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let is_ftp = matches!(kind.dialect(), client::dialect::Dialect::Ftp { .. });
        match &self.0 {
            Command::Churn(_) | Command::Beside(_) | Command::Cold(_) if is_ftp => {
                Err(io::Error::other("that scenario does not speak FTP"))
            }
            Command::Download(scenario) => scenario.measure(kind, pinning),
            Command::Upload(scenario) => scenario.measure(kind, pinning),
            Command::Login(scenario) => scenario.measure(kind, pinning),
            Command::Idle(scenario) => scenario.measure(kind, pinning),
            Command::Churn(scenario) => scenario.measure(kind, pinning),
            Command::Beside(scenario) => scenario.measure(kind, pinning),
            Command::Cold(scenario) => scenario.measure(kind, pinning),
            Command::Failing(failing) => failing.measure(kind, pinning),
            Command::Rounds(_) | Command::Floor(_) => {
                Err(io::Error::other("that is more than one run"))
            }
        }
    }
}

impl Failing {
    fn measure(&self, kind: Kind, pinning: Pinning) -> io::Result<Row> {
        let (mut without, mut with, mut last) = (Vec::new(), Vec::new(), Row::default());
        for round in 0..self.rounds {
            // A B, B A, A B, …, so that what changes slowly on the machine meets both alike.
            for second in [false, true] {
                let fails = second ^ (round % 2 == 1);
                let failing = if fails { self.clients } else { 0 };
                let words = format!("beside --greedy {} --failing {failing}", self.greedy);
                let row = Scenario::parse(&words)
                    .map_err(io::Error::other)?
                    .measure(kind, pinning)?;
                println!("{words}{row}");
                let p99 = row.get("small_p99_milliseconds").unwrap_or(f64::NAN);
                if fails {
                    row.get("failed_logins_a_second").ok_or_else(|| {
                        io::Error::other("no login failed, so that nothing was shown")
                    })?;
                    with.push(p99);
                    last = row;
                } else {
                    without.push(p99);
                }
            }
        }
        let (without, with) = (median(&mut without), median(&mut with));
        last.add("p99_without_milliseconds", without);
        last.add("p99_with_milliseconds", with);
        last.add("ratio", with / without);
        Ok(last)
    }
}

fn main() -> ExitCode {
    // `cargo bench` passes a flag of its own.
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
    if let Command::Floor(Floor { directory }) = &arguments.command {
        return baseline::run(directory);
    }
    // Thousands of clients are thousands of descriptors. The server, a child, raises its own limit.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    if let Some(program) = &arguments.before {
        server::process::compare_with(program);
    }
    let _priority = match arguments.nice {
        0 => None,
        nice => Some(machine::Priority::take(nice)?),
    };
    let pinning = match arguments.unpinned {
        true => Pinning::None,
        false => Pinning::best()?,
    };
    if let Command::Rounds(rounds) = &arguments.command {
        return rounds.run(pinning, arguments.nice);
    }
    let row = Scenario(arguments.command).measure(arguments.server, pinning)?;
    println!("{}{row}", arguments.server.name());
    let Some(limit) = arguments.limit else {
        return Ok(());
    };
    let wrong = || io::Error::other(format!("'{limit}' is not NAME=NUMBER of a result"));
    let (name, most) = limit.split_once('=').ok_or_else(wrong)?;
    let value = row.get(name).ok_or_else(wrong)?;
    match value <= most.parse().map_err(|_| wrong())? {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{name} is {value:.2}, more than {most}"
        ))),
    }
}

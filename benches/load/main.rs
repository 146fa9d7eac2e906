//! The load bench: a real server in a process of its own, and thousands of clients in one thread of this one.
//!
//! Run by `cargo bench --bench load -- SCENARIO`, and by the scripts `scripts/measure-*`. Each scenario makes a home in
//! a temporary folder, starts `tidegate serve` on a port that the system chooses, bounds its load in count and time,
//! prints what it measured as `name key=value…` rows on standard output, and stops what it started. The exit status is
//! 1 where a limit given on the command line is missed or anything failed, 2 for a wrong command line.
//!
//! Must not know: the inside of the server. It meets it as a client and as a process.

mod crowd;
mod probe;
mod scenarios;
mod server;

use std::process::ExitCode;

use argh::FromArgs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Put a load on a tidegate server and measure what it does.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    scenario: Scenario,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Scenario {
    Idle(scenarios::Idle),
    Download(scenarios::Download),
    Beside(scenarios::Beside),
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
    let scenario = match Arguments::from_args(&["load"], &arguments) {
        Ok(arguments) => arguments.scenario,
        Err(exit) if exit.status.is_ok() => {
            println!("{}", exit.output);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprintln!("{}", exit.output);
            return ExitCode::from(2);
        }
    };
    let outcome = raise_descriptor_limit().and_then(|()| match scenario {
        Scenario::Idle(idle) => idle.run(),
        Scenario::Download(download) => download.run(),
        Scenario::Beside(beside) => beside.run(),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Thousands of clients are thousands of descriptors. The server, a child, raises its own limit.
fn raise_descriptor_limit() -> std::io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}

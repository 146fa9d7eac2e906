//! argv → command → exit status, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::run(std::env::args_os().skip(1))
}

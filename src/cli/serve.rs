//! `tidegate serve`: the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::{Failure, values};
use crate::home::Home;
use crate::limits;

/// serve a home to everybody whom it lets in
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "serve", help_triggers("-h", "--help"))]
pub(crate) struct Serve {
    /// the home: a folder with the files Credentials and Directories
    #[argh(positional)]
    home: PathBuf,

    /// where to listen, as ADDR:PORT; may be given again; 127.0.0.1:2100 if not given; a port 0 is chosen by the system
    #[argh(option, arg_name = "addr:port")]
    listen: Vec<SocketAddr>,

    /// ask for a password whether or not there is such a user
    #[argh(switch)]
    hide_usernames: bool,

    /// sessions at once; 10000 if not given, less where the limit of open files is lower
    #[argh(
        option,
        arg_name = "n",
        default = "limits::SESSIONS_MAX",
        from_str_fn(values::from_one)
    )]
    max_sessions: usize,

    /// sessions at once from one address; 0, which is no limit, if not given
    #[argh(option, arg_name = "n", default = "0")]
    max_per_address: usize,

    /// seconds without a byte either way after which a session ends; 300 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(300)",
        from_str_fn(values::seconds_from_one)
    )]
    idle_timeout: Duration,

    /// seconds that a login may take; 60 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(60)",
        from_str_fn(values::seconds_from_one)
    )]
    login_timeout: Duration,

    /// bytes of the largest upload, such as 10M or 10MiB; no limit if not given
    #[argh(option, arg_name = "bytes", from_str_fn(values::bytes))]
    max_upload: Option<u64>,

    /// seconds that a stopping server grants to what is under way; 30 if not given
    #[argh(
        option,
        arg_name = "seconds",
        default = "Duration::from_secs(30)",
        from_str_fn(values::seconds)
    )]
    drain_timeout: Duration,

    /// a file for the process id, locked while the server runs, beside the home's own
    #[argh(option, arg_name = "file")]
    pid_file: Option<PathBuf>,

    /// the least that is logged: error, warn, info or debug; info if not given
    #[argh(
        option,
        arg_name = "level",
        default = "log::LevelFilter::Info",
        from_str_fn(level)
    )]
    log_level: log::LevelFilter,
}

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let (_home, _warnings) = Home::load(&self.home)?;
        Err(Failure::new("this build has no server"))
    }
}

fn level(value: &str) -> Result<log::LevelFilter, String> {
    match value {
        "error" => Ok(log::LevelFilter::Error),
        "warn" => Ok(log::LevelFilter::Warn),
        "info" => Ok(log::LevelFilter::Info),
        "debug" => Ok(log::LevelFilter::Debug),
        _ => Err("expected error, warn, info or debug".into()),
    }
}

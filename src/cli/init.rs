//! `tidegate init`: a new home.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::{Failure, say, values};
use crate::config::edit;

/// make a new home
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "init", help_triggers("-h", "--help"))]
pub(crate) struct Init {
    /// the home to be: a folder in which neither of a home's two files is yet
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,
}

impl Init {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        edit::init(&self.home)?;
        let home = self.home.display();
        say(&format!(
            "a new home: {home}\n\
             next: 'tidegate user add {home} USER', 'tidegate grant {home} USER DIRECTORY read'\n"
        ))
    }
}

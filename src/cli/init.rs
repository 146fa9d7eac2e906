//! `tidegate init`: creates a home.

use std::path::PathBuf;
use std::process::ExitCode;

use argh::{ArgsInfo, FromArgs};

use crate::cli::failure::Failure;
use crate::cli::output::print;
use crate::cli::values;
use crate::config::edit;

/// create a home
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "init", help_triggers("-h", "--help"))]
pub(crate) struct InitArgs {
    /// the directory of the new home; may exist, but without the files Credentials and Directories
    #[argh(positional, from_str_fn(values::home))]
    home: PathBuf,
}

impl InitArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        edit::init(&self.home)?;
        let home = self.home.display();
        print(&format!(
            "created {home}\n\
             next: 'tidegate user add {home} USER', 'tidegate grant {home} USER DIRECTORY read'\n"
        ))
    }
}

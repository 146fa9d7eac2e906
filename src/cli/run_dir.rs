//! The option `--run-dir` and its variable in the environment.

use std::env;
use std::path::{Path, PathBuf};

use crate::process::run_dir::RunDir;

/// Returns the run directory of the server of a home: `option`, else TIDEGATE_RUN_DIR, else the
/// home.
pub(crate) fn run_dir(option: Option<PathBuf>, home: &Path) -> RunDir {
    let variable = || env::var_os("TIDEGATE_RUN_DIR").filter(|value| !value.is_empty());
    RunDir::new(option.or_else(|| variable().map(PathBuf::from)), home)
}

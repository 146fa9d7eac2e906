//! The rules of the sandbox, and whether it is required.

use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;

/// The option `--sandbox`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// No sandbox; core dumps and debuggers are allowed.
    Off,
    /// As much as the kernel supports, with a warning for every missing part.
    Try,
    /// The server does not start if a part is missing or if it is root.
    Require,
}

impl FromStr for SandboxMode {
    type Err = String;

    fn from_str(word: &str) -> Result<SandboxMode, String> {
        match word {
            "off" => Ok(SandboxMode::Off),
            "try" => Ok(SandboxMode::Try),
            "require" => Ok(SandboxMode::Require),
            _ => Err("expected off, try or require".into()),
        }
    }
}

/// The access that the sandbox leaves to the server.
#[derive(Clone, Debug, Default)]
pub struct SandboxRules {
    /// Files, and directories with everything below them, that may be read.
    pub read: Vec<PathBuf>,
    /// Directories below which files may also be created, replaced, renamed and removed.
    pub write: Vec<PathBuf>,
    /// Those of both that do not answer.
    pub silent: HashSet<PathBuf>,
    /// Directories in which log files may be created and written.
    pub log: Vec<PathBuf>,
    /// Directories in which files may be removed.
    pub remove: Vec<PathBuf>,
    /// Whether new listeners may be opened (FTP's passive mode).
    pub listen: bool,
    /// Whether outgoing connections may be opened (FTP's active mode).
    pub connect: bool,
}

//! The sandbox: privileges, files and system calls that the process gives up before it serves.
//!
//! It is entered in two steps. Landlock restricts a thread and those that it starts later, so
//! [`Sandbox::restrict_files`] runs before any other thread. The system call filter applies to all
//! threads and forbids new ones, so [`Sandbox::restrict_calls`] runs after the last one was
//! started. Neither can be undone.

mod landlock;
pub mod rules;
mod seccomp;

use std::fmt;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

use crate::process::sandbox::rules::{SandboxMode, SandboxRules};
use crate::process::user::ProcessUser;

/// The sandbox of this process and how much of it is in force.
#[derive(Debug)]
pub struct Sandbox {
    mode: SandboxMode,
    rules: SandboxRules,
    user: ProcessUser,
    /// The version of Landlock in force.
    landlock: Option<i32>,
    has_filter: bool,
}

impl Sandbox {
    /// Creates a sandbox that is not in force yet, for a process that has its final user.
    ///
    /// # Errors
    /// If the sandbox is required and the user is root.
    pub fn new(mode: SandboxMode, rules: SandboxRules, user: ProcessUser) -> io::Result<Sandbox> {
        if mode == SandboxMode::Require && user.is_root() {
            return Err(io::Error::other(
                "--sandbox require refuses to serve as root; give the home to another user, or \
                 name one with --user",
            ));
        }
        Ok(Sandbox {
            mode,
            rules,
            user,
            landlock: None,
            has_filter: false,
        })
    }

    /// Drops privileges, capabilities and core dumps, and restricts the files by Landlock. Returns
    /// warnings for missing parts. No other thread may run.
    ///
    /// # Errors
    /// If something required is not available.
    pub fn restrict_files(&mut self) -> io::Result<Vec<String>> {
        let mut warnings = Vec::new();
        if self.mode == SandboxMode::Off {
            return Ok(warnings);
        }
        let dropped = drop_privileges(&self.user);
        self.require("cannot drop privileges", dropped, &mut warnings)?;
        let restricted = landlock::restrict_files(&self.rules).map_err(io::Error::other);
        match self.require("cannot restrict files", restricted, &mut warnings)? {
            Some(None) => self.report_missing("this kernel has no Landlock", &mut warnings)?,
            Some(version) => self.landlock = version,
            None => {}
        }
        Ok(warnings)
    }

    /// Filters the system calls of all threads by seccomp. Returns warnings. All threads must run,
    /// and everything that needs other system calls must be done.
    ///
    /// # Errors
    /// As for [`Sandbox::restrict_files`].
    pub fn restrict_calls(&mut self) -> io::Result<Vec<String>> {
        let mut warnings = Vec::new();
        if self.mode == SandboxMode::Off {
            return Ok(warnings);
        }
        let applied = seccomp::restrict_calls(&self.rules);
        let applied = self.require("cannot filter system calls", applied, &mut warnings)?;
        self.has_filter = applied.is_some();
        Ok(warnings)
    }

    /// Whether Landlock restricts the files.
    pub fn restricts_files(&self) -> bool {
        self.landlock.is_some()
    }

    /// A failure is an error if the sandbox is required, else a warning.
    fn require<T>(
        &self,
        what: &str,
        result: io::Result<T>,
        warnings: &mut Vec<String>,
    ) -> io::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.report_missing(&format!("{what}: {error}"), warnings)?;
                Ok(None)
            }
        }
    }

    fn report_missing(&self, what: &str, warnings: &mut Vec<String>) -> io::Result<()> {
        if self.mode == SandboxMode::Require {
            return Err(io::Error::other(format!("--sandbox require: {what}")));
        }
        warnings.push(format!("the sandbox is incomplete: {what}"));
        Ok(())
    }
}

/// Formats the parts in force as fields of a log line.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |is: bool| if is { "yes" } else { "no" };
        let (uid, is_root) = (self.user.uid(), word(self.user.is_root()));
        write!(f, "uid={uid} root={is_root} ")?;
        match self.landlock {
            Some(version) => write!(f, "landlock={version} ")?,
            None => write!(f, "landlock=no ")?,
        }
        let is_on = self.mode != SandboxMode::Off;
        write!(
            f,
            "seccomp={} no-new-privileges={} core-dumps={} connect={}",
            word(self.has_filter),
            word(is_on),
            word(!is_on),
            word(!self.has_filter || self.rules.connect)
        )
    }
}

/// Forbids set-user-ID programs, core dumps and debuggers, and drops the capabilities of users
/// other than root.
fn drop_privileges(user: &ProcessUser) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    if !user.is_root() {
        use caps::CapSet::{Ambient, Effective, Inheritable, Permitted};
        for set in [Ambient, Inheritable, Effective, Permitted] {
            caps::clear(None, set).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

//! What the process gives up before it serves: root, the files that it has no business with, the calls that it never makes.
//!
//! It closes in two steps. Landlock binds a thread and those that it starts, so it comes before the first of them; the
//! filter of calls binds all threads at once, so it comes after the last, and none can be started from then on. Neither is
//! ever undone: what the server needs is fixed here, at the start.
//!
//! Must not know: sessions, protocols, what the paths are for.

mod calls;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

pub use crate::process::user::{User, become_user};

/// The newest Landlock that this house was tested against. On an older one what that lacks is left out.
const LANDLOCK: ABI = ABI::V6;

/// What the operator asks of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Neither Landlock nor the filter, and a debugger may look in.
    Off,
    /// As much as the kernel has, and a warning for what it has not.
    Try,
    /// All of it, and not as root, or no start.
    Require,
}

impl FromStr for Demand {
    type Err = String;

    fn from_str(word: &str) -> Result<Demand, String> {
        match word {
            "off" => Ok(Demand::Off),
            "try" => Ok(Demand::Try),
            "require" => Ok(Demand::Require),
            _ => Err("expected off, try or require".into()),
        }
    }
}

/// What the server can still do once it is closed in.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Files, and directories with all beneath them, to be read.
    pub read: Vec<PathBuf>,
    /// Directories beneath which files are also made, replaced, renamed and removed.
    pub write: Vec<PathBuf>,
    /// Directories in which log files are made and written.
    pub log: Vec<PathBuf>,
    /// Sockets that listen may still be opened (FTP's passive transfers).
    pub listen: bool,
    /// Connections may be opened (FTP's active transfers).
    pub connect: bool,
}

/// The sandbox on its way to being closed.
#[derive(Debug)]
pub struct Sandbox {
    demand: Demand,
    reach: Reach,
    user: User,
    /// The version of Landlock that holds the files.
    landlock: Option<i32>,
    filtered: bool,
}

impl Sandbox {
    /// One that is still open, for a process that is this user already.
    ///
    /// # Errors
    /// Where it is required and the user is root.
    pub fn new(demand: Demand, reach: Reach, user: User) -> io::Result<Sandbox> {
        if demand == Demand::Require && user.is_root() {
            return Err(io::Error::other(
                "--sandbox require refuses to serve as root: give the home to another user, or name one with --user",
            ));
        }
        Ok(Sandbox {
            demand,
            reach,
            user,
            landlock: None,
            filtered: false,
        })
    }

    /// The first step, before any thread is started: no new privileges, no core dumps, no capabilities, and Landlock.
    /// Returns what could not be had, to be told as a warning.
    ///
    /// # Errors
    /// Where something is required that cannot be had.
    pub fn close_files(&mut self) -> io::Result<Vec<String>> {
        let mut missing = Vec::new();
        if self.demand == Demand::Off {
            return Ok(missing);
        }
        let given_up = give_up_privileges(&self.user);
        self.settle(
            "its privileges could not be given up",
            given_up,
            &mut missing,
        )?;
        let restricted = restrict_files(&self.reach).map_err(io::Error::other);
        let status = self.settle("Landlock does not hold its files", restricted, &mut missing)?;
        match status {
            Some(None) => self.missing("this kernel has no Landlock", &mut missing)?,
            Some(version) => self.landlock = version,
            None => {}
        }
        Ok(missing)
    }

    /// The second step, after the last thread was started and in it whatever takes other calls: the filter of calls.
    ///
    /// # Errors
    /// As for [`Sandbox::close_files`].
    pub fn close_calls(&mut self) -> io::Result<Vec<String>> {
        let mut missing = Vec::new();
        if self.demand == Demand::Off {
            return Ok(missing);
        }
        let applied = calls::restrict(&self.reach);
        let applied = self.settle("its system calls are not filtered", applied, &mut missing)?;
        self.filtered = applied.is_some();
        Ok(missing)
    }

    /// Whether the directories that can be reached are fixed from now on.
    pub fn holds_files(&self) -> bool {
        self.landlock.is_some()
    }

    /// A failure is an error where the sandbox is required, else a warning.
    fn settle<T>(
        &self,
        what: &str,
        result: io::Result<T>,
        missing: &mut Vec<String>,
    ) -> io::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => self
                .missing(&format!("{what}: {error}"), missing)
                .map(|()| None),
        }
    }

    fn missing(&self, what: &str, missing: &mut Vec<String>) -> io::Result<()> {
        match self.demand {
            Demand::Require => Err(io::Error::other(format!("--sandbox require: {what}"))),
            _ => {
                missing.push(what.to_owned());
                Ok(())
            }
        }
    }
}

/// What is in force, as fields of a line of the log.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |is: bool| if is { "yes" } else { "no" };
        write!(
            f,
            "uid={} root={} ",
            self.user.uid(),
            word(self.user.is_root())
        )?;
        match self.landlock {
            Some(version) => write!(f, "landlock={version} ")?,
            None => write!(f, "landlock=no ")?,
        }
        let closed = self.demand != Demand::Off;
        write!(
            f,
            "seccomp={} no-new-privileges={} core-dumps={} connect={}",
            word(self.filtered),
            word(closed),
            word(!closed),
            word(!self.filtered || self.reach.connect)
        )
    }
}

/// No set-user-ID program, no core file, no debugger; and no capability, where somebody else than root has one.
fn give_up_privileges(user: &User) -> io::Result<()> {
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

/// Restricts this thread, and those that it starts, to the files of `reach`; the version of Landlock, or `None` where the
/// kernel has none. What cannot be opened is left out: who cannot even do that has nothing to lose.
fn restrict_files(reach: &Reach) -> Result<Option<i32>, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let log = AccessFs::WriteFile | AccessFs::MakeReg;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?;
    let ruleset = match reach.connect {
        true => ruleset,
        false => ruleset.handle_access(AccessNet::ConnectTcp)?,
    };
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&reach.read, read))?
        .add_rules(path_beneath_rules(&reach.write, read | writing()))?
        .add_rules(path_beneath_rules(&reach.log, log))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as i32),
        _ => None,
    })
}

/// What is done beneath a directory that may be written to. No links, devices, FIFOs or sockets are made there.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

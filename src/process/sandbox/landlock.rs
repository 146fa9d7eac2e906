//! The file part of the sandbox: Landlock (landlock(7)).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::kernel::linux;
use crate::process::sandbox::rules::SandboxRules;
use crate::process::silent_directories::open_path;

/// The newest version of Landlock that was tested. An older kernel ignores
/// unsupported rights.
const VERSION: ABI = ABI::V6;

/// Time for opening a directory whose status could not be read.
const OPEN_TIMEOUT: Duration = Duration::from_millis(200);

/// Restricts this thread, and those that it starts later, to the files in `rules`. Returns the
/// version of Landlock, or `None` if the kernel has none. Paths that cannot be opened are left out:
/// the server could not open them either.
pub(super) fn restrict_files(rules: &SandboxRules) -> Result<Option<i32>, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let log = AccessFs::WriteFile | AccessFs::MakeReg;
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?;
    let ruleset = match rules.connect {
        true => ruleset,
        false => ruleset.handle_access(AccessNet::ConnectTcp)?,
    };
    let answers = |path: &&PathBuf| !rules.silent.contains(*path);
    let created = ruleset
        .create()?
        .add_rules(path_beneath_rules(rules.read.iter().filter(answers), read))?
        .add_rules(path_beneath_rules(
            rules.write.iter().filter(answers),
            read | write_access(),
        ))?
        .add_rules(path_beneath_rules(&rules.log, log))?
        .add_rules(path_beneath_rules(&rules.remove, AccessFs::RemoveFile))?;
    add_silent(&created, rules, read);
    let status = created.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as i32),
        _ => None,
    })
}

/// Adds the directories that do not answer, as far as they can be opened: mount points can. The
/// landlock crate would ask for their status and never return.
fn add_silent(created: &RulesetCreated, rules: &SandboxRules, read: BitFlags<AccessFs>) {
    let ruleset: Option<OwnedFd> = created.try_clone().ok().and_then(Into::into);
    let Some(ruleset) = ruleset else {
        return;
    };
    for path in &rules.silent {
        let Some(directory) = open_path(path, OPEN_TIMEOUT) else {
            continue;
        };
        let access = match rules.write.contains(path) {
            true => read | write_access(),
            false => read,
        };
        // The kernel refuses rights that its version does not have.
        let versions = [VERSION, ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];
        let known = versions.map(|version| access & AccessFs::from_all(version));
        let add = |access: BitFlags<AccessFs>| {
            linux::add_landlock_rule(&ruleset, &directory, access.bits()).is_ok()
        };
        known.into_iter().any(add);
    }
}

/// The access below a writable directory: no symbolic links, devices, FIFOs or sockets.
fn write_access() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

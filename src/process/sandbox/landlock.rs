//! The file part of the sandbox: Landlock (landlock(7)).

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::process::sandbox::rules::SandboxRules;

/// The newest version of Landlock that was tested. An older kernel ignores
/// unsupported rights.
const VERSION: ABI = ABI::V6;

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
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&rules.read, read))?
        .add_rules(path_beneath_rules(&rules.write, read | write_access()))?
        .add_rules(path_beneath_rules(&rules.log, log))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => Some(effective_abi as i32),
        _ => None,
    })
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

//! The directories that the sandbox of a running server includes, and so the grants that a reload
//! can apply without a restart.
//!
//! Landlock identifies a directory by its inode and includes everything below it. This does the
//! same with device and inode numbers. A reused number can mislead it; the kernel then refuses the
//! access.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::error::HomeError;
use crate::config::grants::Grants;

/// The directories below which a server may read, and those below which it may write.
#[derive(Debug)]
pub struct SandboxScope {
    read: Vec<FileId>,
    write: Vec<FileId>,
}

/// Device and inode.
type FileId = (u64, u64);

impl SandboxScope {
    /// Creates the scope of these directories, following symbolic links. Missing ones are left out,
    /// and those for which `may_look` returns false.
    pub fn new(
        read: &[PathBuf],
        write: &[PathBuf],
        may_look: &dyn Fn(&Path) -> bool,
    ) -> SandboxScope {
        let ids = |paths: &[PathBuf]| {
            let paths = paths.iter().filter(|path| may_look(path));
            paths.filter_map(file_id).collect()
        };
        SandboxScope {
            read: ids(read),
            write: ids(write),
        }
    }

    /// Returns the grants outside the scope, each as a fault of its line in `file`.
    /// The kernel alone judges directories for which `may_look` returns false.
    pub(super) fn faults(
        &self,
        file: &Path,
        grants: &Grants,
        may_look: &dyn Fn(&Path) -> bool,
    ) -> Vec<(usize, HomeError)> {
        let mut faults = Vec::new();
        for (line, grant) in grants.numbered() {
            if !may_look(&grant.path) {
                continue;
            }
            let (scope, access) = match grant.rights.may_add() {
                true => (&self.write, "write to"),
                false => (&self.read, "read"),
            };
            if !includes(scope, &grant.path) {
                let fault = HomeError::OutsideSandbox {
                    file: file.to_path_buf(),
                    line,
                    path: grant.path.clone(),
                    access,
                };
                faults.push((line, fault));
            }
        }
        faults
    }
}

/// Whether the scope includes a directory or one above it. A missing directory is no violation.
fn includes(scope: &[FileId], path: &Path) -> bool {
    match fs::canonicalize(path) {
        Ok(path) => path
            .ancestors()
            .filter_map(file_id)
            .any(|id| scope.contains(&id)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn file_id(path: impl AsRef<Path>) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::home::Home;

    fn faults(home: &Home, scope: &SandboxScope) -> Vec<String> {
        let faults = scope.faults(&home.directories_file(), home.grants(), &|_| true);
        faults.iter().map(|(_, fault)| fault.to_string()).collect()
    }

    #[test]
    fn grants_outside_the_scope_of_the_start_are_faults() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("files/A/deep")).unwrap();
        fs::create_dir(home.join("files/B")).unwrap();
        fs::create_dir_all(home.join("C/deep")).unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink(home.join("files/A/deep"), home.join("files/link")).unwrap();
        fs::write(home.join("Credentials"), "").unwrap();
        let load = |text: &str| {
            fs::write(home.join("Directories"), text).unwrap();
            Home::load(&home).unwrap().0
        };
        let start = load("*:A:read,upload\n*:C:upload:C\n");
        let scope = SandboxScope::new(&start.readable_paths(), &start.writable_paths(), &|_| true);
        for included in [
            "*:A:change\n",
            "*:link:upload\n",
            "*:x:upload:files/A/deep\n",
            "*:B:read,upload\n*:x:change:C/deep\n",
            "*:Missing:upload\n*:x:change:/nowhere/at/all\n",
        ] {
            assert_eq!(faults(&load(included), &scope), [""; 0], "{included}");
        }
        let shown = home.display();
        assert_eq!(
            faults(&load("*:A:read\n*:x:upload:.\n*:y:read:../other\n"), &scope),
            [
                format!(
                    "{shown}/Directories:2: the sandbox of the running server cannot write to \
                     '{shown}'; \
                     restart the server to apply this grant"
                ),
                format!(
                    "{shown}/Directories:3: the sandbox of the running server cannot read \
                     '{shown}/../other'; \
                     restart the server to apply this grant"
                ),
            ]
        );
        // The old directories are kept, so that their inode numbers are not reused.
        for (replaced, away) in [("files/A", "away"), ("C", "further")] {
            fs::rename(home.join(replaced), folder.path().join(away)).unwrap();
            fs::create_dir(home.join(replaced)).unwrap();
        }
        assert_eq!(
            faults(&load("*:A:upload\n"), &scope),
            [""; 0],
            "files is included as a whole"
        );
        assert_eq!(
            faults(&load("*:C:upload:C\n"), &scope).len(),
            1,
            "another directory has the name"
        );
        let read_only = load("*:A:read\n");
        let scope = SandboxScope::new(
            &read_only.readable_paths(),
            &read_only.writable_paths(),
            &|_| true,
        );
        assert_eq!(
            faults(&load("*:A:read,upload\n"), &scope).len(),
            1,
            "the scope has no writable directory"
        );
    }
}

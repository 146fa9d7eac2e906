//! What of a home's directories a server can reach that was closed in when it started, and so which changes of the file
//! `Directories` it can take up without a restart.
//!
//! Landlock knows directories by their inodes and counts all that lies beneath them: so does this, by their numbers. A number
//! that has been used again can deceive it; the kernel refuses all the same, and the log says so.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{DIRECTORIES, Home, HomeError};

/// The directories beneath which a server may read, and those beneath which it may write, by device and inode.
#[derive(Debug)]
pub struct SandboxScope {
    read: Vec<(u64, u64)>,
    write: Vec<(u64, u64)>,
}

impl SandboxScope {
    /// Around these directories, links followed. What is not there is left out.
    pub fn around(read: &[PathBuf], write: &[PathBuf]) -> SandboxScope {
        let inodes = |paths: &[PathBuf]| paths.iter().filter_map(inode).collect();
        SandboxScope {
            read: inodes(read),
            write: inodes(write),
        }
    }

    /// The records of `home` that lie beyond, each as a fault of its line.
    pub(crate) fn faults(&self, home: &Home) -> Vec<HomeError> {
        let mut faults = Vec::new();
        for (line, grant) in home.grants.numbered() {
            let (inside, doing) = match grant.rights.may_add() {
                true => (&self.write, "write to"),
                false => (&self.read, "read"),
            };
            if !holds(inside, &grant.path) {
                faults.push(HomeError {
                    file: home.path.join(DIRECTORIES),
                    line: Some(line),
                    found: format!(
                        "a grant of '{}', which the running server's sandbox does not let it {doing}: restart to take this up",
                        grant.path.display()
                    ),
                    expected: "directories that were granted so when it started",
                });
            }
        }
        faults
    }
}

/// Whether a directory, or one that it lies in, is among these. One that is not there needs no place among them.
fn holds(inside: &[(u64, u64)], path: &Path) -> bool {
    match fs::canonicalize(path) {
        Ok(path) => path
            .ancestors()
            .filter_map(inode)
            .any(|inode| inside.contains(&inode)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

fn inode(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(home: &Home, fence: &SandboxScope) -> Vec<String> {
        fence.faults(home).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_grant_is_held_where_it_lies_beneath_what_was_granted_so_at_the_start() {
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
        let fence = SandboxScope::around(&start.read_reach(), &start.write_reach());
        for held in [
            "*:A:change\n",
            "*:link:upload\n",
            "*:x:upload:files/A/deep\n",
            "*:B:read,upload\n*:x:change:C/deep\n",
            "*:Missing:upload\n*:x:change:/nowhere/at/all\n",
        ] {
            assert_eq!(found(&load(held), &fence), [""; 0], "{held}");
        }
        let shown = home.display();
        assert_eq!(
            found(&load("*:A:read\n*:x:upload:.\n*:y:read:../other\n"), &fence),
            [
                format!(
                    "{shown}/Directories:2: found a grant of '{shown}/.', which the running server's sandbox does \
                     not let it write to: restart to take this up; expected directories that were granted so when it started"
                ),
                format!(
                    "{shown}/Directories:3: found a grant of '{shown}/../other', which the running server's sandbox does \
                     not let it read: restart to take this up; expected directories that were granted so when it started"
                ),
            ]
        );
        // What they were stays, or one could get the number of the other.
        for (replaced, away) in [("files/A", "away"), ("C", "further")] {
            fs::rename(home.join(replaced), folder.path().join(away)).unwrap();
            fs::create_dir(home.join(replaced)).unwrap();
        }
        assert_eq!(
            found(&load("*:A:upload\n"), &fence),
            [""; 0],
            "it lies in files"
        );
        assert_eq!(
            found(&load("*:C:upload:C\n"), &fence).len(),
            1,
            "another directory took its name"
        );
        let closed = load("*:A:read\n");
        let fence = SandboxScope::around(&closed.read_reach(), &closed.write_reach());
        assert_eq!(
            found(&load("*:A:read,upload\n"), &fence).len(),
            1,
            "nobody wrote there"
        );
    }
}

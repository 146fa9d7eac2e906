//! The orphan sweep: removes temporary files that a crash left in granted directories.
//!
//! Only file systems without O_TMPFILE have them (see [`crate::storage::temp_names`]).

use std::io;
use std::path::Path;

use crate::domain::path::is_name;
use crate::domain::step::Step;
use crate::kernel::{FileKind, Kernel, OpenMode};
use crate::storage::error::FileFault;
use crate::storage::temp_names::is_temporary;
use crate::storage::walk::{TreeWalk, Visit, Visitor};

/// A walk through one granted directory that removes orphans: files with temporary names whose
/// lock is free. One step visits one directory.
pub struct OrphanSweep<K: Kernel> {
    walk: TreeWalk<K>,
    removal: OrphanRemoval,
}

#[derive(Debug)]
struct OrphanRemoval {
    removed: usize,
}

impl<K: Kernel> OrphanSweep<K> {
    /// A sweep of the directory at an operator's path.
    pub fn new(root: &Path) -> OrphanSweep<K> {
        OrphanSweep {
            walk: TreeWalk::new(root, ""),
            removal: OrphanRemoval { removed: 0 },
        }
    }

    /// Visits one more directory. An error ends the visit of that directory only.
    pub fn step(&mut self, kernel: &K) -> Step<()> {
        self.walk.step(kernel, "sweeping", &mut self.removal)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.walk.root()
    }

    /// The first error.
    pub fn fault(&self) -> Option<&FileFault> {
        self.walk.fault()
    }

    /// Files removed so far.
    pub fn removed(&self) -> usize {
        self.removal.removed
    }
}

impl Visitor for OrphanRemoval {
    fn selects(&self, name: &str, kind: Option<FileKind>) -> bool {
        // Uploads go to directories with valid names, and never through a link.
        is_temporary(name) || (matches!(kind, Some(FileKind::Directory) | None) && is_name(name))
    }

    fn visit<K: Kernel>(
        &mut self,
        kernel: &K,
        directory: &K::File,
        name: &str,
        kind: Option<FileKind>,
    ) -> io::Result<Visit> {
        if is_temporary(name) {
            let is_removed = remove_unlocked(kernel, directory, name)?;
            self.removed += usize::from(is_removed);
            return Ok(Visit::Leaf);
        }
        let is_directory = kind.is_some()
            || (kernel.status_at(directory, name))
                .is_ok_and(|found| found.kind == FileKind::Directory);
        Ok(match is_directory {
            true => Visit::Descend,
            false => Visit::Leaf,
        })
    }
}

/// Removes a temporary file unless a writer holds its lock.
fn remove_unlocked<K: Kernel>(kernel: &K, directory: &K::File, name: &str) -> io::Result<bool> {
    if kernel.status_at(directory, name)?.kind != FileKind::File {
        return Ok(false);
    }
    let file = kernel.open_beneath(directory, name, OpenMode::Read)?;
    match kernel.lock(&file) {
        Ok(()) => kernel.remove(directory, name).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::storage::tests::TestDirectory;

    #[test]
    fn only_unlocked_temporary_files_are_removed() {
        let directory = TestDirectory::new();
        let gone = ["", "sub/", "sub/deep/", "sub/.hidden/"];
        let stays = [".tidegate/", "../outside/"];
        for folder in gone.iter().chain(&stays) {
            fs::create_dir_all(directory.at(folder)).unwrap();
            fs::write(
                directory.at(&format!("{folder}.tidegate-0123456789abcdef.part")),
                "x",
            )
            .unwrap();
        }
        symlink("../outside", directory.at("out")).unwrap();
        let others = [
            "sub/.tidegate-0123456789abcde.part",
            "sub/.tidegate-0123456789abcdeg.part",
            "sub/.tidegate-0123456789ABCDEF.part",
            "sub/.tidegate-0123456789abcdef.par",
            "sub/.tidegate.pid",
            "sub/tidegate-0123456789abcdef.part",
            "sub/film",
        ];
        for name in others {
            fs::write(directory.at(name), "").unwrap();
        }
        let held = "sub/deep/.tidegate-fedcba9876543210.part";
        let handle = fs::File::create(directory.at(held)).unwrap();
        handle.lock().unwrap();
        mkfifo(
            &directory.at(".tidegate-ffffffffffffffff.part"),
            Mode::S_IRWXU,
        )
        .unwrap();
        fs::create_dir(directory.at(".tidegate-eeeeeeeeeeeeeeee.part")).unwrap();

        let mut sweep = OrphanSweep::new(&directory.at(""));
        let mut steps = 0;
        while sweep.step(&*directory.kernel) == Step::More {
            steps += 1;
        }
        assert_eq!((sweep.removed(), steps), (4, 4));
        let left = |name: &str| fs::symlink_metadata(directory.at(name)).is_ok();
        for folder in gone {
            assert!(!left(&format!("{folder}.tidegate-0123456789abcdef.part")));
        }
        for folder in stays {
            assert!(left(&format!("{folder}.tidegate-0123456789abcdef.part")));
        }
        assert!(others.iter().all(|name| left(name)) && left(held));
        assert!(left(".tidegate-ffffffffffffffff.part") && left(".tidegate-eeeeeeeeeeeeeeee.part"));

        drop(handle);
        let mut again = OrphanSweep::new(&directory.at(""));
        while again.step(&*directory.kernel) == Step::More {}
        assert_eq!((again.removed(), left(held)), (1, false));
    }

    #[test]
    fn an_error_ends_one_directory_and_not_the_sweep() {
        let directory = TestDirectory::new();
        for folder in ["one", "two", "three"] {
            fs::create_dir(directory.at(folder)).unwrap();
            let left = format!("{folder}/.tidegate-0123456789abcdef.part");
            fs::write(directory.at(&left), "").unwrap();
        }
        let mut sweep = OrphanSweep::new(&directory.at(""));
        assert_eq!(sweep.step(&*directory.kernel), Step::More);
        // Replace the next directory by a file.
        let next = directory.at(&sweep.walk.next_path().unwrap());
        fs::remove_dir_all(&next).unwrap();
        fs::write(&next, "").unwrap();
        while sweep.step(&*directory.kernel) == Step::More {}
        let fault = sweep.fault().unwrap();
        assert_eq!((fault.operation, &fault.path), ("sweeping", &next));
        assert_eq!(sweep.removed(), 2, "the other directories are swept");

        let mut missing = OrphanSweep::new(&directory.at("missing"));
        assert_eq!(missing.step(&*directory.kernel), Step::More);
        assert_eq!(missing.step(&*directory.kernel), Step::Done(()));
        assert!(missing.fault().is_none());
    }
}

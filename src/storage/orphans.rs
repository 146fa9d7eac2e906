//! What a crash has left of uploads that were on their way.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::path::is_name;
use crate::kernel::{Kernel, Kind, Open};
use crate::storage::Fault;
use crate::storage::upload::is_temporary;

/// A walk through one granted directory that removes temporary names which nobody holds locked. One step is one
/// directory, so that a worker can do other jobs between.
#[derive(Debug)]
pub struct OrphanSweep {
    root: PathBuf,
    /// Paths below the root that are still to be walked.
    pending: Vec<String>,
    removed: usize,
    /// Why a part of it could not be walked, the first.
    fault: Option<Fault>,
}

impl OrphanSweep {
    /// A walk through the directory at an operator's path.
    pub fn new(root: &Path) -> OrphanSweep {
        OrphanSweep {
            root: root.to_owned(),
            pending: vec![String::new()],
            removed: 0,
            fault: None,
        }
    }

    /// Walks one more directory; `false` when none is left. A fault ends only that directory.
    pub fn step<K: Kernel>(&mut self, kernel: &K) -> bool {
        let Some(below) = self.pending.pop() else {
            return false;
        };
        match self.walk(kernel, &below) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                self.fault.get_or_insert_with(|| Fault {
                    doing: "sweeping",
                    path: self.root.join(below),
                    source,
                });
            }
            _ => {} // or it was removed meanwhile
        }
        true
    }

    /// The first fault that was met.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// How many files were removed so far.
    pub fn removed(&self) -> usize {
        self.removed
    }

    fn walk<K: Kernel>(&mut self, kernel: &K, below: &str) -> io::Result<()> {
        let root = kernel.open_root(&self.root)?;
        let directory = kernel.open_beneath(&root, below, Open::Directory)?;
        let mut found = Vec::new();
        kernel.entries(&directory, &mut |name, kind| {
            match str::from_utf8(name) {
                Ok(name) if is_temporary(name) || may_be_entered(name, kind) => {
                    found.push((name.to_owned(), kind));
                }
                _ => {}
            }
            true
        })?;
        let mut result = Ok(());
        for (name, kind) in found {
            if is_temporary(&name) {
                match remove_unlocked(kernel, &directory, &name) {
                    Ok(removed) => self.removed += usize::from(removed),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {} // done meanwhile
                    Err(error) => result = Err(error),
                }
            } else if kind.is_some() || is_directory(kernel, &directory, &name) {
                self.pending.push(match below {
                    "" => name,
                    below => format!("{below}/{name}"),
                });
            }
        }
        result
    }
}

/// Whether uploads could have come into it: no link, and with a name that is served.
fn may_be_entered(name: &str, kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Directory) | None) && is_name(name)
}

fn is_directory<K: Kernel>(kernel: &K, directory: &K::File, name: &str) -> bool {
    (kernel.status_at(directory, name)).is_ok_and(|found| found.kind == Kind::Directory)
}

/// Removes a temporary file unless somebody still writes to it.
fn remove_unlocked<K: Kernel>(kernel: &K, directory: &K::File, name: &str) -> io::Result<bool> {
    if kernel.status_at(directory, name)?.kind != Kind::File {
        return Ok(false);
    }
    let file = kernel.open_beneath(directory, name, Open::Read)?;
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
    use crate::storage::tests::World;

    #[test]
    fn only_temporary_files_that_nobody_holds_are_removed() {
        let world = World::new();
        let gone = ["", "sub/", "sub/deep/"];
        let stays = ["sub/.hidden/", "../outside/"];
        for folder in gone.iter().chain(&stays) {
            fs::create_dir_all(world.at(folder)).unwrap();
            fs::write(
                world.at(&format!("{folder}.tidegate-0123456789abcdef.part")),
                "x",
            )
            .unwrap();
        }
        symlink("../outside", world.at("out")).unwrap();
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
            fs::write(world.at(name), "").unwrap();
        }
        let held = "sub/deep/.tidegate-fedcba9876543210.part";
        let handle = fs::File::create(world.at(held)).unwrap();
        handle.lock().unwrap();
        mkfifo(&world.at(".tidegate-ffffffffffffffff.part"), Mode::S_IRWXU).unwrap();
        fs::create_dir(world.at(".tidegate-eeeeeeeeeeeeeeee.part")).unwrap();

        let mut sweep = OrphanSweep::new(&world.at(""));
        let mut steps = 0;
        while sweep.step(&*world.kernel) {
            steps += 1;
        }
        assert_eq!((sweep.removed(), steps), (3, 3));
        let left = |name: &str| fs::symlink_metadata(world.at(name)).is_ok();
        for folder in gone {
            assert!(!left(&format!("{folder}.tidegate-0123456789abcdef.part")));
        }
        for folder in stays {
            assert!(left(&format!("{folder}.tidegate-0123456789abcdef.part")));
        }
        assert!(others.iter().all(|name| left(name)) && left(held));
        assert!(left(".tidegate-ffffffffffffffff.part") && left(".tidegate-eeeeeeeeeeeeeeee.part"));

        drop(handle);
        let mut again = OrphanSweep::new(&world.at(""));
        while again.step(&*world.kernel) {}
        assert_eq!((again.removed(), left(held)), (1, false));
    }

    #[test]
    fn a_fault_ends_one_directory_and_not_the_walk() {
        let world = World::new();
        for folder in ["one", "two", "three"] {
            fs::create_dir(world.at(folder)).unwrap();
            let left = format!("{folder}/.tidegate-0123456789abcdef.part");
            fs::write(world.at(&left), "").unwrap();
        }
        let mut sweep = OrphanSweep::new(&world.at(""));
        assert!(sweep.step(&*world.kernel));
        // The next to be walked is a directory no more.
        let next = world.at(sweep.pending.last().unwrap());
        fs::remove_dir_all(&next).unwrap();
        fs::write(&next, "").unwrap();
        while sweep.step(&*world.kernel) {}
        let fault = sweep.fault().unwrap();
        assert_eq!((fault.doing, &fault.path), ("sweeping", &next));
        assert_eq!(sweep.removed(), 2, "the others are walked all the same");

        let mut missing = OrphanSweep::new(&world.at("missing"));
        assert!(missing.step(&*world.kernel));
        assert!(!missing.step(&*world.kernel));
        assert!(missing.fault().is_none());
    }
}

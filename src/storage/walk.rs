//! Walks through directory trees in slices: one step visits one directory, so that a worker can run
//! other jobs in between.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::step::Step;
use crate::kernel::{FileKind, Kernel, OpenMode};
use crate::storage::error::FileFault;
use crate::storage::resolve::join;
use crate::storage::storage_use::StorageUse;
use crate::storage::temp_names::is_temporary;

/// The actions of a walk on the names that it meets.
pub(super) trait Visitor {
    /// Whether to visit a name. `kind` is `None` where the directory does not report it.
    fn selects(&self, name: &str, kind: Option<FileKind>) -> bool;

    /// Visits one selected name.
    fn visit<K: Kernel>(
        &mut self,
        kernel: &K,
        directory: &K::File,
        name: &str,
        kind: Option<FileKind>,
    ) -> io::Result<Visit>;
}

/// How a walk goes on after a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// Walk through this directory too.
    Descend,
    /// Nothing lies below.
    Leaf,
}

/// A path is opened from the root, or from a directory that the walk keeps open, so that no path
/// gets longer than the kernel accepts (PATH_MAX, 4096 bytes; a name has at most 255).
const OPENED_PATH_MAX: usize = 2048;

/// Directories that a walk keeps open at most. What lies deeper cannot be walked.
const ANCHORS_MAX: usize = 64;

/// A walk through the directory `below` a root and all directories in it. Links are not followed.
pub(super) struct TreeWalk<K: Kernel> {
    root: PathBuf,
    /// Directories that are still to be visited.
    pending: Vec<PendingDirectory<K>>,
    /// The first error. It ends the visit of one name or directory, not the walk.
    fault: Option<FileFault>,
}

/// A directory that is still to be visited.
struct PendingDirectory<K: Kernel> {
    /// The directory in which the path is opened, instead of the root.
    anchor: Option<Arc<Anchor<K>>>,
    path: String,
}

/// A directory that is kept open, because the paths of those below it are too long.
struct Anchor<K: Kernel> {
    directory: K::File,
    /// Its path below the root.
    path: String,
    /// Open directories above it.
    depth: usize,
}

impl<K: Kernel> PendingDirectory<K> {
    fn open(&self, kernel: &K, root: &Path) -> io::Result<K::File> {
        let open = |root| kernel.open_beneath(root, &self.path, OpenMode::Directory);
        match &self.anchor {
            Some(anchor) => open(&anchor.directory),
            None => open(&kernel.open_root(root)?),
        }
    }

    /// The path below the root.
    fn full_path(&self) -> String {
        match &self.anchor {
            Some(anchor) => join(&anchor.path, &self.path),
            None => self.path.clone(),
        }
    }

    /// Returns the anchor for the directories in this one, and its path below the anchor.
    fn anchor_below(&self, directory: K::File) -> io::Result<(Option<Arc<Anchor<K>>>, &str)> {
        if self.path.len() < OPENED_PATH_MAX {
            return Ok((self.anchor.clone(), &self.path));
        }
        let depth = self.anchor.as_ref().map_or(0, |anchor| anchor.depth + 1);
        if depth == ANCHORS_MAX {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let anchor = Anchor {
            directory,
            path: self.full_path(),
            depth,
        };
        Ok((Some(Arc::new(anchor)), ""))
    }
}

impl<K: Kernel> TreeWalk<K> {
    pub(super) fn new(root: &Path, below: &str) -> TreeWalk<K> {
        TreeWalk {
            root: root.to_owned(),
            pending: vec![PendingDirectory {
                anchor: None,
                path: below.to_owned(),
            }],
            fault: None,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn fault(&self) -> Option<&FileFault> {
        self.fault.as_ref()
    }

    pub(super) fn into_fault(self) -> Option<FileFault> {
        self.fault
    }

    /// The path below the root that is visited next.
    #[cfg(test)]
    pub(super) fn next_path(&self) -> Option<String> {
        self.pending.last().map(PendingDirectory::full_path)
    }

    /// Visits one more directory. `operation` names the walk in its fault.
    pub(super) fn step(
        &mut self,
        kernel: &K,
        operation: &'static str,
        visitor: &mut impl Visitor,
    ) -> Step<()> {
        let Some(next) = self.pending.pop() else {
            return Step::Done(());
        };
        match self.visit_directory(kernel, &next, visitor) {
            // A missing entry was removed in the meantime.
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                self.fault.get_or_insert_with(|| FileFault {
                    operation,
                    path: self.root.join(next.full_path()),
                    source,
                });
            }
            _ => {}
        }
        Step::More
    }

    fn visit_directory(
        &mut self,
        kernel: &K,
        visited: &PendingDirectory<K>,
        visitor: &mut impl Visitor,
    ) -> io::Result<()> {
        let directory = visited.open(kernel, &self.root)?;
        let mut found = Vec::new();
        kernel.read_directory(&directory, &mut |name, kind| {
            if let Ok(name) = str::from_utf8(name)
                && visitor.selects(name, kind)
            {
                found.push((name.to_owned(), kind));
            }
            true
        })?;
        let (mut result, mut directories) = (Ok(()), Vec::new());
        for (name, kind) in found {
            match visitor.visit(kernel, &directory, &name, kind) {
                Ok(Visit::Descend) => directories.push(name),
                Ok(Visit::Leaf) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => result = Err(error),
            }
        }
        if !directories.is_empty() {
            let (anchor, below) = visited.anchor_below(directory)?;
            let pending = directories.iter().map(|name| PendingDirectory {
                anchor: anchor.clone(),
                path: join(below, name),
            });
            self.pending.extend(pending);
        }
        result
    }
}

/// A walk that adds up what a directory holds. Hidden files count, temporary ones do not:
/// unfinished uploads are covered by their quota reservations.
pub(super) struct SizeWalk<K: Kernel> {
    walk: TreeWalk<K>,
    size: TreeSize,
}

#[derive(Debug)]
struct TreeSize {
    total: StorageUse,
}

impl<K: Kernel> SizeWalk<K> {
    pub(super) fn new(root: &Path, below: &str) -> SizeWalk<K> {
        SizeWalk {
            walk: TreeWalk::new(root, below),
            size: TreeSize {
                total: StorageUse::default(),
            },
        }
    }

    /// Visits one more directory. Directories that cannot be read are left out: see `fault`.
    pub(super) fn step(&mut self, kernel: &K) -> Step<()> {
        self.walk.step(kernel, "counting", &mut self.size)
    }

    /// The amounts found so far, without the directory itself.
    pub(super) fn total(&self) -> StorageUse {
        self.size.total
    }

    pub(super) fn root(&self) -> &Path {
        self.walk.root()
    }

    /// The first error. After one, the total is too small.
    pub(super) fn fault(&self) -> Option<&FileFault> {
        self.walk.fault()
    }

    pub(super) fn into_fault(self) -> Option<FileFault> {
        self.walk.into_fault()
    }
}

impl Visitor for TreeSize {
    fn selects(&self, name: &str, kind: Option<FileKind>) -> bool {
        !is_temporary(name) && kind != Some(FileKind::Other)
    }

    fn visit<K: Kernel>(
        &mut self,
        kernel: &K,
        directory: &K::File,
        name: &str,
        _kind: Option<FileKind>,
    ) -> io::Result<Visit> {
        let found = kernel.status_at(directory, name)?;
        self.total = self.total.plus(StorageUse::of(Some(found)));
        Ok(match found.kind {
            FileKind::Directory => Visit::Descend,
            _ => Visit::Leaf,
        })
    }
}

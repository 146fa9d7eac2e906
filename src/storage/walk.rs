//! Walks through directory trees in slices: one step visits one directory, so that a worker can run
//! other jobs in between.

use std::io;
use std::path::{Path, PathBuf};

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

/// A walk through the directory `below` a root and all directories in it. Links are not followed.
#[derive(Debug)]
pub(super) struct TreeWalk {
    root: PathBuf,
    /// Paths below the root that are still to be visited.
    pending: Vec<String>,
    /// The first error. It ends the visit of one name or directory, not the walk.
    fault: Option<FileFault>,
}

impl TreeWalk {
    pub(super) fn new(root: &Path, below: &str) -> TreeWalk {
        TreeWalk {
            root: root.to_owned(),
            pending: vec![below.to_owned()],
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
    pub(super) fn next_path(&self) -> Option<&str> {
        self.pending.last().map(String::as_str)
    }

    /// Visits one more directory. `operation` names the walk in its fault.
    pub(super) fn step<K: Kernel>(
        &mut self,
        kernel: &K,
        operation: &'static str,
        visitor: &mut impl Visitor,
    ) -> Step<()> {
        let Some(below) = self.pending.pop() else {
            return Step::Done(());
        };
        match self.visit_directory(kernel, &below, visitor) {
            // A missing entry was removed in the meantime.
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                self.fault.get_or_insert_with(|| FileFault {
                    operation,
                    path: self.root.join(below),
                    source,
                });
            }
            _ => {}
        }
        Step::More
    }

    fn visit_directory<K: Kernel>(
        &mut self,
        kernel: &K,
        below: &str,
        visitor: &mut impl Visitor,
    ) -> io::Result<()> {
        let root = kernel.open_root(&self.root)?;
        let directory = kernel.open_beneath(&root, below, OpenMode::Directory)?;
        let mut found = Vec::new();
        kernel.read_directory(&directory, &mut |name, kind| {
            if let Ok(name) = str::from_utf8(name)
                && visitor.selects(name, kind)
            {
                found.push((name.to_owned(), kind));
            }
            true
        })?;
        let mut result = Ok(());
        for (name, kind) in found {
            match visitor.visit(kernel, &directory, &name, kind) {
                Ok(Visit::Descend) => self.pending.push(join(below, &name)),
                Ok(Visit::Leaf) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }
}

/// A walk that adds up what a directory holds. Hidden files count, temporary ones do not:
/// unfinished uploads are covered by their quota reservations.
#[derive(Debug)]
pub(super) struct SizeWalk {
    walk: TreeWalk,
    size: TreeSize,
}

#[derive(Debug)]
struct TreeSize {
    total: StorageUse,
}

impl SizeWalk {
    pub(super) fn new(root: &Path, below: &str) -> SizeWalk {
        SizeWalk {
            walk: TreeWalk::new(root, below),
            size: TreeSize {
                total: StorageUse::default(),
            },
        }
    }

    /// Visits one more directory. Directories that cannot be read are left out.
    pub(super) fn step<K: Kernel>(&mut self, kernel: &K) -> Step<()> {
        self.walk.step(kernel, "counting", &mut self.size)
    }

    /// The amounts found so far, without the directory itself.
    pub(super) fn total(&self) -> StorageUse {
        self.size.total
    }

    pub(super) fn root(&self) -> &Path {
        self.walk.root()
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

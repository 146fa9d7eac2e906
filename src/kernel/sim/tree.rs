//! A tree of inodes and names in memory, and what of it a power cut leaves.
//!
//! Content and names are durable once they were synced; an operation on names that was not is kept or lost by itself.
//!
//! Must not know: open handles, faults, what the names mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::{Kind, Status};
use crate::limits::NAME_BYTES_MAX;

/// Bytes of a page: what is cached, mapped, or torn by a power cut.
pub(super) const PAGE: usize = 4096;

/// Links that one path may follow (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Inode of the directory `/`.
pub(super) const ROOT: u64 = 1;

/// Seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, u32);

/// Names of one directory.
pub(super) type Names = BTreeMap<Vec<u8>, u64>;

/// What one call does to a directory's names, whole or not at all: each gets an inode, or is taken away.
type Operation = Vec<Change>;

/// A name, and the inode that it gets.
pub(super) type Change = (Vec<u8>, Option<u64>);

/// What the harness can put at a path.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A file of these bytes.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(Vec<u8>),
    /// A FIFO or a device.
    Other,
}

/// The tree. Inodes are never reused, and never dropped, since a power cut may bring a name back.
#[derive(Clone)]
pub(super) struct Tree {
    /// The first is that of [`ROOT`].
    inodes: Vec<Inode>,
    /// Names on their way from one directory to another: both operations reach the disk, or neither.
    shifts: Vec<Shift>,
}

/// What one call does to the names of two directories.
type Shift = [(u64, Operation); 2];

#[derive(Clone)]
pub(super) struct Inode {
    pub(super) node: Node,
    /// Names that it has.
    pub(super) links: u32,
    /// Handles and maps that hold it.
    pub(super) users: u32,
    pub(super) modified: Time,
    pub(super) changed: Time,
    /// Whether the server may open it to read, or pass through it.
    pub(super) permitted: bool,
    /// The handle that has locked it.
    pub(super) lock: Option<u64>,
    /// Bytes of room that are its own whatever its size.
    pub(super) reserved: u64,
    /// A sync has failed: Linux calls the pages clean then, and the next sync does nothing for them.
    pub(super) forsaken: bool,
    /// Pages that are in memory, and pages of which it was said that they are not.
    pub(super) warm: BTreeSet<u64>,
    pub(super) cold: BTreeSet<u64>,
}

#[derive(Clone)]
pub(super) enum Node {
    File {
        content: Arc<Vec<u8>>,
        /// What the disk has of it.
        durable: Arc<Vec<u8>>,
    },
    Directory {
        names: Names,
        durable: Names,
        unsynced: Vec<Operation>,
    },
    Link(Vec<u8>),
    Other,
}

impl Tree {
    pub(super) fn new() -> Tree {
        let mut tree = Tree {
            inodes: Vec::new(),
            shifts: Vec::new(),
        };
        let root = tree.add(Node::directory(), (0, 0));
        assert_eq!(root, ROOT);
        tree.at(ROOT).links = 1;
        tree
    }

    /// A new inode, without a name.
    pub(super) fn add(&mut self, node: Node, now: Time) -> u64 {
        let id = ROOT + self.inodes.len() as u64;
        let inode = Inode {
            node,
            links: 0,
            users: 0,
            modified: now,
            changed: now,
            permitted: true,
            lock: None,
            reserved: 0,
            forsaken: false,
            warm: BTreeSet::new(),
            cold: BTreeSet::new(),
        };
        self.inodes.push(inode);
        id
    }

    /// Follows a path from a directory, links included. `beneath`: no step may leave it (openat2(2)).
    pub(super) fn resolve(&self, start: u64, path: &[u8], beneath: bool) -> Result<u64, Errno> {
        let mut way = vec![start];
        let mut left = parts(path);
        let mut links = 0;
        while let Some(part) = left.pop() {
            let here = *way.last().expect("the start at least");
            let names = self.names(here)?;
            if !self.get(here).permitted {
                return Err(Errno::EACCES);
            }
            match &part[..] {
                b"." => {}
                b".." if way.len() > 1 => _ = way.pop(),
                b".." if beneath => return Err(Errno::EXDEV),
                b".." => {}
                name if name.len() > NAME_BYTES_MAX => return Err(Errno::ENAMETOOLONG),
                name => {
                    let inode = *names.get(name).ok_or(Errno::ENOENT)?;
                    let Node::Link(target) = &self.get(inode).node else {
                        way.push(inode);
                        continue;
                    };
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::ELOOP);
                    }
                    if target.starts_with(b"/") {
                        if beneath {
                            return Err(Errno::EXDEV);
                        }
                        way.truncate(1);
                    }
                    left.extend(parts(target));
                }
            }
        }
        Ok(*way.last().expect("the start at least"))
    }

    pub(super) fn names(&self, directory: u64) -> Result<&Names, Errno> {
        match &self.get(directory).node {
            Node::Directory { names, .. } => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// One operation on a directory's names.
    pub(super) fn set(&mut self, directory: u64, operation: Operation, now: Time) {
        for (name, inode) in &operation {
            let before = self.names(directory).expect("a directory").get(name);
            if let Some(&before) = before {
                self.at(before).links -= 1;
                self.at(before).changed = now;
            }
            if let Some(inode) = inode {
                self.at(*inode).links += 1;
                self.at(*inode).changed = now;
            }
        }
        let inode = self.at(directory);
        (inode.modified, inode.changed) = (now, now);
        let (names, _, unsynced) = inode.node.directory_mut();
        apply(names, &operation);
        unsynced.push(operation);
    }

    /// One operation on the names of two directories.
    pub(super) fn shift(
        &mut self,
        (from, gone): (u64, Change),
        (to, come): (u64, Change),
        now: Time,
    ) {
        let shift = [(to, vec![come]), (from, vec![gone])];
        for (directory, operation) in &shift {
            self.set(*directory, operation.clone(), now);
        }
        self.shifts.push(shift);
    }

    /// Makes content or names durable, and with names what else the same calls have done.
    pub(super) fn settle(&mut self, inode: u64) {
        self.at(inode).node.settle();
        let concerns = |shift: &mut Shift| shift.iter().any(|(directory, _)| *directory == inode);
        let done: Vec<Shift> = self.shifts.extract_if(.., concerns).collect();
        for (other, operation) in done.into_iter().flatten() {
            let (_, durable, unsynced) = self.at(other).node.directory_mut();
            if let Some(index) = unsynced.iter().position(|other| *other == operation) {
                apply(durable, &unsynced.remove(index));
            }
        }
    }

    /// Whether a directory is another one, or lies somewhere in it.
    pub(super) fn is_within(&self, directory: u64, above: u64) -> bool {
        directory == above
            || self.names(above).is_ok_and(|names| {
                let mut inodes = names.values();
                inodes.any(|&inode| self.is_within(directory, inode))
            })
    }

    /// Bytes of room that are taken.
    pub(super) fn used(&self) -> u64 {
        let alive = |inode: &&Inode| inode.links > 0 || inode.users > 0;
        self.inodes.iter().filter(alive).map(Inode::held).sum()
    }

    /// Inodes that are in use and have no name.
    pub(super) fn nameless(&self) -> usize {
        let nameless = |inode: &&Inode| inode.links == 0 && inode.users > 0;
        self.inodes.iter().filter(nameless).count()
    }

    pub(super) fn status(&self, id: u64) -> Status {
        let inode = self.get(id);
        let size = match &inode.node {
            Node::File { content, .. } => content.len() as u64,
            _ => 0,
        };
        Status {
            kind: inode.node.kind(),
            device: 1,
            inode: id,
            size,
            modified: inode.modified,
            changed: inode.changed,
        }
    }

    pub(super) fn get(&self, inode: u64) -> &Inode {
        &self.inodes[(inode - ROOT) as usize]
    }

    pub(super) fn at(&mut self, inode: u64) -> &mut Inode {
        &mut self.inodes[(inode - ROOT) as usize]
    }

    // The harness; a path is absolute, and what is done is durable at once.

    /// Puts something at a path, with the directories above it, over what is there.
    pub(super) fn put(&mut self, path: &str, entry: Entry, now: Time) {
        let (above, name) = path.rsplit_once('/').expect("an absolute path");
        if self.find(above).is_none() {
            self.put(above, Entry::Directory, now);
        }
        let directory = self.find(above).expect("just made");
        let mut node = match entry {
            Entry::File(content) => Node::file(content),
            Entry::Directory => Node::directory(),
            Entry::Link(target) => Node::Link(target),
            Entry::Other => Node::Other,
        };
        node.settle();
        let inode = self.add(node, now);
        self.set_durably(directory, name, Some(inode), now);
    }

    /// Takes a name away.
    pub(super) fn take(&mut self, path: &str, now: Time) {
        let (above, name) = path.rsplit_once('/').expect("an absolute path");
        let directory = self.find(above).expect("it is there");
        self.set_durably(directory, name, None, now);
    }

    /// Changes a file in place.
    pub(super) fn alter(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>), now: Time) {
        let inode = self.find(path).expect("it is there");
        let inode = self.at(inode);
        let Node::File { content, .. } = &mut inode.node else {
            panic!("only a file's content is altered");
        };
        change(Arc::make_mut(content));
        inode.node.settle();
        (inode.modified, inode.changed) = (now, now);
    }

    pub(super) fn find(&self, path: &str) -> Option<u64> {
        self.resolve(ROOT, path.as_bytes(), false).ok()
    }

    /// Everything by its path, with a file's content; names that are no UTF-8 with replacement characters.
    pub(super) fn paths(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        let mut paths = BTreeMap::new();
        let mut left = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = left.pop() {
            let node = &self.get(inode).node;
            if let Node::Directory { names, .. } = node {
                left.extend(names.iter().map(|(name, &inode)| {
                    let name = String::from_utf8_lossy(name);
                    (format!("{path}/{name}"), inode)
                }));
            }
            let content = match node {
                Node::File { content, .. } => Some(content.clone()),
                _ => None,
            };
            paths.insert(path, content);
        }
        paths
    }

    /// What is left after a power cut: all that was synced, and of the rest each thing kept, torn or lost.
    pub(super) fn crash(&self, rng: &mut Rng) -> Tree {
        let mut left = self.clone();
        for shift in std::mem::take(&mut left.shifts) {
            let kept = rng.bool();
            for (directory, operation) in shift {
                let (_, durable, unsynced) = left.at(directory).node.directory_mut();
                if let Some(index) = unsynced.iter().position(|other| *other == operation) {
                    let operation = unsynced.remove(index);
                    if kept {
                        apply(durable, &operation);
                    }
                }
            }
        }
        for inode in &mut left.inodes {
            (inode.users, inode.links, inode.lock) = (0, 0, None);
            match &mut inode.node {
                Node::File { content, durable } if content != durable => {
                    *content = Arc::new(torn(rng, durable, content));
                }
                Node::Directory {
                    names,
                    durable,
                    unsynced,
                } => {
                    names.clone_from(durable);
                    for operation in unsynced.iter().filter(|_| rng.bool()) {
                        apply(names, operation);
                    }
                }
                _ => {}
            }
            inode.node.settle();
        }
        let mut reached = vec![ROOT];
        while let Some(id) = reached.pop() {
            left.at(id).links += 1;
            reached.extend(left.names(id).into_iter().flat_map(Names::values));
        }
        left
    }

    fn set_durably(&mut self, directory: u64, name: &str, inode: Option<u64>, now: Time) {
        self.set(directory, vec![(name.into(), inode)], now);
        let (_, durable, unsynced) = self.at(directory).node.directory_mut();
        apply(durable, &unsynced.pop().expect("just done"));
        for operation in unsynced {
            operation.retain(|(other, _)| other != name.as_bytes());
        }
    }
}

impl Inode {
    /// Bytes of room that it takes.
    pub(super) fn held(&self) -> u64 {
        match &self.node {
            Node::File { content, .. } => self.reserved.max(content.len() as u64),
            _ => 0,
        }
    }
}

impl Node {
    pub(super) fn file(content: Vec<u8>) -> Node {
        Node::File {
            content: Arc::new(content),
            durable: Arc::default(),
        }
    }

    pub(super) fn directory() -> Node {
        Node::Directory {
            names: Names::new(),
            durable: Names::new(),
            unsynced: Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Node::File { .. } => Kind::File,
            Node::Directory { .. } => Kind::Directory,
            Node::Link(_) => Kind::Link,
            Node::Other => Kind::Other,
        }
    }

    /// Makes it durable as it is.
    pub(super) fn settle(&mut self) {
        match self {
            Node::File { content, durable } => durable.clone_from(content),
            Node::Directory {
                names,
                durable,
                unsynced,
            } => {
                durable.clone_from(names);
                unsynced.clear();
            }
            Node::Link(_) | Node::Other => {}
        }
    }

    fn directory_mut(&mut self) -> (&mut Names, &mut Names, &mut Vec<Operation>) {
        match self {
            Node::Directory {
                names,
                durable,
                unsynced,
            } => (names, durable, unsynced),
            _ => panic!("only a directory has names"),
        }
    }
}

fn apply(names: &mut Names, operation: &[(Vec<u8>, Option<u64>)]) {
    for (name, inode) in operation {
        match inode {
            Some(inode) => _ = names.insert(name.clone(), *inode),
            None => _ = names.remove(name),
        }
    }
}

/// A path's parts, the first one last. A `/` at the end asks for a directory, as a `.` does.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let directory = path.ends_with(b"/").then_some(&b"."[..]);
    let parts = path.split(|&byte| byte == b'/');
    let parts = parts.filter(|part| !part.is_empty()).chain(directory);
    let mut parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// A file of which some pages may have reached the disk and others not.
fn torn(rng: &mut Rng, old: &[u8], new: &[u8]) -> Vec<u8> {
    let whole = rng.u8(..4);
    if whole < 2 {
        return if whole == 0 { old } else { new }.to_vec();
    }
    let size = if rng.bool() { old.len() } else { new.len() };
    let mut torn = vec![0; size];
    for (number, page) in torn.chunks_mut(PAGE).enumerate() {
        let from = if rng.bool() { old } else { new };
        let from = from.get(number * PAGE..).unwrap_or_default();
        let count = page.len().min(from.len());
        page[..count].copy_from_slice(&from[..count]);
    }
    torn
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = (1, 0);

    fn tree(entries: &[(&str, Entry)]) -> Tree {
        let mut tree = Tree::new();
        for (path, entry) in entries {
            tree.put(path, entry.clone(), NOW);
        }
        tree
    }

    fn content(tree: &Tree, path: &str) -> Option<Vec<u8>> {
        let content = tree.paths().remove(path)?;
        Some(content.expect("a file").to_vec())
    }

    #[test]
    fn a_path_beneath_never_leaves_its_root() {
        let link = |target: &str| Entry::Link(target.into());
        let tree = tree(&[
            ("/in/file", Entry::File(vec![1])),
            ("/in/deep/down/link", link("../../file")),
            ("/in/out", link("../outside")),
            ("/in/in-and-out", link("deep/../../in/file")),
            ("/in/absolute", link("/in/file")),
            ("/in/loop", link("loop")),
            ("/in/slash", link("file/")),
            ("/outside", Entry::File(vec![2])),
        ]);
        let root = tree.find("/in").unwrap();
        let file = tree.find("/in/file").unwrap();
        let beneath = |path: &str| tree.resolve(root, path.as_bytes(), true);
        assert_eq!(beneath(""), Ok(root));
        assert_eq!(beneath("file"), Ok(file));
        assert_eq!(beneath("deep/down/link"), Ok(file));
        assert_eq!(beneath("deep/../file"), Ok(file));
        assert_eq!(beneath("out"), Err(Errno::EXDEV));
        assert_eq!(beneath("../in/file"), Err(Errno::EXDEV));
        assert_eq!(beneath("in-and-out"), Err(Errno::EXDEV));
        assert_eq!(beneath("absolute"), Err(Errno::EXDEV));
        assert_eq!(beneath("loop"), Err(Errno::ELOOP));
        assert_eq!(beneath("slash"), Err(Errno::ENOTDIR));
        assert_eq!(beneath("file/x"), Err(Errno::ENOTDIR));
        assert_eq!(beneath("none"), Err(Errno::ENOENT));
        assert_eq!(tree.find("/in/absolute"), Some(file));
    }

    #[test]
    fn a_path_does_not_pass_where_it_may_not() {
        let mut tree = tree(&[("/a/b/c", Entry::Other)]);
        let directory = tree.find("/a/b").unwrap();
        tree.at(directory).permitted = false;
        assert_eq!(tree.resolve(ROOT, b"/a/b", false), Ok(directory));
        assert_eq!(tree.resolve(ROOT, b"/a/b/c", false), Err(Errno::EACCES));
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_may_lose_the_rest() {
        let mut rng = Rng::with_seed(7);
        let old = vec![1; 3 * PAGE];
        let mut tree = tree(&[("/synced", Entry::File(old.clone()))]);
        let file = tree.add(Node::file(vec![2; 3 * PAGE]), NOW);
        tree.set(ROOT, vec![(b"new".to_vec(), Some(file))], NOW);
        let mut seen = BTreeSet::new();
        for _ in 0..64 {
            let left = tree.crash(&mut rng);
            assert_eq!(content(&left, "/synced"), Some(old.clone()));
            seen.insert(content(&left, "/new").map(|content| match &content[..] {
                [] => "empty",
                all if all.iter().all(|&byte| byte == 2) => "whole",
                _ => "torn",
            }));
        }
        let all = [None, Some("empty"), Some("torn"), Some("whole")];
        assert_eq!(seen, BTreeSet::from(all));
        tree.at(file).node.settle();
        tree.at(ROOT).node.settle();
        assert_eq!(tree.crash(&mut rng).paths(), tree.paths());
    }

    #[test]
    fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
        let mut rng = Rng::with_seed(7);
        let mut tree = tree(&[
            ("/name", Entry::File(vec![1])),
            ("/other", Entry::File(vec![2])),
        ]);
        let other = tree.find("/other");
        let rename = vec![(b"other".to_vec(), None), (b"name".to_vec(), other)];
        tree.set(ROOT, rename, NOW);
        for _ in 0..16 {
            let left = tree.crash(&mut rng);
            let expected = if left.find("/other").is_some() { 1 } else { 2 };
            assert_eq!(content(&left, "/name"), Some(vec![expected]));
        }
    }
}

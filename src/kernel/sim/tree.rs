//! The tree of the simulated file system, and the effect of a power cut on it.
//!
//! Content and names are durable once they are synced. A power cut keeps or loses each operation on
//! names that was not.
//!
//! Must not know: open handles, faults, the meaning of names.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::devices::SimDevice;
use crate::kernel::sim::inode::{
    Inode, InodeContent, NameChange, NameMap, NameOperation, SimEntry, Time, apply,
};
use crate::kernel::types::Status;
use crate::limits::NAME_BYTES_MAX;

/// Links that one path may follow (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The inode of `/`.
pub(super) const ROOT: u64 = 1;

/// The tree. Inodes are never reused or freed, since a power cut can bring a name back.
#[derive(Clone)]
pub(super) struct InodeTree {
    /// The first is that of [`ROOT`].
    inodes: Vec<Inode>,
    /// Renames between two directories that are not durable: both operations reach the disk, or
    /// neither.
    renames: Vec<CrossRename>,
}

/// The effect of one rename on two directories.
type CrossRename = [(u64, NameOperation); 2];

impl InodeTree {
    pub(super) fn new() -> InodeTree {
        let mut tree = InodeTree {
            inodes: Vec::new(),
            renames: Vec::new(),
        };
        let root = tree.add(InodeContent::directory(), SimDevice::ROOT, (0, 0));
        assert_eq!(root, ROOT);
        tree.inode_mut(ROOT).links = 1;
        tree
    }

    /// A new inode, without a name.
    pub(super) fn add(&mut self, node: InodeContent, device: SimDevice, now: Time) -> u64 {
        let id = ROOT + self.inodes.len() as u64;
        self.inodes.push(Inode::new(node, device, now));
        id
    }

    /// Follows a path from a directory, links included. With `beneath` no component may leave it
    /// (RESOLVE_BENEATH, openat2(2)).
    pub(super) fn resolve(&self, start: u64, path: &[u8], beneath: bool) -> Result<u64, Errno> {
        self.walk(start, path, beneath, &mut |_| ())
    }

    /// The devices that the resolution of a path calls, the start's first.
    pub(super) fn devices(&self, start: u64, path: &[u8], beneath: bool) -> Vec<SimDevice> {
        let mut devices = Vec::new();
        // An error ends the walk: the devices so far are called.
        let _ = self.walk(start, path, beneath, &mut |inode| {
            let device = self.inode(inode).device;
            if !devices.contains(&device) {
                devices.push(device);
            }
        });
        devices
    }

    /// [`InodeTree::resolve`], with the inodes on the way.
    fn walk(
        &self,
        start: u64,
        path: &[u8],
        beneath: bool,
        visit: &mut dyn FnMut(u64),
    ) -> Result<u64, Errno> {
        let mut walked = vec![start];
        let mut rest = parts(path);
        let mut links = 0;
        visit(start);
        while let Some(part) = rest.pop() {
            let here = *walked.last().expect("the start");
            let names = self.names(here)?;
            if !self.inode(here).permitted {
                return Err(Errno::EACCES);
            }
            match &part[..] {
                b"." => {}
                b".." if walked.len() > 1 => _ = walked.pop(),
                b".." if beneath => return Err(Errno::EXDEV),
                b".." => {}
                name if name.len() > NAME_BYTES_MAX => return Err(Errno::ENAMETOOLONG),
                name => {
                    let inode = *names.get(name).ok_or(Errno::ENOENT)?;
                    visit(inode);
                    let InodeContent::Link(target) = &self.inode(inode).node else {
                        walked.push(inode);
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
                        walked.truncate(1);
                    }
                    rest.extend(parts(target));
                }
            }
        }
        Ok(*walked.last().expect("the start"))
    }

    pub(super) fn names(&self, directory: u64) -> Result<&NameMap, Errno> {
        match &self.inode(directory).node {
            InodeContent::Directory { names, .. } => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Applies one operation to the names of a directory.
    pub(super) fn change_names(&mut self, directory: u64, operation: NameOperation, now: Time) {
        for (name, inode) in &operation {
            let before = self.names(directory).expect("a directory").get(name);
            if let Some(&before) = before {
                self.inode_mut(before).links -= 1;
                self.inode_mut(before).changed = now;
            }
            if let Some(inode) = inode {
                self.inode_mut(*inode).links += 1;
                self.inode_mut(*inode).changed = now;
            }
        }
        let inode = self.inode_mut(directory);
        (inode.modified, inode.changed) = (now, now);
        let (names, _, unsynced) = inode.node.directory_mut();
        apply(names, &operation);
        unsynced.push(operation);
    }

    /// Applies a rename from one directory to another.
    pub(super) fn rename_across(
        &mut self,
        (from, removal): (u64, NameChange),
        (to, addition): (u64, NameChange),
        now: Time,
    ) {
        let rename = [(to, vec![addition]), (from, vec![removal])];
        for (directory, operation) in &rename {
            self.change_names(*directory, operation.clone(), now);
        }
        self.renames.push(rename);
    }

    /// Makes content or names durable, and with names the other half of cross renames.
    pub(super) fn make_durable(&mut self, inode: u64) {
        self.inode_mut(inode).node.make_durable();
        let concerns =
            |rename: &mut CrossRename| rename.iter().any(|(directory, _)| *directory == inode);
        let done: Vec<CrossRename> = self.renames.extract_if(.., concerns).collect();
        for (other, operation) in done.into_iter().flatten() {
            let (_, durable, unsynced) = self.inode_mut(other).node.directory_mut();
            if let Some(index) = unsynced.iter().position(|other| *other == operation) {
                apply(durable, &unsynced.remove(index));
            }
        }
    }

    /// Whether a directory is `above` or lies below it.
    pub(super) fn is_within(&self, directory: u64, above: u64) -> bool {
        directory == above
            || self.names(above).is_ok_and(|names| {
                let mut inodes = names.values();
                inodes.any(|&inode| self.is_within(directory, inode))
            })
    }

    /// Bytes of disk space in use.
    pub(super) fn used(&self) -> u64 {
        let alive = |inode: &&Inode| inode.links > 0 || inode.users > 0;
        self.inodes.iter().filter(alive).map(Inode::allocated).sum()
    }

    /// Inodes in use without a name.
    pub(super) fn nameless(&self) -> usize {
        let nameless = |inode: &&Inode| inode.links == 0 && inode.users > 0;
        self.inodes.iter().filter(nameless).count()
    }

    pub(super) fn status(&self, id: u64) -> Status {
        let inode = self.inode(id);
        let size = match &inode.node {
            InodeContent::File { content, .. } => content.len() as u64,
            _ => 0,
        };
        Status {
            kind: inode.node.kind(),
            device: 1 + inode.device.0 as u64,
            inode: id,
            size,
            modified: inode.modified,
            changed: inode.changed,
        }
    }

    pub(super) fn inode(&self, inode: u64) -> &Inode {
        &self.inodes[(inode - ROOT) as usize]
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        &mut self.inodes[(inode - ROOT) as usize]
    }

    // For the harness: paths are absolute, and changes are durable at once.

    /// Creates an entry, with its parent directories, and replaces an existing one.
    pub(super) fn put(&mut self, path: &str, entry: SimEntry, now: Time) {
        let (above, name) = path.rsplit_once('/').expect("an absolute path");
        if self.find(above).is_none() {
            self.put(above, SimEntry::Directory, now);
        }
        let directory = self.find(above).expect("it was created");
        let mut node = match entry {
            SimEntry::File(content) => InodeContent::file(content),
            SimEntry::Directory => InodeContent::directory(),
            SimEntry::Link(target) => InodeContent::Link(target),
            SimEntry::Other => InodeContent::Other,
        };
        node.make_durable();
        let device = self.inode(directory).device;
        let inode = self.add(node, device, now);
        self.set_durably(directory, name, Some(inode), now);
    }

    /// Makes a directory, with everything below it, a part of a device.
    pub(super) fn mount(&mut self, path: &str, device: SimDevice, now: Time) {
        if self.find(path).is_none() {
            self.put(path, SimEntry::Directory, now);
        }
        let mut left = vec![self.find(path).expect("it exists")];
        while let Some(inode) = left.pop() {
            self.inode_mut(inode).device = device;
            left.extend(self.names(inode).into_iter().flat_map(NameMap::values));
        }
    }

    /// Removes a name.
    pub(super) fn remove_name(&mut self, path: &str, now: Time) {
        let (above, name) = path.rsplit_once('/').expect("an absolute path");
        let directory = self.find(above).expect("the path exists");
        self.set_durably(directory, name, None, now);
    }

    /// Modifies a file in place.
    pub(super) fn modify_file(&mut self, path: &str, change: impl FnOnce(&mut Vec<u8>), now: Time) {
        let inode = self.find(path).expect("the path exists");
        let inode = self.inode_mut(inode);
        let InodeContent::File { content, .. } = &mut inode.node else {
            panic!("only a file can be modified");
        };
        change(Arc::make_mut(content));
        inode.node.make_durable();
        (inode.modified, inode.changed) = (now, now);
    }

    pub(super) fn find(&self, path: &str) -> Option<u64> {
        self.resolve(ROOT, path.as_bytes(), false).ok()
    }

    /// All paths, with the content of files. Names that are not UTF-8 have replacement characters.
    pub(super) fn paths(&self) -> BTreeMap<String, Option<Arc<Vec<u8>>>> {
        let mut paths = BTreeMap::new();
        let mut left = vec![(String::new(), ROOT)];
        while let Some((path, inode)) = left.pop() {
            let node = &self.inode(inode).node;
            if let InodeContent::Directory { names, .. } = node {
                left.extend(names.iter().map(|(name, &inode)| {
                    let name = String::from_utf8_lossy(name);
                    (format!("{path}/{name}"), inode)
                }));
            }
            let content = match node {
                InodeContent::File { content, .. } => Some(content.clone()),
                _ => None,
            };
            paths.insert(path, content);
        }
        paths
    }

    /// The tree after a power cut.
    pub(super) fn crash(&self, rng: &mut Rng) -> InodeTree {
        let mut left = self.clone();
        for rename in std::mem::take(&mut left.renames) {
            let kept = rng.bool();
            for (directory, operation) in rename {
                let (_, durable, unsynced) = left.inode_mut(directory).node.directory_mut();
                if let Some(index) = unsynced.iter().position(|other| *other == operation) {
                    let operation = unsynced.remove(index);
                    if kept {
                        apply(durable, &operation);
                    }
                }
            }
        }
        for inode in &mut left.inodes {
            inode.crash(rng);
        }
        let mut reached = vec![ROOT];
        while let Some(id) = reached.pop() {
            left.inode_mut(id).links += 1;
            reached.extend(left.names(id).into_iter().flat_map(NameMap::values));
        }
        left
    }

    fn set_durably(&mut self, directory: u64, name: &str, inode: Option<u64>, now: Time) {
        self.change_names(directory, vec![(name.into(), inode)], now);
        let (_, durable, unsynced) = self.inode_mut(directory).node.directory_mut();
        apply(durable, &unsynced.pop().expect("the last operation"));
        for operation in unsynced {
            operation.retain(|(other, _)| other != name.as_bytes());
        }
    }
}

/// The components of a path in reverse order. A trailing `/` requires a directory, as `.` does.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let directory = path.ends_with(b"/").then_some(&b"."[..]);
    let parts = path.split(|&byte| byte == b'/');
    let parts = parts.filter(|part| !part.is_empty()).chain(directory);
    let mut parts: Vec<_> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::kernel::sim::inode::PAGE_BYTES;

    const NOW: Time = (1, 0);

    fn tree(entries: &[(&str, SimEntry)]) -> InodeTree {
        let mut tree = InodeTree::new();
        for (path, entry) in entries {
            tree.put(path, entry.clone(), NOW);
        }
        tree
    }

    fn content(tree: &InodeTree, path: &str) -> Option<Vec<u8>> {
        let content = tree.paths().remove(path)?;
        Some(content.expect("a file").to_vec())
    }

    #[test]
    fn a_path_beneath_never_leaves_its_root() {
        let link = |target: &str| SimEntry::Link(target.into());
        let tree = tree(&[
            ("/in/file", SimEntry::File(vec![1])),
            ("/in/deep/down/link", link("../../file")),
            ("/in/out", link("../outside")),
            ("/in/in-and-out", link("deep/../../in/file")),
            ("/in/absolute", link("/in/file")),
            ("/in/loop", link("loop")),
            ("/in/slash", link("file/")),
            ("/outside", SimEntry::File(vec![2])),
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
    fn a_path_needs_permission_for_each_directory() {
        let mut tree = tree(&[("/a/b/c", SimEntry::Other)]);
        let directory = tree.find("/a/b").unwrap();
        tree.inode_mut(directory).permitted = false;
        assert_eq!(tree.resolve(ROOT, b"/a/b", false), Ok(directory));
        assert_eq!(tree.resolve(ROOT, b"/a/b/c", false), Err(Errno::EACCES));
    }

    #[test]
    fn a_power_cut_keeps_synced_content() {
        let mut rng = Rng::with_seed(7);
        let old = vec![1; 3 * PAGE_BYTES];
        let mut tree = tree(&[("/synced", SimEntry::File(old.clone()))]);
        let new = InodeContent::file(vec![2; 3 * PAGE_BYTES]);
        let file = tree.add(new, SimDevice::ROOT, NOW);
        tree.change_names(ROOT, vec![(b"new".to_vec(), Some(file))], NOW);
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
        tree.inode_mut(file).node.make_durable();
        tree.inode_mut(ROOT).node.make_durable();
        assert_eq!(tree.crash(&mut rng).paths(), tree.paths());
    }

    #[test]
    fn a_rename_survives_a_power_cut_as_a_whole() {
        let mut rng = Rng::with_seed(7);
        let mut tree = tree(&[
            ("/name", SimEntry::File(vec![1])),
            ("/other", SimEntry::File(vec![2])),
        ]);
        let other = tree.find("/other");
        let rename = vec![(b"other".to_vec(), None), (b"name".to_vec(), other)];
        tree.change_names(ROOT, rename, NOW);
        for _ in 0..16 {
            let left = tree.crash(&mut rng);
            let expected = if left.find("/other").is_some() { 1 } else { 2 };
            assert_eq!(content(&left, "/name"), Some(vec![expected]));
        }
    }
}

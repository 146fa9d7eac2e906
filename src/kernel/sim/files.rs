//! The simulated file system as seen through open handles: space, locks, maps, the page cache.
//!
//! Must not know: sockets, the meaning of names.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::devices::SimDevice;
use crate::kernel::sim::inode::{Inode, InodeContent, PAGE_BYTES, Time};
use crate::kernel::sim::tree::{InodeTree, ROOT};
use crate::kernel::types::{FileKind, OpenMode, Status};
use crate::limits::NAME_BYTES_MAX;

/// Unit of holes in files.
const BLOCK_BYTES: usize = 512;

/// The file system and the open handles.
pub(super) struct SimFiles {
    pub(super) tree: InodeTree,
    handles: BTreeMap<u64, SimHandle>,
    last_handle: u64,
    /// Bytes that all files may have together.
    pub(super) capacity: u64,
    /// Whether O_TMPFILE is supported.
    pub(super) has_unnamed_files: bool,
    pub(super) has_links: bool,
    /// Whether a directory reports the types of its names.
    reports_kinds: bool,
    /// Whether pages are uncached until they are read; `None` without RWF_NOWAIT.
    starts_uncached: Option<bool>,
    /// Calls of the event loop that waited for the disk.
    pub(super) stalls: u64,
}

/// A name in a directory, with its type where the file system reports it.
pub(super) type DirectoryName = (Vec<u8>, Option<FileKind>);

struct SimHandle {
    inode: u64,
    /// `None`: a new file, for writing.
    mode: Option<OpenMode>,
}

impl SimFiles {
    pub(super) fn new(rng: &mut Rng, tree: InodeTree) -> SimFiles {
        SimFiles {
            tree,
            handles: BTreeMap::new(),
            last_handle: 0,
            capacity: u64::MAX,
            has_unnamed_files: true,
            has_links: true,
            reports_kinds: rng.bool(),
            starts_uncached: *rng
                .choice(&[None, Some(false), Some(true)])
                .expect("three choices"),
            stalls: 0,
        }
    }

    // Handles.

    pub(super) fn open_root(&mut self, path: &[u8]) -> Result<u64, Errno> {
        let inode = self.tree.resolve(ROOT, path, false)?;
        self.open(inode, OpenMode::Directory)
    }

    pub(super) fn open_beneath(
        &mut self,
        root: u64,
        path: &[u8],
        mode: OpenMode,
    ) -> Result<u64, Errno> {
        let inode = self.tree.resolve(self.handles[&root].inode, path, true)?;
        self.open(inode, mode)
    }

    fn open(&mut self, inode: u64, mode: OpenMode) -> Result<u64, Errno> {
        let at = self.tree.inode(inode);
        if mode == OpenMode::Directory && at.node.kind() != FileKind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if mode != OpenMode::Path && !at.permitted {
            return Err(Errno::EACCES);
        }
        Ok(self.new_handle(inode, Some(mode)))
    }

    pub(super) fn close(&mut self, handle: u64) {
        let inode = self.handles.remove(&handle).expect("an open handle").inode;
        let inode = self.tree.inode_mut(inode);
        inode.users -= 1;
        inode.lock = inode.lock.filter(|&holder| holder != handle);
    }

    /// The inode of the map.
    pub(super) fn map(&mut self, handle: u64) -> Result<u64, Errno> {
        let SimHandle { inode, mode } = self.handles[&handle];
        let at = self.tree.inode_mut(inode);
        if mode != Some(OpenMode::Read) {
            return Err(Errno::EBADF);
        }
        if at.node.kind() != FileKind::File {
            return Err(Errno::ENODEV);
        }
        at.users += 1;
        Ok(inode)
    }

    pub(super) fn unmap(&mut self, inode: u64) {
        self.tree.inode_mut(inode).users -= 1;
    }

    /// The device of an open handle.
    pub(super) fn device(&self, handle: u64) -> SimDevice {
        self.tree.inode(self.handles[&handle].inode).device
    }

    /// The devices that the resolution of a path beneath a directory calls.
    pub(super) fn devices_beneath(&self, root: u64, path: &[u8]) -> Vec<SimDevice> {
        self.tree.devices(self.handles[&root].inode, path, true)
    }

    /// The device of a name in a directory, if it is another one: a mount point.
    pub(super) fn device_at(&self, directory: u64, name: &str) -> Option<SimDevice> {
        let names = self.tree.names(self.handles[&directory].inode).ok()?;
        let device = self.tree.inode(*names.get(name.as_bytes())?).device;
        (device != self.device(directory)).then_some(device)
    }

    pub(super) fn handles(&self) -> usize {
        self.handles.len()
    }

    pub(super) fn lock(&mut self, handle: u64) -> Result<(), Errno> {
        let inode = self.inode(handle);
        match inode.lock {
            Some(holder) if holder != handle => Err(Errno::EAGAIN),
            _ => {
                inode.lock = Some(handle);
                Ok(())
            }
        }
    }

    pub(super) fn status(&self, handle: u64) -> Status {
        self.tree.status(self.handles[&handle].inode)
    }

    // Names.

    pub(super) fn status_at(&self, directory: u64, name: &str) -> Result<Status, Errno> {
        let names = self.tree.names(self.handles[&directory].inode)?;
        let inode = names.get(checked(name)?).ok_or(Errno::ENOENT)?;
        Ok(self.tree.status(*inode))
    }

    /// The names of a directory, unordered.
    pub(super) fn read_directory(
        &self,
        rng: &mut Rng,
        directory: u64,
    ) -> Result<Vec<DirectoryName>, Errno> {
        let SimHandle { inode, mode } = self.handles[&directory];
        if mode == Some(OpenMode::Path) {
            return Err(Errno::EBADF);
        }
        let kind = |inode: u64| self.tree.inode(inode).node.kind();
        let names = self.tree.names(inode)?.iter();
        let mut entries: Vec<_> = names
            .map(|(name, &inode)| (name.clone(), self.reports_kinds.then(|| kind(inode))))
            .collect();
        rng.shuffle(&mut entries);
        Ok(entries)
    }

    /// Creates a file, unnamed for `None`.
    pub(super) fn create(
        &mut self,
        directory: u64,
        name: Option<&str>,
        now: Time,
    ) -> Result<u64, Errno> {
        if name.is_none() && !(self.has_unnamed_files && self.has_links) {
            return Err(Errno::EOPNOTSUPP);
        }
        let content = InodeContent::file(Vec::new());
        let inode = self.tree.add(content, self.device(directory), now);
        if let Some(name) = name {
            self.add_name(inode, directory, name, now)?;
        }
        Ok(self.new_handle(inode, None))
    }

    pub(super) fn make_directory(
        &mut self,
        directory: u64,
        name: &str,
        now: Time,
    ) -> Result<(), Errno> {
        let content = InodeContent::directory();
        let inode = self.tree.add(content, self.device(directory), now);
        self.add_name(inode, directory, name, now)
    }

    pub(super) fn link(
        &mut self,
        file: u64,
        directory: u64,
        name: &str,
        now: Time,
    ) -> Result<(), Errno> {
        if !self.has_links {
            return Err(Errno::EPERM);
        }
        self.check_same_device(file, directory)?;
        self.add_name(self.handles[&file].inode, directory, name, now)
    }

    pub(super) fn rename(
        &mut self,
        (from, old): (u64, &str),
        (to, new): (u64, &str),
        replace: bool,
        now: Time,
    ) -> Result<(), Errno> {
        if !replace && !self.has_links {
            return Err(Errno::EINVAL);
        }
        self.check_same_device(from, to)?;
        let (from, to) = (self.handles[&from].inode, self.handles[&to].inode);
        let names = self.tree.names(from)?;
        let moved = *names.get(checked(old)?).ok_or(Errno::ENOENT)?;
        let taken = self.tree.names(to)?.get(checked(new)?).copied();
        let kind = |inode: u64| self.tree.inode(inode).node.kind();
        match taken.map(kind) {
            Some(_) if !replace => return Err(Errno::EEXIST),
            Some(FileKind::Directory) if kind(moved) != FileKind::Directory => {
                return Err(Errno::EISDIR);
            }
            Some(other) if kind(moved) == FileKind::Directory && other != FileKind::Directory => {
                return Err(Errno::ENOTDIR);
            }
            _ => {}
        }
        if self.tree.is_within(to, moved) {
            return Err(Errno::EINVAL);
        }
        if taken == Some(moved) {
            return Ok(());
        }
        if taken.is_some_and(|taken| self.tree.names(taken).is_ok_and(|names| !names.is_empty())) {
            return Err(Errno::ENOTEMPTY);
        }
        let (removal, addition) = ((old.into(), None), (new.into(), Some(moved)));
        match from == to {
            true => self.tree.change_names(from, vec![removal, addition], now),
            false => self
                .tree
                .rename_across((from, removal), (to, addition), now),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, directory: u64, name: &str, now: Time) -> Result<(), Errno> {
        let (directory, inode) = self.find(directory, name)?;
        if self.tree.inode(inode).node.kind() == FileKind::Directory {
            return Err(Errno::EISDIR);
        }
        self.tree
            .change_names(directory, vec![(name.into(), None)], now);
        Ok(())
    }

    pub(super) fn remove_directory(
        &mut self,
        directory: u64,
        name: &str,
        now: Time,
    ) -> Result<(), Errno> {
        let (directory, inode) = self.find(directory, name)?;
        if !self.tree.names(inode)?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.tree
            .change_names(directory, vec![(name.into(), None)], now);
        Ok(())
    }

    pub(super) fn set_modified(
        &mut self,
        directory: u64,
        name: &str,
        modified: i64,
        now: Time,
    ) -> Result<(), Errno> {
        let (_, inode) = self.find(directory, name)?;
        let inode = self.tree.inode_mut(inode);
        (inode.modified, inode.changed) = ((modified, 0), now);
        Ok(())
    }

    /// The inodes of a directory and of a name in it.
    fn find(&self, directory: u64, name: &str) -> Result<(u64, u64), Errno> {
        let directory = self.handles[&directory].inode;
        let names = self.tree.names(directory)?;
        let inode = names.get(checked(name)?).ok_or(Errno::ENOENT)?;
        Ok((directory, *inode))
    }

    pub(super) fn copy_attributes(&mut self, from: u64, to: u64, now: Time) {
        let mode = self.inode(from).mode;
        let inode = self.inode(to);
        (inode.mode, inode.changed) = (mode, now);
    }

    // Content.

    /// Up to `count` bytes from `offset` on. Without `may_wait`, a page that was reported as not
    /// cached is a stall.
    pub(super) fn read(
        &mut self,
        handle: u64,
        offset: u64,
        count: usize,
        may_wait: bool,
    ) -> Result<&[u8], Errno> {
        let SimHandle { inode, mode } = self.handles[&handle];
        if mode != Some(OpenMode::Read) {
            return Err(Errno::EBADF);
        }
        let inode = self.tree.inode_mut(inode);
        let has_waited = self.starts_uncached == Some(true) && inode.read_pages(offset, count);
        self.stalls += u64::from(has_waited && !may_wait);
        match &inode.node {
            InodeContent::File { content, .. } => {
                let from = content.len().min(offset as usize);
                let until = content.len().min(from.saturating_add(count));
                Ok(&content[from..until])
            }
            InodeContent::Directory { .. } => Err(Errno::EISDIR),
            InodeContent::Link(_) | InodeContent::Other => Err(Errno::EINVAL),
        }
    }

    /// Bytes of a map: zeros from the end of the file to the end of its last page.
    pub(super) fn mapped(&self, inode: u64, from: usize, length: usize) -> Vec<u8> {
        let InodeContent::File { content, .. } = &self.tree.inode(inode).node else {
            panic!("only a file is mapped");
        };
        let page_end = content.len().next_multiple_of(PAGE_BYTES);
        let end = page_end.min(from.saturating_add(length));
        let byte = |at: usize| content.get(at).copied().unwrap_or(0);
        (from..end).map(byte).collect()
    }

    /// Writes as many bytes as fit.
    pub(super) fn write(
        &mut self,
        handle: u64,
        bytes: &[u8],
        offset: u64,
        now: Time,
    ) -> Result<usize, Errno> {
        let free = self.free_space();
        let SimHandle { inode, mode } = self.handles[&handle];
        if mode.is_some() {
            return Err(Errno::EBADF);
        }
        let inode = self.tree.inode_mut(inode);
        let end = inode.allocated().saturating_add(free);
        let count = (bytes.len() as u64).min(end.saturating_sub(offset)) as usize;
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let InodeContent::File { content, .. } = &mut inode.node else {
            panic!("only a file is created with a handle");
        };
        let content = Arc::make_mut(content);
        let offset = offset as usize;
        content.resize(content.len().max(offset + count), 0);
        content[offset..offset + count].copy_from_slice(&bytes[..count]);
        (inode.modified, inode.changed) = (now, now);
        Ok(count)
    }

    /// Blocks of [`BLOCK_BYTES`] zeros are holes.
    pub(super) fn next_data(&self, handle: u64, offset: u64) -> Option<Range<u64>> {
        let InodeContent::File { content, .. } = &self.tree.inode(self.handles[&handle].inode).node
        else {
            panic!("only a file has data");
        };
        let is_hole = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
        let first = offset as usize / BLOCK_BYTES;
        let blocks = || content.chunks(BLOCK_BYTES).skip(first);
        let holes = blocks().take_while(is_hole).count();
        let data = blocks()
            .skip(holes)
            .take_while(|block| !is_hole(block))
            .count();
        let start = (first + holes) * BLOCK_BYTES;
        let end = content.len().min(start + data * BLOCK_BYTES);
        let range = start.max(offset as usize) as u64..end as u64;
        (!range.is_empty()).then_some(range)
    }

    pub(super) fn preallocate(&mut self, handle: u64, length: u64) -> Result<(), Errno> {
        let free = self.free_space();
        let inode = self.inode(handle);
        if length.saturating_sub(inode.allocated()) > free {
            return Err(Errno::ENOSPC);
        }
        inode.preallocated = inode.preallocated.max(length);
        Ok(())
    }

    pub(super) fn free_space(&self) -> u64 {
        match self.capacity {
            u64::MAX => u64::MAX,
            capacity => capacity.saturating_sub(self.tree.used()),
        }
    }

    /// Makes content or names durable. Content whose sync has `failed` never becomes durable.
    pub(super) fn sync(&mut self, handle: u64, failed: bool, may_wait: bool) -> Result<(), Errno> {
        self.stalls += u64::from(!may_wait);
        if self.handles[&handle].mode == Some(OpenMode::Path) {
            return Err(Errno::EBADF);
        }
        let inode = self.inode(handle);
        inode.has_sync_failed |= failed && inode.node.kind() == FileKind::File;
        if !failed && !inode.has_sync_failed {
            self.tree.make_durable(self.handles[&handle].inode);
        }
        Ok(())
    }

    /// Whether a page is cached. A negative answer is recorded.
    pub(super) fn is_cached(&mut self, handle: u64, offset: u64) -> Result<bool, Errno> {
        let starts_uncached = self.starts_uncached.ok_or(Errno::EOPNOTSUPP)?;
        let page = offset / PAGE_BYTES as u64;
        let inode = self.inode(handle);
        let is_cached = !starts_uncached || inode.cached.contains(&page);
        if !is_cached {
            inode.reported_uncached.insert(page);
        }
        Ok(is_cached)
    }

    /// Reads the first of the requested pages into the cache, and often all of them.
    pub(super) fn read_ahead(
        &mut self,
        rng: &mut Rng,
        handle: u64,
        offset: u64,
        count: usize,
        may_wait: bool,
    ) {
        self.stalls += u64::from(!may_wait);
        let count = if rng.bool() {
            count
        } else {
            rng.usize(..=count)
        };
        self.inode(handle).read_pages(offset, count.max(1));
    }

    fn inode(&mut self, handle: u64) -> &mut Inode {
        self.tree.inode_mut(self.handles[&handle].inode)
    }

    fn new_handle(&mut self, inode: u64, mode: Option<OpenMode>) -> u64 {
        self.last_handle += 1;
        self.tree.inode_mut(inode).users += 1;
        self.handles
            .insert(self.last_handle, SimHandle { inode, mode });
        self.last_handle
    }

    /// Fails as link(2) and rename(2) do for two file systems.
    fn check_same_device(&self, one: u64, other: u64) -> Result<(), Errno> {
        match self.device(one) == self.device(other) {
            true => Ok(()),
            false => Err(Errno::EXDEV),
        }
    }

    /// Gives an inode a name that must be new.
    fn add_name(&mut self, inode: u64, directory: u64, name: &str, now: Time) -> Result<(), Errno> {
        let directory = self.handles[&directory].inode;
        if self.tree.names(directory)?.contains_key(checked(name)?) {
            return Err(Errno::EEXIST);
        }
        let operation = vec![(name.into(), Some(inode))];
        self.tree.change_names(directory, operation, now);
        Ok(())
    }
}

/// Asserts that the caller has checked a name.
fn checked(name: &str) -> Result<&[u8], Errno> {
    let no_name = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    assert!(!no_name, "{name:?} was not checked");
    match name.len() > NAME_BYTES_MAX {
        true => Err(Errno::ENAMETOOLONG),
        false => Ok(name.as_bytes()),
    }
}

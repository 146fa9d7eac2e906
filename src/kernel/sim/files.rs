//! A simulated file system seen through its open handles: room, locks, maps, and pages that are not in memory.
//!
//! Must not know: sockets, what the names mean.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use nix::errno::Errno;

use crate::kernel::sim::tree::{Inode, Node, PAGE, ROOT, Time, Tree};
use crate::kernel::{Kind, Open, Status};
use crate::limits::NAME_BYTES_MAX;

/// The file system, and who has what of it open.
pub(super) struct Files {
    pub(super) tree: Tree,
    handles: BTreeMap<u64, Handle>,
    opened: u64,
    /// Bytes that fit.
    pub(super) capacity: u64,
    /// Whether O_TMPFILE works.
    pub(super) unnamed: bool,
    /// Whether a directory tells the kinds of its names.
    kinds: bool,
    /// Whether no page is in memory before somebody has read it; `None` where the file system cannot tell.
    cold: Option<bool>,
    /// Calls that had to wait for the disk where nothing may wait.
    pub(super) stalls: u64,
}

/// A name in a directory, with its kind where the file system tells it.
pub(super) type ListingTarget = (Vec<u8>, Option<Kind>);

struct Handle {
    inode: u64,
    /// `None`: made by creating it, to be written.
    how: Option<Open>,
}

impl Files {
    pub(super) fn new(rng: &mut Rng, tree: Tree) -> Files {
        Files {
            tree,
            handles: BTreeMap::new(),
            opened: 0,
            capacity: u64::MAX,
            unnamed: true,
            kinds: rng.bool(),
            cold: *rng
                .choice(&[None, Some(false), Some(true)])
                .expect("one of three"),
            stalls: 0,
        }
    }

    // Handles.

    pub(super) fn open_root(&mut self, path: &[u8]) -> Result<u64, Errno> {
        let inode = self.tree.resolve(ROOT, path, false)?;
        self.open(inode, Open::Directory)
    }

    pub(super) fn open_beneath(&mut self, root: u64, path: &[u8], how: Open) -> Result<u64, Errno> {
        let inode = self.tree.resolve(self.handles[&root].inode, path, true)?;
        self.open(inode, how)
    }

    fn open(&mut self, inode: u64, how: Open) -> Result<u64, Errno> {
        let at = self.tree.get(inode);
        if how == Open::Directory && at.node.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        if how != Open::Look && !at.permitted {
            return Err(Errno::EACCES);
        }
        Ok(self.handle(inode, Some(how)))
    }

    pub(super) fn close(&mut self, handle: u64) {
        let inode = self.handles.remove(&handle).expect("an open handle").inode;
        let inode = self.tree.at(inode);
        inode.users -= 1;
        inode.lock = inode.lock.filter(|&holder| holder != handle);
    }

    /// The inode of the map.
    pub(super) fn map(&mut self, handle: u64) -> Result<u64, Errno> {
        let Handle { inode, how } = self.handles[&handle];
        let at = self.tree.at(inode);
        if how != Some(Open::Read) {
            return Err(Errno::EBADF);
        }
        if at.node.kind() != Kind::File {
            return Err(Errno::ENODEV);
        }
        at.users += 1;
        Ok(inode)
    }

    pub(super) fn unmap(&mut self, inode: u64) {
        self.tree.at(inode).users -= 1;
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

    /// Names in no order, with their kinds where the file system tells them.
    pub(super) fn entries(
        &self,
        rng: &mut Rng,
        directory: u64,
    ) -> Result<Vec<ListingTarget>, Errno> {
        let Handle { inode, how } = self.handles[&directory];
        if how == Some(Open::Look) {
            return Err(Errno::EBADF);
        }
        let kind = |inode: u64| self.tree.get(inode).node.kind();
        let names = self.tree.names(inode)?.iter();
        let mut entries: Vec<_> = names
            .map(|(name, &inode)| (name.clone(), self.kinds.then(|| kind(inode))))
            .collect();
        rng.shuffle(&mut entries);
        Ok(entries)
    }

    /// A new file, nameless without a name.
    pub(super) fn create(
        &mut self,
        directory: u64,
        name: Option<&str>,
        now: Time,
    ) -> Result<u64, Errno> {
        if name.is_none() && !self.unnamed {
            return Err(Errno::EOPNOTSUPP);
        }
        let inode = self.tree.add(Node::file(Vec::new()), now);
        if let Some(name) = name {
            self.name(inode, directory, name, now)?;
        }
        Ok(self.handle(inode, None))
    }

    pub(super) fn make_directory(
        &mut self,
        directory: u64,
        name: &str,
        now: Time,
    ) -> Result<(), Errno> {
        let inode = self.tree.add(Node::directory(), now);
        self.name(inode, directory, name, now)
    }

    pub(super) fn link(
        &mut self,
        file: u64,
        directory: u64,
        name: &str,
        now: Time,
    ) -> Result<(), Errno> {
        self.name(self.handles[&file].inode, directory, name, now)
    }

    pub(super) fn rename(
        &mut self,
        (from, old): (u64, &str),
        (to, new): (u64, &str),
        replace: bool,
        now: Time,
    ) -> Result<(), Errno> {
        let (from, to) = (self.handles[&from].inode, self.handles[&to].inode);
        let names = self.tree.names(from)?;
        let moved = *names.get(checked(old)?).ok_or(Errno::ENOENT)?;
        let taken = self.tree.names(to)?.get(checked(new)?).copied();
        let kind = |inode: u64| self.tree.get(inode).node.kind();
        match taken.map(kind) {
            Some(_) if !replace => return Err(Errno::EEXIST),
            Some(Kind::Directory) if kind(moved) != Kind::Directory => return Err(Errno::EISDIR),
            Some(other) if kind(moved) == Kind::Directory && other != Kind::Directory => {
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
        let (gone, come) = ((old.into(), None), (new.into(), Some(moved)));
        match from == to {
            true => self.tree.set(from, vec![gone, come], now),
            false => self.tree.shift((from, gone), (to, come), now),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, directory: u64, name: &str, now: Time) -> Result<(), Errno> {
        let (directory, inode) = self.find(directory, name)?;
        if self.tree.get(inode).node.kind() == Kind::Directory {
            return Err(Errno::EISDIR);
        }
        self.tree.set(directory, vec![(name.into(), None)], now);
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
        self.tree.set(directory, vec![(name.into(), None)], now);
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
        let inode = self.tree.at(inode);
        (inode.modified, inode.changed) = ((modified, 0), now);
        Ok(())
    }

    /// The inodes of an open directory and of a name in it.
    fn find(&self, directory: u64, name: &str) -> Result<(u64, u64), Errno> {
        let directory = self.handles[&directory].inode;
        let names = self.tree.names(directory)?;
        let inode = names.get(checked(name)?).ok_or(Errno::ENOENT)?;
        Ok((directory, *inode))
    }

    // Content.

    /// Up to `count` bytes from `offset` on, fewer at the end. On the loop (`may_wait` false) a page that was said
    /// not to be in memory is a stall.
    pub(super) fn read(
        &mut self,
        handle: u64,
        offset: u64,
        count: usize,
        may_wait: bool,
    ) -> Result<&[u8], Errno> {
        let Handle { inode, how } = self.handles[&handle];
        if how != Some(Open::Read) {
            return Err(Errno::EBADF);
        }
        let inode = self.tree.at(inode);
        let waited = self.cold == Some(true) && inode.warm_up(offset, count);
        self.stalls += u64::from(waited && !may_wait);
        match &inode.node {
            Node::File { content, .. } => {
                let from = content.len().min(offset as usize);
                let until = content.len().min(from.saturating_add(count));
                Ok(&content[from..until])
            }
            Node::Directory { .. } => Err(Errno::EISDIR),
            Node::Link(_) | Node::Other => Err(Errno::EINVAL),
        }
    }

    /// Bytes of a map: zeros from the file's end to the end of its page, nothing beyond.
    pub(super) fn mapped(&self, inode: u64, from: usize, length: usize) -> Vec<u8> {
        let Node::File { content, .. } = &self.tree.get(inode).node else {
            panic!("only a file is mapped");
        };
        let page_end = content.len().next_multiple_of(PAGE);
        let end = page_end.min(from.saturating_add(length));
        let byte = |at: usize| content.get(at).copied().unwrap_or(0);
        (from..end).map(byte).collect()
    }

    /// Writes as much as there is room for.
    pub(super) fn write(
        &mut self,
        handle: u64,
        bytes: &[u8],
        offset: u64,
        now: Time,
    ) -> Result<usize, Errno> {
        let room = self.room();
        let Handle { inode, how } = self.handles[&handle];
        if how.is_some() {
            return Err(Errno::EBADF);
        }
        let inode = self.tree.at(inode);
        let end = inode.held().saturating_add(room);
        let count = (bytes.len() as u64).min(end.saturating_sub(offset)) as usize;
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let Node::File { content, .. } = &mut inode.node else {
            panic!("only a file is created with a handle");
        };
        let content = Arc::make_mut(content);
        let offset = offset as usize;
        content.resize(content.len().max(offset + count), 0);
        content[offset..offset + count].copy_from_slice(&bytes[..count]);
        (inode.modified, inode.changed) = (now, now);
        Ok(count)
    }

    pub(super) fn reserve(&mut self, handle: u64, length: u64) -> Result<(), Errno> {
        let room = self.room();
        let inode = self.inode(handle);
        if length.saturating_sub(inode.held()) > room {
            return Err(Errno::ENOSPC);
        }
        inode.reserved = inode.reserved.max(length);
        Ok(())
    }

    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.tree.used())
    }

    /// Makes content or names durable; content of which a sync has `failed` never is.
    pub(super) fn sync(&mut self, handle: u64, failed: bool, may_wait: bool) -> Result<(), Errno> {
        self.stalls += u64::from(!may_wait);
        if self.handles[&handle].how == Some(Open::Look) {
            return Err(Errno::EBADF);
        }
        let inode = self.inode(handle);
        inode.forsaken |= failed && inode.node.kind() == Kind::File;
        if !failed && !inode.forsaken {
            self.tree.settle(self.handles[&handle].inode);
        }
        Ok(())
    }

    /// Whether a page is in memory; of one that is not, it is noted that this was said.
    pub(super) fn is_cached(&mut self, handle: u64, offset: u64) -> Result<bool, Errno> {
        let cold = self.cold.ok_or(Errno::EOPNOTSUPP)?;
        let page = offset / PAGE as u64;
        let inode = self.inode(handle);
        let is_cached = !cold || inode.warm.contains(&page);
        if !is_cached {
            inode.cold.insert(page);
        }
        Ok(is_cached)
    }

    /// Brings in the first of the bytes asked for, and often all of them.
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
        self.inode(handle).warm_up(offset, count.max(1));
    }

    fn inode(&mut self, handle: u64) -> &mut Inode {
        self.tree.at(self.handles[&handle].inode)
    }

    fn handle(&mut self, inode: u64, how: Option<Open>) -> u64 {
        self.opened += 1;
        self.tree.at(inode).users += 1;
        self.handles.insert(self.opened, Handle { inode, how });
        self.opened
    }

    /// Gives an inode a name that must be new.
    fn name(&mut self, inode: u64, directory: u64, name: &str, now: Time) -> Result<(), Errno> {
        let directory = self.handles[&directory].inode;
        if self.tree.names(directory)?.contains_key(checked(name)?) {
            return Err(Errno::EEXIST);
        }
        let operation = vec![(name.into(), Some(inode))];
        self.tree.set(directory, operation, now);
        Ok(())
    }
}

impl Inode {
    /// Brings the pages of a stretch into memory; whether one was said not to be there.
    fn warm_up(&mut self, offset: u64, count: usize) -> bool {
        let page = PAGE as u64;
        let last = offset.saturating_add((count as u64).saturating_sub(1)) / page;
        let pages = offset / page..=last.min(self.held() / page);
        if pages.is_empty() {
            return false;
        }
        let cold: Vec<u64> = self.cold.range(pages.clone()).copied().collect();
        self.cold.retain(|page| !pages.contains(page));
        self.warm.extend(pages);
        !cold.is_empty()
    }
}

/// A name that a caller gives for one step: he must have checked that it is one.
fn checked(name: &str) -> Result<&[u8], Errno> {
    let no_name = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    assert!(!no_name, "{name:?} is no name, and was not checked");
    match name.len() > NAME_BYTES_MAX {
        true => Err(Errno::ENAMETOOLONG),
        false => Ok(name.as_bytes()),
    }
}

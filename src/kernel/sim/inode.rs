//! Inodes of the simulated file system, and the effect of a power cut on one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use crate::kernel::sim::devices::SimDevice;
use crate::kernel::types::FileKind;

/// Bytes of a page: the unit of the page cache, of maps, and of torn writes.
pub(super) const PAGE_BYTES: usize = 4096;

/// Seconds since 1970 and nanoseconds.
pub(super) type Time = (i64, u32);

/// The names in one directory.
pub(super) type NameMap = BTreeMap<Vec<u8>, u64>;

/// The effect of one call on the names of a directory, applied as a whole or not at all.
pub(super) type NameOperation = Vec<NameChange>;

/// A name, and its new inode; `None` removes the name.
pub(super) type NameChange = (Vec<u8>, Option<u64>);

/// An entry that the harness creates at a path.
#[derive(Clone, Debug)]
pub enum SimEntry {
    /// A file with this content.
    File(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link to this target.
    Link(Vec<u8>),
    /// A FIFO or a device.
    Other,
}

#[derive(Clone)]
pub(super) struct Inode {
    pub(super) node: InodeContent,
    pub(super) device: SimDevice,
    /// Names of it.
    pub(super) links: u32,
    /// Open handles and maps of it.
    pub(super) users: u32,
    pub(super) modified: Time,
    pub(super) changed: Time,
    /// Permission bits.
    pub(super) mode: u32,
    /// Whether the server may open it for reading, or pass through it.
    pub(super) permitted: bool,
    /// The handle that holds its lock.
    pub(super) lock: Option<u64>,
    /// Bytes allocated in advance, whatever its size.
    pub(super) preallocated: u64,
    /// A sync has failed. Linux then marks the pages clean, and a later sync does not write them.
    pub(super) has_sync_failed: bool,
    /// Cached pages.
    pub(super) cached: BTreeSet<u64>,
    /// Pages that the kernel has reported as not cached.
    pub(super) reported_uncached: BTreeSet<u64>,
}

#[derive(Clone)]
pub(super) enum InodeContent {
    File {
        content: Arc<Vec<u8>>,
        /// The content on the disk.
        durable: Arc<Vec<u8>>,
    },
    Directory {
        names: NameMap,
        /// The names on the disk.
        durable: NameMap,
        unsynced: Vec<NameOperation>,
    },
    Link(Vec<u8>),
    Other,
}

impl Inode {
    pub(super) fn new(node: InodeContent, device: SimDevice, now: Time) -> Inode {
        Inode {
            node,
            device,
            links: 0,
            users: 0,
            modified: now,
            changed: now,
            mode: 0o644,
            permitted: true,
            lock: None,
            preallocated: 0,
            has_sync_failed: false,
            cached: BTreeSet::new(),
            reported_uncached: BTreeSet::new(),
        }
    }

    /// Bytes of disk space that it takes.
    pub(super) fn allocated(&self) -> u64 {
        match &self.node {
            InodeContent::File { content, .. } => self.preallocated.max(content.len() as u64),
            _ => 0,
        }
    }

    /// Reads the pages of a range into the cache. Returns whether the kernel had reported any of
    /// them as not cached.
    pub(super) fn read_pages(&mut self, offset: u64, count: usize) -> bool {
        let page = PAGE_BYTES as u64;
        let last = offset.saturating_add((count as u64).saturating_sub(1)) / page;
        let pages = offset / page..=last.min(self.allocated() / page);
        if pages.is_empty() {
            return false;
        }
        let uncached = self.reported_uncached.range(pages.clone()).count();
        self.reported_uncached.retain(|page| !pages.contains(page));
        self.cached.extend(pages);
        uncached > 0
    }

    /// Applies a power cut: synced content and names survive, everything else is kept, torn or lost
    /// at random.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        (self.users, self.links, self.lock) = (0, 0, None);
        match &mut self.node {
            InodeContent::File { content, durable } if content != durable => {
                *content = Arc::new(torn(rng, durable, content));
            }
            InodeContent::Directory {
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
        self.node.make_durable();
    }
}

impl InodeContent {
    pub(super) fn file(content: Vec<u8>) -> InodeContent {
        InodeContent::File {
            content: Arc::new(content),
            durable: Arc::default(),
        }
    }

    pub(super) fn directory() -> InodeContent {
        InodeContent::Directory {
            names: NameMap::new(),
            durable: NameMap::new(),
            unsynced: Vec::new(),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        match self {
            InodeContent::File { .. } => FileKind::File,
            InodeContent::Directory { .. } => FileKind::Directory,
            InodeContent::Link(_) => FileKind::Link,
            InodeContent::Other => FileKind::Other,
        }
    }

    pub(super) fn make_durable(&mut self) {
        match self {
            InodeContent::File { content, durable } => durable.clone_from(content),
            InodeContent::Directory {
                names,
                durable,
                unsynced,
            } => {
                // No other names differ.
                for (name, _) in unsynced.drain(..).flatten() {
                    match names.get(&name) {
                        Some(inode) => _ = durable.insert(name, *inode),
                        None => _ = durable.remove(&name),
                    }
                }
            }
            InodeContent::Link(_) | InodeContent::Other => {}
        }
    }

    /// The names, the durable names and the operations between them.
    pub(super) fn directory_mut(
        &mut self,
    ) -> (&mut NameMap, &mut NameMap, &mut Vec<NameOperation>) {
        match self {
            InodeContent::Directory {
                names,
                durable,
                unsynced,
            } => (names, durable, unsynced),
            _ => panic!("only a directory has names"),
        }
    }
}

pub(super) fn apply(names: &mut NameMap, operation: &[NameChange]) {
    for (name, inode) in operation {
        match inode {
            Some(inode) => _ = names.insert(name.clone(), *inode),
            None => _ = names.remove(name),
        }
    }
}

/// A file of which some pages have reached the disk.
fn torn(rng: &mut Rng, old: &[u8], new: &[u8]) -> Vec<u8> {
    let choice = rng.u8(..4);
    if choice < 2 {
        return if choice == 0 { old } else { new }.to_vec();
    }
    let size = if rng.bool() { old.len() } else { new.len() };
    let mut torn = vec![0; size];
    for (number, page) in torn.chunks_mut(PAGE_BYTES).enumerate() {
        let from = if rng.bool() { old } else { new };
        let from = from.get(number * PAGE_BYTES..).unwrap_or_default();
        let count = page.len().min(from.len());
        page[..count].copy_from_slice(&from[..count]);
    }
    torn
}

//! Listings: shared by all sessions that ask for the same unchanged directory, within a bound on
//! their memory.
//!
//! A listing stays in memory until the last session has sent it, which may take as long as a client
//! likes. Part of the memory is therefore reserved for users without a listing in memory: no user's
//! listings can keep another user waiting. A listing in progress takes as much as its text so far,
//! so that one of a slow device does not keep others waiting. If the text does not fit, the listing
//! is made again when there is room for the longest.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::kernel::{FileSystemKind, Kernel};
use crate::limits::{
    LISTING_BYTES_MAX, LISTING_CACHE_AGE_MAX, LISTING_QUEUE_TIMEOUT, LISTING_START_BYTES,
    LISTINGS_BYTES_MAX, LISTINGS_RESERVE_BYTES,
};
use crate::server::policy::memory_use::MemoryUse;
use crate::server::service::context::Context;
use crate::server::service::listing_queue::{ListingQueue, Requester};
use crate::server::service::response::{Completion, Handled};
use crate::server::session_id::SessionId;
use crate::server::workers::job::{Job, Task};
use crate::server::workers::listing::{Listing, ListingError, ListingJob};
use crate::storage::{FileFault, StorageError};

/// Listings that are requested, in progress, cached and in memory.
#[derive(Default)]
pub(crate) struct Listings {
    /// Listings that are queued or that a worker is making, by number.
    pending: HashMap<u64, Pending>,
    by_key: HashMap<Key, u64>,
    /// The listing that each session waits for, by the generation of the session.
    by_session: HashMap<u64, u64>,
    /// Listings that wait for memory: those of unknown length, and long ones.
    queues: [ListingQueue; 2],
    /// The same, the oldest first.
    queued: BTreeSet<u64>,
    last_id: u64,
    /// Changes made by the server. A request after a change gets no listing begun before it.
    changes: u64,
    cached: HashMap<Key, Cached>,
    /// All listings in progress and in memory.
    memory: MemoryUse,
}

/// The result of a listing for all sessions that wait for it.
pub(crate) struct Listed {
    pub(crate) waiting: Vec<SessionId>,
    pub(crate) result: Result<Arc<Listing>, StorageError>,
}

impl Listed {
    /// Returns the completions for the sessions. `log` logs an error in the name of the first one
    /// and returns its code.
    pub(crate) fn into_completions<K: Kernel>(
        self,
        log: impl FnOnce(SessionId, StorageError) -> ErrorCode,
    ) -> Vec<(SessionId, Completion<K>)> {
        let Some(first) = self.waiting.first().copied() else {
            return Vec::new();
        };
        let result = self.result.map_err(|error| log(first, error));
        let completion = || match &result {
            Ok(listing) => Completion::listing(listing.clone()),
            Err(code) => Completion::refused(*code),
        };
        let sessions = self.waiting.into_iter();
        sessions.map(|id| (id, completion())).collect()
    }
}

/// A listing that is requested or in progress.
struct Pending {
    target: ListingTarget,
    key: Key,
    /// By generation.
    waiting: BTreeMap<u64, SessionId>,
    since: Instant,
    /// The text did not fit into the memory that was left.
    is_long: bool,
}

struct Cached {
    listing: Arc<Listing>,
    made_at: Instant,
}

/// Identifies listings with the same text.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    root: PathBuf,
    below: String,
    /// Whether the user may read the directory; if not, it looks empty.
    may_read: bool,
    /// Whether names that begin with a dot are listed.
    shows_hidden: bool,
    format: ListingFormat,
    changes: u64,
    /// The session, by its generation, if the text depends on its rights or on more than the
    /// directory.
    only_for: Option<u64>,
}

impl Listings {
    /// Returns a listing from the cache, or starts making one, with which [`Listings::finish`] then
    /// answers the session.
    pub(crate) fn list<K: Kernel>(
        &mut self,
        session_id: SessionId,
        target: ListingTarget,
        format: ListingFormat,
        context: &Context<K>,
    ) -> Handled<K> {
        let key = Key::new(&target, format, session_id, self.changes);
        if let Some(listing) = self.find_cached(&key, context) {
            return Handled::Now(Completion::listing(listing));
        }
        self.request(session_id, target, key, context.now);
        self.start(context);
        Handled::Later
    }

    /// Starts the listings that fit into memory.
    pub(crate) fn start<K: Kernel>(&mut self, context: &Context<K>) {
        while let Some((user, mut job)) = self.next_job() {
            job.devices = context.devices.clone();
            let lane = match &job.target {
                ListingTarget::Top { .. } => context.lane_of(context.home.path()),
                ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => {
                    context.lane(&path.grant)
                }
            };
            let job = Job::for_user(user, lane, Task::List(Box::new(job)));
            context.workers.submit(job);
        }
    }

    /// Returns a cached listing of a directory that has not changed.
    fn find_cached<K: Kernel>(&self, key: &Key, context: &Context<K>) -> Option<Arc<Listing>> {
        let cached = self.cached.get(key)?;
        let before = cached
            .listing
            .status
            .filter(|_| !cached.is_expired(context.now))?;
        // The directory may be on another device than the granted one.
        let device = (context.devices).with_id(before.device, || FileSystemKind::Remote);
        let status = context.call_inline(&device, || context.kernel.status_by_path(&key.path()));
        let is_valid = status.and_then(Result::ok) == Some(before);
        is_valid.then(|| cached.listing.clone())
    }

    /// Adds a session to those that wait for a listing.
    fn request(&mut self, session_id: SessionId, target: ListingTarget, key: Key, now: Instant) {
        let (generation, user) = (session_id.generation, session_id.user);
        let id = self.by_key.get(&key).copied().unwrap_or_else(|| {
            self.last_id += 1;
            let pending = Pending {
                target,
                key: key.clone(),
                waiting: BTreeMap::new(),
                since: now,
                is_long: false,
            };
            self.pending.insert(self.last_id, pending);
            self.by_key.insert(key, self.last_id);
            self.queued.insert(self.last_id);
            self.last_id
        });
        self.by_session.insert(generation, id);
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.waiting.insert(generation, session_id);
            if self.queued.contains(&id) {
                self.queues[usize::from(pending.is_long)].add(user, id);
            }
        }
    }

    /// Removes the next listing that fits into memory from the queue.
    fn next_job(&mut self) -> Option<(Requester, ListingJob)> {
        for user in self.memory.take_freed() {
            self.set_in_memory(user, false);
        }
        let (user, id, bytes) = (self.next_fitting(true)).or_else(|| self.next_fitting(false))?;
        let sum_max = match self.queues[0].has_in_memory(user) {
            true => LISTINGS_BYTES_MAX,
            false => LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES,
        };
        let pending = self.pending.get(&id)?;
        let job = ListingJob {
            id,
            target: pending.target.clone(),
            format: pending.key.format,
            devices: Arc::default(),
            charge: self.memory.charge(user, bytes, sum_max),
        };
        self.set_queued(id, false);
        self.set_in_memory(user, true);
        self.queues
            .iter_mut()
            .for_each(|queue| queue.end_turn(user));
        Some((user, job))
    }

    /// Returns the next long or other listing if there is memory for it, and its bytes.
    fn next_fitting(&self, is_long: bool) -> Option<(Requester, u64, usize)> {
        let bytes = match is_long {
            true => LISTING_BYTES_MAX,
            false => LISTING_START_BYTES,
        };
        let sum = self.memory.bytes() + bytes;
        let is_reserve = sum > LISTINGS_BYTES_MAX;
        let (user, id) = self.queues[usize::from(is_long)].next(is_reserve)?;
        let is_fitting = sum <= LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES;
        is_fitting.then_some((user, id, bytes))
    }

    /// Notes that a listing of a user takes memory, or no longer does.
    fn set_in_memory(&mut self, user: Requester, is_in_memory: bool) {
        for queue in &mut self.queues {
            queue.set_in_memory(user, is_in_memory);
        }
    }

    /// Queues a listing, or removes it from the queue, for all sessions that wait for it.
    fn set_queued(&mut self, id: u64, is_queued: bool) {
        let Some(pending) = self.pending.get(&id) else {
            return;
        };
        let is_change = match is_queued {
            true => self.queued.insert(id),
            false => self.queued.remove(&id),
        };
        let queue = &mut self.queues[usize::from(pending.is_long)];
        for session_id in pending.waiting.values().filter(|_| is_change) {
            match is_queued {
                true => queue.add(session_id.user, id),
                false => queue.remove(session_id.user, id),
            }
        }
    }

    /// Takes the result of a job. Caches a listing that depends on nothing but an unchanged
    /// directory. Returns `None` if the listing has to wait for memory.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        result: Result<Listing, ListingError>,
        now: Instant,
    ) -> Option<Listed> {
        let result = match result {
            Ok(listing) => Ok(Arc::new(listing)),
            Err(ListingError::Failed(error)) => Err(error),
            Err(ListingError::OutOfMemory) => {
                self.pending.get_mut(&id)?.is_long = true;
                self.set_queued(id, true);
                return None;
            }
        };
        let pending = self.remove(id)?;
        if let Ok(listing) = &result
            && listing.status.is_some()
            && pending.key.changes == self.changes
            && pending.key.only_for.is_none()
        {
            let cached = Cached {
                listing: listing.clone(),
                made_at: now,
            };
            self.cached.insert(pending.key, cached);
        }
        let waiting = pending.waiting.into_values().collect();
        Some(Listed { waiting, result })
    }

    /// Removes a listing that waited for memory for too long.
    pub(crate) fn pop_timed_out(&mut self, now: Instant) -> Option<Listed> {
        let id = *self.queued.first()?;
        if now < self.pending.get(&id)?.since + LISTING_QUEUE_TIMEOUT {
            return None;
        }
        let pending = self.remove(id)?;
        let fault = FileFault {
            operation: "listing",
            path: pending.key.path(),
            source: io::Error::other("no memory for another listing"),
        };
        Some(Listed {
            waiting: pending.waiting.into_values().collect(),
            result: Err(StorageError {
                code: ErrorCode::DirectoryUnreadable,
                fault: Some(fault),
            }),
        })
    }

    /// Cancels the request of a session that ended. Returns the listing in progress that no session
    /// waits for any longer.
    pub(crate) fn cancel(&mut self, session_id: SessionId) -> Option<u64> {
        let id = self.by_session.remove(&session_id.generation)?;
        let is_queued = self.queued.contains(&id);
        let pending = self.pending.get_mut(&id)?;
        // As it was when the session asked.
        let asked = pending.waiting.remove(&session_id.generation)?;
        let is_wanted = !pending.waiting.is_empty();
        if is_queued {
            self.queues[usize::from(pending.is_long)].remove(asked.user, id);
        }
        if is_wanted {
            return None;
        }
        self.remove(id);
        (!is_queued).then_some(id)
    }

    /// Removes a listing and the requests for it.
    fn remove(&mut self, id: u64) -> Option<Pending> {
        self.set_queued(id, false);
        let pending = self.pending.remove(&id)?;
        self.by_key.remove(&pending.key);
        for generation in pending.waiting.keys() {
            self.by_session.remove(generation);
        }
        Some(pending)
    }

    /// Drops expired listings from the cache.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.cached.retain(|_, cached| !cached.is_expired(now));
    }

    /// Invalidates the cache after a change; listings in progress reach only the sessions that wait
    /// for them already.
    pub(crate) fn invalidate(&mut self) {
        self.cached.clear();
        self.changes += 1;
    }
}

impl Cached {
    fn is_expired(&self, now: Instant) -> bool {
        now >= self.made_at + LISTING_CACHE_AGE_MAX
    }
}

impl Key {
    fn new(
        target: &ListingTarget,
        format: ListingFormat,
        session_id: SessionId,
        changes: u64,
    ) -> Key {
        let path = match target {
            ListingTarget::Top { .. } => None,
            ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => Some(path),
        };
        let is_shared = matches!(
            (target, format),
            (
                ListingTarget::Directory(_),
                ListingFormat::Names | ListingFormat::Details | ListingFormat::Lines
            )
        );
        Key {
            root: path.map_or_else(PathBuf::new, |path| path.grant.path.clone()),
            below: path.map_or_else(String::new, |path| path.relative.clone()),
            may_read: path.is_none_or(|path| path.grant.rights.read),
            shows_hidden: path.is_some_and(|path| path.grant.rights.hidden),
            format,
            changes,
            only_for: (!is_shared).then_some(session_id.generation),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join(&self.below)
    }
}

#[cfg(test)]
mod tests;

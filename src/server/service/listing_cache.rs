//! Listings: shared by all sessions that ask for the same unchanged directory, within a bound on
//! their memory.
//!
//! A listing stays in memory until the last session has sent it, which may take as long as a client
//! likes. Part of the memory is therefore reserved for users without a listing in memory: no user's
//! listings can keep another user waiting.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::domain::error::ErrorCode;
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::kernel::Kernel;
use crate::limits::{
    LISTING_BYTES_MAX, LISTING_CACHE_AGE_MAX, LISTING_QUEUE_TIMEOUT, LISTINGS_BYTES_MAX,
    LISTINGS_RESERVE_BYTES,
};
use crate::server::service::context::Context;
use crate::server::service::response::{Completion, Handled};
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::job::{Job, Lane, ListingJob, Task};
use crate::server::workers::listing::Listing;
use crate::storage::{FileFault, StorageError};

/// Listings that are requested, in progress, cached and in memory.
#[derive(Default)]
pub(crate) struct Listings {
    /// The sessions that wait for each listing.
    waiting: HashMap<Key, Vec<SessionId>>,
    /// Listings that wait for memory.
    queue: VecDeque<Pending>,
    /// Listings that a worker is making, by the id of their job.
    running: HashMap<u64, Pending>,
    next_id: u64,
    /// Changes made by the server. A request after a change gets no listing begun before it.
    changes: u64,
    cached: HashMap<Key, Cached>,
    /// All listings that may still be in memory.
    alive: Vec<Alive>,
    /// No queued listing fits into memory, and nothing was requested or completed since.
    is_stuck: bool,
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

/// A listing in memory.
struct Alive {
    /// The user that it was made for.
    user: Option<UserKey>,
    listing: Weak<Listing>,
}

/// A listing that is requested or in progress.
struct Pending {
    target: ListingTarget,
    key: Key,
    /// The user that it is made for: the first that asked, or one without a listing in memory.
    user: Option<UserKey>,
    since: Instant,
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
        while let Some(job) = self.next_job() {
            let lane = match &job.target {
                ListingTarget::Top { .. } => Lane::Device(context.device(context.home.path())),
                ListingTarget::Directory(path) | ListingTarget::Path { path, .. } => {
                    context.lane(&path.grant)
                }
            };
            let job = Job::detached(lane, Task::List(job));
            context.workers.submit(job);
        }
    }

    /// Returns a cached listing of a directory that has not changed.
    fn find_cached<K: Kernel>(&self, key: &Key, context: &Context<K>) -> Option<Arc<Listing>> {
        let cached = self.cached.get(key)?;
        let device = context.device(&key.root);
        let status = context.call_inline(&device, || context.kernel.status_by_path(&key.path()));
        let status = status.and_then(Result::ok);
        let is_valid =
            status.is_some() && cached.listing.status == status && !cached.is_expired(context.now);
        is_valid.then(|| cached.listing.clone())
    }

    /// Adds a session to those that wait for a listing.
    fn request(&mut self, session_id: SessionId, target: ListingTarget, key: Key, now: Instant) {
        self.is_stuck = false;
        match self.waiting.entry(key.clone()) {
            // In the queue or in progress, even if all sessions that waited have ended.
            Entry::Occupied(mut waiting) => waiting.get_mut().push(session_id),
            Entry::Vacant(vacant) => {
                vacant.insert(vec![session_id]);
                self.queue.push_back(Pending {
                    target,
                    key,
                    user: session_id.user,
                    since: now,
                });
            }
        }
    }

    /// Removes the next listing that fits into memory from the queue.
    fn next_job(&mut self) -> Option<ListingJob> {
        if self.queue.is_empty() {
            return None;
        }
        let alive = self.alive.len();
        self.alive.retain(|alive| alive.listing.strong_count() > 0);
        if self.is_stuck && self.alive.len() == alive {
            return None;
        }
        let next = self.find_fitting();
        self.is_stuck = next.is_none();
        let (index, user) = next?;
        let mut pending = self.queue.remove(index)?;
        pending.user = user;
        let id = self.next_id;
        self.next_id += 1;
        let job = ListingJob {
            id,
            target: pending.target.clone(),
            format: pending.key.format,
        };
        self.running.insert(id, pending);
        Some(job)
    }

    /// Returns the index of a queued listing that fits into memory even at its maximum size, and
    /// the user to whom it is charged.
    fn find_fitting(&self) -> Option<(usize, Option<UserKey>)> {
        let alive = (self.alive.iter()).filter_map(|alive| alive.listing.upgrade());
        let alive: usize = alive.map(|listing| listing.text.len()).sum();
        let bytes = alive + (self.running.len() + 1) * LISTING_BYTES_MAX;
        if bytes <= LISTINGS_BYTES_MAX {
            return self.queue.front().map(|pending| (0, pending.user));
        }
        if bytes > LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES {
            return None;
        }
        let alive = self.alive.iter().map(|alive| alive.user);
        let running = self.running.values().map(|pending| pending.user);
        let served: HashSet<_> = alive.chain(running).collect();
        self.queue.iter().enumerate().find_map(|(index, pending)| {
            let mut users = self.waiting[&pending.key]
                .iter()
                .map(|waiting| waiting.user);
            let user = users.find(|user| !served.contains(user))?;
            Some((index, user))
        })
    }

    /// Takes the result of a job. Caches a listing that depends on nothing but an unchanged
    /// directory.
    pub(crate) fn finish(
        &mut self,
        id: u64,
        result: Result<Listing, StorageError>,
        now: Instant,
    ) -> Listed {
        let mut listed = Listed {
            waiting: Vec::new(),
            result: result.map(Arc::new),
        };
        self.is_stuck = false;
        let Some(Pending { key, user, .. }) = self.running.remove(&id) else {
            return listed;
        };
        listed.waiting = self.waiting.remove(&key).unwrap_or_default();
        if let Ok(listing) = &listed.result {
            self.alive.push(Alive {
                user,
                listing: Arc::downgrade(listing),
            });
            let is_current = key.changes == self.changes;
            if listing.status.is_some() && is_current && key.only_for.is_none() {
                let cached = Cached {
                    listing: listing.clone(),
                    made_at: now,
                };
                self.cached.insert(key, cached);
            }
        }
        listed
    }

    /// Removes a listing that waited for memory for too long.
    pub(crate) fn pop_timed_out(&mut self, now: Instant) -> Option<Listed> {
        let first = self.queue.front()?;
        if now < first.since + LISTING_QUEUE_TIMEOUT {
            return None;
        }
        let pending = self.queue.pop_front()?;
        let fault = FileFault {
            operation: "listing",
            path: pending.key.path(),
            source: io::Error::other("no memory for another listing"),
        };
        Some(Listed {
            waiting: self.waiting.remove(&pending.key).unwrap_or_default(),
            result: Err(StorageError {
                code: ErrorCode::DirectoryUnreadable,
                fault: Some(fault),
            }),
        })
    }

    /// Cancels the request of a session that ended. A listing in progress is completed for the
    /// cache.
    pub(crate) fn cancel(&mut self, session_id: SessionId) {
        let Listings { waiting, queue, .. } = self;
        for waiting in waiting.values_mut() {
            waiting.retain(|other| *other != session_id);
        }
        queue.retain(|pending| {
            let is_wanted = !waiting[&pending.key].is_empty();
            if !is_wanted {
                waiting.remove(&pending.key);
            }
            is_wanted
        });
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

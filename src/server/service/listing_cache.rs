//! Listings: one for all who ask for the same unchanged directory, and a bound on the memory of them all.
//!
//! A listing is in memory until its last reader has it, and that may take as long as the reader likes. So a part of the memory is
//! kept for users of whom no listing is alive: nobody's listings, however many, keep another's waiting.
//!
//! Must not know: how a directory is read, who the session_ids belong to.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::kernel::Kernel;
use crate::limits::{
    LISTING_BYTES_MAX, LISTING_CACHE_AGE_MAX, LISTING_QUEUE_TIMEOUT, LISTINGS_BYTES_MAX,
    LISTINGS_RESERVE_BYTES,
};
use crate::server::policy::sessions::UserKey;
use crate::server::session_id::SessionId;
use crate::server::workers::listing::Listing;

/// Listings that are wanted, being made, fresh, and alive: one for all who ask for the same unchanged directory, and a
/// bound on the memory of them all.
#[derive(Default)]
pub(crate) struct Listings {
    /// Who waits for each.
    wanted: HashMap<Key, Vec<SessionId>>,
    /// Those that no worker has been asked for yet.
    queue: VecDeque<Asked>,
    /// How many changes the services has made: who asks after one gets no listing that was begun before it.
    changes: u64,
    /// For whom workers are at one.
    running: Vec<Option<UserKey>>,
    fresh: HashMap<Key, Fresh>,
    /// All that were made and may still be on their way to somebody.
    alive: Vec<Alive>,
    /// There was no memory for any in the queue, nor has anything been asked for or made since.
    is_stuck: bool,
}

struct Alive {
    /// For whom it was made.
    user: Option<UserKey>,
    listing: Weak<Listing>,
}

/// A listing that is to be made.
pub(crate) struct Asked {
    pub(crate) listed: ListingTarget,
    pub(crate) form: ListingFormat,
    key: Key,
    /// For whom it is made: who asked first, or who has none alive.
    user: Option<UserKey>,
    since: Instant,
}

impl Listings {
    /// A listing that was made a moment ago of what has not changed since.
    pub(crate) fn fresh<K: Kernel>(
        &self,
        kernel: &K,
        session_id: SessionId,
        listed: &ListingTarget,
        form: ListingFormat,
        now: Instant,
    ) -> Option<Arc<Listing>> {
        if self.fresh.is_empty() {
            return None;
        }
        let key = Key::new(listed, form, session_id.generation, self.changes);
        let fresh = self.fresh.get(&key)?;
        let status = kernel.status_by_path(&key.path()).ok();
        let unchanged = fresh.listing.status == status && now < fresh.made + LISTING_CACHE_AGE_MAX;
        unchanged.then(|| fresh.listing.clone())
    }

    /// Notes who waits; whether something is to be started.
    pub(crate) fn wait(
        &mut self,
        session_id: SessionId,
        listed: ListingTarget,
        form: ListingFormat,
        now: Instant,
    ) -> bool {
        let key = Key::new(&listed, form, session_id.generation, self.changes);
        self.is_stuck = false;
        match self.wanted.entry(key.clone()) {
            // Where all who waited have left, a worker is at it still.
            Entry::Occupied(mut waiting) => waiting.get_mut().push(session_id),
            Entry::Vacant(vacant) => {
                vacant.insert(vec![session_id]);
                self.queue.push_back(Asked {
                    listed,
                    form,
                    key,
                    user: session_id.user,
                    since: now,
                });
            }
        }
        !self.queue.is_empty()
    }

    /// The next one that there is memory for.
    pub(crate) fn next_to_start(&mut self) -> Option<Asked> {
        if self.queue.is_empty() {
            return None;
        }
        let alive = self.alive.len();
        self.alive.retain(|one| one.listing.strong_count() > 0);
        if self.is_stuck && self.alive.len() == alive {
            return None;
        }
        let next = self.find_next();
        self.is_stuck = next.is_none();
        let (place, user) = next?;
        let mut asked = self.queue.remove(place)?;
        asked.user = user;
        self.running.push(user);
        Some(asked)
    }

    /// Which one of the queue there is memory for, counted as if it were the longest, and for whom.
    fn find_next(&self) -> Option<(usize, Option<UserKey>)> {
        let alive = (self.alive.iter()).filter_map(|one| one.listing.upgrade());
        let alive: usize = alive.map(|listing| listing.text.len()).sum();
        let bytes = alive + (self.running.len() + 1) * LISTING_BYTES_MAX;
        if bytes <= LISTINGS_BYTES_MAX {
            return self.queue.front().map(|asked| (0, asked.user));
        }
        if bytes > LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES {
            return None;
        }
        let alive = self.alive.iter().map(|one| one.user);
        let served: HashSet<_> = alive.chain(self.running.iter().copied()).collect();
        self.queue.iter().enumerate().find_map(|(place, asked)| {
            let mut users = self.wanted[&asked.key]
                .iter()
                .map(|session_id| session_id.user);
            let user = users.find(|user| !served.contains(user))?;
            Some((place, user))
        })
    }

    /// One has been made: who waits for it.
    pub(crate) fn made(&mut self, asked: &Asked) -> Vec<SessionId> {
        let running = self.running.iter().position(|user| *user == asked.user);
        self.running.swap_remove(running.expect("it was started"));
        self.is_stuck = false;
        self.wanted.remove(&asked.key).unwrap_or_default()
    }

    /// Keeps one for who asks next, where it depends on nothing but the directory itself.
    pub(crate) fn keep(&mut self, asked: &Asked, listing: &Arc<Listing>, now: Instant) {
        self.alive.push(Alive {
            user: asked.user,
            listing: Arc::downgrade(listing),
        });
        let key = &asked.key;
        if listing.status.is_some() && key.changes == self.changes && key.alone.is_none() {
            let fresh = Fresh {
                listing: listing.clone(),
                made: now,
            };
            self.fresh.insert(key.clone(), fresh);
        }
    }

    /// Takes away one that has waited for memory for too long, and who waits for it.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<(Asked, Vec<SessionId>)> {
        let first = self.queue.front()?;
        if now < first.since + LISTING_QUEUE_TIMEOUT {
            return None;
        }
        let asked = self.queue.pop_front()?;
        let session_ids = self.wanted.remove(&asked.key).unwrap_or_default();
        Some((asked, session_ids))
    }

    /// Takes a session_id away, and with it what nobody else waits for, unless a worker is at it.
    pub(crate) fn forget(&mut self, session_id: SessionId) {
        let Listings { wanted, queue, .. } = self;
        for waiting in wanted.values_mut() {
            waiting.retain(|other| *other != session_id);
        }
        queue.retain(|listing| {
            let unwanted = wanted[&listing.key].is_empty();
            if unwanted {
                wanted.remove(&listing.key);
            }
            !unwanted
        });
    }

    pub(crate) fn sweep(&mut self, now: Instant) {
        self.fresh
            .retain(|_, fresh| now < fresh.made + LISTING_CACHE_AGE_MAX);
    }

    /// Something has changed: what was begun before is for those alone who wait for it already.
    pub(crate) fn changed(&mut self) {
        self.fresh.clear();
        self.changes += 1;
    }
}

struct Fresh {
    listing: Arc<Listing>,
    made: Instant,
}

impl Asked {
    /// The directory, for the log.
    pub(crate) fn path(&self) -> PathBuf {
        self.key.path()
    }
}

/// Which listing: the directory, how it is written, and since when.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    root: PathBuf,
    below: String,
    /// Whether the grant lets its user see what is there.
    read: bool,
    form: ListingFormat,
    changes: u64,
    /// The one session that it is made for, where what else it asks for, or may do there, shows in the text.
    alone: Option<u64>,
}

impl Key {
    fn new(listed: &ListingTarget, form: ListingFormat, asker: u64, changes: u64) -> Key {
        let place = match listed {
            ListingTarget::Top { .. } => None,
            ListingTarget::Directory(place) | ListingTarget::Path { path: place, .. } => {
                Some(place)
            }
        };
        let shared = matches!(
            (listed, form),
            (
                ListingTarget::Directory(_),
                ListingFormat::Names | ListingFormat::Details | ListingFormat::Lines
            )
        );
        Key {
            root: place.map_or_else(PathBuf::new, |place| place.grant.path.clone()),
            below: place.map_or_else(String::new, |place| place.relative.clone()),
            read: place.is_none_or(|place| place.grant.rights.read),
            form,
            changes,
            alone: (!shared).then_some(asker),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join(&self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::domain::access::{Grant, Rights};
    use crate::domain::path::GrantedPath;
    use crate::domain::user_limits::UserLimits;
    use crate::kernel::linux::Linux;
    use crate::server::policy::sessions::UserSessions;

    #[test]
    fn a_listing_whose_askers_have_all_left_is_made_once_for_the_next_and_forgotten_by_all() {
        let mut listings = Listings::default();
        wait(&mut listings, session_id(1), "one");
        wait(&mut listings, session_id(2), "two");
        let one = listings.next_to_start().unwrap();
        let two = listings.next_to_start().unwrap();
        listings.forget(session_id(1));
        wait(&mut listings, session_id(3), "one");
        assert!(listings.next_to_start().is_none());
        assert_eq!(listings.made(&one), [session_id(3)]);
        listings.forget(session_id(2));
        assert_eq!(listings.made(&two), []);
        assert!(listings.wanted.is_empty() && listings.queue.is_empty());
    }

    #[test]
    fn who_asks_behind_an_upload_does_not_join_a_listing_that_was_begun_before_it() {
        let mut listings = Listings::default();
        wait(&mut listings, session_id(1), "one");
        let before = listings.next_to_start().unwrap();
        listings.changed();
        wait(&mut listings, session_id(2), "one");
        let after = listings.next_to_start().unwrap();
        assert_eq!(listings.made(&after), [session_id(2)]);
        assert_eq!(listings.made(&before), [session_id(1)]);
        let old = Listing {
            text: Vec::new(),
            entries: 0,
            status: Linux::new().unwrap().status_by_path(Path::new("/")).ok(),
            fault: None,
        };
        listings.keep(&before, &Arc::new(old), Instant::now());
        assert!(
            listings.fresh.is_empty(),
            "nobody else is given the old one"
        );
    }

    #[test]
    fn who_keeps_many_listings_alive_keeps_nobody_else_waiting() {
        let users = users();
        let (mut listings, mut alive) = (Listings::default(), Vec::new());
        let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
        for (generation, name) in names.iter().enumerate() {
            wait(&mut listings, of(users[0], generation as u64), name);
            if let Some(asked) = listings.next_to_start() {
                alive.push(make(&mut listings, &asked, 1024 * 1024));
            }
        }
        assert_eq!(alive.len(), 33, "there is no room for the longest beside");
        for (generation, user) in (200..).zip(&users[1..]) {
            // The second one has asked for what the greedy one waits for already.
            let name = if generation == 201 { "50" } else { "others" };
            wait(&mut listings, of(*user, generation), name);
            let asked = listings.next_to_start().expect("one is kept for him");
            assert_eq!(asked.user, Some(*user));
            alive.push(make(&mut listings, &asked, 1024 * 1024));
            wait(&mut listings, of(*user, generation), "his second");
            assert!(
                listings.next_to_start().is_none(),
                "that waits as others do"
            );
        }
        alive.drain(..alive.len() - 1);
        listings.sweep(Instant::now() + LISTING_CACHE_AGE_MAX);
        assert!(listings.next_to_start().is_some(), "there is memory again");
    }

    #[test]
    fn the_longest_listings_of_whomever_stay_within_the_memory_for_them_and_who_waits_is_told() {
        let users = users();
        let (mut listings, mut alive) = (Listings::default(), Vec::new());
        for (generation, user) in (0..).zip(&users) {
            for name in ["one", "two", "three"] {
                wait(
                    &mut listings,
                    of(*user, generation),
                    &format!("{name} of {generation}"),
                );
            }
            while let Some(asked) = listings.next_to_start() {
                alive.push(make(&mut listings, &asked, LISTING_BYTES_MAX));
            }
        }
        let bytes = LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES;
        assert_eq!(alive.len(), bytes / LISTING_BYTES_MAX);
        let now = Instant::now();
        assert!(listings.give_up(now).is_none());
        let given_up = std::iter::from_fn(|| listings.give_up(now + LISTING_QUEUE_TIMEOUT));
        assert_eq!(given_up.count(), 3 * users.len() - alive.len());
        assert!(listings.queue.is_empty() && listings.wanted.is_empty());
    }

    #[test]
    fn what_the_rights_show_in_is_made_for_one_session_alone() {
        let same = |form| {
            let key = |generation| Key::new(&listed("one"), form, generation, 0);
            key(1) == key(2)
        };
        assert!(
            same(ListingFormat::Names)
                && same(ListingFormat::Details)
                && same(ListingFormat::Lines)
        );
        assert!(!same(ListingFormat::Long));
    }

    fn wait(listings: &mut Listings, session_id: SessionId, name: &str) {
        listings.wait(
            session_id,
            listed(name),
            ListingFormat::Names,
            Instant::now(),
        );
    }

    fn make(listings: &mut Listings, asked: &Asked, bytes: usize) -> Arc<Listing> {
        listings.made(asked);
        let listing = Arc::new(Listing {
            text: vec![0; bytes],
            entries: 0,
            status: None,
            fault: None,
        });
        listings.keep(asked, &listing, Instant::now());
        listing
    }

    /// Four users with a session.
    fn users() -> Vec<UserKey> {
        let mut users = UserSessions::default();
        let enter = |name| users.enter(name, UserLimits::default(), Instant::now());
        let keys: Option<_> = ["a", "b", "c", "d"].into_iter().map(enter).collect();
        keys.expect("there is no limit")
    }

    fn of(user: UserKey, generation: u64) -> SessionId {
        let mut session_id = session_id(generation);
        session_id.user = Some(user);
        session_id
    }

    fn listed(name: &str) -> ListingTarget {
        let rights = Rights {
            read: true,
            upload: false,
            change: false,
            quota: None,
        };
        ListingTarget::Directory(GrantedPath {
            grant: Arc::new(Grant {
                name: name.into(),
                path: PathBuf::from("/").join(name),
                rights,
            }),
            relative: String::new(),
        })
    }

    fn session_id(generation: u64) -> SessionId {
        SessionId {
            key: generation as usize,
            generation,
            peer: ([127, 0, 0, 1], 1).into(),
            user: None,
        }
    }
}

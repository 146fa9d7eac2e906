//! Listings: one for all who ask for the same unchanged directory, and a bound on the memory of them all.
//!
//! Must not know: how a directory is read, who the tickets belong to.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Ticket;
use crate::kernel::Kernel;
use crate::limits::{LISTING_AGE, LISTING_BYTES_MAX, LISTINGS_BYTES_MAX};
use crate::protocol::{Form, Listed};
use crate::vault::Listing;

/// Listings that are wanted, being made, fresh, and alive: one for all who ask for the same unchanged directory, and a
/// bound on the memory of them all.
#[derive(Default)]
pub(super) struct Listings {
    /// Who waits for each.
    wanted: HashMap<Key, Vec<Ticket>>,
    /// Those that no worker has been asked for yet.
    queue: VecDeque<Asked>,
    /// How many changes the house has made: who asks after one gets no listing that was begun before it.
    changes: u64,
    /// How many workers have been asked for.
    running: usize,
    fresh: HashMap<Key, Fresh>,
    /// All that were made and may still be on their way to somebody.
    alive: Vec<Weak<Listing>>,
}

/// A listing that is to be made.
pub(super) struct Asked {
    pub(super) listed: Listed,
    pub(super) form: Form,
    /// Who asked first, by his serial.
    asker: u64,
    /// The changes that had been made when it was first asked for.
    changes: u64,
}

impl Listings {
    /// A listing that was made a moment ago of what has not changed since.
    pub(super) fn fresh<K: Kernel>(
        &self,
        kernel: &K,
        ticket: Ticket,
        listed: &Listed,
        form: Form,
        now: Instant,
    ) -> Option<Arc<Listing>> {
        if self.fresh.is_empty() {
            return None;
        }
        let key = Key::new(listed, form, ticket.serial, self.changes);
        let fresh = self.fresh.get(&key)?;
        let status = kernel.status_by_path(&key.path()).ok();
        let unchanged = fresh.listing.status == status && now < fresh.made + LISTING_AGE;
        unchanged.then(|| fresh.listing.clone())
    }

    /// Notes who waits; true where nobody did before, so that it is to be started.
    pub(super) fn wait(&mut self, ticket: Ticket, listed: Listed, form: Form) -> bool {
        let asked = Asked {
            listed,
            form,
            asker: ticket.serial,
            changes: self.changes,
        };
        match self.wanted.entry(asked.key()) {
            // Where all who waited have left, a worker is at it still.
            Entry::Occupied(mut waiting) => {
                waiting.get_mut().push(ticket);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(vec![ticket]);
                self.queue.push_back(asked);
                true
            }
        }
    }

    /// The next one that there is memory for, counted as if it were the longest.
    pub(super) fn next_to_start(&mut self) -> Option<Asked> {
        if self.queue.is_empty() {
            return None;
        }
        self.alive.retain(|listing| listing.strong_count() > 0);
        let alive: usize = self
            .alive
            .iter()
            .filter_map(Weak::upgrade)
            .map(|listing| listing.text.len())
            .sum();
        if alive + (self.running + 1) * LISTING_BYTES_MAX > LISTINGS_BYTES_MAX {
            return None;
        }
        self.running += 1;
        self.queue.pop_front()
    }

    /// One has been made: who waits for it.
    pub(super) fn made(&mut self, wanted: &Asked) -> Vec<Ticket> {
        self.running -= 1;
        self.wanted.remove(&wanted.key()).unwrap_or_default()
    }

    /// Keeps one for who asks next, where it depends on nothing but the directory itself.
    pub(super) fn keep(&mut self, wanted: &Asked, listing: &Arc<Listing>, now: Instant) {
        self.alive.push(Arc::downgrade(listing));
        let key = wanted.key();
        if listing.status.is_some() && wanted.changes == self.changes && key.alone.is_none() {
            let fresh = Fresh {
                listing: listing.clone(),
                made: now,
            };
            self.fresh.insert(key, fresh);
        }
    }

    /// Takes a ticket away, and with it what nobody else waits for, unless a worker is at it.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        let Listings { wanted, queue, .. } = self;
        for waiting in wanted.values_mut() {
            waiting.retain(|other| *other != ticket);
        }
        queue.retain(|listing| {
            let key = listing.key();
            let unwanted = wanted[&key].is_empty();
            if unwanted {
                wanted.remove(&key);
            }
            !unwanted
        });
    }

    pub(super) fn sweep(&mut self, now: Instant) {
        self.fresh.retain(|_, fresh| now < fresh.made + LISTING_AGE);
    }

    /// Something has changed: what was begun before is for those alone who wait for it already.
    pub(super) fn changed(&mut self) {
        self.fresh.clear();
        self.changes += 1;
    }
}

struct Fresh {
    listing: Arc<Listing>,
    made: Instant,
}

impl Asked {
    fn key(&self) -> Key {
        Key::new(&self.listed, self.form, self.asker, self.changes)
    }
}

/// Which listing: the directory, how it is written, and since when.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    root: PathBuf,
    below: String,
    /// Whether the grant lets its user see what is there.
    read: bool,
    form: Form,
    changes: u64,
    /// The one session that it is made for, where what else it asks for, or may do there, shows in the text.
    alone: Option<u64>,
}

impl Key {
    fn new(listed: &Listed, form: Form, asker: u64, changes: u64) -> Key {
        let place = match listed {
            Listed::Top { .. } => None,
            Listed::Directory(place) | Listed::Path { place, .. } => Some(place),
        };
        let shared = matches!(
            (listed, form),
            (
                Listed::Directory(_),
                Form::Names | Form::Details | Form::Lines
            )
        );
        Key {
            root: place.map_or_else(PathBuf::new, |place| place.grant.path.clone()),
            below: place.map_or_else(String::new, |place| place.below.clone()),
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

    use crate::home::directories::{Grant, Rights};
    use crate::kernel::linux::Linux;
    use crate::protocol::Place;

    #[test]
    fn a_listing_whose_askers_have_all_left_is_made_once_for_the_next_and_forgotten_by_all() {
        let mut listings = Listings::default();
        assert!(listings.wait(ticket(1), listed("one"), Form::Names));
        assert!(listings.wait(ticket(2), listed("two"), Form::Names));
        let one = listings.next_to_start().unwrap();
        let two = listings.next_to_start().unwrap();
        listings.forget(ticket(1));
        assert!(!listings.wait(ticket(3), listed("one"), Form::Names));
        assert!(listings.next_to_start().is_none());
        assert_eq!(listings.made(&one), [ticket(3)]);
        listings.forget(ticket(2));
        assert_eq!(listings.made(&two), []);
        assert!(listings.wanted.is_empty() && listings.queue.is_empty());
    }

    #[test]
    fn who_asks_behind_an_upload_does_not_join_a_listing_that_was_begun_before_it() {
        let mut listings = Listings::default();
        assert!(listings.wait(ticket(1), listed("one"), Form::Names));
        let before = listings.next_to_start().unwrap();
        listings.changed();
        assert!(listings.wait(ticket(2), listed("one"), Form::Names));
        let after = listings.next_to_start().unwrap();
        assert_eq!(listings.made(&after), [ticket(2)]);
        assert_eq!(listings.made(&before), [ticket(1)]);
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
    fn what_the_rights_show_in_is_made_for_one_session_alone() {
        let same = |form| {
            let key = |serial| Key::new(&listed("one"), form, serial, 0);
            key(1) == key(2)
        };
        assert!(same(Form::Names) && same(Form::Details) && same(Form::Lines));
        assert!(!same(Form::Long));
    }

    fn listed(name: &str) -> Listed {
        let rights = Rights {
            read: true,
            upload: false,
            change: false,
            quota: None,
        };
        Listed::Directory(Place {
            grant: Arc::new(Grant {
                name: name.into(),
                path: PathBuf::from("/").join(name),
                rights,
            }),
            below: String::new(),
        })
    }

    fn ticket(serial: u64) -> Ticket {
        Ticket {
            key: serial as usize,
            serial,
            peer: ([127, 0, 0, 1], 1).into(),
            user: None,
        }
    }
}

use std::path::Path;

use super::*;
use crate::domain::access::{Grant, Rights};
use crate::domain::path::GrantedPath;
use crate::kernel::linux::Linux;
use crate::server::policy::sessions::UserSessions;

#[test]
fn an_abandoned_listing_serves_the_next_session() {
    let mut listings = Listings::default();
    request(&mut listings, session_id(1), "one");
    request(&mut listings, session_id(2), "two");
    let one = listings.next_job().unwrap();
    let two = listings.next_job().unwrap();
    listings.cancel(session_id(1));
    request(&mut listings, session_id(3), "one");
    assert!(listings.next_job().is_none());
    assert_eq!(fail(&mut listings, &one), [session_id(3)]);
    listings.cancel(session_id(2));
    assert_eq!(fail(&mut listings, &two), []);
    assert!(listings.waiting.is_empty() && listings.queue.is_empty());
    assert!(listings.running.is_empty());
}

#[test]
fn a_request_after_a_change_gets_a_new_listing() {
    let mut listings = Listings::default();
    request(&mut listings, session_id(1), "one");
    let before = listings.next_job().unwrap();
    listings.invalidate();
    request(&mut listings, session_id(2), "one");
    let after = listings.next_job().unwrap();
    assert_eq!(fail(&mut listings, &after), [session_id(2)]);
    let old = Listing {
        text: Vec::new(),
        entries: 0,
        status: Linux::new().unwrap().status_by_path(Path::new("/")).ok(),
        fault: None,
    };
    let listed = listings.finish(before.id, Ok(old), Instant::now());
    assert_eq!(listed.waiting, [session_id(1)]);
    assert!(listings.cached.is_empty(), "the old one is not cached");
}

#[test]
fn a_user_with_many_listings_keeps_no_other_waiting() {
    let users = users();
    let (mut listings, mut alive) = (Listings::default(), Vec::new());
    let names: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    for (generation, name) in names.iter().enumerate() {
        request(&mut listings, of(users[0], generation as u64), name);
        if let Some(job) = listings.next_job() {
            alive.push(make(&mut listings, &job, 1024 * 1024));
        }
    }
    assert_eq!(alive.len(), 33, "the next could have the maximum size");
    for (generation, user) in (200..).zip(&users[1..]) {
        // The second user asks for a listing that the first one waits for.
        let name = if generation == 201 { "50" } else { "others" };
        request(&mut listings, of(*user, generation), name);
        let job = listings.next_job().expect("the reserve has room");
        assert_eq!(listings.running[&job.id].user, Some(*user));
        alive.push(make(&mut listings, &job, 1024 * 1024));
        request(&mut listings, of(*user, generation), "second");
        assert!(
            listings.next_job().is_none(),
            "the reserve is for the first"
        );
    }
    alive.drain(..alive.len() - 1);
    listings.sweep(Instant::now() + LISTING_CACHE_AGE_MAX);
    assert!(listings.next_job().is_some(), "there is memory again");
}

#[test]
fn listings_stay_within_memory_and_requests_time_out() {
    let users = users();
    let (mut listings, mut alive) = (Listings::default(), Vec::new());
    for (generation, user) in (0..).zip(&users) {
        for name in ["one", "two", "three"] {
            let name = format!("{name} of {generation}");
            request(&mut listings, of(*user, generation), &name);
        }
        while let Some(job) = listings.next_job() {
            alive.push(make(&mut listings, &job, LISTING_BYTES_MAX));
        }
    }
    let bytes = LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES;
    assert_eq!(alive.len(), bytes / LISTING_BYTES_MAX);
    let now = Instant::now();
    assert!(listings.pop_timed_out(now).is_none());
    let later = now + LISTING_QUEUE_TIMEOUT;
    let timed_out = std::iter::from_fn(|| listings.pop_timed_out(later));
    assert_eq!(timed_out.count(), 3 * users.len() - alive.len());
    assert!(listings.queue.is_empty() && listings.waiting.is_empty());
}

#[test]
fn listings_that_show_rights_are_not_shared() {
    let is_shared = |format| {
        let key = |generation| Key::new(&directory("one"), format, session_id(generation), 0);
        key(1) == key(2)
    };
    assert!(is_shared(ListingFormat::Names));
    assert!(is_shared(ListingFormat::Details));
    assert!(is_shared(ListingFormat::Lines));
    assert!(!is_shared(ListingFormat::Long));
}

fn request(listings: &mut Listings, session_id: SessionId, name: &str) {
    let target = directory(name);
    let key = Key::new(&target, ListingFormat::Names, session_id, listings.changes);
    listings.request(session_id, target, key, Instant::now());
}

fn fail(listings: &mut Listings, job: &ListingJob) -> Vec<SessionId> {
    let failed = Err(ErrorCode::DirectoryUnreadable.into());
    listings.finish(job.id, failed, Instant::now()).waiting
}

/// Completes a job with a listing of this size.
fn make(listings: &mut Listings, job: &ListingJob, bytes: usize) -> Arc<Listing> {
    let listing = Listing {
        text: vec![0; bytes],
        entries: 0,
        status: None,
        fault: None,
    };
    let listed = listings.finish(job.id, Ok(listing), Instant::now());
    listed.result.unwrap()
}

fn users() -> Vec<UserKey> {
    let mut users = UserSessions::default();
    let keys = ["a", "b", "c", "d"].map(|name| users.acquire(name, None));
    keys.into_iter().flatten().collect()
}

fn of(user: UserKey, generation: u64) -> SessionId {
    SessionId {
        user: Some(user),
        ..session_id(generation)
    }
}

fn directory(name: &str) -> ListingTarget {
    let rights = Rights {
        read: true,
        ..Rights::default()
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

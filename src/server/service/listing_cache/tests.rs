use std::path::Path;

use super::*;
use crate::domain::access::{Grant, Rights};
use crate::domain::path::GrantedPath;
use crate::kernel::Status;
use crate::kernel::linux::Linux;
use crate::server::policy::sessions::UserSessions;
use crate::server::session_id::UserKey;

#[test]
fn the_last_session_that_leaves_cancels_a_listing() {
    let mut listings = Listings::default();
    request(&mut listings, session_id(1), "one");
    request(&mut listings, session_id(2), "one");
    request(&mut listings, session_id(3), "two");
    let one = listings.next_job().unwrap().1;
    assert_eq!(listings.cancel(session_id(1)), None);
    assert_eq!(listings.cancel(session_id(2)), Some(one.id));
    assert_eq!(listings.cancel(session_id(3)), None, "it is queued");
    assert!(listings.next_job().is_none());
    request(&mut listings, session_id(4), "one");
    let again = listings.next_job().unwrap().1;
    assert_eq!(fail(&mut listings, one), []);
    assert_eq!(fail(&mut listings, again), [session_id(4)]);
    assert_idle(&mut listings);
}

#[test]
fn a_request_after_a_change_gets_a_new_listing() {
    let mut listings = Listings::default();
    request(&mut listings, session_id(1), "one");
    let before = listings.next_job().unwrap().1;
    listings.invalidate();
    request(&mut listings, session_id(2), "one");
    let after = listings.next_job().unwrap().1;
    assert_eq!(fail(&mut listings, after), [session_id(2)]);
    let status = Linux::new().unwrap().status_by_path(Path::new("/")).ok();
    let id = before.id;
    let old = listing(before, 0, status);
    let listed = listings.finish(id, Ok(old), Instant::now()).unwrap();
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
        if let Some((_, job)) = listings.next_job() {
            alive.push(make(&mut listings, job, 1024 * 1024));
        }
    }
    assert_eq!(alive.len(), LISTINGS_BYTES_MAX / (1024 * 1024));
    for (generation, user) in (200..).zip(&users[1..]) {
        // The second user asks for a listing that the first one waits for.
        let name = if generation == 201 { "90" } else { "others" };
        request(&mut listings, of(*user, generation), name);
        let (charged, job) = listings.next_job().expect("the reserve has room");
        assert_eq!(charged, Some(*user));
        alive.push(make(&mut listings, job, 1024 * 1024));
        request(&mut listings, of(*user, generation + 100), "second");
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
fn listings_in_progress_keep_no_other_waiting() {
    let mut users = UserSessions::default();
    let mut listings = Listings::default();
    let mut jobs = Vec::new();
    for generation in 0..100 {
        let user = users.acquire(&generation.to_string(), None).unwrap();
        request(&mut listings, of(user, generation), &generation.to_string());
        jobs.push(listings.next_job().expect("a slow listing takes little"));
    }
}

#[test]
fn a_long_listing_is_made_when_the_longest_fits() {
    let users = users();
    let (mut listings, mut alive) = (Listings::default(), Vec::new());
    for (generation, user) in (0..).zip(&users) {
        request(
            &mut listings,
            of(*user, generation),
            &generation.to_string(),
        );
    }
    let jobs: Vec<_> = std::iter::from_fn(|| listings.next_job()).collect();
    assert_eq!(jobs.len(), users.len());
    for (_, ListingJob { id, .. }) in jobs {
        let result = Err(ListingError::OutOfMemory);
        assert!(listings.finish(id, result, Instant::now()).is_none());
    }
    while let Some((_, job)) = listings.next_job() {
        alive.push(make(&mut listings, job, LISTING_BYTES_MAX));
    }
    let bytes = LISTINGS_BYTES_MAX + LISTINGS_RESERVE_BYTES;
    assert_eq!(alive.len(), bytes / LISTING_BYTES_MAX);
    let now = Instant::now();
    assert!(listings.pop_timed_out(now).is_none());
    let later = now + LISTING_QUEUE_TIMEOUT;
    let timed_out = std::iter::from_fn(|| listings.pop_timed_out(later));
    assert_eq!(timed_out.count(), users.len() - alive.len());
    drop(alive);
    assert_idle(&mut listings);
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

#[test]
fn listings_with_hidden_names_are_not_shared() {
    let key = |hidden| {
        let ListingTarget::Directory(mut path) = directory("one") else {
            unreachable!()
        };
        Arc::get_mut(&mut path.grant).unwrap().rights.hidden = hidden;
        let target = ListingTarget::Directory(path);
        Key::new(&target, ListingFormat::Names, session_id(1), 0)
    };
    assert!(key(true) != key(false));
    assert!(key(true) == key(true));
}

fn request(listings: &mut Listings, session_id: SessionId, name: &str) {
    let target = directory(name);
    let key = Key::new(&target, ListingFormat::Names, session_id, listings.changes);
    listings.request(session_id, target, key, Instant::now());
}

fn fail(listings: &mut Listings, job: ListingJob) -> Vec<SessionId> {
    let failed = StorageError::from(ErrorCode::DirectoryUnreadable).into();
    let listed = listings.finish(job.id, Err(failed), Instant::now());
    listed.map_or_else(Vec::new, |listed| listed.waiting)
}

/// Completes a job with a listing of this size.
fn make(listings: &mut Listings, job: ListingJob, bytes: usize) -> Arc<Listing> {
    let id = job.id;
    let listing = listing(job, bytes, None);
    let listed = listings.finish(id, Ok(listing), Instant::now());
    listed.unwrap().result.unwrap()
}

fn listing(mut job: ListingJob, bytes: usize, status: Option<Status>) -> Listing {
    job.charge.set(bytes);
    Listing {
        text: vec![0; bytes],
        entries: 0,
        status,
        fault: None,
        _charge: job.charge,
    }
}

fn assert_idle(listings: &mut Listings) {
    assert!(listings.next_job().is_none());
    assert!(listings.pending.is_empty() && listings.queued.is_empty());
    assert!(listings.by_key.is_empty() && listings.by_session.is_empty());
    assert!(listings.queues.iter().all(ListingQueue::is_empty));
    assert_eq!(listings.memory.bytes(), 0);
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

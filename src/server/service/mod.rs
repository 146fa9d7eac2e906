//! What each request of a session means: asks the home, the open_files and the workers, and logs what the operator should
//! know.
//!
//! Must not know: sockets, buffers, the dialects' words.

pub(crate) mod auth;
pub(crate) mod completions;
pub(crate) mod listing_cache;
pub(crate) mod quotas;
pub(crate) mod rates;
pub(crate) mod reload;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, warn};

use crate::auth::verified_cache::{PasswordTag, VerifiedCache};
use crate::config::Home;
use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::domain::path::GrantedPath;
use crate::domain::request::{Request, Response};
use crate::kernel::Kernel;
use crate::server::conn::transfer::{OpenHandle, UncachedRange};
use crate::server::event_loop::data_sessions::DataSessions;
use crate::server::log::escape::Escaped;
use crate::server::log::transfer_log::{Direction, TransferRecord};
use crate::server::options::Options;
use crate::server::policy::login_throttle::LoginThrottle;
use crate::server::policy::rate_limit::TokenBucket;
use crate::server::policy::sessions::UserSessions;
use crate::server::service::listing_cache::Listings;
use crate::server::session_id::SessionId;
use crate::server::workers::checksum::{Checksum, Hasher};
use crate::server::workers::listing::Listing;
use crate::server::workers::{Done, Job, Workers};
use crate::storage;
use crate::storage::{
    FileFault, Modification, OpenFileCache, OrphanSweep, PendingModification, QuotaLedger,
    StagedUpload, StorageError,
};

/// What a connection gets back for a request, at once or later.
pub(crate) enum Completion<K: Kernel> {
    /// The answer, and what it opened.
    Response(Response, OpenHandle<K>),
    /// What came of the commit of an upload file, or of a transfer over a data connection.
    TransferDone(Result<(), ErrorCode>),
    /// Where the client is awaited for a data connection.
    Listening(Result<SocketAddr, ErrorCode>),
    /// What came of making a data connection.
    Connected(Result<(), ErrorCode>),
    /// The stretch that was cold is in memory.
    Warm(io::Result<()>),
}

/// The services: everything that a session may ask for.
pub(crate) struct Services<K: Kernel> {
    kernel: Arc<K>,
    options: Options,
    home: Arc<Home>,
    open_files: OpenFileCache<K>,
    workers: Workers<K>,
    /// Read once a turn.
    now: Instant,
    /// No new work is taken.
    draining: bool,
    accesses: HashMap<String, Arc<Access>>,
    proved: VerifiedCache,
    users: UserSessions,
    /// What bounds the rate of all together.
    rate: TokenBucket,
    /// Those who have waited for their rate go on.
    releasing: bool,
    /// Who waits for each login that is being proved: equal ones are proved once.
    logins: HashMap<PasswordTag, Vec<SessionId>>,
    listings: Listings,
    failures: LoginThrottle,
    /// Answers to failed logins, by when they are due; a session has one at most.
    held_back: BTreeMap<(Instant, u64), (SessionId, Completion<K>)>,
    pub(crate) data_sessions: DataSessions<K>,
    /// Results on their way to their connections.
    replies: VecDeque<(SessionId, Completion<K>)>,
    /// What directories hold that somebody has a quota in.
    ledger: Arc<QuotaLedger>,
    /// When they were last counted.
    counted_at: Instant,
    /// Requests that wait for the first count.
    uncounted: Vec<(SessionId, Request)>,
    /// A worker is at a reload.
    reloading: bool,
    /// Another one was asked for meanwhile.
    reload_again: bool,
    /// Users whose logins a reload revoked; their sessions have not been updated yet.
    revoked: Option<HashSet<String>>,
    done: Vec<Done<K>>,
}

impl<K: Kernel> Services<K> {
    pub(crate) fn new(
        kernel: Arc<K>,
        home: Home,
        workers: Workers<K>,
        options: Options,
    ) -> Services<K> {
        let now = kernel.now();
        let mut services = Services {
            open_files: OpenFileCache::new(kernel.clone()),
            kernel,
            home: Arc::new(home),
            workers,
            now,
            draining: false,
            accesses: HashMap::new(),
            proved: VerifiedCache::new(),
            users: UserSessions::default(),
            rate: TokenBucket::new(options.max_rate, now),
            releasing: false,
            logins: HashMap::new(),
            listings: Listings::default(),
            failures: LoginThrottle::new(options.max_failures, options.failure_window),
            held_back: BTreeMap::new(),
            replies: VecDeque::new(),
            ledger: Arc::default(),
            counted_at: now,
            uncounted: Vec::new(),
            data_sessions: DataSessions::new(),
            reloading: false,
            reload_again: false,
            revoked: None,
            done: Vec::new(),
            options,
        };
        services.take_up_quotas();
        services
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.open_files.begin_tick();
    }

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// From now on who awaits a line is told that the server stops.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) fn kernel(&self) -> &K {
        &self.kernel
    }

    pub(crate) fn workers(&self) -> &Workers<K> {
        &self.workers
    }

    /// Answers now, or `None`: the reply comes by [`Services::next_reply`] under this session_id.
    pub(crate) fn ask(&mut self, session_id: SessionId, request: Request) -> Option<Completion<K>> {
        match request {
            Request::LookUpUser { user } => self.account(session_id, &user),
            Request::Authenticate {
                user,
                password,
                conceal_user,
            } => self.verify(session_id, user, password, conceal_user),
            Request::List { target, format } => self.list(session_id, target, format),
            Request::OpenRead { path: place } => {
                Some(match self.open_files.open(&place, self.now) {
                    Ok(file) => {
                        let length = file.length();
                        debug!(
                            "session={} event=open path={} length={length}",
                            session_id.generation,
                            shown(&place)
                        );
                        Completion::Response(Response::Opened { length }, OpenHandle::File(file))
                    }
                    Err(refused) => self.refused(session_id, refused),
                })
            }
            Request::CheckUpload { path: place } => {
                let judged = storage::check_upload(&*self.kernel, &place);
                Some(self.plain(session_id, judged, Response::Allowed))
            }
            Request::CheckSpace { grant, length } => {
                let room = self.room(session_id, grant.as_deref(), length);
                Some(self.plain(session_id, room, Response::Allowed))
            }
            Request::Create {
                path: place,
                length,
                base,
            } => self.create(session_id, place, length, base),
            Request::CreateUnique { directory } => self.create_unique(session_id, directory),
            Request::Quota => self.quota(session_id),
            Request::MakeDirectory { path: place } => {
                self.later(Job::MakeDirectory { session_id, place })
            }
            Request::Checksum {
                path: place,
                algorithm,
                start,
                end,
            } => match self.open_files.open(&place, self.now) {
                Ok(file) if start.max(end.unwrap_or(0)) > file.length() => {
                    Some(self.refused(session_id, ErrorCode::OffsetBeyondEnd.into()))
                }
                Ok(file) => self.later(Job::Checksum(Checksum {
                    session_id,
                    file,
                    path: place.grant.path.join(&place.relative),
                    offset: start,
                    end,
                    hasher: Hasher::new(algorithm),
                })),
                Err(refused) => Some(self.refused(session_id, refused)),
            },
            Request::Status { path: place } => {
                let found = storage::file_status(&*self.kernel, &place);
                Some(self.told(session_id, found, Response::Status))
            }
            Request::Space { path: place } => {
                let left = self.left(session_id, &place.grant);
                let space = storage::free_space(&*self.kernel, &place).map(|space| space.min(left));
                Some(self.told(session_id, space, Response::Space))
            }
            Request::Rename { from, to } => {
                self.change(session_id, Modification::Rename { from, to })
            }
            Request::Remove { path: place } => self.change(session_id, Modification::Remove(place)),
            Request::RemoveDirectory { path: place } => {
                self.change(session_id, Modification::RemoveDirectory(place))
            }
            Request::SetModified {
                path: place,
                modified,
            } => self.change(session_id, Modification::SetModified(place, modified)),
            Request::Progress => {
                let moved = self
                    .data_sessions
                    .get(session_id)
                    .map_or(0, |channel| channel.moved);
                Some(Completion::Response(
                    Response::Progress(moved),
                    OpenHandle::Nothing,
                ))
            }
        }
    }

    /// Makes an upload file durable and publishes it; the reply is [`Completion::TransferDone`].
    pub(crate) fn commit(
        &mut self,
        session_id: SessionId,
        upload: Box<StagedUpload<K>>,
        record: Option<Box<TransferRecord>>,
    ) {
        self.workers.submit(Job::Commit {
            session_id,
            upload,
            record,
        });
    }

    /// A record of a transfer of this user's that begins, where transfers are logged.
    pub(crate) fn record(
        &self,
        session_id: SessionId,
        path: &Path,
        direction: Direction,
    ) -> Option<Box<TransferRecord>> {
        let log = self.options.xferlog.clone()?;
        let user = session_id.user.map_or("", |user| self.users.name(user));
        Some(TransferRecord::begin(
            log,
            session_id.peer.ip(),
            user,
            path,
            direction,
        ))
    }

    /// Lets a worker wait for the disk; the reply is [`Completion::Warm`].
    pub(crate) fn warm_up(&mut self, session_id: SessionId, cold: UncachedRange<K>) {
        self.workers.submit(Job::WarmUp { session_id, cold });
    }

    /// Lets go of an unfinished upload.
    pub(crate) fn abandon(&mut self, upload: Box<StagedUpload<K>>) {
        self.workers.submit(Job::Abandon(upload));
    }

    /// A connection has ended while it waited for the disk.
    pub(crate) fn forget_cold(&mut self, session_id: SessionId) {
        self.workers.cancel_warm_up(session_id);
    }

    /// A connection has ended with a request open: what nobody waits for any more is not done.
    pub(crate) fn forget(&mut self, session_id: SessionId) {
        let mut unwanted = Vec::new();
        self.logins.retain(|tag, waiting| {
            waiting.retain(|other| *other != session_id);
            if waiting.is_empty() {
                unwanted.push(*tag);
            }
            !waiting.is_empty()
        });
        self.listings.forget(session_id);
        self.uncounted.retain(|(other, _)| *other != session_id);
        if !unwanted.is_empty() {
            self.workers
                .cancel_logins(|proof| unwanted.contains(&proof.tag));
        }
        self.workers.cancel(|job| match job {
            Job::Create {
                session_id: owner, ..
            }
            | Job::CreateUnique {
                session_id: owner, ..
            }
            | Job::MakeDirectory {
                session_id: owner, ..
            }
            | Job::Change {
                session_id: owner, ..
            } => *owner == session_id,
            Job::Checksum(checksum) => checksum.session_id == session_id,
            // A listing is of use to the next who asks, an upload that came whole is published, and of one that is being
            // filled the loop lets go when it comes back.
            Job::List(_) | Job::Commit { .. } | Job::Fill { .. } | Job::Verify(_) => false,
            // Who waits for the disk has no request open.
            Job::WarmUp { .. } => false,
            Job::Abandon(_) | Job::SweepLeftovers(_) | Job::Count(_) | Job::Reload(_) => false,
        });
    }

    /// Looks after what the workers have done: the replies, and the users whose login a reload has kept.
    pub(crate) fn collect(&mut self, is_waiting: impl Fn(SessionId) -> bool) {
        let mut done = std::mem::take(&mut self.done);
        self.workers.collect(&mut done);
        for done in done.drain(..) {
            self.finish(done, &is_waiting);
        }
        self.done = done;
        self.start_listings();
        while let Some(first) = self.held_back.first_entry()
            && first.key().0 <= self.now
        {
            self.replies.push_back(first.remove());
        }
    }

    /// When the next reply is due, or a wish to be seen to.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.replies.is_empty() && !self.data_sessions.has_wishes() {
            true => self.held_back.first_key_value().map(|((due, _), _)| *due),
            false => Some(self.now),
        }
    }

    /// The next reply that has come, for the connection that still holds its session_id.
    pub(crate) fn next_reply(&mut self) -> Option<(SessionId, Completion<K>)> {
        self.replies.pop_front()
    }

    /// The reply that is on its way to a connection, if one is.
    pub(crate) fn pending(&mut self, session_id: SessionId) -> Option<&mut Completion<K>> {
        let mut replies = self.replies.iter_mut();
        let (_, reply) = replies.find(|(other, _)| *other == session_id)?;
        Some(reply)
    }

    /// Lets a connection know something in its turn.
    pub(crate) fn reply(&mut self, session_id: SessionId, reply: Completion<K>) {
        self.replies.push_back((session_id, reply));
    }

    /// Removes, beside the service, what a crash left of uploads. Where nobody may upload now somebody may have been
    /// allowed to then, so that every granted directory is looked through.
    pub(crate) fn sweep_leftovers(&mut self) {
        for root in self.home.granted_paths() {
            self.workers
                .submit(Job::SweepLeftovers(OrphanSweep::new(&root)));
        }
    }

    /// Lets go of what has aged.
    pub(crate) fn sweep(&mut self) {
        self.open_files.evict_expired(self.now);
        self.listings.sweep(self.now);
        self.start_listings();
        self.give_up_listings();
    }

    fn later(&mut self, job: Job<K>) -> Option<Completion<K>> {
        self.workers.submit(job);
        None
    }

    fn change(&mut self, session_id: SessionId, change: Modification) -> Option<Completion<K>> {
        let claim = match self.claim_for(session_id, &change) {
            Ok(claim) => claim,
            Err(request) => {
                self.uncounted.push((session_id, request));
                return None;
            }
        };
        let changing = Box::new(PendingModification::new(change, claim));
        self.later(Job::Change {
            session_id,
            changing,
        })
    }

    fn list(
        &mut self,
        session_id: SessionId,
        what: ListingTarget,
        form: ListingFormat,
    ) -> Option<Completion<K>> {
        let fresh = (self.listings).fresh(&*self.kernel, session_id, &what, form, self.now);
        if let Some(listing) = fresh {
            return Some(listed(listing));
        }
        if self.listings.wait(session_id, what, form, self.now) {
            self.start_listings();
        }
        None
    }

    /// Starts the listings that there is room for.
    fn start_listings(&mut self) {
        while let Some(asked) = self.listings.next_to_start() {
            self.workers.submit(Job::List(asked));
        }
    }

    /// Lets go of open files that nobody downloads: for who has run out of descriptors.
    pub(crate) fn release_unused(&mut self) {
        self.open_files.evict_unused();
    }

    /// Refuses what is over the operator's limit.
    fn within_size(&self, length: u64) -> Result<(), StorageError> {
        match self.options.max_upload {
            Some(max) if length > max => Err(StorageError::from(ErrorCode::TooLarge)),
            _ => Ok(()),
        }
    }

    fn plain(
        &mut self,
        session_id: SessionId,
        result: Result<(), StorageError>,
        answer: Response,
    ) -> Completion<K> {
        self.told(session_id, result, |()| answer)
    }

    fn told<T>(
        &mut self,
        session_id: SessionId,
        result: Result<T, StorageError>,
        answer: impl FnOnce(T) -> Response,
    ) -> Completion<K> {
        match result {
            Ok(found) => Completion::Response(answer(found), OpenHandle::Nothing),
            Err(refused) => self.refused(session_id, refused),
        }
    }

    fn refused(&mut self, session_id: SessionId, refused: StorageError) -> Completion<K> {
        let refusal = self.log_refused(session_id, refused);
        Completion::Response(Response::Refused(refusal), OpenHandle::Nothing)
    }

    /// Logs why sending failed, where it is not the client that left.
    pub(crate) fn log_broken(&self, session_id: SessionId, error: &io::Error) {
        error!(
            "session={} event=fault what={}",
            session_id.generation,
            Escaped(&error.to_string())
        );
    }

    /// Logs that the services refused, where the operator should know. Only while the session is there: its user is looked up.
    pub(crate) fn log_refused(
        &mut self,
        session_id: SessionId,
        refused: StorageError,
    ) -> ErrorCode {
        if refused.code == ErrorCode::OverQuota {
            let user = Escaped(session_id.user.map_or("", |user| self.users.name(user)));
            let (generation, peer) = (session_id.generation, session_id.peer);
            warn!("session={generation} event=refused limit=quota user={user} from={peer}");
        }
        self.log_fault(session_id, refused)
    }

    /// Logs why the services refused, where it is at fault itself.
    fn log_fault(&mut self, session_id: SessionId, refused: StorageError) -> ErrorCode {
        if let Some(fault) = &refused.fault {
            self.log(session_id, fault);
        }
        refused.code
    }

    /// Logs a fault. Where descriptors are what was missing, files that nobody downloads give theirs to who asks next.
    fn log(&mut self, session_id: SessionId, fault: &FileFault) {
        if fault.is_out_of_descriptors() {
            self.release_unused();
        }
        let fault = fault.to_string();
        error!(
            "session={} event=fault what={}",
            session_id.generation,
            Escaped(&fault)
        );
    }
}

fn listed<K: Kernel>(listing: Arc<Listing>) -> Completion<K> {
    let answer = Response::Listing {
        length: listing.text.len() as u64,
        entries: listing.entries,
    };
    Completion::Response(answer, OpenHandle::Text(listing))
}

/// A place as the log shows it.
fn shown(place: &GrantedPath) -> String {
    let path = match place.relative.as_str() {
        "" => place.grant.name.clone(),
        below => format!("{}/{below}", place.grant.name),
    };
    Escaped(&path).to_string()
}

//! What each request of a session means: asks the home, the vault and the workers, and logs what the operator should
//! know.
//!
//! Must not know: sockets, buffers, the dialects' words.

pub(crate) mod auth;
pub(crate) mod completions;
pub(crate) mod listing_cache;
pub(crate) mod quotas;
pub(crate) mod rates;
pub(crate) mod reload;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use log::{debug, error, warn};

use crate::auth::password::{Proved, Tag};
use crate::config::{Access, Home};
use crate::kernel::Kernel;
use crate::protocol::{Answer, Form, Listed, Place, Refusal, Request};
use crate::server::conn::transfer::{Cold, Held};
use crate::server::event_loop::data_sessions::Channels;
use crate::server::log::Escaped;
use crate::server::log::transfer_log::{Direction, Record};
use crate::server::policy::login_throttle::Failures;
use crate::server::policy::rate_limit::Bucket;
use crate::server::policy::sessions::Users;
use crate::server::service::listing_cache::Listings;
use crate::server::workers::checksum::{Checksum, Hasher};
use crate::server::workers::{Done, Job, Workers};
use crate::server::{Options, Ticket};
use crate::storage;
use crate::storage::{
    Change, Changing, Fault, Incoming, Ledger, Leftovers, Listing, Refused, Vault,
};

/// What a connection gets back for a request, at once or later.
pub(crate) enum Reply<K: Kernel> {
    /// The answer, and what it opened.
    Answer(Answer, Held<K>),
    /// What came of the commit of an incoming file, or of a transfer over a data connection.
    Moved(Result<(), Refusal>),
    /// Where the client is awaited for a data connection.
    Listening(Result<SocketAddr, Refusal>),
    /// What came of making a data connection.
    Connected(Result<(), Refusal>),
    /// The stretch that was cold is in memory.
    Warm(io::Result<()>),
}

/// The house: everything that a session may ask for.
pub(crate) struct House<K: Kernel> {
    kernel: Arc<K>,
    options: Options,
    home: Arc<Home>,
    vault: Vault<K>,
    workers: Workers<K>,
    /// Read once a turn.
    now: Instant,
    /// No new work is taken.
    draining: bool,
    accesses: HashMap<String, Arc<Access>>,
    proved: Proved,
    users: Users,
    /// What bounds the rate of all together.
    rate: Bucket,
    /// Those who have waited for their rate go on.
    releasing: bool,
    /// Who waits for each login that is being proved: equal ones are proved once.
    logins: HashMap<Tag, Vec<Ticket>>,
    listings: Listings,
    failures: Failures,
    /// Answers to failed logins, by when they are due; a session has one at most.
    held_back: BTreeMap<(Instant, u64), (Ticket, Reply<K>)>,
    pub(crate) channels: Channels<K>,
    /// Results on their way to their connections.
    replies: VecDeque<(Ticket, Reply<K>)>,
    /// What directories hold that somebody has a quota in.
    ledger: Arc<Ledger>,
    /// When they were last counted.
    counted_at: Instant,
    /// Requests that wait for the first count.
    uncounted: Vec<(Ticket, Request)>,
    /// A worker is at a reload.
    reloading: bool,
    /// Another one was asked for meanwhile.
    reload_again: bool,
    /// A reload that has been done and not told to the sessions yet.
    reloaded: Option<Vec<String>>,
    done: Vec<Done<K>>,
}

impl<K: Kernel> House<K> {
    pub(crate) fn new(
        kernel: Arc<K>,
        home: Home,
        workers: Workers<K>,
        options: Options,
    ) -> House<K> {
        let now = kernel.now();
        let mut house = House {
            vault: Vault::new(kernel.clone()),
            kernel,
            home: Arc::new(home),
            workers,
            now,
            draining: false,
            accesses: HashMap::new(),
            proved: Proved::new(),
            users: Users::default(),
            rate: Bucket::new(options.max_rate, now),
            releasing: false,
            logins: HashMap::new(),
            listings: Listings::default(),
            failures: Failures::new(options.max_failures, options.failure_window),
            held_back: BTreeMap::new(),
            replies: VecDeque::new(),
            ledger: Arc::default(),
            counted_at: now,
            uncounted: Vec::new(),
            channels: Channels::new(),
            reloading: false,
            reload_again: false,
            reloaded: None,
            done: Vec::new(),
            options,
        };
        house.take_up_quotas();
        house
    }

    pub(crate) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
        self.vault.begin_turn();
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

    /// Answers now, or `None`: the reply comes by [`House::next_reply`] under this ticket.
    pub(crate) fn ask(&mut self, ticket: Ticket, request: Request) -> Option<Reply<K>> {
        match request {
            Request::Account { user } => self.account(ticket, &user),
            Request::Verify {
                user,
                password,
                conceal,
            } => self.verify(ticket, user, password, conceal),
            Request::List { listed, form } => self.list(ticket, listed, form),
            Request::OpenRead { place } => Some(match self.vault.open_read(&place, self.now) {
                Ok(file) => {
                    let length = file.length();
                    debug!(
                        "session={} event=open path={} length={length}",
                        ticket.serial,
                        shown(&place)
                    );
                    Reply::Answer(Answer::Opened { length }, Held::File(file))
                }
                Err(refused) => self.refused(ticket, refused),
            }),
            Request::Judge { place } => {
                let judged = storage::judge(&*self.kernel, &place);
                Some(self.plain(ticket, judged, Answer::Free))
            }
            Request::Room { grant, length } => {
                let room = self.room(ticket, grant.as_deref(), length);
                Some(self.plain(ticket, room, Answer::Free))
            }
            Request::Create {
                place,
                length,
                base,
            } => self.create(ticket, place, length, base),
            Request::CreateUnique { directory } => self.create_unique(ticket, directory),
            Request::Quota => self.quota(ticket),
            Request::MakeDirectory { place } => self.later(Job::MakeDirectory { ticket, place }),
            Request::Checksum {
                place,
                algorithm,
                from,
                end,
            } => match self.vault.open_read(&place, self.now) {
                Ok(file) if from.max(end.unwrap_or(0)) > file.length() => {
                    Some(self.refused(ticket, Refusal::BeyondEnd.into()))
                }
                Ok(file) => self.later(Job::Checksum(Checksum {
                    ticket,
                    file,
                    path: place.grant.path.join(&place.below),
                    offset: from,
                    end,
                    hasher: Hasher::new(algorithm),
                })),
                Err(refused) => Some(self.refused(ticket, refused)),
            },
            Request::Status { place } => {
                let found = storage::status(&*self.kernel, &place);
                Some(self.told(ticket, found, Answer::Found))
            }
            Request::Space { place } => {
                let left = self.left(ticket, &place.grant);
                let space = storage::space(&*self.kernel, &place).map(|space| space.min(left));
                Some(self.told(ticket, space, Answer::Space))
            }
            Request::Rename { from, to } => self.change(ticket, Change::Rename { from, to }),
            Request::Remove { place } => self.change(ticket, Change::Remove(place)),
            Request::RemoveDirectory { place } => {
                self.change(ticket, Change::RemoveDirectory(place))
            }
            Request::SetModified { place, modified } => {
                self.change(ticket, Change::SetModified(place, modified))
            }
            Request::Progress => {
                let moved = self.channels.get(ticket).map_or(0, |channel| channel.moved);
                Some(Reply::Answer(Answer::Progress(moved), Held::Nothing))
            }
        }
    }

    /// Makes an incoming file durable and publishes it; the reply is [`Reply::Moved`].
    pub(crate) fn commit(
        &mut self,
        ticket: Ticket,
        incoming: Box<Incoming<K>>,
        record: Option<Box<Record>>,
    ) {
        self.workers.submit(Job::Commit {
            ticket,
            incoming,
            record,
        });
    }

    /// A record of a transfer of this user's that begins, where transfers are logged.
    pub(crate) fn record(
        &self,
        ticket: Ticket,
        path: &Path,
        direction: Direction,
    ) -> Option<Box<Record>> {
        let log = self.options.xferlog.clone()?;
        let user = ticket.user.map_or("", |user| self.users.name(user));
        Some(Record::begin(log, ticket.peer.ip(), user, path, direction))
    }

    /// Lets a worker wait for the disk; the reply is [`Reply::Warm`].
    pub(crate) fn warm_up(&mut self, ticket: Ticket, cold: Cold<K>) {
        self.workers.submit(Job::WarmUp { ticket, cold });
    }

    /// Lets go of an unfinished upload.
    pub(crate) fn abandon(&mut self, incoming: Box<Incoming<K>>) {
        self.workers.submit(Job::Abandon(incoming));
    }

    /// A connection has ended while it waited for the disk.
    pub(crate) fn forget_cold(&mut self, ticket: Ticket) {
        self.workers.cancel_warm_up(ticket);
    }

    /// A connection has ended with a request open: what nobody waits for any more is not done.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        let mut unwanted = Vec::new();
        self.logins.retain(|tag, waiting| {
            waiting.retain(|other| *other != ticket);
            if waiting.is_empty() {
                unwanted.push(*tag);
            }
            !waiting.is_empty()
        });
        self.listings.forget(ticket);
        self.uncounted.retain(|(other, _)| *other != ticket);
        if !unwanted.is_empty() {
            self.workers
                .cancel_logins(|proof| unwanted.contains(&proof.tag));
        }
        self.workers.cancel(|job| match job {
            Job::Create { ticket: owner, .. }
            | Job::CreateUnique { ticket: owner, .. }
            | Job::MakeDirectory { ticket: owner, .. }
            | Job::Change { ticket: owner, .. } => *owner == ticket,
            Job::Checksum(checksum) => checksum.ticket == ticket,
            // A listing is of use to the next who asks, an upload that came whole is published, and of one that is being
            // filled the loop lets go when it comes back.
            Job::List(_) | Job::Commit { .. } | Job::Fill { .. } | Job::Verify(_) => false,
            // Who waits for the disk has no request open.
            Job::WarmUp { .. } => false,
            Job::Abandon(_) | Job::SweepLeftovers(_) | Job::Count(_) | Job::Reload(_) => false,
        });
    }

    /// Looks after what the workers have done: the replies, and the users whose login a reload has kept.
    pub(crate) fn collect(&mut self, is_waiting: impl Fn(Ticket) -> bool) {
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
        match self.replies.is_empty() && !self.channels.has_wishes() {
            true => self.held_back.first_key_value().map(|((due, _), _)| *due),
            false => Some(self.now),
        }
    }

    /// The next reply that has come, for the connection that still holds its ticket.
    pub(crate) fn next_reply(&mut self) -> Option<(Ticket, Reply<K>)> {
        self.replies.pop_front()
    }

    /// The reply that is on its way to a connection, if one is.
    pub(crate) fn pending(&mut self, ticket: Ticket) -> Option<&mut Reply<K>> {
        let mut replies = self.replies.iter_mut();
        let (_, reply) = replies.find(|(other, _)| *other == ticket)?;
        Some(reply)
    }

    /// Lets a connection know something in its turn.
    pub(crate) fn reply(&mut self, ticket: Ticket, reply: Reply<K>) {
        self.replies.push_back((ticket, reply));
    }

    /// Removes, beside the service, what a crash left of uploads. Where nobody may upload now somebody may have been
    /// allowed to then, so that every granted directory is looked through.
    pub(crate) fn sweep_leftovers(&mut self) {
        for root in self.home.granted_paths() {
            self.workers
                .submit(Job::SweepLeftovers(Leftovers::new(&root)));
        }
    }

    /// Lets go of what has aged.
    pub(crate) fn sweep(&mut self) {
        self.vault.sweep(self.now);
        self.listings.sweep(self.now);
        self.start_listings();
        self.give_up_listings();
    }

    fn later(&mut self, job: Job<K>) -> Option<Reply<K>> {
        self.workers.submit(job);
        None
    }

    fn change(&mut self, ticket: Ticket, change: Change) -> Option<Reply<K>> {
        let claim = match self.claim_for(ticket, &change) {
            Ok(claim) => claim,
            Err(request) => {
                self.uncounted.push((ticket, request));
                return None;
            }
        };
        let changing = Box::new(Changing::new(change, claim));
        self.later(Job::Change { ticket, changing })
    }

    fn list(&mut self, ticket: Ticket, what: Listed, form: Form) -> Option<Reply<K>> {
        let fresh = (self.listings).fresh(&*self.kernel, ticket, &what, form, self.now);
        if let Some(listing) = fresh {
            return Some(listed(listing));
        }
        if self.listings.wait(ticket, what, form, self.now) {
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
        self.vault.release_unused();
    }

    /// Refuses what is over the operator's limit.
    fn within_size(&self, length: u64) -> Result<(), Refused> {
        match self.options.max_upload {
            Some(max) if length > max => Err(Refused::from(Refusal::TooLarge)),
            _ => Ok(()),
        }
    }

    fn plain(&mut self, ticket: Ticket, result: Result<(), Refused>, answer: Answer) -> Reply<K> {
        self.told(ticket, result, |()| answer)
    }

    fn told<T>(
        &mut self,
        ticket: Ticket,
        result: Result<T, Refused>,
        answer: impl FnOnce(T) -> Answer,
    ) -> Reply<K> {
        match result {
            Ok(found) => Reply::Answer(answer(found), Held::Nothing),
            Err(refused) => self.refused(ticket, refused),
        }
    }

    fn refused(&mut self, ticket: Ticket, refused: Refused) -> Reply<K> {
        let refusal = self.log_refused(ticket, refused);
        Reply::Answer(Answer::Refused(refusal), Held::Nothing)
    }

    /// Logs why sending failed, where it is not the client that left.
    pub(crate) fn log_broken(&self, ticket: Ticket, error: &io::Error) {
        error!(
            "session={} event=fault what={}",
            ticket.serial,
            Escaped(&error.to_string())
        );
    }

    /// Logs that the house refused, where the operator should know. Only while the session is there: its user is looked up.
    pub(crate) fn log_refused(&mut self, ticket: Ticket, refused: Refused) -> Refusal {
        if refused.refusal == Refusal::OverQuota {
            let user = Escaped(ticket.user.map_or("", |user| self.users.name(user)));
            let (serial, peer) = (ticket.serial, ticket.peer);
            warn!("session={serial} event=refused limit=quota user={user} from={peer}");
        }
        self.log_fault(ticket, refused)
    }

    /// Logs why the house refused, where it is at fault itself.
    fn log_fault(&mut self, ticket: Ticket, refused: Refused) -> Refusal {
        if let Some(fault) = &refused.fault {
            self.log(ticket, fault);
        }
        refused.refusal
    }

    /// Logs a fault. Where descriptors are what was missing, files that nobody downloads give theirs to who asks next.
    fn log(&mut self, ticket: Ticket, fault: &Fault) {
        if fault.lacks_descriptors() {
            self.release_unused();
        }
        let fault = fault.to_string();
        error!(
            "session={} event=fault what={}",
            ticket.serial,
            Escaped(&fault)
        );
    }
}

fn listed<K: Kernel>(listing: Arc<Listing>) -> Reply<K> {
    let answer = Answer::Listing {
        length: listing.text.len() as u64,
        entries: listing.entries,
    };
    Reply::Answer(answer, Held::Text(listing))
}

/// A place as the log shows it.
fn shown(place: &Place) -> String {
    let path = match place.below.as_str() {
        "" => place.grant.name.clone(),
        below => format!("{}/{below}", place.grant.name),
    };
    Escaped(&path).to_string()
}

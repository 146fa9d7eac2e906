//! The services: the operations that sessions may request, and their state.
//!
//! [`Services`] routes each request to one part and delivers the results. The parts ([`Auth`],
//! [`Quotas`], [`Rates`], [`Listings`], [`OpenFiles`], [`Reloader`], [`Uploads`]) own their state
//! and do not know each other; values of other parts reach them as arguments.
//!
//! A new operation touches at most five places:
//!
//! 1. a variant of [`Request`], and of `Response` where none fits (`domain/request.rs`);
//! 2. an arm in the router of [`Services::handle`], backed by one part;
//! 3. if it may block, a variant of [`Task`] with its arm in `workers/job.rs`; jobs that only
//!    produce a response share [`JobResult::Response`];
//! 4. the command of each dialect that offers it;
//! 5. the reply of each dialect.

pub(crate) mod auth;
mod context;
mod delayed_responses;
mod error_log;
pub(crate) mod listing_cache;
mod listing_queue;
mod logged_names;
mod modifications;
pub(crate) mod open_files;
pub(crate) mod open_handle;
pub(crate) mod quotas;
pub(crate) mod rates;
pub(crate) mod reload;
pub(crate) mod response;
mod roots;
mod transfers;
pub(crate) mod uploads;
mod waiting_logins;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::config::Home;
use crate::config::reload::ReloadOutcome;
use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::request::Request;
use crate::kernel::Kernel;
use crate::server::log::transfer_log::TransferLog;
use crate::server::options::Options;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::service::auth::{Auth, LoginAttempt};
use crate::server::service::context::Context;
use crate::server::service::listing_cache::{Listed, Listings};
use crate::server::service::open_files::OpenFiles;
use crate::server::service::open_handle::OpenHandle;
use crate::server::service::quotas::{Quotas, UserQuota};
use crate::server::service::rates::Rates;
use crate::server::service::reload::Reloader;
use crate::server::service::response::{Completion, CompletionQueue, Handled};
use crate::server::service::roots::Roots;
use crate::server::service::transfers::Transfers;
use crate::server::service::uploads::Uploads;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::file_task::FileResult;
use crate::server::workers::job::{Job, JobResult, Lane, Success, Task};
use crate::server::workers::lanes::Workers;
use crate::server::workers::query::Query;
use crate::storage::{FileFault, Modification, OrphanSweep, StorageError};

/// The router of requests and results.
pub(crate) struct Services<K: Kernel> {
    context: Context<K>,
    is_draining: bool,
    transfer_log: Option<Arc<TransferLog>>,
    auth: Auth,
    quotas: Quotas,
    rates: Rates,
    listings: Listings,
    open_files: OpenFiles<K>,
    uploads: Uploads,
    reloader: Reloader,
    roots: Roots,
    completions: CompletionQueue<K>,
    /// Reused by every [`Services::collect`].
    results: Vec<JobResult<K>>,
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
            open_files: OpenFiles::new(kernel.clone(), &workers),
            context: Context {
                kernel,
                home: Arc::new(home),
                workers: workers.with_disk_timeout(options.disk_timeout),
                devices: Arc::default(),
                now,
            },
            is_draining: false,
            auth: Auth::new(&options),
            quotas: Quotas::new(now),
            rates: Rates::new(options.max_rate, now),
            listings: Listings::default(),
            uploads: Uploads::new(&options),
            reloader: Reloader::default(),
            roots: Roots::new(now),
            completions: CompletionQueue::new(),
            results: Vec::new(),
            transfer_log: options.xferlog,
        };
        services.roots.reload(&services.context);
        services.quotas.reload(&services.context);
        services
    }

    pub(crate) fn begin_tick(&mut self, now: Instant) {
        self.context.now = now;
        self.rates.begin_tick(now);
        self.open_files.begin_tick();
    }

    /// The time of the tick.
    pub(crate) fn now(&self) -> Instant {
        self.context.now
    }

    pub(crate) fn kernel(&self) -> &K {
        &self.context.kernel
    }

    pub(crate) fn workers(&self) -> &Workers<K> {
        &self.context.workers
    }

    /// Begins the graceful shutdown: sessions that wait for a line end.
    pub(crate) fn drain(&mut self) {
        self.is_draining = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Handles a request of a session.
    pub(crate) fn handle(&mut self, session_id: SessionId, request: Request) -> Handled<K> {
        let user = UserQuota::of(session_id, &request, &mut self.auth, &self.context.home);
        if !self.quotas.is_ready(&request, &user) {
            self.quotas.defer(session_id, request);
            return Handled::Later;
        }
        let result = self.route(session_id, request, &user);
        self.deliver_auth_responses();
        result.unwrap_or_else(|error| Handled::Now(self.refuse(session_id, error)))
    }

    fn route(
        &mut self,
        session_id: SessionId,
        request: Request,
        user: &UserQuota,
    ) -> Result<Handled<K>, StorageError> {
        let context = &self.context;
        Ok(match request {
            Request::LookUpUser { user } => self.auth.look_up_user(session_id, &user, context),
            Request::Authenticate {
                user,
                password,
                conceal_user,
            } => {
                let login = LoginAttempt::new(user, password, conceal_user);
                self.auth.authenticate(session_id, login, context)
            }
            Request::List { target, format } => {
                self.listings.list(session_id, target, format, context)
            }
            Request::OpenRead { path } => self.open_files.open(session_id, path, context)?,
            Request::Checksum {
                path,
                algorithm,
                start,
                end,
            } => {
                let range = (start, end);
                (self.open_files).checksum(session_id, path, algorithm, range, context)?
            }
            Request::CheckUpload { path } => self.uploads.check(session_id, path, context)?,
            Request::CheckSpace { grant, length } => {
                let grant = grant.as_deref();
                let left = grant.map_or(u64::MAX, |grant| self.quotas.largest(grant, user));
                (self.uploads).check_space(session_id, grant, (length, left), context)?
            }
            Request::Create { path, length, base } => {
                let reserved = self.quotas.reserve(&path, user, context);
                (self.uploads).create(session_id, path, (length, base), reserved, context)
            }
            Request::CreateUnique { directory } => {
                let reserved = self.quotas.reserve(&directory, user, context);
                (self.uploads).create_unique(session_id, directory, reserved, context)
            }
            Request::MakeDirectory { path } => {
                let reserved = self.quotas.reserve(&path, user, context);
                modifications::make_directory(session_id, path, reserved, context)
            }
            Request::Rename { from, to } => {
                self.modify(session_id, Modification::Rename { from, to }, user)
            }
            Request::Remove { path } => self.modify(session_id, Modification::Remove(path), user),
            Request::RemoveDirectory { path } => {
                self.modify(session_id, Modification::RemoveDirectory(path), user)
            }
            Request::SetModified { path, modified } => {
                self.modify(session_id, Modification::SetModified(path, modified), user)
            }
            Request::Status { path } => context.query(session_id, Query::Status(path))?,
            Request::Space { path } => {
                let left = self.quotas.left(&path.grant, user);
                context.query(session_id, Query::Space { path, left })?
            }
            Request::Quota => self.quotas.report(user, context),
        })
    }

    fn modify(
        &mut self,
        session_id: SessionId,
        modification: Modification,
        user: &UserQuota,
    ) -> Handled<K> {
        let reservation = self.quotas.reserve_modification(&modification, user);
        modifications::modify(session_id, modification, reservation, &self.context)
            .unwrap_or_else(|error| Handled::Now(self.refuse(session_id, error)))
    }

    /// Takes the results of jobs since the last call. Completions are then to be popped until there
    /// is none. `is_waiting` returns whether a session still waits for the result of a job.
    pub(crate) fn collect(&mut self, is_waiting: impl Fn(SessionId) -> bool) {
        let mut results = std::mem::take(&mut self.results);
        self.context.workers.collect(&mut results);
        for result in results.drain(..) {
            self.finish(result, &is_waiting);
        }
        self.results = results;
        self.listings.start(&self.context);
        self.deliver_auth_responses();
    }

    /// Cancels the request of a session that ended.
    pub(crate) fn cancel(&mut self, session_id: SessionId) {
        self.auth.cancel(session_id, &self.context);
        let listing = self.listings.cancel(session_id);
        listing.inspect(|id| self.context.workers.cancel_listing(*id));
        self.quotas.cancel(session_id);
        self.context.workers.cancel(session_id);
    }

    /// Drops expired entries; call once per second.
    pub(crate) fn sweep(&mut self) {
        let now = self.now();
        self.context.workers.sweep(now);
        self.open_files.sweep(now);
        self.roots.sweep(&self.context);
        self.listings.sweep(now);
        self.listings.start(&self.context);
        while let Some(listed) = self.listings.pop_timed_out(now) {
            self.deliver_listing(listed);
        }
    }

    // Completions.

    /// Queues a completion for a session.
    pub(crate) fn complete(&mut self, session_id: SessionId, completion: Completion<K>) {
        self.completions.push(session_id, completion);
    }

    /// Returns whether a completion waits for its delivery.
    pub(crate) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Removes the next completion.
    pub(crate) fn next_completion(&mut self) -> Option<(SessionId, Completion<K>)> {
        self.completions.pop()
    }

    /// Returns the time at which the next completion is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self.completions.is_empty() {
            true => self.auth.next_due(),
            false => Some(self.now()),
        }
    }

    // Authentication and sessions.

    /// Returns whether all logins of a client are blocked.
    pub(crate) fn is_blocked(&self, client: ClientPrefix) -> bool {
        self.auth.is_client_blocked(client, self.now())
    }

    /// Counts a session whose login was verified.
    ///
    /// # Errors
    /// The user has too many sessions.
    pub(crate) fn begin_session(
        &mut self,
        session_id: SessionId,
        user: &str,
    ) -> Result<UserKey, ErrorCode> {
        let limits = self.context.home.limits(user);
        let key = (self.auth).begin_session(session_id, user, limits.sessions)?;
        self.rates.set_user_rate(key, limits.rate);
        Ok(key)
    }

    /// Ends a session counted by [`Services::begin_session`].
    pub(crate) fn end_session(&mut self, user: UserKey) {
        if self.auth.end_session(user) {
            self.rates.remove_user(user);
            self.context.workers.end_user(user);
        }
    }

    /// Returns the number of logged-in sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.auth.sessions()
    }

    /// Returns the rate limits.
    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Returns the rate limits.
    pub(crate) fn rates_mut(&mut self) -> &mut Rates {
        &mut self.rates
    }

    // Reload.

    /// Reads the configuration again, on a worker.
    pub(crate) fn request_reload(&mut self) {
        self.reloader.request(&self.context);
    }

    /// Applies a configuration: later logins are verified against it, and the logins of `revoked`
    /// become invalid, also those whose sessions have not received the response yet. The caller
    /// updates the sessions, see [`Services::take_revoked`].
    pub(crate) fn apply_home(&mut self, home: Home, revoked: HashSet<String>) {
        self.context.home = Arc::new(home);
        let home = &self.context.home;
        for (key, user) in self.auth.users() {
            self.rates.set_user_rate(key, home.limits(user).rate);
        }
        self.roots.reload(&self.context);
        self.quotas.reload(&self.context);
        self.listings.invalidate();
        self.auth.reset(&revoked, &self.context.home);
        for completion in self.completions.iter_mut() {
            if let Completion::Response(response, _) = completion {
                (self.auth).update_login(response, &revoked, &self.context.home);
            }
        }
        self.reloader.record_revoked(revoked);
    }

    /// Returns the users whose logins were revoked since the last call; `None` without a reload.
    pub(crate) fn take_revoked(&mut self) -> Option<HashSet<String>> {
        self.reloader.take_revoked()
    }

    /// Returns the access of a session after a reload; `None` if its login was revoked.
    pub(crate) fn access_after_reload(
        &mut self,
        access: &Access,
        revoked: &HashSet<String>,
    ) -> Option<Arc<Access>> {
        (self.auth).access_after_reload(access, revoked, &self.context.home)
    }

    // Files.

    /// Returns the operations of transfers in progress.
    pub(crate) fn transfers(&self) -> Transfers<'_, K> {
        Transfers {
            context: &self.context,
            log: self.transfer_log.as_ref(),
            auth: &self.auth,
        }
    }

    /// Removes the temporary files that a crash left, on workers. All granted directories are
    /// searched: uploads may have been allowed in other ones before.
    pub(crate) fn sweep_orphans(&mut self) {
        for root in self.context.home.granted_paths() {
            let lane = Lane::Background(self.context.device(&root));
            let task = Task::SweepOrphans(OrphanSweep::new(&root));
            (self.context.workers).submit(Job::detached(lane, task));
        }
    }

    /// Closes open files without a download, when the process runs out of descriptors.
    pub(crate) fn close_unused_files(&mut self) {
        self.open_files.close_unused();
    }

    // Errors.

    /// Logs an error of the storage, and a refusal for lack of quota, and returns its code. The
    /// session must not have ended.
    pub(crate) fn log_refusal(&mut self, session_id: SessionId, error: StorageError) -> ErrorCode {
        if error.code == ErrorCode::OverQuota {
            error_log::log_over_quota(session_id, self.auth.user_name(session_id));
        }
        self.log_error(session_id, &error)
    }

    /// Logs why sending to a client failed, if the reason is not the client.
    pub(crate) fn log_send_error(&self, session_id: SessionId, error: &io::Error) {
        error_log::log_fault(session_id, error);
    }

    fn log_error(&mut self, session_id: SessionId, error: &StorageError) -> ErrorCode {
        let fault = error.fault.as_ref();
        if fault.is_some_and(FileFault::is_out_of_descriptors) {
            self.close_unused_files();
        }
        error_log::log_error(session_id, error)
    }

    fn refuse(&mut self, session_id: SessionId, error: StorageError) -> Completion<K> {
        Completion::refused(self.log_refusal(session_id, error))
    }

    fn deliver_auth_responses(&mut self) {
        while let Some((session_id, response)) = self.auth.pop_response(self.context.now) {
            self.complete(session_id, Completion::plain(response));
        }
    }

    /// Takes the result of a job.
    fn finish(&mut self, result: JobResult<K>, is_waiting: &impl Fn(SessionId) -> bool) {
        match result {
            JobResult::Response {
                owner,
                result,
                modifies,
            } => {
                if modifies {
                    self.listings.invalidate();
                }
                if let Some(owner) = owner {
                    self.finish_request(owner, result, is_waiting(owner));
                }
            }
            JobResult::PasswordChecked { check, is_correct } => {
                self.auth.finish_check(check, is_correct, &self.context);
                self.deliver_auth_responses();
            }
            JobResult::Listed { id, result } => {
                if let Some(listed) = self.listings.finish(id, result, self.context.now) {
                    self.deliver_listing(listed);
                }
            }
            JobResult::Published { session_id, result } => {
                self.listings.invalidate();
                // Exceeding a quota was logged when the bytes arrived.
                let result = result.map_err(|error| self.log_error(session_id, &error));
                self.complete(session_id, Completion::TransferDone(result));
            }
            JobResult::File { owner, result } => self.finish_file(owner, result, is_waiting),
            JobResult::Reloaded(reloaded) => self.finish_reload(*reloaded),
            JobResult::Counted(fault) => {
                for (id, request) in self.quotas.finish_count(fault) {
                    if let Handled::Now(completion) = self.handle(id, request) {
                        self.complete(id, completion);
                    }
                }
            }
        }
    }

    fn finish_request(
        &mut self,
        owner: SessionId,
        result: Result<Success<K>, StorageError>,
        is_waiting: bool,
    ) {
        let completion = match result {
            Ok(Success { response, upload }) => match upload {
                Some(upload) if !is_waiting => return self.transfers().discard(upload),
                Some(upload) => Completion::Response(response, OpenHandle::Upload(upload)),
                None => Completion::plain(response),
            },
            Err(error) if is_waiting => self.refuse(owner, error),
            // The key of the user may belong to another one already.
            Err(error) => Completion::refused(self.log_error(owner, &error)),
        };
        self.complete(owner, completion);
    }

    fn finish_file(
        &mut self,
        owner: Option<SessionId>,
        result: FileResult<K>,
        is_waiting: &impl Fn(SessionId) -> bool,
    ) {
        match (result, owner) {
            (FileResult::DeviceFound(path), _) => self.roots.finish(&path),
            (FileResult::Fetched(result), Some(id)) => {
                self.complete(id, Completion::Fetched(result));
            }
            (FileResult::Written(result), Some(id)) => {
                self.complete(id, Completion::Written(result));
            }
            (FileResult::Queried(result), Some(owner)) => {
                let result = result.map(Success::from);
                self.finish_request(owner, result, is_waiting(owner));
            }
            (FileResult::Opened(opened), Some(owner)) if is_waiting(owner) => {
                let handled = self.open_files.finish_open(owner, opened, &self.context);
                let refuse = |error| Handled::Now(self.refuse(owner, error));
                if let Handled::Now(completion) = handled.unwrap_or_else(refuse) {
                    self.complete(owner, completion);
                }
            }
            _ => {}
        }
    }

    fn finish_reload(&mut self, outcome: ReloadOutcome) {
        if let Some((home, revoked)) = self.reloader.finish(outcome, &self.context) {
            self.apply_home(home, revoked);
        }
        self.reloader.request_next(&self.context);
    }

    fn deliver_listing(&mut self, listed: Listed) {
        if let (Some(first), Ok(listing)) = (listed.waiting.first(), &listed.result)
            && let Some(fault) = &listing.fault
        {
            error_log::log_fault(*first, fault);
        }
        for (session_id, completion) in listed.into_completions(|id, e| self.log_error(id, &e)) {
            self.complete(session_id, completion);
        }
    }
}

#[cfg(test)]
mod tests;

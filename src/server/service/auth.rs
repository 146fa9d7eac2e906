//! Authentication: usernames and passwords, the login throttle, and the sessions of each user.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};
use zeroize::Zeroizing;

use crate::auth::account::{Account, Secret};
use crate::auth::verified_cache::VerifiedCache;
use crate::config::Home;
use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::server::log::escape::Escaped;
use crate::server::options::Options;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::familiar_logins::FamiliarLogins;
use crate::server::policy::login_queue::LoginOrigin;
use crate::server::policy::login_throttle::{LoginThrottle, Penalty};
use crate::server::policy::sessions::UserSessions;
use crate::server::service::context::Context;
use crate::server::service::delayed_responses::DelayedResponses;
use crate::server::service::logged_names::LoggedNames;
use crate::server::service::response::Handled;
use crate::server::service::waiting_logins::WaitingLogins;
use crate::server::session_id::{SessionId, UserKey};
use crate::server::workers::job::PasswordCheck;

/// The state of authentication.
pub(crate) struct Auth {
    hide_usernames: bool,
    names: LoggedNames,
    throttle: LoginThrottle,
    verified: VerifiedCache,
    familiar: FamiliarLogins,
    waiting: WaitingLogins,
    responses: DelayedResponses,
    users: UserSessions,
    /// The access of users that logged in since the last reload, shared by their sessions.
    access: HashMap<String, Arc<Access>>,
}

/// The username and password of one login.
pub(crate) struct LoginAttempt {
    pub(crate) user: String,
    pub(crate) password: Zeroizing<Vec<u8>>,
    /// Whether the response time must not reveal if the user exists.
    pub(crate) conceal_user: bool,
}

impl LoginAttempt {
    pub(crate) fn new(
        user: String,
        password: Zeroizing<Vec<u8>>,
        conceal_user: bool,
    ) -> LoginAttempt {
        LoginAttempt {
            user,
            password,
            conceal_user,
        }
    }
}

impl Auth {
    pub(crate) fn new(options: &Options) -> Auth {
        Auth {
            hide_usernames: options.hide_usernames,
            names: LoggedNames::new(),
            throttle: LoginThrottle::new(options.max_failures, options.failure_window),
            verified: VerifiedCache::new(),
            familiar: FamiliarLogins::default(),
            waiting: WaitingLogins::default(),
            responses: DelayedResponses::default(),
            users: UserSessions::default(),
            access: HashMap::new(),
        }
    }

    /// Returns whether all logins of a client are blocked.
    pub(crate) fn is_client_blocked(&self, client: ClientPrefix, now: Instant) -> bool {
        self.throttle.is_client_blocked(client, now)
    }

    /// Looks up a username. A later response follows by [`Auth::pop_response`].
    pub(crate) fn look_up_user<K: Kernel>(
        &mut self,
        session_id: SessionId,
        user: &str,
        context: &Context<K>,
    ) -> Handled<K> {
        if let Some(refused) = self.refuse_blocked(session_id, user, context) {
            return Handled::now(refused);
        }
        if self.hide_usernames || context.home.account(user).is_some() {
            return Handled::now(Response::UserLookedUp(true));
        }
        self.fail(&[session_id], user, &Response::UserLookedUp(false), context);
        Handled::Later
    }

    /// Verifies a password. A later response follows by [`Auth::pop_response`].
    pub(crate) fn authenticate<K: Kernel>(
        &mut self,
        session_id: SessionId,
        login: LoginAttempt,
        context: &Context<K>,
    ) -> Handled<K> {
        match self.begin_check(session_id, login, context) {
            Some(response) => Handled::now(response),
            None => Handled::Later,
        }
    }

    /// Responds to a login, or begins the check of its password.
    fn begin_check<K: Kernel>(
        &mut self,
        session_id: SessionId,
        login: LoginAttempt,
        context: &Context<K>,
    ) -> Option<Response> {
        if let Some(refused) = self.refuse_blocked(session_id, &login.user, context) {
            return Some(refused);
        }
        let (account, is_known) = match context.home.account(&login.user) {
            Some(account) => (account.clone(), true),
            None => (unknown_account(login.user), false),
        };
        // Needs no check and no place in the cache of verified passwords.
        if is_known && account.secret == Secret::Anyone {
            return Some(self.succeed(session_id, &account.user, &context.home));
        }
        let tag = self.verified.tag(&account, &login.password);
        if is_known && self.verified.contains(&tag, context.now) {
            return Some(self.succeed(session_id, &account.user, &context.home));
        }
        if self.waiting.add(tag, session_id) {
            let conceals = login.conceal_user || self.hide_usernames;
            context.workers.submit_check(PasswordCheck {
                tag,
                origin: self.origin(session_id, &account.user, context.now),
                account,
                is_known,
                hidden: conceals.then(|| context.home.costliest()),
                password: login.password,
            });
        }
        None
    }

    /// Returns what the place of a login in the queue depends on.
    fn origin(&self, session_id: SessionId, user: &str, now: Instant) -> LoginOrigin {
        let client = ClientPrefix::of(session_id.peer);
        LoginOrigin {
            client,
            user: self.familiar.user_hash(user),
            is_familiar: self.familiar.contains(client, user),
            failures: self.throttle.failures(client, now),
            network_failures: self.throttle.network_failures(client, now),
        }
    }

    /// Takes the result of a password check.
    pub(crate) fn finish_check<K: Kernel>(
        &mut self,
        check: PasswordCheck,
        is_correct: bool,
        context: &Context<K>,
    ) {
        let waiting = self.waiting.take(&check.tag);
        let user = &check.account.user;
        if check.is_known && context.home.account(user) != Some(&check.account) {
            // A reload replaced the record that was checked.
            return self.check_again(&check, waiting, context);
        }
        // Logins queued before the failure that blocked them are refused, whether correct or not.
        let mut accepted = Vec::with_capacity(waiting.len());
        for session_id in waiting {
            match self.refuse_blocked(session_id, user, context) {
                None => accepted.push(session_id),
                Some(refused) => self.respond(session_id, refused, context.now),
            }
        }
        if is_correct {
            self.verified.insert(check.tag, context.now);
            for session_id in accepted {
                let response = self.succeed(session_id, user, &context.home);
                self.respond(session_id, response, context.now);
            }
            return;
        }
        if accepted.is_empty() {
            // The guess counts even if its sessions have ended.
            self.record_failure(check.origin.client, user, context);
        }
        self.fail(&accepted, user, &Response::Authenticated(None), context);
    }

    /// Counts a session whose login was verified. Fails if its user has too many sessions.
    pub(crate) fn begin_session(
        &mut self,
        session_id: SessionId,
        user: &str,
        sessions_max: Option<usize>,
    ) -> Result<UserKey, ErrorCode> {
        let (generation, peer, name) = (session_id.generation, session_id.peer, Escaped(user));
        if let Some(key) = self.users.acquire(user, sessions_max) {
            info!("session={generation} event=login user={name} from={peer}");
            return Ok(key);
        }
        let most = sessions_max.unwrap_or_default();
        warn!(
            "session={generation} event=refused limit=sessions user={name} from={peer} most={most}"
        );
        Err(ErrorCode::TooManySessions)
    }

    /// Ends a session counted by [`Auth::begin_session`]; returns true if it was the user's last.
    pub(crate) fn end_session(&mut self, user: UserKey) -> bool {
        self.users.release(user)
    }

    /// Returns the number of logged-in sessions.
    pub(crate) fn sessions(&self) -> usize {
        self.users.sessions()
    }

    /// Returns the users with a session.
    pub(crate) fn users(&self) -> impl Iterator<Item = (UserKey, &str)> {
        self.users.users()
    }

    /// Returns the name of a session's user, or an empty name before the login. Must not be called
    /// after the end of the session, when its key may belong to another user.
    pub(crate) fn user_name(&self, session_id: SessionId) -> &str {
        session_id.user.map_or("", |key| self.users.name(key))
    }

    /// Returns the access of a user; `None` if there is no such user.
    pub(crate) fn access(&mut self, user: &str, home: &Home) -> Option<Arc<Access>> {
        if let Some(access) = self.access.get(user) {
            return Some(access.clone());
        }
        let access = home.access(user)?;
        self.access.insert(user.to_owned(), access.clone());
        Some(access)
    }

    /// Returns the new access of a session after a reload; `None` if the login was revoked.
    pub(crate) fn access_after_reload(
        &mut self,
        access: &Access,
        revoked: &HashSet<String>,
        home: &Home,
    ) -> Option<Arc<Access>> {
        match revoked.contains(&access.user) {
            true => None,
            false => self.access(&access.user, home),
        }
    }

    /// Drops the state that was derived from the home before a reload. Checks in progress notice
    /// the reload by themselves.
    pub(crate) fn reset(&mut self, revoked: &HashSet<String>, home: &Home) {
        self.access.clear();
        self.verified.clear();
        // A login verified against the old record must not reach its session after the reload.
        let mut responses = std::mem::take(&mut self.responses);
        for response in responses.iter_mut() {
            self.update_login(response, revoked, home);
        }
        self.responses = responses;
    }

    /// Updates a response that is not delivered yet after a reload.
    pub(crate) fn update_login(
        &mut self,
        response: &mut Response,
        revoked: &HashSet<String>,
        home: &Home,
    ) {
        if let Response::Authenticated(login @ Some(_)) = response {
            *login = login
                .take()
                .and_then(|access| self.access_after_reload(&access, revoked, home));
        }
    }

    /// Cancels the request of a session that ended, and its password check if no other session
    /// waits for it.
    pub(crate) fn cancel<K: Kernel>(&mut self, session_id: SessionId, context: &Context<K>) {
        if let Some(tag) = self.waiting.cancel(session_id) {
            context.workers.cancel_check(&tag);
        }
    }

    /// Returns the time at which the next response is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.responses.next_due()
    }

    /// Removes the next response that is due.
    pub(crate) fn pop_response(&mut self, now: Instant) -> Option<(SessionId, Response)> {
        self.responses.pop_due(now)
    }

    fn respond(&mut self, session_id: SessionId, response: Response, now: Instant) {
        self.responses
            .push(session_id, response, now, Duration::ZERO);
    }

    /// Repeats a login of several sessions, for example after a reload.
    fn check_again<K: Kernel>(
        &mut self,
        check: &PasswordCheck,
        waiting: Vec<SessionId>,
        context: &Context<K>,
    ) {
        for session_id in waiting {
            let login = LoginAttempt {
                user: check.account.user.clone(),
                password: check.password.clone(),
                conceal_user: check.hidden.is_some(),
            };
            if let Some(response) = self.begin_check(session_id, login, context) {
                self.respond(session_id, response, context.now);
            }
        }
    }

    /// Responds to a failed login of all sessions that tried the same, after the delay of the
    /// throttle. Equal logins from one client count as one failure.
    fn fail<K: Kernel>(
        &mut self,
        session_ids: &[SessionId],
        user: &str,
        response: &Response,
        context: &Context<K>,
    ) {
        let mut delays: HashMap<ClientPrefix, Duration> = HashMap::new();
        let name = self.names.name(user, &context.home);
        for session_id in session_ids {
            let (generation, peer) = (session_id.generation, session_id.peer);
            warn!("session={generation} event=login-failed user={name} from={peer}");
            let client = ClientPrefix::of(session_id.peer);
            let delay = *delays.entry(client).or_insert_with(|| {
                let penalty = self.record_failure(client, user, context);
                if penalty.blocks {
                    warn!("event=turn-away user={name} from={}", peer.ip());
                }
                penalty.delay
            });
            self.responses
                .push(*session_id, response.clone(), context.now, delay);
        }
        for client in delays.into_keys() {
            if self.is_client_blocked(client, context.now) {
                // The queued checks of a blocked client are dropped. Other clients may wait for the
                // same checks, and theirs are queued again.
                for check in context.workers.remove_checks(client) {
                    let waiting = self.waiting.take(&check.tag);
                    self.check_again(&check, waiting, context);
                }
            }
        }
    }

    /// Counts a failed login and moves the queued logins of its client back.
    fn record_failure<K: Kernel>(
        &mut self,
        client: ClientPrefix,
        user: &str,
        context: &Context<K>,
    ) -> Penalty {
        let penalty = self.throttle.record_failure(client, user, context.now);
        let failures = self.throttle.failures(client, context.now);
        context.workers.set_failures(client, failures);
        penalty
    }

    /// Refuses a login that is blocked.
    fn refuse_blocked<K: Kernel>(
        &mut self,
        session_id: SessionId,
        user: &str,
        context: &Context<K>,
    ) -> Option<Response> {
        let client = ClientPrefix::of(session_id.peer);
        if !self.throttle.is_blocked(client, user, context.now) {
            return None;
        }
        let (generation, peer) = (session_id.generation, session_id.peer);
        let name = self.names.name(user, &context.home);
        warn!("session={generation} event=refused limit=failures user={name} from={peer}");
        Some(Response::Refused(ErrorCode::LoginBlocked))
    }

    fn succeed(&mut self, session_id: SessionId, user: &str, home: &Home) -> Response {
        let client = ClientPrefix::of(session_id.peer);
        self.throttle.record_success(client, user);
        self.familiar.record(client, user);
        Response::Authenticated(self.access(user, home))
    }
}

/// A record for a user that does not exist, so that the check of the password takes place all the
/// same.
fn unknown_account(user: String) -> Arc<Account> {
    let secret = Secret::Hash(String::new());
    Arc::new(Account { user, secret })
}

#[cfg(test)]
mod tests;

//! Who is let in: passwords proved, failures answered late, and who is turned away.
//!
//! Must not know: sockets, the dialects' words.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use zeroize::Zeroizing;

use crate::auth::account::{Account, Secret};
use crate::domain::access::Access;
use crate::domain::error::ErrorCode;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::limits::DELAYED_RESPONSES_MAX;
use crate::server::conn::transfer::OpenHandle;
use crate::server::log::escape::Escaped;
use crate::server::policy::client_prefix::ClientPrefix;
use crate::server::policy::login_throttle::Noted;
use crate::server::policy::sessions::UserKey;
use crate::server::service::{Completion, Services};
use crate::server::session_id::SessionId;
use crate::server::workers::{Job, PasswordCheck};

impl<K: Kernel> Services<K> {
    /// Whether all from this address are turned away, since too many logins failed.
    pub(crate) fn turns_away(&self, origin: ClientPrefix) -> bool {
        self.failures.turns_away(origin, self.now)
    }

    pub(crate) fn account(&mut self, session_id: SessionId, user: &str) -> Option<Completion<K>> {
        if let Some(refused) = self.turn_away(session_id, user) {
            return Some(refused);
        }
        if self.options.hide_usernames || self.home.account(user).is_some() {
            return Some(Completion::Response(
                Response::UserLookedUp(true),
                OpenHandle::Nothing,
            ));
        }
        self.fail(&[session_id], user, Response::UserLookedUp(false));
        None
    }

    pub(crate) fn verify(
        &mut self,
        session_id: SessionId,
        user: String,
        password: Zeroizing<Vec<u8>>,
        conceal: bool,
    ) -> Option<Completion<K>> {
        if let Some(refused) = self.turn_away(session_id, &user) {
            return Some(refused);
        }
        let (account, known) = match self.home.account(&user) {
            Some(account) => (account.clone(), true),
            None => {
                let secret = Secret::Hash(String::new());
                (Arc::new(Account { user, secret }), false)
            }
        };
        // Whoever gives the name may come in, and no proof of anybody else is forgotten for him.
        if known && account.secret == Secret::Anyone {
            return Some(self.proved(session_id, &account));
        }
        let tag = self.proved.tag(&account, &password);
        if known && self.proved.contains(&tag, self.now) {
            return Some(self.proved(session_id, &account));
        }
        let waiting = self.logins.entry(tag).or_default();
        waiting.push(session_id);
        if waiting.len() == 1 {
            let conceal = conceal || self.options.hide_usernames;
            let hidden = conceal.then(|| self.home.typical_cost());
            let origin = ClientPrefix::of(session_id.peer);
            self.workers.submit(Job::Verify(PasswordCheck {
                tag,
                origin,
                failures: self.failures.of(origin, self.now),
                account,
                known,
                hidden,
                password,
            }));
        }
        None
    }

    pub(crate) fn verified(&mut self, proof: PasswordCheck, right: bool) {
        let session_ids = self.logins.remove(&proof.tag).unwrap_or_default();
        if proof.known && self.home.account(&proof.account.user) != Some(&proof.account) {
            // A reload came between: what was proved is no longer what counts.
            return self.verify_again(proof, session_ids);
        }
        let user = &proof.account.user;
        // What was queued before the last that may fail is not judged behind it, be it right or wrong.
        let (mut judged, mut refused) = (Vec::new(), Vec::new());
        for session_id in session_ids {
            match self.turn_away(session_id, user) {
                None => judged.push(session_id),
                Some(reply) => refused.push((session_id, reply)),
            }
        }
        let session_ids = judged;
        self.replies.extend(refused);
        if !right {
            if session_ids.is_empty() {
                // Nobody waits for the answer, and the guess counts all the same.
                self.note_failure(proof.origin, user);
            }
            return self.fail(&session_ids, user, Response::Authenticated(None));
        }
        self.proved.insert(proof.tag, self.now);
        for session_id in session_ids {
            let reply = self.proved(session_id, &proof.account);
            self.replies.push_back((session_id, reply));
        }
    }

    fn verify_again(&mut self, proof: PasswordCheck, session_ids: Vec<SessionId>) {
        for session_id in session_ids {
            let (user, password) = (proof.account.user.clone(), proof.password.clone());
            if let Some(reply) = self.verify(session_id, user, password, proof.hidden.is_some()) {
                self.replies.push_back((session_id, reply));
            }
        }
    }

    /// Answers a failed login, to all who tried the same at once: later, where too many have failed lately. From one address they
    /// are one guess.
    fn fail(&mut self, session_ids: &[SessionId], user: &str, answer: Response) {
        let mut noted: HashMap<ClientPrefix, Duration> = HashMap::new();
        for session_id in session_ids {
            let (generation, peer, shown) = (session_id.generation, session_id.peer, Escaped(user));
            warn!("session={generation} event=login-failed user={shown} from={peer}");
            let origin = ClientPrefix::of(session_id.peer);
            let delay = *noted.entry(origin).or_insert_with(|| {
                let noted = self.note_failure(origin, user);
                if noted.was_last {
                    warn!("event=turn-away user={shown} from={}", peer.ip());
                }
                noted.delay
            });
            let reply = Completion::Response(answer.clone(), OpenHandle::Nothing);
            if delay.is_zero() || self.held_back.len() >= DELAYED_RESPONSES_MAX {
                self.replies.push_back((*session_id, reply));
            } else {
                let due = (self.now + delay, session_id.generation);
                self.held_back.insert(due, (*session_id, reply));
            }
        }
        for origin in noted.into_keys() {
            if self.turns_away(origin) {
                // What waits from there is not proved any more, nor is it for who asked the same from elsewhere.
                for proof in self.workers.take_logins(origin) {
                    let session_ids = self.logins.remove(&proof.tag).unwrap_or_default();
                    self.verify_again(proof, session_ids);
                }
            }
        }
    }

    /// Counts a failed login; what else waits from there waits behind who has failed less.
    fn note_failure(&mut self, origin: ClientPrefix, user: &str) -> Noted {
        let noted = self.failures.note(origin, user, self.now);
        let failures = self.failures.of(origin, self.now);
        self.workers.suspect(origin, failures);
        noted
    }

    /// Refuses a login of a user from an address from where too many have failed.
    fn turn_away(&mut self, session_id: SessionId, user: &str) -> Option<Completion<K>> {
        let origin = ClientPrefix::of(session_id.peer);
        if !self.failures.turns_user_away(origin, user, self.now) {
            return None;
        }
        let (generation, peer, shown) = (session_id.generation, session_id.peer, Escaped(user));
        warn!("session={generation} event=refused limit=failures user={shown} from={peer}");
        let answer = Response::Refused(ErrorCode::LoginBlocked);
        Some(Completion::Response(answer, OpenHandle::Nothing))
    }

    /// Answers a right login, just proved or lately: what failed before was a slip.
    fn proved(&mut self, session_id: SessionId, account: &Account) -> Completion<K> {
        self.failures
            .forgive(ClientPrefix::of(session_id.peer), &account.user);
        Completion::Response(
            Response::Authenticated(self.access(&account.user)),
            OpenHandle::Nothing,
        )
    }

    /// Lets a session in whose login was proved, unless its user has as many as he may.
    pub(crate) fn enter(
        &mut self,
        session_id: SessionId,
        user: &str,
    ) -> Result<UserKey, ErrorCode> {
        let limits = self.home.limits(user);
        let (generation, peer, shown) = (session_id.generation, session_id.peer, Escaped(user));
        match self.users.enter(user, limits, self.now) {
            Some(key) => {
                info!("session={generation} event=login user={shown} from={peer}");
                Ok(key)
            }
            None => {
                let most = limits.sessions.unwrap_or_default();
                warn!(
                    "session={generation} event=refused limit=sessions user={shown} from={peer} most={most}"
                );
                Err(ErrorCode::TooManySessions)
            }
        }
    }

    /// A session that was let in has ended.
    pub(crate) fn leave(&mut self, user: UserKey) {
        self.users.leave(user);
    }

    /// Sessions that were let in and have not ended.
    pub(crate) fn entered(&self) -> usize {
        self.users.sessions()
    }

    pub(crate) fn access(&mut self, user: &str) -> Option<Arc<Access>> {
        if let Some(access) = self.accesses.get(user) {
            return Some(access.clone());
        }
        let access = self.home.access(user)?;
        self.accesses.insert(user.to_owned(), access.clone());
        Some(access)
    }
}

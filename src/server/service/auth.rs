//! Who is let in: passwords proved, failures answered late, and who is turned away.
//!
//! Must not know: sockets, the dialects' words.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use zeroize::Zeroizing;

use crate::config::Access;
use crate::config::credentials::{Account, Secret};
use crate::kernel::Kernel;
use crate::limits::HELD_BACK_MAX;
use crate::protocol::{Answer, Refusal};
use crate::server::Ticket;
use crate::server::conn::transfer::Held;
use crate::server::log::Escaped;
use crate::server::policy::client_prefix::Origin;
use crate::server::policy::login_throttle::Noted;
use crate::server::policy::sessions::UserKey;
use crate::server::service::{House, Reply};
use crate::server::workers::{Job, Proof};

impl<K: Kernel> House<K> {
    /// Whether all from this address are turned away, since too many logins failed.
    pub(crate) fn turns_away(&self, origin: Origin) -> bool {
        self.failures.turns_away(origin, self.now)
    }

    pub(crate) fn account(&mut self, ticket: Ticket, user: &str) -> Option<Reply<K>> {
        if let Some(refused) = self.turn_away(ticket, user) {
            return Some(refused);
        }
        if self.options.hide_usernames || self.home.account(user).is_some() {
            return Some(Reply::Answer(Answer::Account(true), Held::Nothing));
        }
        self.fail(&[ticket], user, Answer::Account(false));
        None
    }

    pub(crate) fn verify(
        &mut self,
        ticket: Ticket,
        user: String,
        password: Zeroizing<Vec<u8>>,
        conceal: bool,
    ) -> Option<Reply<K>> {
        if let Some(refused) = self.turn_away(ticket, &user) {
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
            return Some(self.proved(ticket, &account));
        }
        let tag = self.proved.tag(&account, &password);
        if known && self.proved.contains(&tag, self.now) {
            return Some(self.proved(ticket, &account));
        }
        let waiting = self.logins.entry(tag).or_default();
        waiting.push(ticket);
        if waiting.len() == 1 {
            let conceal = conceal || self.options.hide_usernames;
            let hidden = conceal.then(|| self.home.typical_cost());
            let origin = Origin::of(ticket.peer);
            self.workers.submit(Job::Verify(Proof {
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

    pub(crate) fn verified(&mut self, proof: Proof, right: bool) {
        let tickets = self.logins.remove(&proof.tag).unwrap_or_default();
        if proof.known && self.home.account(&proof.account.user) != Some(&proof.account) {
            // A reload came between: what was proved is no longer what counts.
            return self.verify_again(proof, tickets);
        }
        let user = &proof.account.user;
        // What was queued before the last that may fail is not judged behind it, be it right or wrong.
        let (mut judged, mut refused) = (Vec::new(), Vec::new());
        for ticket in tickets {
            match self.turn_away(ticket, user) {
                None => judged.push(ticket),
                Some(reply) => refused.push((ticket, reply)),
            }
        }
        let tickets = judged;
        self.replies.extend(refused);
        if !right {
            if tickets.is_empty() {
                // Nobody waits for the answer, and the guess counts all the same.
                self.note_failure(proof.origin, user);
            }
            return self.fail(&tickets, user, Answer::Verified(None));
        }
        self.proved.insert(proof.tag, self.now);
        for ticket in tickets {
            let reply = self.proved(ticket, &proof.account);
            self.replies.push_back((ticket, reply));
        }
    }

    fn verify_again(&mut self, proof: Proof, tickets: Vec<Ticket>) {
        for ticket in tickets {
            let (user, password) = (proof.account.user.clone(), proof.password.clone());
            if let Some(reply) = self.verify(ticket, user, password, proof.hidden.is_some()) {
                self.replies.push_back((ticket, reply));
            }
        }
    }

    /// Answers a failed login, to all who tried the same at once: later, where too many have failed lately. From one address they
    /// are one guess.
    fn fail(&mut self, tickets: &[Ticket], user: &str, answer: Answer) {
        let mut noted: HashMap<Origin, Duration> = HashMap::new();
        for ticket in tickets {
            let (serial, peer, shown) = (ticket.serial, ticket.peer, Escaped(user));
            warn!("session={serial} event=login-failed user={shown} from={peer}");
            let origin = Origin::of(ticket.peer);
            let delay = *noted.entry(origin).or_insert_with(|| {
                let noted = self.note_failure(origin, user);
                if noted.was_last {
                    warn!("event=turn-away user={shown} from={}", peer.ip());
                }
                noted.delay
            });
            let reply = Reply::Answer(answer.clone(), Held::Nothing);
            if delay.is_zero() || self.held_back.len() >= HELD_BACK_MAX {
                self.replies.push_back((*ticket, reply));
            } else {
                let due = (self.now + delay, ticket.serial);
                self.held_back.insert(due, (*ticket, reply));
            }
        }
        for origin in noted.into_keys() {
            if self.turns_away(origin) {
                // What waits from there is not proved any more, nor is it for who asked the same from elsewhere.
                for proof in self.workers.take_logins(origin) {
                    let tickets = self.logins.remove(&proof.tag).unwrap_or_default();
                    self.verify_again(proof, tickets);
                }
            }
        }
    }

    /// Counts a failed login; what else waits from there waits behind who has failed less.
    fn note_failure(&mut self, origin: Origin, user: &str) -> Noted {
        let noted = self.failures.note(origin, user, self.now);
        let failures = self.failures.of(origin, self.now);
        self.workers.suspect(origin, failures);
        noted
    }

    /// Refuses a login of a user from an address from where too many have failed.
    fn turn_away(&mut self, ticket: Ticket, user: &str) -> Option<Reply<K>> {
        let origin = Origin::of(ticket.peer);
        if !self.failures.turns_user_away(origin, user, self.now) {
            return None;
        }
        let (serial, peer, shown) = (ticket.serial, ticket.peer, Escaped(user));
        warn!("session={serial} event=refused limit=failures user={shown} from={peer}");
        let answer = Answer::Refused(Refusal::TooManyFailures);
        Some(Reply::Answer(answer, Held::Nothing))
    }

    /// Answers a right login, just proved or lately: what failed before was a slip.
    fn proved(&mut self, ticket: Ticket, account: &Account) -> Reply<K> {
        self.failures
            .forgive(Origin::of(ticket.peer), &account.user);
        Reply::Answer(Answer::Verified(self.access(&account.user)), Held::Nothing)
    }

    /// Lets a session in whose login was proved, unless its user has as many as he may.
    pub(crate) fn enter(&mut self, ticket: Ticket, user: &str) -> Result<UserKey, Refusal> {
        let limits = self.home.limits(user);
        let (serial, peer, shown) = (ticket.serial, ticket.peer, Escaped(user));
        match self.users.enter(user, limits, self.now) {
            Some(key) => {
                info!("session={serial} event=login user={shown} from={peer}");
                Ok(key)
            }
            None => {
                let most = limits.sessions.unwrap_or_default();
                warn!(
                    "session={serial} event=refused limit=sessions user={shown} from={peer} most={most}"
                );
                Err(Refusal::TooManySessions)
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

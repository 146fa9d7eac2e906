//! Logins: who is asked for a password, what proves him, who is let in.
//!
//! Must not know: sockets, the dialects' words.

use std::sync::Arc;

use log::{info, warn};
use zeroize::Zeroizing;

use super::{House, Reply};
use crate::home::Access;
use crate::home::credentials::{Account, Secret};
use crate::kernel::Kernel;
use crate::protocol::{Answer, Refusal};
use crate::server::Ticket;
use crate::server::log::Escaped;
use crate::server::transfer::Held;
use crate::server::users::UserKey;
use crate::server::workers::{Job, Proof};

impl<K: Kernel> House<K> {
    pub(super) fn account(&mut self, ticket: Ticket, user: &str) -> Option<Reply<K>> {
        let known = self.home.account(user).is_some();
        if !known && !self.options.hide_usernames {
            log_failed_login(ticket, user);
        }
        let worth_asking = known || self.options.hide_usernames;
        Some(Reply::Answer(Answer::Account(worth_asking), Held::Nothing))
    }

    pub(super) fn verify(
        &mut self,
        ticket: Ticket,
        user: String,
        password: Zeroizing<Vec<u8>>,
        conceal: bool,
    ) -> Option<Reply<K>> {
        let (account, known) = match self.home.account(&user) {
            Some(account) => (account.clone(), true),
            None => {
                let secret = Secret::Hash(String::new());
                (Arc::new(Account { user, secret }), false)
            }
        };
        // Whoever gives the name may come in, and no proof of anybody else is forgotten for him.
        if known && account.secret == Secret::Anyone {
            return Some(self.proved(&account));
        }
        let tag = self.proved.tag(&account, &password);
        if known && self.proved.contains(&tag, self.now) {
            return Some(self.proved(&account));
        }
        let waiting = self.logins.entry(tag).or_default();
        waiting.push(ticket);
        if waiting.len() == 1 {
            let conceal = conceal || self.options.hide_usernames;
            let hidden = conceal.then(|| self.home.typical_cost());
            self.workers.submit(Job::Verify(Proof {
                tag,
                account,
                known,
                hidden,
                password,
            }));
        }
        None
    }

    pub(super) fn verified(&mut self, proof: Proof, right: bool) {
        let tickets = self.logins.remove(&proof.tag).unwrap_or_default();
        let Proof {
            tag,
            account,
            known,
            password,
            hidden,
        } = proof;
        if known && self.home.account(&account.user) != Some(&account) {
            // A reload came between: what was proved is no longer what counts.
            for ticket in tickets {
                let (user, password) = (account.user.clone(), password.clone());
                if let Some(reply) = self.verify(ticket, user, password, hidden.is_some()) {
                    self.replies.push((ticket, reply));
                }
            }
            return;
        }
        if right {
            self.proved.insert(tag, self.now);
        }
        for ticket in tickets {
            let reply = match right {
                true => self.proved(&account),
                false => {
                    log_failed_login(ticket, &account.user);
                    Reply::Answer(Answer::Verified(None), Held::Nothing)
                }
            };
            self.replies.push((ticket, reply));
        }
    }

    fn proved(&mut self, account: &Account) -> Reply<K> {
        Reply::Answer(Answer::Verified(self.access(&account.user)), Held::Nothing)
    }

    /// Lets a session in whose login was proved, unless its user has as many as he may.
    pub(in crate::server) fn enter(
        &mut self,
        ticket: Ticket,
        user: &str,
    ) -> Result<UserKey, Refusal> {
        let most = self.home.limits(user).sessions;
        let (serial, peer, shown) = (ticket.serial, ticket.peer, Escaped(user));
        match self.users.enter(user, most) {
            Some(key) => {
                info!("session={serial} event=login user={shown} from={peer}");
                Ok(key)
            }
            None => {
                let most = most.unwrap_or_default();
                warn!(
                    "session={serial} event=refused limit=sessions user={shown} from={peer} most={most}"
                );
                Err(Refusal::TooManySessions)
            }
        }
    }

    /// A session that was let in has ended.
    pub(in crate::server) fn leave(&mut self, user: UserKey) {
        self.users.leave(user);
    }

    /// Sessions that were let in and have not ended.
    pub(in crate::server) fn entered(&self) -> usize {
        self.users.sessions()
    }

    pub(super) fn access(&mut self, user: &str) -> Option<Arc<Access>> {
        if let Some(access) = self.accesses.get(user) {
            return Some(access.clone());
        }
        let access = self.home.access(user)?;
        self.accesses.insert(user.to_owned(), access.clone());
        Some(access)
    }
}

fn log_failed_login(ticket: Ticket, user: &str) {
    let user = Escaped(user);
    warn!(
        "session={} event=login-failed user={user} from={}",
        ticket.serial, ticket.peer
    );
}

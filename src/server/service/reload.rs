//! Reloads: the home is read again by a worker, taken up where it has no fault, and held against who has logged in.
//!
//! Must not know: what stands in the home's files, sockets, the dialects' words.

use std::collections::HashSet;
use std::sync::Arc;

use log::{error, info, warn};

use crate::config::Home;
use crate::config::reload::ReloadOutcome;
use crate::domain::access::Access;
use crate::domain::request::Response;
use crate::kernel::{Kernel, Milestone};
use crate::server::log::escape::Escaped;
use crate::server::service::{Completion, Services};
use crate::server::workers::Job;

impl<K: Kernel> Services<K> {
    /// Takes up the two files again, on a worker; behind the reload that is under way, so that the last one asked for is
    /// the last one taken up.
    pub(crate) fn reload(&mut self) {
        match self.reloading {
            true => self.reload_again = true,
            false => self.workers.submit(Job::Reload(self.home.clone())),
        }
        self.reloading = true;
    }

    /// The home was read again.
    pub(crate) fn reloaded(&mut self, outcome: ReloadOutcome) {
        let ReloadOutcome { result, revoked } = outcome;
        // A supervisor that has asked for it waits, also where the old one is kept.
        self.kernel.report(Milestone::Ready);
        match result {
            Ok((home, warnings)) => {
                for warning in warnings {
                    warn!("event=reload warning={}", Escaped(&warning.to_string()));
                }
                info!("event=reload result=taken-up");
                self.take_up(home, revoked);
            }
            Err(faults) => {
                for fault in faults {
                    error!(
                        "event=reload result=kept-the-old fault={}",
                        Escaped(&fault.to_string())
                    );
                }
            }
        }
        self.reloading = false;
        if std::mem::take(&mut self.reload_again) {
            self.reload();
        }
    }

    /// Applies a loaded home: later logins are verified against it. The logins of `revoked` become
    /// invalid, also those that were verified but whose sessions have not received the response yet.
    /// The caller updates the sessions, see [`Services::take_revoked`].
    pub(crate) fn take_up(&mut self, home: Home, revoked: HashSet<String>) {
        self.home = Arc::new(home);
        self.users.take_up(|user| self.home.limits(user), self.now);
        self.take_up_quotas();
        self.accesses.clear();
        self.proved.clear();
        self.listings.changed();
        self.update_pending_logins(&revoked);
        // Two reloads may complete before the sessions are updated.
        self.revoked.get_or_insert_default().extend(revoked);
    }

    /// A login verified against the old record must not reach its session after the reload.
    fn update_pending_logins(&mut self, revoked: &HashSet<String>) {
        let mut replies = std::mem::take(&mut self.replies);
        for (_, reply) in &mut replies {
            if let Completion::Response(Response::Authenticated(login @ Some(_)), _) = reply {
                *login = login
                    .take()
                    .and_then(|access| self.access_after_reload(&access, revoked));
            }
        }
        self.replies = replies;
    }

    /// Returns the users whose sessions a reload revoked since the last call; `None` without a reload.
    pub(crate) fn take_revoked(&mut self) -> Option<HashSet<String>> {
        self.revoked.take()
    }

    /// Returns what a session may access after a reload; `None` if its login was revoked.
    pub(crate) fn access_after_reload(
        &mut self,
        access: &Access,
        revoked: &HashSet<String>,
    ) -> Option<Arc<Access>> {
        match revoked.contains(&access.user) {
            true => None,
            false => self.access(&access.user),
        }
    }
}

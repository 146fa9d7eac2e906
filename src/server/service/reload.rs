//! Reloads: the home is read again by a worker, taken up where it has no fault, and held against who has logged in.
//!
//! Must not know: what stands in the home's files, sockets, the dialects' words.

use std::sync::Arc;

use log::{error, info, warn};

use crate::config::{Access, Home, Reloaded};
use crate::kernel::{Kernel, Milestone};
use crate::server::log::escape::Escaped;
use crate::server::service::Services;
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
    pub(crate) fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded { result, kept } = reloaded;
        // A supervisor that has asked for it waits, also where the old one is kept.
        self.kernel.report(Milestone::Ready);
        match result {
            Ok((home, warnings)) => {
                for warning in warnings {
                    warn!("event=reload warning={}", Escaped(&warning.to_string()));
                }
                info!("event=reload result=taken-up");
                self.take_up(home, kept);
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

    /// Takes up a home that was loaded: logins from now on are proved against it. What the sessions may do now is asked
    /// of [`Services::access_after_reload`].
    pub(crate) fn take_up(&mut self, home: Home, kept: Vec<String>) {
        self.home = Arc::new(home);
        self.users.take_up(|user| self.home.limits(user), self.now);
        self.take_up_quotas();
        self.accesses.clear();
        self.proved.clear();
        self.listings.changed();
        self.reloaded = Some(kept);
    }

    /// Whether sessions are to be told of a reload, once.
    pub(crate) fn take_reloaded(&mut self) -> Option<Vec<String>> {
        self.reloaded.take()
    }

    /// What a session with this access may do after a reload that kept the logins of `kept` although their records
    /// have changed.
    pub(crate) fn access_after_reload(
        &mut self,
        access: &Access,
        kept: &[String],
    ) -> Option<Arc<Access>> {
        let user = &access.account.user;
        let same = self
            .home
            .account(user)
            .is_some_and(|account| *account == access.account);
        match same || kept.contains(user) {
            true => self.access(user),
            false => None,
        }
    }
}

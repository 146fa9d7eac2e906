//! Who may move how many bytes now, and who waits for his rate.
//!
//! Must not know: sockets, transfers.

use crate::kernel::Kernel;
use crate::server::policy::rate_limit::TokenBucket;
use crate::server::policy::sessions::UserKey;
use crate::server::service::Services;

/// Who shares a rate.
enum Shared {
    All,
    ByUser,
}

impl<K: Kernel> Services<K> {
    /// Bytes that a connection of this user may move in a turn. None while others of his wait, unless it has waited itself.
    pub(crate) fn allowance(&mut self, user: UserKey) -> usize {
        match self.must_wait(user) {
            Some(_) => 0,
            None => {
                let all = self.rate.allowance(self.now);
                all.min(self.users.bucket(user).allowance(self.now))
            }
        }
    }

    /// A connection of this user has moved so many bytes.
    pub(crate) fn spend(&mut self, user: UserKey, bytes: usize) {
        self.rate.spend(bytes);
        self.users.bucket(user).spend(bytes);
    }

    /// Lets a connection wait for its rate, if it has to; it comes back by [`Services::release`].
    pub(crate) fn park(&mut self, user: UserKey, connection: usize) -> bool {
        match self.must_wait(user) {
            Some(Shared::All) => self.rate.park(connection),
            Some(Shared::ByUser) => self.users.park(user, connection),
            None => return false,
        }
        true
    }

    /// The next connection that has waited for its rate and may go on. Until `None` it goes before others.
    pub(crate) fn release(&mut self) -> Option<usize> {
        let now = self.now;
        let released = self.rate.release(now).or_else(|| self.users.release(now));
        self.releasing = released.is_some();
        released
    }

    /// No more are released in this turn of the loop.
    pub(crate) fn end_release(&mut self) {
        self.releasing = false;
    }

    /// Takes a connection out that waits for its rate.
    pub(crate) fn forget_parked(&mut self, user: UserKey, connection: usize) {
        self.rate.forget(connection);
        self.users.forget(user, connection);
    }

    /// Connections that wait for their rate.
    pub(crate) fn parked(&self) -> impl Iterator<Item = usize> {
        self.rate
            .parked()
            .iter()
            .copied()
            .chain(self.users.parked())
    }

    /// For which rate a connection of this user has to wait, if for any.
    fn must_wait(&mut self, user: UserKey) -> Option<Shared> {
        let (now, is_first) = (self.now, self.releasing);
        let is_empty = |bucket: &mut TokenBucket| {
            bucket.allowance(now) == 0 || (!is_first && !bucket.parked().is_empty())
        };
        match is_empty(&mut self.rate) {
            true => Some(Shared::All),
            false => is_empty(self.users.bucket(user)).then_some(Shared::ByUser),
        }
    }
}

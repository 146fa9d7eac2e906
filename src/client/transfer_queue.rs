//! Items that are moved over several connections at once.
//!
//! Must not know: what moving an item means.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::client::login::Login;
use crate::client::progress::Progress;
use crate::limits;

/// What is still to be moved.
pub(super) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    jobs: usize,
}

impl<T: Send> Queue<T> {
    /// Moves all of `items` over at most `jobs` connections, of which the first is open already. On each, `work` takes
    /// items until there are none and tells their failures; it fails where its connection is done with, and gives back
    /// what it had taken and not begun.
    pub(super) fn work_off(
        first: Connection,
        login: &Login,
        jobs: usize,
        items: VecDeque<T>,
        progress: &Progress,
        work: impl Fn(&mut Connection, &Queue<T>) -> Result<(), Error> + Sync,
    ) {
        let jobs = jobs.min(items.len()).max(1);
        let queue = Queue {
            items: Mutex::new(items),
            jobs,
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs {
                scope.spawn(|| match Connection::open(login) {
                    Ok(connection) => queue.work_over(connection, login, progress, &work),
                    // The others do it.
                    Err(error) => progress.warn(format_args!(
                        "warning: one connection less: {}: {error}",
                        login.remote
                    )),
                });
            }
            queue.work_over(first, login, progress, &work);
        });
        match queue.items().len() {
            0 => {}
            1 => progress.fail(
                &login.remote,
                "the connection was lost before the last file",
            ),
            left => progress.fail(
                &login.remote,
                format_args!("the connection was lost before {left} more files"),
            ),
        }
    }

    fn work_over(
        &self,
        mut connection: Connection,
        login: &Login,
        progress: &Progress,
        work: impl Fn(&mut Connection, &Queue<T>) -> Result<(), Error>,
    ) {
        // Items that were left when an idle connection was replaced last: a server that calls each one idle is not asked for ever.
        let mut left = usize::MAX;
        loop {
            match work(&mut connection, self) {
                Ok(()) => return connection.quit(),
                Err(Error::Abandoned(_)) if !self.is_empty() => {}
                Err(Error::Idle) if self.items().len() < left => left = self.items().len(),
                Err(Error::Idle) => return progress.fail(&login.remote, Error::Idle),
                Err(_) => return,
            }
            // The place of the one that goes is not free before it is gone.
            drop(connection);
            connection = match Connection::open(login) {
                Ok(connection) => connection,
                Err(error) => return progress.fail(&login.remote, error),
            };
        }
    }

    /// The next item for a connection that has `ahead` of them under way. The fewer there are the fewer are sent ahead, so
    /// that each connection has its share.
    pub(super) fn take(&self, ahead: usize) -> Option<T> {
        let mut items = self.items();
        let share = 1 + items.len() / (2 * self.jobs);
        match ahead < share.min(limits::PIPELINED_COMMANDS_MAX) {
            true => items.pop_front(),
            false => None,
        }
    }

    /// Whether it is time to take more: at most half of what may be ahead is left.
    pub(super) fn take_more(&self, ahead: usize) -> bool {
        2 * ahead <= limits::PIPELINED_COMMANDS_MAX && !self.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    /// Gives back what was taken last.
    pub(super) fn give_back(&self, taken: impl DoubleEndedIterator<Item = T>) {
        let mut items = self.items();
        taken.rev().for_each(|item| items.push_front(item));
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().expect("no holder of it panics")
    }
}

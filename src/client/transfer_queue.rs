//! A queue of files that several connections transfer in parallel.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use crate::client::connection::ClientConnection;
use crate::client::error::ClientError;
use crate::client::login::RemoteLogin;
use crate::client::progress::TransferProgress;
use crate::limits;

/// Files that are not transferred yet, and the account and progress that all connections share.
pub(super) struct TransferQueue<'a, T> {
    items: Mutex<VecDeque<T>>,
    connections: usize,
    login: &'a RemoteLogin,
    progress: &'a TransferProgress,
}

impl<'a, T: Send> TransferQueue<'a, T> {
    /// Creates the queue; at most `connections` process it.
    pub(super) fn new(
        items: VecDeque<T>,
        connections: usize,
        login: &'a RemoteLogin,
        progress: &'a TransferProgress,
    ) -> TransferQueue<'a, T> {
        TransferQueue {
            connections: connections.min(items.len()).max(1),
            items: Mutex::new(items),
            login,
            progress,
        }
    }

    /// Transfers all items, over `first` and the connections that this function opens.
    ///
    /// For each connection, `transfer` processes items until the queue is empty and reports their
    /// failures. It returns an error if its connection is unusable, after it has put back the items
    /// that it did not begin.
    pub(super) fn run(
        &self,
        first: ClientConnection,
        transfer: impl Fn(&mut ClientConnection, &TransferQueue<'a, T>) -> Result<(), ClientError>
        + Sync,
    ) {
        std::thread::scope(|scope| {
            for _ in 1..self.connections {
                scope.spawn(|| match ClientConnection::open(self.login) {
                    Ok(connection) => self.run_connection(connection, &transfer),
                    // The other connections transfer its share.
                    Err(error) => self.progress.warn(format_args!(
                        "warning: continuing with one connection fewer: {}: {error}",
                        self.login.remote
                    )),
                });
            }
            self.run_connection(first, &transfer);
        });
        match self.lock().len() {
            0 => {}
            1 => self.progress.report_failure(
                &self.login.remote,
                "the connection was lost, 1 file was not transferred; run the command again",
            ),
            left => self.progress.report_failure(
                &self.login.remote,
                format_args!("the connection was lost, {left} files were not transferred; run the command again"),
            ),
        }
    }

    /// Processes items over one connection, and over a new one after an error that allows it.
    fn run_connection(
        &self,
        mut connection: ClientConnection,
        transfer: impl Fn(&mut ClientConnection, &TransferQueue<'a, T>) -> Result<(), ClientError>,
    ) {
        let remote = &self.login.remote;
        // Length of the queue at the last idle timeout. If it did not shrink since, the server
        // closes every connection as idle, and retrying would not end.
        let mut left_when_idle = usize::MAX;
        loop {
            match transfer(&mut connection, self) {
                Ok(()) => return connection.quit(),
                Err(ClientError::Aborted(_)) if !self.is_empty() => {}
                Err(ClientError::Idle) if self.lock().len() < left_when_idle => {
                    left_when_idle = self.lock().len();
                }
                Err(ClientError::Idle) => {
                    return self.progress.report_failure(remote, ClientError::Idle);
                }
                Err(_) => return,
            }
            // Closed first, because the server may limit the sessions of a user.
            drop(connection);
            connection = match ClientConnection::open(self.login) {
                Ok(connection) => connection,
                Err(error) => return self.progress.report_failure(remote, error),
            };
        }
    }

    /// Removes the next item for a connection that has `pipelined` items in flight. Returns `None`
    /// if that is its share: the pipeline is short near the end of the queue, so that all
    /// connections stay busy.
    pub(super) fn next(&self, pipelined: usize) -> Option<T> {
        let mut items = self.lock();
        let share = 1 + items.len() / (2 * self.connections);
        match pipelined < share.min(limits::PIPELINED_COMMANDS_MAX) {
            true => items.pop_front(),
            false => None,
        }
    }

    /// Returns whether a pipeline of this length is at most half full and the queue has more.
    /// Refilling by halves sends requests in batches.
    pub(super) fn needs_refill(&self, pipelined: usize) -> bool {
        2 * pipelined <= limits::PIPELINED_COMMANDS_MAX && !self.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Puts items back to the front, in their order.
    pub(super) fn put_back(&self, items: impl DoubleEndedIterator<Item = T>) {
        let mut queue = self.lock();
        items.rev().for_each(|item| queue.push_front(item));
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().expect("no thread panics with the lock")
    }
}

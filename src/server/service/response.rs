//! The results that the services deliver to connections.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::domain::error::ErrorCode;
use crate::domain::request::Response;
use crate::kernel::Kernel;
use crate::server::service::open_handle::OpenHandle;
use crate::server::session_id::SessionId;
use crate::server::workers::file_task::Fetched;
use crate::server::workers::listing::Listing;
use crate::storage::{StagedUpload, StorageError};

/// A result for a connection.
pub(crate) enum Completion<K: Kernel> {
    /// The response to a request, and the object that it opened.
    Response(Response, OpenHandle<K>),
    /// The result of publishing an upload.
    TransferDone(Result<(), ErrorCode>),
    /// The next range of a download is in memory.
    Fetched(io::Result<Fetched>),
    /// A worker has written bytes of an upload. A failed upload is lost.
    Written(Result<Box<StagedUpload<K>>, StorageError>),
}

impl<K: Kernel> Completion<K> {
    /// A response that opens nothing.
    pub(crate) fn plain(response: Response) -> Completion<K> {
        Completion::Response(response, OpenHandle::Nothing)
    }

    /// The response to a listing.
    pub(crate) fn listing(listing: Arc<Listing>) -> Completion<K> {
        let response = Response::Listing {
            length: listing.text.len() as u64,
            entries: listing.entries,
        };
        Completion::Response(response, OpenHandle::Listing(listing))
    }

    /// A refusal.
    pub(crate) fn refused(code: ErrorCode) -> Completion<K> {
        Completion::plain(Response::Refused(code))
    }
}

/// How a request is handled.
pub(crate) enum Handled<K: Kernel> {
    /// Complete.
    Now(Completion<K>),
    /// In progress: the completion is delivered to the session later.
    Later,
}

impl<K: Kernel> Handled<K> {
    /// Complete, with a response that opens nothing.
    pub(crate) fn now(response: Response) -> Handled<K> {
        Handled::Now(Completion::plain(response))
    }
}

/// Completions on their way to their connections.
pub(crate) struct CompletionQueue<K: Kernel> {
    queue: VecDeque<(SessionId, Completion<K>)>,
}

impl<K: Kernel> CompletionQueue<K> {
    pub(crate) fn new() -> CompletionQueue<K> {
        CompletionQueue {
            queue: VecDeque::new(),
        }
    }

    pub(crate) fn push(&mut self, session_id: SessionId, completion: Completion<K>) {
        self.queue.push_back((session_id, completion));
    }

    pub(crate) fn pop(&mut self) -> Option<(SessionId, Completion<K>)> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns the completions that were not received yet.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Completion<K>> {
        self.queue.iter_mut().map(|(_, completion)| completion)
    }
}

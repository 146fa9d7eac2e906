//! Files, listings and uploads that requests opened.

use std::sync::Arc;

use crate::kernel::Kernel;
use crate::server::workers::listing::Listing;
use crate::storage::{OpenFile, StagedUpload};

/// The object that a response refers to. It does not pass through the session: the connection keeps
/// it until the session sends or receives.
pub(crate) enum OpenHandle<K: Kernel> {
    Nothing,
    File(Arc<OpenFile<K>>),
    Listing(Arc<Listing>),
    Upload(Box<StagedUpload<K>>),
}

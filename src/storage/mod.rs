//! The files of users: paths become files beneath a granted directory here, and nowhere else.
//!
//! Must not know: sessions, sockets, the text of any protocol.

mod error;
mod listing;
mod modify;
mod open_files;
mod orphans;
mod quota;
mod resolve;
mod status;
mod storage_use;
mod temp_names;
mod upload;
mod walk;

pub use crate::storage::error::{FileFault, StorageError};
pub use crate::storage::listing::{EntryDetail, EntryReader, ListingSummary};
pub use crate::storage::modify::{Modification, PendingModification, make_directory};
pub use crate::storage::open_files::{CloseFile, OpenFile, OpenFileCache, open_file};
pub use crate::storage::orphans::OrphanSweep;
pub use crate::storage::quota::{
    QuotaLedger, QuotaLimit, QuotaReservation, UsageChange, UsageScan,
};
pub use crate::storage::status::{
    check_free_space, file_status, find_device, free_space, leads_beyond, probe,
};
pub use crate::storage::storage_use::StorageUse;
pub use crate::storage::upload::{
    StagedUpload, UploadSpec, check_upload, create_unique_upload, create_upload,
};

#[cfg(test)]
pub(crate) mod tests;

//! The text of a listing: storage yields the entries, the protocol formats them.

use std::sync::Arc;

use crate::domain::error::ErrorCode;
use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::kernel::devices::Devices;
use crate::kernel::{Kernel, Status};
use crate::limits::LISTING_BYTES_MAX;
use crate::protocol;
use crate::server::policy::memory_use::MemoryCharge;
use crate::server::workers::token::JobToken;
use crate::storage::{EntryDetail, EntryReader, FileFault, StorageError};

/// A listing as text.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The entries in one format, at most [`LISTING_BYTES_MAX`] bytes.
    pub(crate) text: Vec<u8>,
    /// How many there are.
    pub(crate) entries: usize,
    /// The directory's status before it was read, where the text depends on nothing else: while it
    /// stays the same, all users who can read the directory share the listing.
    pub(crate) status: Option<Status>,
    /// The first error that left out an entry because its status is unknown.
    pub(crate) fault: Option<FileFault>,
    /// The memory of the text, until the last session has sent it.
    pub(crate) _charge: MemoryCharge,
}

/// Why there is no listing.
#[derive(Debug)]
pub(crate) enum ListingError {
    /// The text does not fit into the memory that is left.
    OutOfMemory,
    Failed(StorageError),
}

impl From<StorageError> for ListingError {
    fn from(error: StorageError) -> ListingError {
        ListingError::Failed(error)
    }
}

/// A listing to be made: granted directories in their own order, entries sorted by the bytes of
/// their names.
pub(crate) struct ListingJob {
    /// Identifies it among the listings in progress.
    pub(crate) id: u64,
    pub(crate) target: ListingTarget,
    pub(crate) format: ListingFormat,
    /// The devices of the granted directories.
    pub(crate) devices: Arc<Devices>,
    /// The memory that the listing may take.
    pub(crate) charge: MemoryCharge,
}

impl ListingJob {
    /// Makes the listing. The result of a cancelled job is an error.
    pub(super) fn run<K: Kernel>(
        self,
        kernel: &K,
        token: &JobToken,
    ) -> Result<Listing, ListingError> {
        list_within(kernel, self, LISTING_BYTES_MAX, token)
    }
}

/// [`ListingJob::run`] with another limit, for the tests.
fn list_within<K: Kernel>(
    kernel: &K,
    mut job: ListingJob,
    bytes_max: usize,
    token: &JobToken,
) -> Result<Listing, ListingError> {
    let (target, format) = (&job.target, job.format);
    let detail = match format.needs_only_names() {
        true => EntryDetail::Kind,
        false => EntryDetail::Status,
    };
    let reader = EntryReader::open(kernel, target, detail, bytes_max)?;
    let mut reader = reader.with_devices(&job.devices);
    let now = kernel.unix_time();
    let name_bytes = reader.name_bytes();
    if !job.charge.cover(2 * name_bytes) {
        return Err(ListingError::OutOfMemory);
    }
    let mut text = Vec::with_capacity(name_bytes);
    let mut entries = 0;
    while let Some(entry) = reader.next_entry() {
        protocol::listing::append(&mut text, format, &entry, now);
        entries += 1;
        if token.is_cancelled() {
            return Err(StorageError::from(ErrorCode::DirectoryUnreadable).into());
        }
        if text.len() > bytes_max {
            return Err(reader.too_long(bytes_max).into());
        }
        if !job.charge.cover(text.len()) {
            return Err(ListingError::OutOfMemory);
        }
    }
    let summary = reader.into_summary();
    text.shrink_to_fit();
    job.charge.set(text.len());
    Ok(Listing {
        text,
        entries,
        status: summary.directory_status,
        fault: summary.fault,
        _charge: job.charge,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::server::policy::memory_use::MemoryUse;
    use crate::storage::tests::{READ, TestDirectory, code_of};

    fn job(target: &ListingTarget, format: ListingFormat) -> ListingJob {
        ListingJob {
            id: 0,
            target: target.clone(),
            format,
            devices: Arc::default(),
            charge: MemoryUse::default().charge(None, 0, usize::MAX),
        }
    }

    fn directory() -> (TestDirectory, ListingTarget) {
        let directory = TestDirectory::new();
        for name in ["one", "two", "three"] {
            fs::write(directory.at(name), "").unwrap();
        }
        let target = ListingTarget::Directory(directory.place("", READ));
        (directory, target)
    }

    #[test]
    fn the_format_decides_about_the_text() {
        let (directory, target) = directory();
        let text = |target: &ListingTarget, format| {
            let job = job(target, format);
            let listing = job.run(&*directory.kernel, &JobToken::default()).unwrap();
            (String::from_utf8(listing.text).unwrap(), listing.entries)
        };
        let names = text(&target, ListingFormat::Names);
        assert_eq!(names, ("one, three, two".to_owned(), 3));
        let lines = text(&target, ListingFormat::Lines);
        assert_eq!(lines, ("one\r\nthree\r\ntwo\r\n".to_owned(), 3));
        let matches = ListingTarget::Path {
            path: directory.place("t*", READ),
            prefix: "/Movies/".to_owned(),
            glob: true,
        };
        let lines = text(&matches, ListingFormat::Lines);
        let expected = "/Movies/three\r\n/Movies/two\r\n".to_owned();
        assert_eq!(lines, (expected, 2));
    }

    #[test]
    fn a_text_beyond_the_limit_is_refused() {
        let (directory, target) = directory();
        let within = |format, bytes_max| {
            let (job, token) = (job(&target, format), JobToken::default());
            match list_within(&*directory.kernel, job, bytes_max, &token) {
                Ok(listing) => Ok(listing.text.len()),
                Err(ListingError::Failed(error)) => Err(error),
                Err(ListingError::OutOfMemory) => panic!("there is memory"),
            }
        };
        // The names have 11 bytes, and 15 with their separators.
        for (format, bytes_max) in [
            (ListingFormat::Names, 10),
            (ListingFormat::Names, 14),
            (ListingFormat::Details, 50),
        ] {
            let error = within(format, bytes_max).unwrap_err();
            assert_eq!(error.code, ErrorCode::DirectoryUnreadable);
            let fault = error.fault.unwrap();
            assert_eq!(
                (fault.operation, &fault.path),
                ("listing", &directory.at(""))
            );
            let expected = format!("longer than {bytes_max} bytes");
            assert_eq!(fault.source.to_string(), expected);
        }
        assert_eq!(code_of(within(ListingFormat::Names, 15)), Ok(15));
    }

    #[test]
    fn a_text_beyond_the_memory_that_is_left_is_made_later() {
        let (directory, target) = directory();
        let memory = MemoryUse::default();
        let list = |sum_max| {
            let charge = memory.charge(None, 1, sum_max);
            let job = ListingJob {
                charge,
                ..job(&target, ListingFormat::Details)
            };
            let listing = job.run(&*directory.kernel, &JobToken::default());
            listing.map(|listing| (memory.bytes(), listing.text.len()))
        };
        assert!(matches!(list(60), Err(ListingError::OutOfMemory)));
        assert_eq!(memory.bytes(), 0);
        let (used, length) = list(1000).unwrap();
        assert_eq!(used, length);
    }
}

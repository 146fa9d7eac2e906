//! The text of a listing: storage yields the entries, the protocol formats them.

use crate::domain::listing::{ListingFormat, ListingTarget};
use crate::kernel::{Kernel, Status};
use crate::limits::LISTING_BYTES_MAX;
use crate::protocol;
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
}

/// Lists a target: granted directories in their own order, entries sorted by the bytes of their
/// names.
pub(crate) fn list<K: Kernel>(
    kernel: &K,
    target: &ListingTarget,
    format: ListingFormat,
) -> Result<Listing, StorageError> {
    list_within(kernel, target, format, LISTING_BYTES_MAX)
}

/// [`list`] with another limit, for the tests.
fn list_within<K: Kernel>(
    kernel: &K,
    target: &ListingTarget,
    format: ListingFormat,
    bytes_max: usize,
) -> Result<Listing, StorageError> {
    let detail = match format.needs_only_names() {
        true => EntryDetail::Kind,
        false => EntryDetail::Status,
    };
    let mut reader = EntryReader::open(kernel, target, detail, bytes_max)?;
    let now = kernel.unix_time();
    let mut text = Vec::with_capacity(reader.name_bytes());
    let mut entries = 0;
    while let Some(entry) = reader.next_entry() {
        protocol::listing::append(&mut text, format, &entry, now);
        entries += 1;
        if text.len() > bytes_max {
            return Err(reader.too_long(bytes_max));
        }
    }
    let summary = reader.into_summary();
    Ok(Listing {
        text,
        entries,
        status: summary.directory_status,
        fault: summary.fault,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::domain::error::ErrorCode;
    use crate::storage::tests::{READ, TestDirectory, code_of};

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
            let listing = list(&*directory.kernel, target, format).unwrap();
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
            let listing = list_within(&*directory.kernel, &target, format, bytes_max);
            listing.map(|listing| listing.text.len())
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
}

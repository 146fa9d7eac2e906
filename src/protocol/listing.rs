//! Formats listings: storage yields entries, and this module turns each into text.

use crate::domain::listing::{ListingEntry, ListingFormat};
use crate::protocol::ftp::listing as ftp;
use crate::protocol::menu::text as menu;

/// Appends one entry to a listing. `now`, in seconds since 1970, decides how LIST shows times.
///
/// Names in [`ListingFormat::Names`] are separated, so `out` must hold this listing only.
pub fn append(out: &mut Vec<u8>, format: ListingFormat, entry: &ListingEntry<'_>, now: i64) {
    let ListingEntry { name, status, .. } = entry;
    match format {
        ListingFormat::Names => menu::append_name(out, name, status.is_directory),
        ListingFormat::Details => {
            let (size, modified) = (status.size, status.modified);
            menu::append_details(out, name, status.is_directory, size, modified);
        }
        ListingFormat::Lines => ftp::append_name(out, entry.prefix, name),
        ListingFormat::Long => ftp::append_long(out, name, status, entry.rights, now),
        ListingFormat::Facts(facts) => {
            ftp::append_facts(out, facts, status, entry.rights);
            out.push(b' ');
            ftp::append_name(out, "", name);
        }
    }
}

//! The entries of a listing, in the order of their names' bytes.
//!
//! Only what can be downloaded or entered is listed: regular files, directories, and links that
//! lead to either within the granted directory. Names that are not UTF-8, names with control
//! characters, the server's own files, and without the right to them names that begin with a dot
//! are left out.

use std::io;
use std::path::PathBuf;
use std::slice;
use std::sync::Arc;

use crate::domain::access::Grant;
use crate::domain::error::ErrorCode;
use crate::domain::glob;
use crate::domain::listing::{FileStatus, ListingEntry, ListingTarget};
use crate::domain::path::GrantedPath;
use crate::kernel::devices::Devices;
use crate::kernel::errors::is_absent;
use crate::kernel::{FileKind, Kernel, Status};
use crate::limits;
use crate::storage::error::{FileFault, StorageError};
use crate::storage::resolve::{full_path, join, open_directory, open_root, status_beneath};
use crate::storage::status::file_status;

/// Reads the entries of a listing one by one.
pub struct EntryReader<'a, K: Kernel> {
    kernel: &'a K,
    devices: Option<&'a Devices>,
    source: EntrySource<'a, K>,
    /// The directory's status before its names were read; `None` as soon as an entry depends on
    /// more than its directory.
    directory_status: Option<Status>,
    fault: Option<FileFault>,
}

enum EntrySource<'a, K: Kernel> {
    /// The granted directories of a user.
    Grants {
        grants: slice::Iter<'a, Arc<Grant>>,
        pattern: Option<&'a str>,
    },
    /// A single file.
    File(Option<ListingEntry<'a>>),
    /// A directory without the right to read it.
    Hidden,
    Directory(OpenDirectory<'a, K>),
}

/// The attributes of an entry that a listing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryDetail {
    /// Whether it is a directory. Most file systems report that with the name (getdents64(2)), so
    /// that no further call is needed.
    Kind,
    /// Its whole status.
    Status,
}

/// The result of [`EntryReader`] besides the entries.
#[derive(Debug, Default)]
pub struct ListingSummary {
    /// The directory's status before it was read, where the entries depend on nothing else: while
    /// it stays the same, the listing stays valid for all users who can read the directory. `None`
    /// where sizes, times, links or rights matter.
    pub directory_status: Option<Status>,
    /// Why an entry was left out whose status is unknown; the first such error.
    pub fault: Option<FileFault>,
}

impl<'a, K: Kernel> EntryReader<'a, K> {
    /// Opens the target and reads its names, but no status yet. Granted directories come in their
    /// own order. A directory that the user may not read has no entries.
    ///
    /// # Errors
    /// Also where the names alone have more than `bytes_max` bytes.
    pub fn open(
        kernel: &'a K,
        target: &'a ListingTarget,
        detail: EntryDetail,
        bytes_max: usize,
    ) -> Result<EntryReader<'a, K>, StorageError> {
        let options = ReadOptions {
            detail,
            prefix: "",
            pattern: None,
            bytes_max,
        };
        match target {
            ListingTarget::Top { access, pattern } => Ok(EntryReader::new(
                kernel,
                EntrySource::Grants {
                    grants: access.grants.iter(),
                    pattern: pattern.as_deref(),
                },
            )),
            ListingTarget::Directory(place) => {
                EntryReader::open_directory(kernel, place, &place.relative, options)
            }
            ListingTarget::Path {
                path: place,
                prefix,
                glob,
            } => {
                let (above, last) = match place.relative.rsplit_once('/') {
                    Some((above, last)) => (above, last),
                    None => ("", place.relative.as_str()),
                };
                match file_status(kernel, place) {
                    Ok(found) if found.is_directory => {
                        EntryReader::open_directory(kernel, place, &place.relative, options)
                    }
                    Ok(status) => {
                        let entry = ListingEntry {
                            prefix,
                            name: last,
                            status,
                            rights: place.grant.rights,
                        };
                        let source = EntrySource::File(Some(entry));
                        Ok(EntryReader::new(kernel, source))
                    }
                    Err(_) if *glob && glob::is_pattern(last) => {
                        let options = ReadOptions {
                            prefix,
                            pattern: Some(last),
                            ..options
                        };
                        EntryReader::open_directory(kernel, place, above, options)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    fn new(kernel: &'a K, source: EntrySource<'a, K>) -> EntryReader<'a, K> {
        EntryReader {
            kernel,
            devices: None,
            source,
            directory_status: None,
            fault: None,
        }
    }

    /// Opens the directory `below` in the granted one.
    fn open_directory(
        kernel: &'a K,
        place: &'a GrantedPath,
        below: &'a str,
        options: ReadOptions<'a>,
    ) -> Result<EntryReader<'a, K>, StorageError> {
        if !below.is_empty() && !below.split('/').all(|name| place.admits(name)) {
            return Err(ErrorCode::NoSuchDirectory.into());
        }
        let root = open_root(kernel, place)?;
        let file = open_directory(kernel, &root, place, below)?;
        if !place.grant.rights.read {
            return Ok(EntryReader::new(kernel, EntrySource::Hidden));
        }
        let status = kernel
            .status(&file)
            .map_err(|error| unreadable(place, error))?;
        let mut names = Names::read(kernel, &file, place, &options)
            .map_err(|error| unreadable(place, error))?;
        names.sort();
        let directory = OpenDirectory {
            place,
            below,
            root,
            file,
            names,
            next: 0,
            options,
        };
        Ok(EntryReader {
            directory_status: Some(status),
            ..EntryReader::new(kernel, EntrySource::Directory(directory))
        })
    }

    /// Lets the listing of granted directories wait for none of them: of those on a device that may
    /// wait it shows the status that was last read.
    pub fn with_devices(self, devices: &'a Devices) -> EntryReader<'a, K> {
        EntryReader {
            devices: Some(devices),
            ..self
        }
    }

    /// Bytes of all names together, a lower bound for the text of the listing.
    pub fn name_bytes(&self) -> usize {
        match &self.source {
            EntrySource::Directory(directory) => directory.names.text.len(),
            _ => 0,
        }
    }

    /// The next entry. Entries whose status cannot be determined are left out.
    pub fn next_entry(&mut self) -> Option<ListingEntry<'_>> {
        match &mut self.source {
            EntrySource::Grants { grants, pattern } => grants.find_map(|grant| {
                if !pattern.is_none_or(|pattern| glob::matches(pattern, &grant.name)) {
                    return None;
                }
                let found = match self.devices.map(|devices| devices.status(&grant.path)) {
                    Some((false, last)) => last?,
                    Some((true, _)) | None => self.kernel.status_by_path(&grant.path).ok()?,
                };
                (found.kind == FileKind::Directory).then(|| ListingEntry {
                    prefix: "",
                    name: &grant.name,
                    status: found.into(),
                    rights: grant.rights,
                })
            }),
            EntrySource::File(entry) => entry.take(),
            EntrySource::Hidden => None,
            EntrySource::Directory(directory) => {
                directory.next_entry(self.kernel, &mut self.directory_status, &mut self.fault)
            }
        }
    }

    /// The error for a listing whose text is longer than `bytes_max`.
    pub fn too_long(&self, bytes_max: usize) -> StorageError {
        match &self.source {
            EntrySource::Directory(directory) => {
                unreadable(directory.place, longer_than(bytes_max))
            }
            _ => StorageError::with_fault(
                ErrorCode::DirectoryUnreadable,
                "listing",
                PathBuf::new(),
                longer_than(bytes_max),
            ),
        }
    }

    /// Facts that were learned on the way.
    pub fn into_summary(self) -> ListingSummary {
        ListingSummary {
            directory_status: self.directory_status,
            fault: self.fault,
        }
    }
}

/// How a directory is read.
#[derive(Clone, Copy)]
struct ReadOptions<'a> {
    detail: EntryDetail,
    /// The prefix of each entry.
    prefix: &'a str,
    /// Names that do not match are left out.
    pattern: Option<&'a str>,
    /// Bytes that the names may have.
    bytes_max: usize,
}

impl ReadOptions<'_> {
    fn matches(&self, name: &str) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, name))
    }
}

struct OpenDirectory<'a, K: Kernel> {
    place: &'a GrantedPath,
    below: &'a str,
    root: K::File,
    file: K::File,
    names: Names,
    /// Index of the next name.
    next: usize,
    options: ReadOptions<'a>,
}

impl<K: Kernel> OpenDirectory<'_, K> {
    fn next_entry(
        &mut self,
        kernel: &K,
        directory_status: &mut Option<Status>,
        fault: &mut Option<FileFault>,
    ) -> Option<ListingEntry<'_>> {
        loop {
            let span = *self.names.spans.get(self.next)?;
            self.next += 1;
            let status = match span.kind {
                Some(kind @ (FileKind::File | FileKind::Directory))
                    if self.options.detail == EntryDetail::Kind =>
                {
                    FileStatus {
                        is_directory: kind == FileKind::Directory,
                        size: 0,
                        modified: 0,
                        identity: (0, 0),
                    }
                }
                _ => {
                    *directory_status = None;
                    let name = self.names.name(span);
                    match self.servable_status(kernel, name, span.kind) {
                        Ok(Some(found)) => found.into(),
                        Ok(None) => continue,
                        Err(source) => {
                            fault.get_or_insert_with(|| FileFault {
                                operation: "listing",
                                path: full_path(self.place, self.below).join(name),
                                source,
                            });
                            continue;
                        }
                    }
                }
            };
            return Some(ListingEntry {
                prefix: self.options.prefix,
                name: self.names.name(span),
                status,
                rights: self.place.grant.rights,
            });
        }
    }

    /// The status of a name, links followed, if it is a file or a directory.
    fn servable_status(
        &self,
        kernel: &K,
        name: &str,
        kind: Option<FileKind>,
    ) -> io::Result<Option<Status>> {
        let found = match kind {
            Some(FileKind::Link) => None,
            _ => Some(kernel.status_at(&self.file, name)),
        };
        let found = match found {
            Some(Ok(found)) if found.kind != FileKind::Link => Ok(found),
            Some(Err(error)) => Err(error),
            // A link may climb up to the granted directory, so it is resolved from there.
            _ if self.below.is_empty() => status_beneath(kernel, &self.root, name),
            _ => status_beneath(kernel, &self.root, &join(self.below, name)),
        };
        match found {
            Ok(found) => {
                Ok(matches!(found.kind, FileKind::File | FileKind::Directory).then_some(found))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The names of a directory in one allocation.
struct Names {
    text: String,
    spans: Vec<NameSpan>,
}

#[derive(Clone, Copy)]
struct NameSpan {
    /// First byte in the text.
    start: u32,
    length: u8,
    /// The kind, where the directory reports it.
    kind: Option<FileKind>,
}

const _: () = assert!(
    limits::LISTING_BYTES_MAX <= u32::MAX as usize && limits::NAME_BYTES_MAX <= u8::MAX as usize,
    "a span can hold its start and its length"
);

impl Names {
    /// Reads the names that can be listed.
    fn read<K: Kernel>(
        kernel: &K,
        directory: &K::File,
        place: &GrantedPath,
        options: &ReadOptions<'_>,
    ) -> io::Result<Names> {
        let bytes_max = options.bytes_max;
        let mut names = Names {
            text: String::new(),
            spans: Vec::new(),
        };
        let mut is_complete = true;
        kernel.read_directory(directory, &mut |name, kind| {
            let Ok(name) = str::from_utf8(name) else {
                return true;
            };
            if kind == Some(FileKind::Other) || !place.admits(name) || !options.matches(name) {
                return true;
            }
            is_complete = names.text.len() + name.len() <= bytes_max;
            if is_complete {
                names.spans.push(NameSpan {
                    start: names.text.len() as u32,
                    length: name.len() as u8,
                    kind,
                });
                names.text.push_str(name);
            }
            is_complete
        })?;
        match is_complete {
            true => Ok(names),
            false => Err(longer_than(bytes_max)),
        }
    }

    fn name(&self, span: NameSpan) -> &str {
        &self.text[span.start as usize..][..usize::from(span.length)]
    }

    fn sort(&mut self) {
        let text = self.text.as_bytes();
        let name = |span: &NameSpan| &text[span.start as usize..][..usize::from(span.length)];
        self.spans
            .sort_unstable_by(|one, other| name(one).cmp(name(other)));
    }
}

fn unreadable(place: &GrantedPath, error: io::Error) -> StorageError {
    let path = full_path(place, &place.relative);
    StorageError::with_fault(ErrorCode::DirectoryUnreadable, "listing", path, error)
}

fn longer_than(bytes_max: usize) -> io::Error {
    let text = format!("longer than {bytes_max} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

#[cfg(test)]
mod tests;

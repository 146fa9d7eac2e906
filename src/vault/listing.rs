//! What is in a directory, as text.
//!
//! Only what would be served is listed: regular files, directories, and links that lead to either within the granted
//! directory. Must not know: how an entry is written.

use std::io;

use super::{Refused, check_name, look, open_directory, open_root, path_of, refused};
use crate::kernel::{Kernel, Kind, Status};
use crate::limits;
use crate::protocol::menu_text::{append_details, append_name};
use crate::protocol::{Form, Place, Refusal};

/// A directory's listing.
#[derive(Debug)]
pub struct Listing {
    /// The entries in the form that was asked for, at most [`limits::LISTING_BYTES_MAX`] bytes.
    pub text: Vec<u8>,
    /// How many there are.
    pub entries: usize,
    /// The directory's status before it was read, where the text depends on nothing but the directory itself: as long
    /// as the status is the same, the listing may be given to everybody else who may read there. `None` where sizes,
    /// times, links or the right to read decide too.
    pub status: Option<Status>,
}

/// Lists a directory in the order of its names' bytes. To who may not read there it looks empty.
pub fn list<K: Kernel>(kernel: &K, place: &Place, form: Form) -> Result<Listing, Refused> {
    let below = place.below.as_str();
    if !below.is_empty() && !below.split('/').all(check_name) {
        return Err(Refusal::NoSuchDirectory.into());
    }
    let root = open_root(kernel, place)?;
    let directory = open_directory(kernel, &root, place, below)?;
    if !place.grant.rights.read {
        return Ok(Listing {
            text: Vec::new(),
            entries: 0,
            status: None,
        });
    }
    let failed = |error| unreadable(place, error);
    let status = kernel.status(&directory).map_err(failed)?;
    let mut names = read_names(kernel, &directory).map_err(failed)?;
    names.sort();

    let mut listing = Listing {
        text: Vec::with_capacity(names.text.len()),
        entries: 0,
        status: Some(status),
    };
    for entry in &names.entries {
        let name = names.name(entry);
        match (form, entry.kind) {
            (Form::Names, Some(kind @ (Kind::File | Kind::Directory))) => {
                append_name(&mut listing.text, name, kind == Kind::Directory);
            }
            _ => {
                listing.status = None;
                let Some(found) = served(kernel, &root, &directory, below, name, entry.kind) else {
                    continue;
                };
                let is_directory = found.kind == Kind::Directory;
                match form {
                    Form::Names => append_name(&mut listing.text, name, is_directory),
                    Form::Details => {
                        let (modified, _) = found.modified;
                        append_details(&mut listing.text, name, is_directory, found.size, modified);
                    }
                }
            }
        }
        listing.entries += 1;
        if listing.text.len() > limits::LISTING_BYTES_MAX {
            return Err(failed(too_long()));
        }
    }
    Ok(listing)
}

/// Names of a directory, one behind the other in one piece of memory.
struct Names {
    text: String,
    entries: Vec<Entry>,
}

struct Entry {
    /// First byte in the text.
    start: u32,
    length: u8,
    /// What it is, where the directory tells.
    kind: Option<Kind>,
}

impl Names {
    fn name(&self, entry: &Entry) -> &str {
        &self.text[entry.start as usize..][..usize::from(entry.length)]
    }

    fn sort(&mut self) {
        let text = self.text.as_bytes();
        let name = |entry: &Entry| &text[entry.start as usize..][..usize::from(entry.length)];
        self.entries
            .sort_unstable_by(|one, other| name(one).cmp(name(other)));
    }
}

/// Reads the names that can be served; what they are is not looked at yet.
fn read_names<K: Kernel>(kernel: &K, directory: &K::File) -> io::Result<Names> {
    let mut names = Names {
        text: String::new(),
        entries: Vec::new(),
    };
    let mut is_complete = true;
    kernel.entries(directory, &mut |name, kind| {
        let Ok(name) = str::from_utf8(name) else {
            return true;
        };
        if kind == Some(Kind::Other) || !check_name(name) {
            return true;
        }
        // Neither form writes less than the name.
        is_complete = names.text.len() + name.len() <= limits::LISTING_BYTES_MAX;
        if is_complete {
            names.entries.push(Entry {
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
        false => Err(too_long()),
    }
}

/// The status of what a name leads to, if that would be served.
fn served<K: Kernel>(
    kernel: &K,
    root: &K::File,
    directory: &K::File,
    below: &str,
    name: &str,
    kind: Option<Kind>,
) -> Option<Status> {
    let found = match kind {
        Some(Kind::Link) => None,
        _ => Some(kernel.status_at(directory, name).ok()?),
    };
    let found = match found {
        Some(found) if found.kind != Kind::Link => found,
        // A link is resolved from the granted directory on, since it may climb up to there.
        _ if below.is_empty() => look(kernel, root, name).ok()?,
        _ => look(kernel, root, &format!("{below}/{name}")).ok()?,
    };
    matches!(found.kind, Kind::File | Kind::Directory).then_some(found)
}

fn unreadable(place: &Place, error: io::Error) -> Refused {
    let path = path_of(place, &place.below);
    refused(Refusal::DirectoryUnreadable, "listing", path, error)
}

fn too_long() -> io::Error {
    let text = format!("longer than {} bytes", limits::LISTING_BYTES_MAX);
    io::Error::new(io::ErrorKind::FileTooLarge, text)
}

//! A file on its way in: nobody sees it before it is whole and durable, and nothing of it stays where it does not
//! become so.
//!
//! It comes into a file without a name, which the kernel forgets with its handle. Where the file system has none, it is
//! a dot-led name that [`super::leftovers`] knows, locked for as long as somebody writes to it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Refused, check_free, check_room, enter, is_replaceable, path_of, unwritable};
use crate::kernel::Kernel;
use crate::protocol::{Place, Refusal};

/// Names that are tried for a temporary file; that even the first is taken is beyond all likelihood.
const ATTEMPTS_MAX: usize = 8;

/// An upload that has begun. Dropped, it leaves nothing behind.
pub struct Incoming<K: Kernel> {
    kernel: Arc<K>,
    directory: K::File,
    file: K::File,
    /// The name that it is to get.
    name: String,
    /// Whether what has the name then may be replaced.
    replace: bool,
    /// A name that it has by now, to be removed.
    temporary: Option<String>,
    /// Bytes that have been written.
    offset: u64,
    /// Bytes that were announced.
    length: u64,
    /// For faults.
    path: PathBuf,
}

/// Makes ready to receive a file of `length` bytes: judges its name, and reserves room where the file system can.
pub fn create<K: Kernel>(
    kernel: &Arc<K>,
    place: &Place,
    length: u64,
) -> Result<Incoming<K>, Refused> {
    let (directory, name) = enter(&**kernel, place)?;
    check_free(&**kernel, &directory, name, place)?;
    let path = path_of(place, &place.below);
    check_room(&**kernel, &directory, length, &path)?;
    let (file, temporary) = match kernel.create_unnamed(&directory) {
        Ok(file) => (file, None),
        Err(error) if has_no_unnamed(&error) => create_named(&**kernel, &directory)
            .map_err(|error| unwritable("making", path.clone(), error))?,
        Err(error) => return Err(unwritable("making", path, error)),
    };
    let incoming = Incoming {
        kernel: kernel.clone(),
        directory,
        file,
        name: name.to_owned(),
        replace: place.grant.rights.change,
        temporary,
        offset: 0,
        length,
        path,
    };
    match kernel.reserve(&incoming.file, length) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            Err(incoming.failed("reserving room for", error))
        }
        _ => Ok(incoming),
    }
}

impl<K: Kernel> Incoming<K> {
    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        self.length - self.offset
    }

    /// Writes the next bytes, at most [`Incoming::left`] of them. After a refusal nothing more can be done but to drop it.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        assert!(bytes.len() as u64 <= self.left(), "more than was announced");
        while !bytes.is_empty() {
            match self.kernel.write_at(&self.file, bytes, self.offset) {
                Ok(0) => return Err(self.failed("writing", io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(error) => return Err(self.failed("writing", error)),
            }
        }
        Ok(())
    }

    /// Gives the whole file its name, once its content is on the disk, and waits until the name is there too. What was
    /// there before is replaced whole and at once, and only where the user may; a link is replaced, not followed.
    ///
    /// Where only the very last step fails, the file is there and whole, and may be gone after a crash.
    pub fn commit(mut self) -> Result<(), Refused> {
        assert_eq!(self.left(), 0, "not all has come");
        self.kernel
            .sync(&self.file)
            .map_err(|error| self.failed("syncing", error))?;
        match self.publish() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.replace {
                    return Err(Refusal::FileExists.into());
                }
                self.publish_over()?;
            }
            result => result.map_err(|error| self.failed("naming", error))?,
        }
        self.kernel
            .sync(&self.directory)
            .map_err(|error| self.failed("syncing", error))
    }

    /// Gives the file its name, which must be new.
    fn publish(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return self.kernel.link(&self.file, &self.directory, &self.name);
        };
        let renamed = self
            .kernel
            .rename(&self.directory, temporary, &self.name, false);
        match renamed {
            // A file system that cannot rename so may know a second name; the drop takes the first.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.kernel.link(&self.file, &self.directory, &self.name)
            }
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            error => error,
        }
    }

    /// Gives the file a name that a file or a link has.
    fn publish_over(&mut self) -> Result<(), Refused> {
        match self.kernel.status_at(&self.directory, &self.name) {
            Ok(found) if !is_replaceable(found.kind) => return Err(Refusal::FileExists.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("looking at", error));
            }
            _ => {}
        }
        // To rename over it the file needs a name first, and before that the lock, or a sweep could take it.
        if self.temporary.is_none() {
            let _ = self.kernel.lock(&self.file); // where there are no locks, there is no sweep
            let link = |name: &str| self.kernel.link(&self.file, &self.directory, name);
            let (name, ()) = new_name(link).map_err(|error| self.failed("naming", error))?;
            self.temporary = Some(name);
        }
        let temporary = self.temporary.as_deref().expect("it has one by now");
        match self
            .kernel
            .rename(&self.directory, temporary, &self.name, true)
        {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(Refusal::FileExists.into())
            }
            Err(error) => Err(self.failed("naming", error)),
        }
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Refused {
        unwritable(doing, self.path.clone(), error)
    }
}

impl<K: Kernel> Drop for Incoming<K> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // If this fails too, the sweep after the next start finds it.
            let _ = self.kernel.remove(&self.directory, temporary);
        }
    }
}

/// Whether `name` is one that a temporary file is given here.
pub(super) fn is_temporary(name: &str) -> bool {
    let digits = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|digits| {
        digits.len() == 16
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

const PREFIX: &str = ".tidegate-";
const SUFFIX: &str = ".part";

/// Makes something under a temporary name that nobody else has.
fn new_name<T>(make: impl Fn(&str) -> io::Result<T>) -> io::Result<(String, T)> {
    for _ in 0..ATTEMPTS_MAX {
        let name = format!("{PREFIX}{:016x}{SUFFIX}", getrandom::u64()?);
        match make(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result.map(|made| (name, made)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// A new file with a temporary name, locked.
fn create_named<K: Kernel>(
    kernel: &K,
    directory: &K::File,
) -> io::Result<(K::File, Option<String>)> {
    let make = |name: &str| {
        let file = kernel.create_named(directory, name)?;
        match kernel.lock(&file) {
            // A sweep was there first and is about to remove it: as good as taken.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            _ => match kernel.status_at(directory, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(io::ErrorKind::AlreadyExists.into()) // it has removed it already
                }
                _ => Ok(file),
            },
        }
    };
    new_name(make).map(|(name, file)| (file, Some(name)))
}

/// Whether an error says that there are no unnamed files here: the file system's word, or that of a kernel that takes
/// O_TMPFILE for a directory.
fn has_no_unnamed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory
    )
}

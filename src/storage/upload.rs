//! A file on its way in: nobody sees it before it is whole and durable, and nothing of it stays where it does not
//! become so.
//!
//! It comes into a file without a name, which the kernel forgets with its handle. Where the file system has none, it is
//! a dot-led name that [`crate::storage::orphans`] knows, locked for as long as somebody writes to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::UploadBase;
use crate::kernel::{Kernel, Kind, Open, Status};
use crate::limits::{COPY_SLICE_BYTES, TRANSFER_BUFFER_BYTES};
use crate::storage::quota::Settled;
use crate::storage::{
    Claim, Refused, check_free, check_room, enter, is_absent, is_replaceable, path_of, refused,
    unwritable,
};

/// Bytes after which an upload looks again whether enough stays free.
const ROOM_STEP_BYTES: u64 = 1 << 20;

/// Names that are tried for a temporary file; that even the first is taken is beyond all likelihood.
const ATTEMPTS_MAX: usize = 8;

/// An upload that has begun. Dropped, it leaves nothing behind.
pub struct StagedUpload<K: Kernel> {
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
    /// Bytes that it may have at most.
    most: u64,
    base: Option<FileStatus<K>>,
    /// What it may take of quotas.
    claim: Option<Claim>,
    /// Bytes that have to stay free.
    keep_free: u64,
    /// Why it is never to have its name.
    spoilt: Option<ErrorCode>,
    /// For faults.
    path: PathBuf,
}

/// The file that an upload builds on.
struct FileStatus<K: Kernel> {
    file: K::File,
    /// What had the name then: only as long as it is unchanged, the upload may replace it.
    named: Status,
    /// Where what is copied of it ends.
    end: u64,
}

/// What is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Announced bytes, if any were; room is reserved for them.
    pub length: Option<u64>,
    /// Bytes that the whole file may have.
    pub most: u64,
    /// What they are put behind.
    pub base: UploadBase,
    /// Bytes that have to stay free in the file system.
    pub keep_free: u64,
}

/// Makes ready to receive a file: judges its name, and reserves room where the file system can. What it builds on is to
/// be copied by [`StagedUpload::fill`] before the first byte is written.
pub fn create<K: Kernel>(
    kernel: &Arc<K>,
    place: &GrantedPath,
    wanted: Wanted,
) -> Result<StagedUpload<K>, Refused> {
    create_with(kernel, place, wanted, K::create_unnamed)
}

/// [`create`] under a name in `directory` that nobody has.
pub fn create_unique<K: Kernel>(
    kernel: &Arc<K>,
    directory: &GrantedPath,
    wanted: Wanted,
) -> Result<StagedUpload<K>, Refused> {
    let mut attempt = 1;
    loop {
        let number = kernel.random().map_err(|error| {
            let path = path_of(directory, &directory.relative);
            unwritable("naming something in", path, error)
        })?;
        let name = format!("upload-{number:016x}");
        let below = match directory.relative.as_str() {
            "" => name,
            below => format!("{below}/{name}"),
        };
        let grant = directory.grant.clone();
        match create(
            kernel,
            &GrantedPath {
                grant,
                relative: below,
            },
            wanted,
        ) {
            Err(taken) if taken.refusal == ErrorCode::FileExists && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            result => {
                return result.map(|mut incoming| {
                    incoming.replace = false;
                    incoming
                });
            }
        }
    }
}

/// [`create`] with another way to an unnamed file, for the tests.
fn create_with<K: Kernel>(
    kernel: &Arc<K>,
    place: &GrantedPath,
    wanted: Wanted,
    create_unnamed: fn(&K, &K::File) -> io::Result<K::File>,
) -> Result<StagedUpload<K>, Refused> {
    let (directory, name) = enter(&**kernel, place)?;
    check_free(&**kernel, &directory, name, place)?;
    let path = path_of(place, &place.relative);
    let base = open_base(&**kernel, &directory, name, place, wanted.base)?;
    let copied = base.as_ref().map_or(0, |base| base.end);
    let length = copied.saturating_add(wanted.length.unwrap_or(0));
    if length > wanted.most {
        return Err(ErrorCode::TooLarge.into());
    }
    check_room(
        &**kernel,
        &directory,
        length.saturating_add(wanted.keep_free),
        &path,
    )?;
    let made = match create_unnamed(kernel, &directory) {
        Err(error) if has_no_unnamed(&error) => create_named(&**kernel, &directory),
        result => result.map(|file| (file, None)),
    };
    let (file, temporary) = made.map_err(|error| unwritable("making", path.clone(), error))?;
    let incoming = StagedUpload {
        kernel: kernel.clone(),
        directory,
        file,
        name: name.to_owned(),
        replace: place.grant.rights.change,
        temporary,
        offset: 0,
        most: wanted.most,
        base,
        claim: None,
        keep_free: wanted.keep_free,
        spoilt: None,
        path,
    };
    match kernel.reserve(&incoming.file, length) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            Err(incoming.failed("reserving room for", error))
        }
        // Others have reserved theirs meanwhile.
        _ => incoming.check_free_room().map(|()| incoming),
    }
}

impl<K: Kernel> StagedUpload<K> {
    /// Where it is to lie: the granted directory's path and a client's words below it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it is to get.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that it has so far, those that it builds on included.
    pub fn length(&self) -> u64 {
        self.offset
    }

    /// Copies a slice of what it builds on; true when nothing of that is left. It may take a while: for a worker.
    pub fn fill(&mut self) -> Result<bool, Refused> {
        let Some(base) = &self.base else {
            return Ok(true);
        };
        let stop = base.end.min(self.offset + COPY_SLICE_BYTES as u64);
        let mut buffer = Vec::new();
        while self.offset < stop {
            let count = (stop - self.offset) as usize;
            let copied = match buffer.is_empty() {
                true => self.kernel.copy(&base.file, &self.file, self.offset, count),
                false => self.copy_through(&base.file, &mut buffer, count),
            };
            match copied {
                Ok(0) => return Err(ErrorCode::OffsetBeyondEnd.into()), // it was cut meanwhile
                Ok(copied) => self.offset += copied as u64,
                Err(error) if buffer.is_empty() && cannot_copy(&error) => {
                    buffer = vec![0; TRANSFER_BUFFER_BYTES];
                }
                Err(error) => return Err(self.failed("copying", error)),
            }
        }
        Ok(self.offset == base.end)
    }

    /// Copies through user space where the kernel cannot do it.
    fn copy_through(&self, from: &K::File, buffer: &mut [u8], count: usize) -> io::Result<usize> {
        let count = count.min(buffer.len());
        let read = self
            .kernel
            .read_at(from, &mut buffer[..count], self.offset)?;
        match read {
            0 => Ok(0),
            _ => self
                .kernel
                .write_at(&self.file, &buffer[..read], self.offset),
        }
    }

    /// Sets what it may take of quotas; what it builds on counts too.
    pub fn claimed(mut self, claim: Claim) -> Result<StagedUpload<K>, Refused> {
        let length = self.base.as_ref().map_or(0, |base| base.end);
        let claim = self.claim.insert(claim);
        claim.cover(length)?;
        Ok(self)
    }

    /// Refuses where less is free than has to stay so.
    fn check_free_room(&self) -> Result<(), Refused> {
        match self.keep_free {
            0 => Ok(()),
            keep_free => check_room(&*self.kernel, &self.directory, keep_free, &self.path),
        }
    }

    /// Writes the next bytes. After a refusal nothing more can be done but to drop it.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        if bytes.len() as u64 > self.most - self.offset {
            return Err(ErrorCode::TooLarge.into());
        }
        let end = self.offset + bytes.len() as u64;
        if let Some(claim) = &mut self.claim {
            claim.cover(end)?;
        }
        // What was not announced takes room that was not reserved.
        if end / ROOM_STEP_BYTES > self.offset / ROOM_STEP_BYTES {
            self.check_free_room()?;
        }
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

    /// What came of it is not the file: [`StagedUpload::commit`] gives its room back and fails so.
    pub fn spoil(&mut self, why: ErrorCode) {
        self.spoilt = Some(why);
    }

    /// Gives the whole file its name, once its content is on the disk, and waits until the name is there too. What was
    /// there before is replaced whole and at once, and only where the user may; a link is replaced, not followed.
    ///
    /// Where only the very last step fails, the file is there and whole, and may be gone after a crash.
    pub fn commit(mut self) -> Result<(), Refused> {
        if let Some(why) = self.spoilt.take() {
            return Err(why.into());
        }
        self.kernel
            .sync(&self.file)
            .map_err(|error| self.failed("syncing", error))?;
        match self.claim.take() {
            Some(claim) => claim.settle(|_| {
                let gone = self.publish_somehow()?;
                let come = self.offset;
                Ok::<_, Refused>(Settled { come, gone })
            })?,
            None => self.publish_somehow().map(drop)?,
        }
        self.kernel
            .sync(&self.directory)
            .map_err(|error| self.failed("syncing", error))
    }

    /// Gives the file its name, as far as the user may, and says how many bytes had it before.
    fn publish_somehow(&mut self) -> Result<u64, Refused> {
        match self.publish() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.replace {
                true => self.publish_over(),
                false => Err(ErrorCode::FileExists.into()),
            },
            result => result
                .map(|()| 0)
                .map_err(|error| self.failed("naming", error)),
        }
    }

    /// Gives the file its name, which must be new.
    fn publish(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return self.kernel.link(&self.file, &self.directory, &self.name);
        };
        let (from, to) = (
            (&self.directory, &**temporary),
            (&self.directory, &*self.name),
        );
        match self.kernel.rename(from, to, false) {
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
    fn publish_over(&mut self) -> Result<u64, Refused> {
        let freed = match self.kernel.status_at(&self.directory, &self.name) {
            Ok(found) if !is_replaceable(found.kind) => return Err(ErrorCode::FileExists.into()),
            // What others have put there meanwhile is not in what this one builds on.
            Ok(found) if self.base.as_ref().is_some_and(|base| base.named != found) => {
                return Err(ErrorCode::FileExists.into());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(self.failed("looking at", error));
            }
            Ok(found) if found.kind == Kind::File => found.size,
            _ => 0,
        };
        // To rename over it the file needs a name first, and before that the lock, or a sweep could take it.
        if self.temporary.is_none() {
            let _ = self.kernel.lock(&self.file); // where there are no locks, there is no sweep
            let link = |name: &str| self.kernel.link(&self.file, &self.directory, name);
            let (name, ()) =
                new_name(&*self.kernel, link).map_err(|error| self.failed("naming", error))?;
            self.temporary = Some(name);
        }
        let temporary = self.temporary.as_deref().expect("it has one by now");
        let (from, to) = ((&self.directory, temporary), (&self.directory, &*self.name));
        match self.kernel.rename(from, to, true) {
            Ok(()) => {
                self.temporary = None;
                Ok(freed)
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(ErrorCode::FileExists.into())
            }
            Err(error) => Err(self.failed("naming", error)),
        }
    }

    fn failed(&self, doing: &'static str, error: io::Error) -> Refused {
        unwritable(doing, self.path.clone(), error)
    }
}

impl<K: Kernel> Drop for StagedUpload<K> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // If this fails too, the sweep after the next start finds it.
            let _ = self.kernel.remove(&self.directory, temporary);
        }
    }
}

/// Opens what an upload builds on: what a reader of that name would get, where it is a file.
fn open_base<K: Kernel>(
    kernel: &K,
    directory: &K::File,
    name: &str,
    place: &GrantedPath,
    base: UploadBase,
) -> Result<Option<FileStatus<K>>, Refused> {
    if base == UploadBase::Empty {
        return Ok(None);
    }
    let open = || {
        let named = kernel.status_at(directory, name)?;
        let root = kernel.open_root(&place.grant.path)?;
        let file = kernel.open_beneath(&root, &place.relative, Open::Read)?;
        let status = kernel.status(&file)?;
        io::Result::Ok((named, file, status))
    };
    let found = match open() {
        Ok((named, file, status)) if status.kind == Kind::File => Some((named, file, status.size)),
        Ok(_) => None,
        Err(error) if is_absent(&error) => None,
        Err(error) => {
            let path = path_of(place, &place.relative);
            return Err(refused(ErrorCode::FileUnreadable, "opening", path, error));
        }
    };
    let (named, file, size) = match (found, base) {
        (Some(found), _) => found,
        (None, UploadBase::Prefix(1..)) => return Err(ErrorCode::OffsetBeyondEnd.into()),
        (None, _) => return Ok(None),
    };
    let end = match base {
        UploadBase::Prefix(count) if count > size => return Err(ErrorCode::OffsetBeyondEnd.into()),
        UploadBase::Prefix(count) => count,
        UploadBase::Empty | UploadBase::Whole => size,
    };
    Ok(Some(FileStatus { named, file, end }))
}

/// Whether an error says that the kernel cannot copy between these two files; who has no room is told so by a write.
fn cannot_copy(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices | io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
}

/// Whether `name` is one that a temporary file is given here.
pub(crate) fn is_temporary(name: &str) -> bool {
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
fn new_name<K: Kernel, T>(
    kernel: &K,
    make: impl Fn(&str) -> io::Result<T>,
) -> io::Result<(String, T)> {
    for _ in 0..ATTEMPTS_MAX {
        let name = format!("{PREFIX}{:016x}{SUFFIX}", kernel.random()?);
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
    new_name(kernel, make).map(|(name, file)| (file, Some(name)))
}

/// Whether an error says that there are no unnamed files here: the file system's word, or that of a kernel that takes
/// O_TMPFILE for a directory.
fn has_no_unnamed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests;

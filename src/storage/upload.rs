//! Staged uploads: a file is invisible until it is complete and durable. An upload that fails or is
//! aborted leaves nothing.
//!
//! The bytes go to a file without a name (O_TMPFILE, open(2)), which the kernel discards with its
//! last handle. Where the file system does not support that, they go to a locked file with a
//! temporary name ([`crate::storage::temp_names`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::error::ErrorCode;
use crate::domain::path::GrantedPath;
use crate::domain::request::UploadBase;
use crate::domain::step::Step;
use crate::kernel::devices::{Device, Devices};
use crate::kernel::errors::{is_absent, is_not_permitted, is_unsupported_rename};
use crate::kernel::{FileKind, FileSystemKind, Kernel, OpenMode, Status};
use crate::limits::COPY_SLICE_BYTES;
use crate::storage::error::StorageError;
use crate::storage::quota::{QuotaReservation, UsageChange};
use crate::storage::resolve::{check_name, full_path, is_replaceable, join, open_parent_to_create};
use crate::storage::status::check_free_space_of;
use crate::storage::status::device_of;
use crate::storage::storage_use::StorageUse;
use crate::storage::temp_names::{NAME_ATTEMPTS_MAX, create_locked, with_new_name};
use crate::storage::upload::base::BaseFile;

mod base;

/// Bytes after which an upload checks again that enough space stays free.
const SPACE_CHECK_BYTES: u64 = 1 << 20;

/// Bytes for which space is allocated ahead of those that have arrived: a client that announces
/// much and sends nothing takes no more from the others.
const ALLOCATION_STEP_BYTES: u64 = 16 << 20;

/// An upload that has begun. Dropping it discards the file.
pub struct StagedUpload<K: Kernel> {
    kernel: Arc<K>,
    directory: K::File,
    file: K::File,
    /// The name it is published under.
    name: String,
    /// Whether it may replace a file or a link of that name.
    replaces: bool,
    /// Its current temporary name, to be removed.
    temporary: Option<String>,
    /// Bytes written.
    offset: u64,
    /// Bytes that it is announced to have, those of the base file included.
    announced: u64,
    /// The first of them that have space allocated.
    allocated: u64,
    /// Bytes that it may have.
    max_length: u64,
    base: Option<BaseFile<K>>,
    /// The status of the replaced file whose attributes it has.
    attributes_of: Option<Status>,
    reservation: Option<QuotaReservation>,
    /// The device of the file, see [`StagedUpload::set_device`].
    device: Arc<Device>,
    /// Bytes that have to stay free in the file system.
    keep_free: u64,
    /// Why it must not be published.
    rejection: Option<ErrorCode>,
    /// For the log.
    path: PathBuf,
}

/// The parameters of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadSpec {
    /// Announced bytes, if any; their space is allocated a step ahead of their arrival.
    pub length: Option<u64>,
    /// Bytes that the whole file may have.
    pub max_length: u64,
    /// The part of the existing file that it starts with.
    pub base: UploadBase,
    /// Bytes that have to stay free in the file system.
    pub keep_free: u64,
}

/// Whether an upload to `place` would be accepted now.
pub fn check_upload<K: Kernel>(kernel: &K, place: &GrantedPath) -> Result<(), StorageError> {
    let (directory, name) = open_parent_to_create(kernel, place)?;
    check_name(kernel, &directory, name, place).map(drop)
}

/// Begins an upload: checks its name and allocates its space. A base file is to be copied by
/// [`StagedUpload::copy_base`] before the first write.
pub fn create_upload<K: Kernel>(
    kernel: &Arc<K>,
    place: &GrantedPath,
    spec: UploadSpec,
) -> Result<StagedUpload<K>, StorageError> {
    create_with(kernel, place, spec, K::create_unnamed)
}

/// Begins an upload under a new name in `directory`.
pub fn create_unique_upload<K: Kernel>(
    kernel: &Arc<K>,
    directory: &GrantedPath,
    spec: UploadSpec,
) -> Result<StagedUpload<K>, StorageError> {
    let mut attempt = 1;
    loop {
        let number = kernel.random().map_err(|error| {
            let path = full_path(directory, &directory.relative);
            StorageError::writing("choosing a name in", path, error)
        })?;
        let place = GrantedPath {
            grant: directory.grant.clone(),
            relative: join(&directory.relative, &format!("upload-{number:016x}")),
        };
        match create_upload(kernel, &place, spec) {
            Err(error) if error.code == ErrorCode::FileExists && attempt < NAME_ATTEMPTS_MAX => {
                attempt += 1;
            }
            result => {
                return result.map(|mut upload| {
                    upload.replaces = false;
                    upload
                });
            }
        }
    }
}

/// [`create_upload`] with a replaceable function that creates the unnamed file, for the tests.
fn create_with<K: Kernel>(
    kernel: &Arc<K>,
    place: &GrantedPath,
    spec: UploadSpec,
    create_unnamed: fn(&K, &K::File, &str) -> io::Result<K::File>,
) -> Result<StagedUpload<K>, StorageError> {
    let (directory, name) = open_parent_to_create(&**kernel, place)?;
    let is_taken = check_name(&**kernel, &directory, name, place)?;
    check_base(place, spec.base, is_taken)?;
    let path = full_path(place, &place.relative);
    let base = BaseFile::open(&**kernel, &directory, name, place, spec.base)?;
    let copied = base.as_ref().map_or(0, |base| base.length);
    let length = copied.saturating_add(spec.length.unwrap_or(0));
    if length > spec.max_length {
        return Err(ErrorCode::TooLarge.into());
    }
    let needed = length.saturating_add(spec.keep_free);
    check_free_space_of(&**kernel, &directory, needed, &path)?;
    let (file, temporary) =
        match with_new_name(&**kernel, |probe| create_unnamed(kernel, &directory, probe)) {
            Err(error) if has_no_unnamed_files(&error) => {
                create_locked(&**kernel, &directory).map(|(name, file)| (file, Some(name)))
            }
            result => result.map(|(_, file)| (file, None)),
        }
        .map_err(|error| StorageError::writing("making", path.clone(), error))?;
    let mut upload = StagedUpload {
        kernel: kernel.clone(),
        directory,
        file,
        name: name.to_owned(),
        // What appears meanwhile under a name that was free for APPE is not what it continues.
        replaces: place.grant.rights.change && (is_taken || spec.base == UploadBase::Empty),
        temporary,
        offset: 0,
        announced: length,
        // Holes of the base file stay holes.
        allocated: copied,
        max_length: spec.max_length,
        base,
        attributes_of: None,
        reservation: None,
        device: Device::detached(0, FileSystemKind::Remote),
        keep_free: spec.keep_free,
        rejection: None,
        path,
    };
    // Before the first byte, since a temporary name may make it readable.
    upload.copy_attributes()?;
    upload.allocate(length.min(copied.saturating_add(ALLOCATION_STEP_BYTES)))?;
    // Other uploads have allocated space in the meantime.
    upload.check_free_space().map(|()| upload)
}

/// Checks that the user may read the existing bytes that an upload is to keep. Otherwise an offset
/// would show the length of a file, and a part of an upload the content.
fn check_base(place: &GrantedPath, base: UploadBase, is_taken: bool) -> Result<(), StorageError> {
    let keeps_bytes = match base {
        UploadBase::Empty => false,
        UploadBase::Prefix(count) => count > 0,
        UploadBase::Whole => is_taken,
    };
    match keeps_bytes && !place.grant.rights.read {
        true => Err(ErrorCode::ReadDenied.into()),
        false => Ok(()),
    }
}

/// Whether the file system has no O_TMPFILE. A kernel before 3.11 interprets it as O_DIRECTORY and
/// fails with EISDIR.
fn has_no_unnamed_files(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::IsADirectory
    )
}

impl<K: Kernel> StagedUpload<K> {
    /// The path it is published at: the granted directory and the path that the client sent.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name it is published under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes so far, those of the base file included.
    pub fn length(&self) -> u64 {
        self.offset
    }

    /// The device of the file: remote until [`StagedUpload::set_device`] sets it.
    pub fn device(&self) -> &Arc<Device> {
        &self.device
    }

    /// Looks up the device of the file. May wait for it: call it on a worker.
    pub fn set_device(&mut self, devices: &Devices) {
        if let Ok(status) = self.kernel.status(&self.file) {
            self.device = devices.with_id(status.device, || {
                let kind = self.kernel.file_system(&self.file);
                kind.unwrap_or(FileSystemKind::Remote)
            });
        }
    }

    /// Holds a quota reservation until the upload is published or dropped, and raises it to what
    /// the announced length adds to the file that is to be replaced.
    pub fn with_reservation(
        mut self,
        reservation: QuotaReservation,
    ) -> Result<StagedUpload<K>, StorageError> {
        let reservation = self.reservation.insert(reservation);
        if self.replaces {
            let found = self.kernel.status_at(&self.directory, &self.name).ok();
            reservation.set_replaced(StorageUse::of(found));
        }
        reservation.grow_to(StorageUse::file(self.announced))?;
        Ok(self)
    }

    /// Copies the next [`COPY_SLICE_BYTES`] of the base file. Waits for the disk: call it on a
    /// worker.
    pub fn copy_base(&mut self) -> Result<Step<()>, StorageError> {
        let Some(base) = &self.base else {
            return Ok(Step::Done(()));
        };
        let stop = base.length.min(self.offset + COPY_SLICE_BYTES as u64);
        match base.copy(&*self.kernel, &self.file, &mut self.offset, stop) {
            Ok(true) if self.offset == base.length => Ok(Step::Done(())),
            Ok(true) => Ok(Step::More),
            // The base file was truncated in the meantime.
            Ok(false) => Err(ErrorCode::OffsetBeyondEnd.into()),
            Err(error) => Err(self.failed("copying", error)),
        }
    }

    /// Writes the next bytes. After an error the upload can only be dropped.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), StorageError> {
        if bytes.len() as u64 > self.max_length - self.offset {
            return Err(ErrorCode::TooLarge.into());
        }
        let end = self.offset + bytes.len() as u64;
        if let Some(reservation) = &mut self.reservation {
            reservation.grow_to(StorageUse::file(end))?;
        }
        // Bytes beyond the announced length take space that was not allocated.
        if end / SPACE_CHECK_BYTES > self.offset / SPACE_CHECK_BYTES {
            self.check_free_space()?;
        }
        if end > self.allocated && self.allocated < self.announced {
            self.allocate(self.announced.min(end + ALLOCATION_STEP_BYTES))?;
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

    /// Allocates space for the first bytes of the file, where the file system can.
    fn allocate(&mut self, length: u64) -> Result<(), StorageError> {
        match (self.kernel).preallocate(&self.file, self.allocated..length) {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => {
                Err(self.failed("allocating space for", error))
            }
            _ => {
                self.allocated = length;
                Ok(())
            }
        }
    }

    /// Marks the upload as refused: [`StagedUpload::publish_unless`] then discards it and fails
    /// with this code.
    pub fn reject(&mut self, code: ErrorCode) {
        self.rejection = Some(code);
    }

    /// Makes the content durable, gives the file its name and waits until the name is durable. An
    /// existing file is replaced as a whole, and only with the right to change; a link is replaced,
    /// not followed.
    ///
    /// # Errors
    /// Where only the last sync fails, the file is published and complete, and a crash may lose it.
    /// An upload that was given up during the first sync, which can take long, gets no name.
    pub fn publish_unless(mut self, is_given_up: impl Fn() -> bool) -> Result<(), StorageError> {
        if let Some(code) = self.rejection.take() {
            return Err(code.into());
        }
        self.copy_attributes()?;
        self.sync(&self.file)?;
        if is_given_up() {
            return Err(ErrorCode::FileUnwritable.into());
        }
        let kernel = self.kernel.clone();
        let device = device_of(&*kernel, &self.directory);
        match self.reservation.take() {
            Some(mut reservation) => reservation.settle((&*kernel, device), |reservation| {
                let removed = self.link_or_replace(Some(reservation))?;
                let added = StorageUse::file(self.offset);
                Ok::<_, StorageError>(UsageChange { added, removed })
            })?,
            None => self.link_or_replace(None).map(drop)?,
        }
        self.sync(&self.directory)
    }

    /// [`StagedUpload::publish_unless`] without giving up.
    #[cfg(test)]
    pub fn publish(self) -> Result<(), StorageError> {
        self.publish_unless(|| false)
    }

    /// Gives the file its name, and returns what it replaced.
    fn link_or_replace(
        &mut self,
        reservation: Option<&mut QuotaReservation>,
    ) -> Result<StorageUse, StorageError> {
        // The file to be replaced may be another one than at the start of the upload, or gone.
        if let Some(reservation) = reservation {
            let found = self.kernel.status_at(&self.directory, &self.name).ok();
            reservation.set_replaced(StorageUse::of(found.filter(|_| self.replaces)));
            reservation.grow_to(StorageUse::file(self.offset))?;
        }
        match self.link() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.replaces {
                true => self.replace(),
                false => Err(ErrorCode::FileExists.into()),
            },
            result => result
                .map(|()| StorageUse::default())
                .map_err(|error| self.failed("publishing", error)),
        }
    }

    /// Gives the file its name, which must be free.
    fn link(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return self.kernel.link(&self.file, &self.directory, &self.name);
        };
        let (from, to) = (
            (&self.directory, &**temporary),
            (&self.directory, &*self.name),
        );
        match self.kernel.rename(from, to, false) {
            // A file system without RENAME_NOREPLACE (renameat2(2)) may have hard links. The drop
            // removes the temporary name.
            Err(error) if is_unsupported_rename(&error) => {
                match self.kernel.link(&self.file, &self.directory, &self.name) {
                    Err(error) if is_not_permitted(&error) => self.rename_if_free(),
                    result => result,
                }
            }
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            error => error,
        }
    }

    /// Renames to a name that is free a moment before: all that a file system can do without hard
    /// links and RENAME_NOREPLACE. Of two new files that are published at once, one may replace the
    /// other.
    fn rename_if_free(&mut self) -> io::Result<()> {
        let Some(temporary) = &self.temporary else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        match self.kernel.status_at(&self.directory, &self.name) {
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let to = (&self.directory, &*self.name);
        self.kernel.rename((&self.directory, temporary), to, true)?;
        self.temporary = None;
        Ok(())
    }

    /// Gives the file the name of an existing file or link.
    fn replace(&mut self) -> Result<StorageUse, StorageError> {
        let removed = self.check_replaced()?;
        // Another session or program has replaced or changed the file since the last sync.
        if self.copy_attributes()? {
            self.sync(&self.file)?;
        }
        let temporary = match self.temporary.take() {
            Some(name) => name,
            // rename(2) needs a name to rename from. The lock comes first, so that an orphan sweep
            // does not remove it; where there are no locks, there is no sweep.
            None => {
                let _ = self.kernel.lock(&self.file);
                let link = |name: &str| self.kernel.link(&self.file, &self.directory, name);
                with_new_name(&*self.kernel, link)
                    .map_err(|error| self.failed("publishing", error))?
                    .0
            }
        };
        let from = (&self.directory, &*temporary);
        let to = (&self.directory, &*self.name);
        let renamed = self.kernel.rename(from, to, true);
        if renamed.is_err() {
            self.temporary = Some(temporary);
        }
        match renamed {
            Ok(()) => Ok(removed),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                Err(ErrorCode::FileExists.into())
            }
            Err(error) => Err(self.failed("publishing", error)),
        }
    }

    /// Gives the upload the attributes of the file that it replaces, or continues through a link.
    /// Returns whether anything was to be done: not if the file is unchanged since the last call.
    fn copy_attributes(&mut self) -> Result<bool, StorageError> {
        let found = match self.kernel.status_at(&self.directory, &self.name) {
            Ok(found) if self.replaces => found,
            _ => return Ok(false),
        };
        if self.attributes_of == Some(found) {
            return Ok(false);
        }
        let copied = match (found.kind, &self.base) {
            (FileKind::Link, Some(base)) => self.kernel.copy_attributes(&base.file, &self.file),
            (FileKind::File, _) => self.open_replaced(found).and_then(|file| match file {
                Some(file) => self.kernel.copy_attributes(&file, &self.file),
                None => Ok(()),
            }),
            _ => return Ok(false),
        };
        copied.map_err(|error| self.failed("setting the attributes of", error))?;
        self.attributes_of = Some(found);
        Ok(true)
    }

    /// Opens the file to be replaced, for its attributes; `None` if it was replaced or removed in
    /// the meantime.
    fn open_replaced(&self, found: Status) -> io::Result<Option<K::File>> {
        let open = |mode| self.kernel.open_beneath(&self.directory, &self.name, mode);
        // Extended attributes need the right to read, the mode does not.
        let file = match open(OpenMode::Read).or_else(|_| open(OpenMode::Path)) {
            Err(error) if is_absent(&error) => return Ok(None),
            file => file?,
        };
        let status = self.kernel.status(&file)?;
        let is_same = (status.device, status.inode) == (found.device, found.inode);
        Ok(is_same.then_some(file))
    }

    /// Checks that the current holder of the name may be replaced. Returns what this frees.
    fn check_replaced(&self) -> Result<StorageUse, StorageError> {
        match self.kernel.status_at(&self.directory, &self.name) {
            Ok(found) if !is_replaceable(found.kind) => Err(ErrorCode::FileExists.into()),
            // Another session has published since the base file was copied.
            Ok(found) if self.base.as_ref().is_some_and(|base| base.named != found) => {
                Err(ErrorCode::FileExists.into())
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("reading the status of", error))
            }
            found => Ok(StorageUse::of(found.ok())),
        }
    }

    fn check_free_space(&self) -> Result<(), StorageError> {
        match self.keep_free {
            0 => Ok(()),
            keep_free => check_free_space_of(&*self.kernel, &self.directory, keep_free, &self.path),
        }
    }

    fn sync(&self, file: &K::File) -> Result<(), StorageError> {
        self.kernel
            .sync(file)
            .map_err(|error| self.failed("syncing", error))
    }

    fn failed(&self, operation: &'static str, error: io::Error) -> StorageError {
        StorageError::writing(operation, self.path.clone(), error)
    }
}

impl<K: Kernel> Drop for StagedUpload<K> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Where this fails too, the orphan sweep of the next start removes it.
            let _ = self.kernel.remove(&self.directory, temporary);
        }
    }
}

#[cfg(test)]
mod tests;
